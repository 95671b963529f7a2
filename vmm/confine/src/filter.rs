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
    let refused = table
        .refused
        .iter()
        .filter(|refuse| refuse.when_logging || !logging)
        .filter(|refuse| !also.contains(&refuse.call));
    let mut rules = rules(table.allowed)?;
    for call in also {
        if *call == libc::SYS_ioctl {
            rules.entry(*call).or_default().push(no_typing()?);
        } else {
            rules.insert(*call, Vec::new());
        }
    }
    let (plain, tested): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (rules.into_iter()).partition(|(_, tests)| tests.is_empty());
    let filter = SeccompFilter::new(tested, mismatch, SeccompAction::Allow, TargetArch::x86_64)?;
    let tested: BpfProgram = filter.try_into()?;

    let mut program = answers(refused.map(|refuse| {
        let errno = libc::SECCOMP_RET_ERRNO | refuse.errno as u32;
        (refuse.call, errno)
    }));
    program.extend(tested);
    // seccompiler takes five instructions for a call that is allowed whatever its
    // arguments, where two do. The kernel runs a new filter for every call that
    // there is, so a long one delays the start of its thread. Ours go before its
    // last instruction, which is for calls that it has no rule for.
    let otherwise = program.pop();
    program.extend(answers(
        (plain.into_keys()).map(|call| (call, libc::SECCOMP_RET_ALLOW)),
    ));
    program.extend(otherwise);
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

/// Instructions that answer these calls and no others, which seccompiler has no
/// words for where the answer is an error: it knows two answers a filter.
fn answers(calls: impl Iterator<Item = (i64, u32)>) -> BpfProgram {
    // Offset of the call's number in struct seccomp_data.
    const NUMBER: u32 = 0;
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = vec![instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
        NUMBER,
    )];
    for (call, answer) in calls {
        program.push(instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            call as u32,
        ));
        program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, answer));
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables;

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
            let [starter, started] = [starter, started].map(|table| rules(table.allowed).unwrap());
            for (call, own) in started {
                let wider = starter.get(&call).unwrap_or_else(|| {
                    panic!("{} is missing", crate::syscalls::name(call).unwrap())
                });
                assert!(wider.is_empty() || own.iter().all(|rule| wider.contains(rule)));
            }
        }
    }

    #[test]
    fn no_table_allows_to_start_a_program_or_to_trace_another() {
        for table in [
            tables::START_UP,
            tables::VCPU,
            tables::EVENT_LOOP,
            tables::BLOCK_IO,
            tables::FILE_SERVER,
            tables::FORWARDER,
        ] {
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
}
