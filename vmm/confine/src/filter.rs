//! From a table of allowed system calls to a BPF program that the kernel has
//! loaded. See seccomp(2) and the kernel's `seccomp_filter.rst`.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use crate::{ConfineError, SeccompMode};

/// One line of a table: a system call and, when `when` is not empty, the
/// arguments with which it is allowed: all tests of one line must hold. Lines
/// for the same call are alternatives, and a line without tests allows all.
#[derive(Clone, Copy)]
pub(crate) struct Allow {
    pub(crate) call: i64,
    pub(crate) when: &'static [Test],
}

/// Holds when the lower 32 bits of argument `index` (from 0), masked, are `value`.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) index: u8,
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

/// What one kind of thread may do.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Lists of allowed calls, of which the union counts.
    pub(crate) allowed: &'static [&'static [Allow]],
    /// Calls that get an error number for an answer, as if the kernel lacked
    /// them or denied them, because their callers can go on without.
    pub(crate) refused: &'static [Refuse],
}

/// A call and the error number that it gets.
#[derive(Clone, Copy)]
pub(crate) struct Refuse {
    pub(crate) call: i64,
    pub(crate) errno: i32,
    /// Also in [`SeccompMode::Log`], which otherwise lets everything pass.
    pub(crate) when_logging: bool,
}

/// Requests of `ioctl` that type at the terminal, which then runs them as its user
/// does: not even allowed where all others are.
const TYPING: [libc::Ioctl; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Loads the filter of `table` for the calling thread, with the calls `also` allowed
/// beside it, whatever their arguments, but for `ioctl` with those of [`TYPING`].
pub(crate) fn load(mode: SeccompMode, table: Table, also: &[i64]) -> Result<(), ConfineError> {
    let mismatch = match mode {
        SeccompMode::Off => return Ok(()),
        SeccompMode::Log => SeccompAction::Log,
        SeccompMode::Kill => SeccompAction::Trap,
    };
    let program = compile(table, also, mismatch).map_err(ConfineError::CompileFilter)?;
    seccompiler::apply_filter(&program).map_err(ConfineError::LoadFilter)
}

fn compile(
    table: Table,
    also: &[i64],
    mismatch: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let logging = mismatch == SeccompAction::Log;
    let mut rules = rules(table.allowed)?;
    for call in also {
        if *call == libc::SYS_ioctl {
            rules.entry(*call).or_default().push(no_typing()?);
        } else {
            rules.insert(*call, Vec::new());
        }
    }
    let mut answers: BTreeMap<i64, Answer> = (rules.iter())
        .map(|(call, tests)| (*call, tests.is_empty().then_some(libc::SECCOMP_RET_ALLOW)))
        .collect();
    let refused = table.refused.iter();
    for refuse in refused.filter(|refuse| refuse.when_logging || !logging) {
        if !also.contains(&refuse.call) {
            let errno = libc::SECCOMP_RET_ERRNO | refuse.errno as u32;
            answers.insert(refuse.call, Some(errno));
        }
    }
    rules.retain(|_, tests| !tests.is_empty());
    let otherwise = mismatch.clone().into();
    let tested = SeccompFilter::new(rules, mismatch, SeccompAction::Allow, TargetArch::x86_64)?;

    // seccompiler has one answer a filter and looks at one call after the other. The kernel
    // tries a new filter with every call that there is, so a long way through it delays the
    // start of its thread. Ours comes first and decides by the number alone where it can.
    let mut program = by_number(&segments(&answers, otherwise));
    program.extend(BpfProgram::try_from(tested)?);
    Ok(program)
}

/// A call with an empty list of rules is allowed with any arguments.
fn rules(
    lists: &'static [&'static [Allow]],
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allow in lists.iter().copied().flatten() {
        match rules.get_mut(&allow.call) {
            Some(alternatives) if alternatives.is_empty() => {}
            Some(alternatives) if allow.when.is_empty() => alternatives.clear(),
            Some(alternatives) => alternatives.push(rule(allow.when)?),
            None if allow.when.is_empty() => drop(rules.insert(allow.call, Vec::new())),
            None => drop(rules.insert(allow.call, vec![rule(allow.when)?])),
        }
    }
    Ok(rules)
}

fn rule(tests: &[Test]) -> Result<SeccompRule, BackendError> {
    let conditions = tests
        .iter()
        .map(|test| {
            SeccompCondition::new(
                test.index,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(test.mask.into()),
                test.value.into(),
            )
        })
        .collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}

/// Any request of `ioctl` but those of [`TYPING`]. The kernel looks at the lower 32
/// bits of a request, as this does.
fn no_typing() -> Result<SeccompRule, BackendError> {
    let differs = |request| {
        let request = u64::from(request as u32);
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, request)
    };
    SeccompRule::new(TYPING.map(differs).into_iter().collect::<Result<_, _>>()?)
}

/// What a call gets; none where that depends on its arguments.
type Answer = Option<u32>;

/// The same in stretches of numbers, each with the first one. Numbers without an answer,
/// those of other ABIs among them, get `otherwise`.
fn segments(answers: &BTreeMap<i64, Answer>, otherwise: u32) -> Vec<(u32, Answer)> {
    let mut segments = vec![(0, Some(otherwise))];
    for (call, answer) in answers {
        let call = *call as u32;
        // What follows the call before ends where it began, or has its answer.
        segments.pop_if(|(first, _)| *first == call);
        if segments.last().is_none_or(|(_, last)| last != answer) {
            segments.push((call, *answer));
        }
        segments.push((call + 1, Some(otherwise)));
    }
    segments
}

/// A program that answers by the call's number, or goes on behind its end, as it does for
/// calls of another architecture.
fn by_number(segments: &[(u32, Answer)]) -> BpfProgram {
    // Offsets in struct seccomp_data, and AUDIT_ARCH_X86_64 of linux/audit.h.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const X86_64: u32 = 0xc000_003e;
    let search = search(segments);
    let mut program = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, ARCHITECTURE),
        execute_next_if(libc::BPF_JEQ, X86_64),
        skip(1),
        skip(search.len() + 1),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER),
    ];
    program.extend(search);
    program
}

/// Halves the segments until one is left.
fn search(segments: &[(u32, Answer)]) -> BpfProgram {
    if let [(_, answer)] = segments {
        let answer = answer.map(|answer| statement(libc::BPF_RET | libc::BPF_K, answer));
        return answer.into_iter().collect();
    }
    let (low, high) = segments.split_at(segments.len() / 2);
    let first = high[0].0;
    let (mut low, high) = (search(low), search(high));
    low.push(skip(high.len()));
    let mut program = vec![execute_next_if(libc::BPF_JGE, first), skip(low.len())];
    program.extend(low);
    program.extend(high);
    program
}

/// Jumps over the next instruction unless the loaded value compares so to `k`.
fn execute_next_if(comparison: u32, k: u32) -> sock_filter {
    sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | comparison | libc::BPF_K, k)
    }
}

fn skip(instructions: usize) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JA, instructions as u32)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::tables;

    const TABLES: [Table; 6] = [
        tables::START_UP,
        tables::VCPU,
        tables::EVENT_LOOP,
        tables::BLOCK_IO,
        tables::FILE_SERVER,
        tables::FORWARDER,
    ];
    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;

    /// What the kernel makes of a program for a call whose arguments are all 0.
    fn run(program: &[sock_filter], architecture: u32, call: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            match step(&program[at], architecture, call, &mut value) {
                ControlFlow::Continue(skipped) => at += 1 + skipped,
                ControlFlow::Break(answer) => return answer,
            }
        }
    }

    fn step(
        instruction: &sock_filter,
        architecture: u32,
        call: u32,
        value: &mut u32,
    ) -> ControlFlow<u32, usize> {
        let &sock_filter { code, jt, jf, k } = instruction;
        let branch = |holds| ControlFlow::Continue(usize::from(if holds { jt } else { jf }));
        match code {
            0x06 => return ControlFlow::Break(k),
            0x05 => return ControlFlow::Continue(k as usize),
            0x15 => return branch(*value == k),
            0x25 => return branch(*value > k),
            0x35 => return branch(*value >= k),
            0x54 => *value &= k,
            0x20 => {
                *value = [call, architecture]
                    .get(k as usize / 4)
                    .copied()
                    .unwrap_or(0)
            }
            other => panic!("instruction {other:#x}"),
        }
        ControlFlow::Continue(0)
    }

    const FCNTL_GETFD: &[Allow] = &[Allow {
        call: libc::SYS_fcntl,
        when: &[Test {
            index: 1,
            mask: u32::MAX,
            value: 1,
        }],
    }];
    const FCNTL: &[Allow] = &[Allow {
        call: libc::SYS_fcntl,
        when: &[],
    }];

    #[test]
    fn line_without_tests_wins_over_lines_with_tests_in_either_order() {
        for lists in [&[FCNTL_GETFD, FCNTL] as &[_], &[FCNTL, FCNTL_GETFD]] {
            assert_eq!(rules(lists).unwrap()[&libc::SYS_fcntl].len(), 0);
        }
        assert_eq!(rules(&[FCNTL_GETFD]).unwrap()[&libc::SYS_fcntl].len(), 1);
    }

    #[test]
    fn whatever_a_thread_may_do_the_threads_that_start_it_may_do_too() {
        for (starter, started) in [
            (tables::START_UP, tables::EVENT_LOOP),
            (tables::EVENT_LOOP, tables::VCPU),
            (tables::VCPU, tables::BLOCK_IO),
            (tables::START_UP, tables::FILE_SERVER),
            (tables::START_UP, tables::FORWARDER),
        ] {
            for line in started.allowed.iter().copied().flatten() {
                let mut wider = starter.allowed.iter().copied().flatten();
                assert!(
                    wider.any(|wider| allows_all_of(wider, line)),
                    "{} is missing, or not with these arguments",
                    crate::syscalls::name(line.call).unwrap()
                );
            }
        }
    }

    /// Whatever holds for `line` holds for `wider`.
    fn allows_all_of(wider: &Allow, line: &Allow) -> bool {
        let follows = |test: &Test| {
            line.when.iter().any(|own| {
                own.index == test.index
                    && own.mask & test.mask == test.mask
                    && own.value & test.mask == test.value
            })
        };
        wider.call == line.call && wider.when.iter().all(follows)
    }

    #[test]
    fn no_table_allows_to_start_a_program_or_to_trace_another() {
        for table in TABLES {
            let rules = rules(table.allowed).unwrap();
            for call in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_fork,
                libc::SYS_vfork,
                libc::SYS_clone3,
                libc::SYS_ptrace,
                libc::SYS_process_vm_writev,
                libc::SYS_bpf,
                libc::SYS_mount,
                libc::SYS_unshare,
            ] {
                assert!(!rules.contains_key(&call), "system call {call}");
            }
        }
    }

    #[test]
    fn every_number_gets_what_its_table_says() {
        for table in TABLES {
            let program = compile(table, &[], SeccompAction::Trap).unwrap();
            assert!(program.len() <= 4096, "BPF_MAXINSNS");
            let rules = rules(table.allowed).unwrap();
            for call in 0..600 {
                let number = i64::from(call);
                let refused = table.refused.iter().find(|refuse| refuse.call == number);
                let expected = match (refused, rules.get(&number)) {
                    (Some(refuse), _) => libc::SECCOMP_RET_ERRNO | refuse.errno as u32,
                    (None, None) => libc::SECCOMP_RET_TRAP,
                    (None, Some(tests)) if tests.is_empty() => libc::SECCOMP_RET_ALLOW,
                    // Its tests are seccompiler's.
                    (None, Some(_)) => continue,
                };
                assert_eq!(run(&program, X86_64, call), expected, "system call {call}");
            }
        }
    }

    #[test]
    fn arguments_are_looked_at_where_the_number_does_not_decide() {
        // Request 0 is fcntl's F_DUPFD and none of ioctl's.
        let zero = &[Allow {
            call: libc::SYS_fcntl,
            when: &[Test {
                index: 1,
                mask: u32::MAX,
                value: 0,
            }],
        }];
        for (allowed, answer) in [
            (FCNTL_GETFD, libc::SECCOMP_RET_TRAP),
            (zero, libc::SECCOMP_RET_ALLOW),
        ] {
            let table = Table {
                allowed: Box::leak(Box::new([allowed])),
                refused: &[],
            };
            let program = compile(table, &[libc::SYS_read], SeccompAction::Trap).unwrap();
            assert_eq!(run(&program, X86_64, libc::SYS_fcntl as u32), answer);
            let read = run(&program, X86_64, libc::SYS_read as u32);
            assert_eq!(read, libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn calls_of_other_abis_are_never_allowed() {
        let read = libc::SYS_read as u32;
        for table in TABLES {
            let program = compile(table, &[], SeccompAction::Trap).unwrap();
            let i386 = run(&program, I386, read);
            assert_eq!(i386, libc::SECCOMP_RET_KILL_PROCESS);
            // Numbers of the x32 ABI have bit 30.
            let x32 = run(&program, X86_64, 1 << 30 | read);
            assert_eq!(x32, libc::SECCOMP_RET_TRAP);
        }
    }

    /// As many steps as the kernel goes for each call when it loads a filter.
    #[test]
    fn number_is_found_in_few_steps() {
        let program = compile(tables::START_UP, &[], SeccompAction::Trap).unwrap();
        let (mut at, mut value, mut steps) = (0, 0, 0);
        while let ControlFlow::Continue(skipped) =
            step(&program[at], X86_64, libc::SYS_futex as u32, &mut value)
        {
            at += 1 + skipped;
            steps += 1;
        }
        assert!(steps < 30, "{steps} steps through {}", program.len());
    }
}
