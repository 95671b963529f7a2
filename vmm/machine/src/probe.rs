//! Whether this machine's KVM can really run a guest.
//!
//! `/dev/kvm` may open, create VMs and answer every question, and then fail at
//! the first instruction of a stock kernel that it would have to emulate and
//! cannot. So a tiny guest in 64-bit mode executes what stock kernels execute
//! early: `lock cmpxchg16b`, `int3` through an interrupt gate and back, and
//! where the processor has them `xsaves` and `xrstors`. It says so at a port.

// UNSAFETY: the probe's guest code is an object of the linker's.
#![expect(
    unsafe_code,
    reason = "the guest's code is assembled in and reached by its symbols"
)]

use std::sync::mpsc;
use std::time::Duration;

use kvm_ioctls::VcpuExit;
use vm_memory::{Bytes, GuestAddress};

use crate::vcpu::Vcpu;
use crate::vm::{self, KvmError, Vm};
use crate::{boot, kick, layout, memory};

/// How long the probe may take. It needs some microseconds where KVM works.
const LIMIT: Duration = Duration::from_secs(10);

const CODE: u64 = layout::HIGH_RAM;
const IDT: u64 = layout::HIGH_RAM + 0x2000;
const BREAKPOINT_VECTOR: u64 = 3;
const PORT: u16 = 0x700;
/// What the guest says after everything worked; below it, the step that did not.
const SUCCESS: u8 = 0x4b;

/// Why KVM cannot run guests here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// KVM is absent or refuses to set up a VM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The probe's memory could not be set up.
    #[error("set up the probe guest")]
    SetUp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// KVM gave up on an instruction.
    #[error(
        "this KVM cannot run a stock kernel: a probe guest failed with {0}; a machine with hardware virtualisation (kvm_intel or kvm_amd) is needed"
    )]
    Failed(String),
    /// The probe did not end.
    #[error("this KVM cannot run a stock kernel: a probe guest did not finish within {} s", LIMIT.as_secs())]
    TimedOut,
}

impl From<memory::MemoryError> for ProbeError {
    fn from(error: memory::MemoryError) -> Self {
        ProbeError::SetUp(error.into())
    }
}

impl From<boot::BootError> for ProbeError {
    fn from(error: boot::BootError) -> Self {
        ProbeError::SetUp(error.into())
    }
}

/// Runs the probe guest: `Ok` when a stock kernel can be expected to run.
pub fn run() -> Result<(), ProbeError> {
    let kvm = vm::open()?;
    let vm = Vm::new(&kvm, memory::create(memory::MIN_MEMORY)?, 0)?;
    load(&vm)?;
    let vcpu = Vcpu::new(&vm, 0, 1, CODE)?;
    let (outcome, result) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("kvm-probe".into())
        .spawn(move || {
            // The receiver is gone when the limit has passed.
            let _ = outcome.send(execute(vcpu));
        })
        .map_err(|error| ProbeError::SetUp(error.into()))?;
    let result = result.recv_timeout(LIMIT);
    kick::kick(&thread);
    let _ = thread.join();
    match result {
        Ok(Ok(SUCCESS)) => Ok(()),
        Ok(Ok(step)) => Err(ProbeError::Failed(format!("a wrong result in step {step}"))),
        Ok(Err(exit)) => Err(ProbeError::Failed(exit)),
        Err(_) => Err(ProbeError::TimedOut),
    }
}

/// Runs the guest to its first word: that, or how it failed.
fn execute(mut vcpu: Vcpu) -> Result<u8, String> {
    kick::block_signals().map_err(|error| error.to_string())?;
    kick::prepare(vcpu.fd()).map_err(|error| error.to_string())?;
    match vcpu.fd_mut().run() {
        Ok(VcpuExit::IoOut(PORT, &[word])) => Ok(word),
        Ok(exit) => Err(format!("{exit:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn load(vm: &Vm) -> Result<(), ProbeError> {
    boot::write_tables(&vm.memory)?;
    let write = |bytes: &[u8], at| {
        vm.memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| ProbeError::SetUp(error.into()))
    };
    let (code, handler) = guest();
    write(code, CODE)?;
    write(
        &interrupt_gate(CODE + handler),
        IDT + BREAKPOINT_VECTOR * 16,
    )
}

/// A 64-bit interrupt gate to `handler` (Intel SDM volume 3A section 6.14.1).
fn interrupt_gate(handler: u64) -> [u8; 16] {
    const CODE_SELECTOR: u64 = 0x10;
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e;
    let low = (handler & 0xffff)
        | CODE_SELECTOR << 16
        | PRESENT_INTERRUPT_GATE << 40
        | (handler >> 16 & 0xffff) << 48;
    let mut gate = [0; 16];
    gate[..8].copy_from_slice(&low.to_le_bytes());
    gate[8..].copy_from_slice(&(handler >> 32).to_le_bytes());
    gate
}

/// The guest's code and the offset of its breakpoint handler in it.
fn guest() -> (&'static [u8], u64) {
    unsafe extern "C" {
        static shem_probe_start: u8;
        static shem_probe_breakpoint: u8;
        static shem_probe_end: u8;
    }
    let start = &raw const shem_probe_start;
    let handler = (&raw const shem_probe_breakpoint).addr() - start.addr();
    let len = (&raw const shem_probe_end).addr() - start.addr();
    // SAFETY: the three symbols stand in this order around one run of bytes in
    // the read-only data of this program, written below and never changed.
    (
        unsafe { std::slice::from_raw_parts(start, len) },
        handler as u64,
    )
}

// Position-independent. Registers at the start: as for a kernel's entry, with
// a valid stack. r12 is set by the breakpoint's handler; bl is the step.
std::arch::global_asm!(
    ".pushsection .rodata",
    ".global shem_probe_start, shem_probe_breakpoint, shem_probe_end",
    "shem_probe_start:",
    // The interrupt table: a limit of 4 KiB and its address.
    "sub rsp, 16",
    "mov word ptr [rsp], 0xfff",
    "mov rax, {idt}",
    "mov [rsp + 2], rax",
    "lidt [rsp]",
    // Step 1: compare 0 with 0 in memory and exchange it for 1 and 2.
    "mov rdi, {scratch}",
    "xor eax, eax",
    "xor edx, edx",
    "mov rbx, 1",
    "mov rcx, 2",
    "lock cmpxchg16b [rdi]",
    "mov bl, 1",
    "jnz 9f",
    "cmp qword ptr [rdi + 8], 2",
    "jne 9f",
    // Step 2: a breakpoint, to its handler and back.
    "xor r12, r12",
    "int3",
    "mov bl, 2",
    "cmp r12, 0x5e",
    "jne 9f",
    // Step 3: save and restore processor state, where the processor can.
    "mov eax, 1",
    "xor ecx, ecx",
    "push rbx",
    "cpuid",
    "pop rbx",
    "bt ecx, 26",
    "jnc 8f",
    "mov rax, cr4",
    "or rax, {cr4_fx_xsave}",
    "mov cr4, rax",
    "xor ecx, ecx",
    "xor edx, edx",
    "mov eax, 3",
    "xsetbv",
    "mov eax, 0xd",
    "mov ecx, 1",
    "push rbx",
    "cpuid",
    "pop rbx",
    "bt eax, 3",
    "jnc 8f",
    "mov eax, 3",
    "xor edx, edx",
    "xsaves [rdi + 0x1000]",
    "xrstors [rdi + 0x1000]",
    "8:",
    "mov bl, {success}",
    "9:",
    "mov al, bl",
    "mov dx, {port}",
    "out dx, al",
    "7:",
    "hlt",
    "jmp 7b",
    "shem_probe_breakpoint:",
    "mov r12, 0x5e",
    "iretq",
    "shem_probe_end:",
    ".popsection",
    idt = const IDT,
    scratch = const layout::HIGH_RAM + 0x4000,
    cr4_fx_xsave = const 1 << 18 | 1 << 10 | 1 << 9,
    success = const SUCCESS,
    port = const PORT,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_holds_the_instructions_that_it_is_about() {
        let (code, handler) = guest();
        let has = |bytes: &[u8]| code.windows(bytes.len()).any(|window| window == bytes);
        assert!(
            has(&[0xf0, 0x48, 0x0f, 0xc7, 0x0f]),
            "lock cmpxchg16b [rdi]"
        );
        assert!(has(&[0xcc]), "int3");
        assert!(code.len() < 0x1000 && (handler as usize) < code.len());
    }

    #[test]
    fn a_gate_holds_the_whole_address() {
        let gate = interrupt_gate(0x1122_3344_5566_7788);
        assert_eq!(
            gate,
            [
                0x88, 0x77, 0x10, 0, 0, 0x8e, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0
            ]
        );
    }
}
