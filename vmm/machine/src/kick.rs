//! Brings a vCPU thread out of `KVM_RUN` without a signal handler.
//!
//! The kick signal stays blocked in vCPU threads; only inside `KVM_RUN` KVM
//! unblocks it (`KVM_SET_SIGNAL_MASK`, Documentation/virt/kvm/api.rst), so that
//! a pending one ends the ioctl with EINTR and is never delivered. A kick that
//! comes before `KVM_RUN` is not lost: it is pending then. The process's signal
//! dispositions, which belong to whoever embeds the library, are not touched.

// UNSAFETY: two system calls on signals have no safe wrapper.
#![expect(
    unsafe_code,
    reason = "KVM_SET_SIGNAL_MASK and pthread_kill are raw calls"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

/// Directed at single threads only, so that no other use of it in the process is disturbed.
const KICK: Signal = Signal::SIGURG;

/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`: the size is that of the header only.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;
/// The kernel's own `sigset_t`, in bytes.
const KERNEL_SIGSET: u32 = 8;

#[repr(C)]
struct SignalMask {
    len: u32,
    /// Signals blocked during `KVM_RUN`, one bit each, signal 1 first. Not
    /// aligned to 8: it follows the header directly.
    blocked: [u8; KERNEL_SIGSET as usize],
}

/// Blocks all signals in this thread but those that a fault of its own raises
/// (and that must reach their handler): a process's other signals belong to
/// the threads of its owner.
pub fn block_signals() -> io::Result<()> {
    Ok(pthread_sigmask(
        SigmaskHow::SIG_BLOCK,
        Some(&others()),
        None,
    )?)
}

fn others() -> SigSet {
    let mut set = SigSet::all();
    for fault in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGTRAP,
        Signal::SIGSYS,
        Signal::SIGABRT,
    ] {
        set.remove(fault);
    }
    set
}

/// Unblocks the kick inside `KVM_RUN`. The thread that will run `vcpu` has
/// called [`block_signals`].
pub fn prepare(vcpu: &VcpuFd) -> io::Result<()> {
    let mut set = others();
    set.remove(KICK);
    let blocked = Signal::iterator()
        .filter(|signal| set.contains(*signal))
        .fold(0u64, |mask, signal| mask | 1 << (signal as u32 - 1));
    let mask = SignalMask {
        len: KERNEL_SIGSET,
        blocked: blocked.to_ne_bytes(),
    };
    // SAFETY: the descriptor is a vCPU's, and `mask` is the header and set that
    // this ioctl reads: 4 + `len` bytes.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes back a kick that ended `KVM_RUN`, which would end the next one too.
pub fn consume() {
    let mut kick: libc::sigset_t = *SigSet::from(KICK).as_ref();
    let no_wait = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are to live values of the right types; no siginfo is asked for.
    unsafe { libc::sigtimedwait(&raw mut kick, std::ptr::null_mut(), &raw const no_wait) };
}

/// Brings `thread` out of `KVM_RUN`, now or when it next enters.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle is not joined, so the pthread id is valid even when
    // the thread has ended; the signal is blocked in it and ends nothing.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), KICK as libc::c_int) };
}
