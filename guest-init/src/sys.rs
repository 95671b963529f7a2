//! System calls that neither std nor nix offers in a usable form, each as a safe function.
//!
//! What runs between fork and exec is in `agent/child.rs`.

// UNSAFETY: raw system calls on descriptors and plain structures.
#![expect(
    unsafe_code,
    reason = "the kernel interfaces below have no safe wrapper"
)]

use std::ffi::{c_int, c_ulong};
use std::fs::OpenOptions;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use guest_protocol::{ExitStatus, WindowSize};
use nix::sys::socket::{SockFlag, accept4};

/// Which side of a [`fork`] this is.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the id of the new.
    Parent(libc::pid_t),
}

/// Forks PID 1, which has one thread only.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the caller is single-threaded, so the child may go on with
    // everything, allocation included.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Waits for any child to end, reaps it and returns its id and raw wait status.
pub fn wait_any() -> io::Result<(libc::pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    let pid = check(unsafe { libc::waitpid(-1, &mut status, 0) })?;
    Ok((pid, status))
}

/// Sends a signal to exactly the process the descriptor was opened for.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null info is allowed and means that of kill(2).
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    check_long(rc).map(drop)
}

/// Waits for the child to end and reaps it.
pub fn pidfd_wait(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    let id = pidfd.as_raw_fd().cast_unsigned();
    // SAFETY: the structure is plain data, for which zeroes are valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    loop {
        // SAFETY: `info` lives through the call.
        let rc = unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, libc::WEXITED) };
        match check(rc) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid filled in the fields of a child's change of state.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        libc::CLD_EXITED => ExitStatus::Code(status & 0xff),
        code => ExitStatus::Signal {
            signal: status,
            core_dumped: code == libc::CLD_DUMPED,
        },
    })
}

/// Sends a signal to all processes of a group.
pub fn kill_group(group: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(-group.cast_signed(), signal) }).map(drop)
}

/// Takes the next connection of a listening socket.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel returned it to this call, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many bytes a pipe holds.
pub fn readable_bytes(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives through the call.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// An entry for [`poll`]; without a descriptor or events it never reports.
pub fn poll_entry(fd: Option<BorrowedFd<'_>>, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    }
}

/// Waits until one of the entries has something to report.
pub fn poll(entries: &mut [libc::pollfd]) -> io::Result<()> {
    let count = libc::nfds_t::try_from(entries.len()).expect("nfds_t is as wide as usize");
    loop {
        // SAFETY: pointer and count are those of the slice.
        match check(unsafe { libc::poll(entries.as_mut_ptr(), count, -1) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Makes reads and writes of the open file return instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Opens a new terminal: master, then slave.
pub fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/ptmx")?;
    let unlock: c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives through the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) })?;
    // The descriptor comes from the kernel and not from a path that the
    // container could have replaced.
    // SAFETY: TIOCGPTPEER takes its flags by value.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    Ok((master.into(), owned(slave.into())?))
}

/// Sets the window size of a terminal; its foreground processes get SIGWINCH.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads the structure, which lives through the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// Makes the file system of `folder` whole on its disk: everything is written,
/// and whoever changes it from now on waits for ever.
pub fn freeze(folder: impl AsFd) -> io::Result<()> {
    /// `_IOWR('X', 119, int)` of linux/fs.h.
    const FIFREEZE: c_ulong = 0xc004_5877;
    // SAFETY: FIFREEZE takes no argument.
    check(unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), FIFREEZE, 0) }).map(drop)
}

/// Loads a kernel module from a file, without parameters.
pub fn load_module(file: impl AsFd) -> io::Result<()> {
    let parameters = c"".as_ptr();
    // SAFETY: the parameters are a string that ends in NUL.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_fd().as_raw_fd(),
            parameters,
            0,
        )
    };
    check_long(rc).map(drop)
}

/// Takes a descriptor that the kernel just made, or the error.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check_long(fd)?).expect("descriptors are ints");
    // SAFETY: the kernel returned it to this call, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(rc: c_int) -> io::Result<c_int> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}

fn check_long(rc: libc::c_long) -> io::Result<libc::c_long> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}
