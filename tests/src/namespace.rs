//! Network namespaces of tests, so that nothing of theirs is seen elsewhere.

// UNSAFETY: makes an interface.
#![expect(unsafe_code, reason = "ioctl")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// Runs `test` in a network namespace of its own, with a loopback. Threads and
/// programs that it starts are in there too, and it goes with the last of them.
/// Takes root.
pub fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip WORDS`, which must succeed.
#[track_caller]
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}

/// Makes the TAP interface `name` and holds its other end, which is its carrier: without
/// it an interface gets no IPv6 addresses of its own. It goes with the descriptor.
pub fn tap(name: &str) -> OwnedFd {
    let tap = File::options().read(true).write(true).open("/dev/net/tun");
    let mut ask = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TAP | libc::IFF_NO_PI) as i16,
        },
    };
    for (to, from) in ask.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let tap = OwnedFd::from(tap.expect("open /dev/net/tun"));
    // SAFETY: the kernel reads a structure that lives through the call.
    unsafe { set_interface(tap.as_raw_fd(), &raw const ask) }.expect("make a TAP interface");
    tap
}
