//! What confined threads can and cannot do, each case in a process of its own:
//! a filter cannot be taken off again, and a violation ends the process.
// UNSAFETY: one case asks for memory that it could execute, one types at a terminal.
#![expect(unsafe_code, reason = "mmap, ioctl")]

mod own_process;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use confine::{
    Enforcement, PluginPath, Policy, SeccompMode, VIOLATION_STATUS, drop_capabilities,
    enter_process, enter_thread,
};
use device_model::{FileAccess, Interruptible, ThreadKind, Threads};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use own_process::{assert_done, in_own_process};

fn assert_violation(output: &Output, line: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(VIOLATION_STATUS), "{stderr}");
    assert!(stderr.lines().any(|l| l == line), "{stderr}");
}

/// Runs `body` on a thread of that kind under its filter and waits for its end.
fn confined(mode: SeccompMode, kind: ThreadKind, body: impl FnOnce() + Send + 'static) {
    let name = match &kind {
        ThreadKind::Vcpu => "vcpu0",
        ThreadKind::EventLoop => "events",
        ThreadKind::BlockIo => "blk0-q0",
        ThreadKind::FileServer(_) => "fs0-q0",
        ThreadKind::Forwarder => "ports",
    };
    let threads = Threads::new(move |kind| enter_thread(&mode.into(), kind).map(drop));
    let handle = threads.spawn(name.to_owned(), kind, body).unwrap();
    handle.join().expect("the confined thread does not panic");
}

fn report_violations() {
    fn last_words() {
        let _ = nix::unistd::write(std::io::stderr(), b"last words\n");
    }
    confine::report_violations(last_words).unwrap();
}

/// The values of a field of the calling thread's status: capability sets as hexadecimal.
fn status(field: &str) -> String {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

/// What the runtime does in any thread: heap of all sizes, hash maps, locks, logs.
fn use_the_runtime() {
    let mut blocks: Vec<Vec<u8>> = (4..24).map(|bits| vec![1; 1 << bits]).collect();
    blocks
        .iter_mut()
        .for_each(|block| block.resize(block.len() * 3, 2));
    drop(blocks);
    let map: std::collections::HashMap<u32, u32> = (0..100).map(|i| (i, i)).collect();
    assert_eq!(map.len(), 100);
    let (sender, receiver) = std::sync::mpsc::sync_channel(0);
    assert!(sender.try_send(1).is_err());
    assert!(
        receiver
            .recv_timeout(std::time::Duration::from_millis(1))
            .is_err()
    );
    eprintln!("a line of the log");
}

#[test]
fn socket_on_a_vcpu_thread_ends_the_process_with_one_line_and_status_125() {
    let output = in_own_process(
        "socket_on_a_vcpu_thread_ends_the_process_with_one_line_and_status_125",
        || {
            report_violations();
            confined(SeccompMode::Kill, ThreadKind::Vcpu, || {
                let _ = UdpSocket::bind("127.0.0.1:0");
            });
        },
    );
    assert_violation(
        &output,
        "shem: seccomp: thread \"vcpu0\" made system call 41 (socket), which its filter does not \
         allow; run with --seccomp log to go on, and report this",
    );
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("last words\n"));
}

#[test]
fn network_socket_on_the_event_loop_ends_the_process() {
    let output = in_own_process("network_socket_on_the_event_loop_ends_the_process", || {
        report_violations();
        confined(SeccompMode::Kill, ThreadKind::EventLoop, || {
            let _ = UdpSocket::bind("127.0.0.1:0");
        });
    });
    assert_violation(
        &output,
        "shem: seccomp: thread \"events\" made system call 41 (socket), which its filter does \
         not allow; run with --seccomp log to go on, and report this",
    );
}

#[test]
fn starting_a_program_ends_the_process_from_start_up_on() {
    let output = in_own_process(
        "starting_a_program_ends_the_process_from_start_up_on",
        || {
            report_violations();
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            let _ = Command::new("/bin/true").status();
        },
    );
    // The C library blocks every signal while it starts a process, so this
    // violation is never reported.
    assert_eq!(output.status.signal(), Some(nix::libc::SIGSYS));
}

#[test]
fn violation_without_a_reporter_ends_the_process_by_sigsys() {
    let output = in_own_process(
        "violation_without_a_reporter_ends_the_process_by_sigsys",
        || {
            confined(SeccompMode::Kill, ThreadKind::BlockIo, || {
                let _ = UdpSocket::bind("127.0.0.1:0");
            });
        },
    );
    assert_eq!(output.status.signal(), Some(nix::libc::SIGSYS));
}

#[test]
fn log_mode_lets_the_call_pass() {
    let output = in_own_process("log_mode_lets_the_call_pass", || {
        report_violations();
        enter_process(&SeccompMode::Log.into(), false).unwrap();
        confined(SeccompMode::Log, ThreadKind::Vcpu, || {
            UdpSocket::bind("127.0.0.1:0").unwrap();
            File::open("/dev/null").unwrap();
        });
    });
    assert_done(&output);
}

#[test]
fn plugin_makes_the_calls_and_opens_the_places_that_it_declared() {
    let name = "plugin_makes_the_calls_and_opens_the_places_that_it_declared";
    let output = in_own_process(name, || {
        report_violations();
        let mut policy = Policy::from(SeccompMode::Kill);
        for call in ["socket", "bind", "openat"] {
            policy.plugins.add_call(call).unwrap();
        }
        policy.plugins.add_path(PluginPath {
            path: "/dev/null".into(),
            read: true,
            write: false,
            execute: false,
        });
        enter_process(&policy, false).unwrap();
        let threads = Threads::new(move |kind| {
            let enforcement = enter_thread(&policy, kind)?;
            if enforcement == Enforcement::None {
                return Err(io::Error::other("this test needs Landlock"));
            }
            Ok(())
        });
        let body = || {
            UdpSocket::bind("127.0.0.1:0").unwrap();
            File::open("/dev/null").unwrap();
            for path in ["/dev/zero", "/etc/hostname"] {
                let error = File::open(path).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}");
            }
        };
        for kind in [ThreadKind::EventLoop, ThreadKind::Vcpu] {
            let thread = threads.spawn("plugin".into(), kind, body).unwrap();
            thread.join().expect("the confined thread does not panic");
        }
        // Others still must not.
        let other = threads.spawn("blk".into(), ThreadKind::BlockIo, || {
            let _ = UdpSocket::bind("127.0.0.1:0");
        });
        let _ = other.unwrap().join();
    });
    assert_violation(
        &output,
        "shem: seccomp: thread \"blk\" made system call 41 (socket), which its filter does not \
         allow; run with --seccomp log to go on, and report this",
    );
}

#[test]
fn plugin_that_declared_ioctl_makes_all_requests_but_those_that_type_at_the_terminal() {
    let name = "plugin_that_declared_ioctl_makes_all_requests_but_those_that_type_at_the_terminal";
    let output = in_own_process(name, || {
        report_violations();
        let mut policy = Policy::from(SeccompMode::Kill);
        policy.plugins.add_call("ioctl").unwrap();
        let file = File::open("/dev/null").unwrap();
        enter_process(&policy, false).unwrap();
        let threads = Threads::new(move |kind| enter_thread(&policy, kind).map(drop));
        let body = move || {
            let fd = file.as_raw_fd();
            // SAFETY: it takes no argument.
            assert_eq!(unsafe { libc::ioctl(fd, libc::FIOCLEX) }, 0);
            // SAFETY: it reads one byte of a string.
            unsafe { libc::ioctl(fd, libc::TIOCSTI, c"x".as_ptr()) };
        };
        let thread = threads.spawn("plugin".into(), ThreadKind::EventLoop, body);
        let _ = thread.unwrap().join();
    });
    assert_violation(
        &output,
        "shem: seccomp: thread \"plugin\" made system call 16 (ioctl), which its filter does not \
         allow; run with --seccomp log to go on, and report this",
    );
}

#[test]
fn thread_of_a_device_interrupts_the_guest_and_asks_nothing_else_of_kvm() {
    const KVM_IRQ_LINE: libc::Ioctl = 0x4008_ae61;
    const KVM_SET_USER_MEMORY_REGION: libc::Ioctl = 0x4020_ae46;
    let name = "thread_of_a_device_interrupts_the_guest_and_asks_nothing_else_of_kvm";
    let output = in_own_process(name, || {
        report_violations();
        let file = File::open("/dev/null").unwrap();
        confined(SeccompMode::Kill, ThreadKind::BlockIo, move || {
            let [line, memory] = [KVM_IRQ_LINE, KVM_SET_USER_MEMORY_REGION].map(|request| {
                // SAFETY: the file knows no such request and so reads no argument.
                move |file: &File| unsafe { libc::ioctl(file.as_raw_fd(), request, 0) }
            });
            assert_eq!(line(&file), -1);
            assert_eq!(
                io::Error::last_os_error().raw_os_error(),
                Some(libc::ENOTTY)
            );
            memory(&file);
        });
    });
    assert_violation(
        &output,
        "shem: seccomp: thread \"blk0-q0\" made system call 16 (ioctl), which its filter does not \
         allow; run with --seccomp log to go on, and report this",
    );
}

#[test]
fn off_mode_loads_no_filter_but_drops_privileges() {
    let output = in_own_process("off_mode_loads_no_filter_but_drops_privileges", || {
        confined(SeccompMode::Off, ThreadKind::Vcpu, || {
            UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(status("Seccomp:"), "0");
            assert_eq!(status("NoNewPrivs"), "1");
            assert_eq!(status("CapEff"), "0000000000000000");
        });
    });
    assert_done(&output);
}

#[test]
fn event_loop_starts_vcpus_which_start_block_threads_which_do_disk_io() {
    let output = in_own_process(
        "event_loop_starts_vcpus_which_start_block_threads_which_do_disk_io",
        || {
            report_violations();
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            // A file without a name, which goes with the process.
            let disk =
                nix::sys::memfd::memfd_create(c"disk", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
            let disk = File::from(disk.unwrap());
            let vcpu = move || {
                use_the_runtime();
                confined(SeccompMode::Kill, ThreadKind::BlockIo, move || {
                    use_the_runtime();
                    disk.write_all_at(b"shem", 4096).unwrap();
                    disk.sync_data().unwrap();
                    assert_eq!(disk.metadata().unwrap().len(), 4100);
                    let mut word = [0; 4];
                    disk.try_clone()
                        .unwrap()
                        .read_exact_at(&mut word, 4096)
                        .unwrap();
                    assert_eq!(&word, b"shem");
                });
            };
            confined(SeccompMode::Kill, ThreadKind::EventLoop, move || {
                confined(SeccompMode::Kill, ThreadKind::Vcpu, vcpu);
            });
        },
    );
    assert_done(&output);
}

#[test]
fn event_loop_serves_streams_under_its_filter() {
    let output = in_own_process("event_loop_serves_streams_under_its_filter", || {
        report_violations();
        enter_process(&SeccompMode::Kill.into(), false).unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        confined(SeccompMode::Kill, ThreadKind::EventLoop, move || {
            use_the_runtime();
            theirs.set_nonblocking(true).unwrap();
            theirs.write_all(b"hello").unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(UnixStream::connect("/nonexistent/socket").is_err());
        });
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    });
    assert_done(&output);
}

#[test]
fn forwarder_takes_connections_on_threads_of_its_own_and_makes_none() {
    let name = "forwarder_takes_connections_on_threads_of_its_own_and_makes_none";
    let output = in_own_process(name, || {
        report_violations();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        enter_process(&SeccompMode::Kill.into(), false).unwrap();
        confined(SeccompMode::Kill, ThreadKind::Forwarder, move || {
            use_the_runtime();
            let (taken, _) = listener.accept().unwrap();
            let taken = std::sync::Arc::new(taken);
            let relay = std::thread::Builder::new()
                .name("port".into())
                .spawn(move || {
                    use_the_runtime();
                    let (host, mut guest) = UnixStream::pair().unwrap();
                    host.try_clone().unwrap().set_read_timeout(None).unwrap();
                    guest.write_all(b"answer").unwrap();
                    guest.shutdown(std::net::Shutdown::Write).unwrap();
                    taken.set_nodelay(true).unwrap();
                    stream_relay(&host, &taken);
                });
            relay.unwrap().join().unwrap();
        });
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
        confined(SeccompMode::Kill, ThreadKind::Forwarder, || {
            let _ = TcpStream::connect("127.0.0.1:1");
        });
    });
    assert_violation(
        &output,
        "shem: seccomp: thread \"ports\" made system call 41 (socket), which its filter does not \
         allow; run with --seccomp log to go on, and report this",
    );
}

/// One way of what relays do: wait, read, write, and pass the end on.
fn stream_relay(from: &UnixStream, to: &TcpStream) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{MsgFlags, recv, send};
    use std::os::fd::AsFd;
    let mut entries = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    poll(&mut entries, PollTimeout::NONE).unwrap();
    let mut bytes = [0; 64];
    let len = recv(from.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).unwrap();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(to.as_raw_fd(), &bytes[..len], flags).unwrap();
    to.shutdown(std::net::Shutdown::Write).unwrap();
}

#[test]
fn file_server_waits_for_a_lock_until_another_file_server_ends_that() {
    let output = in_own_process(
        "file_server_waits_for_a_lock_until_another_file_server_ends_that",
        || {
            report_violations();
            let held = nix::sys::memfd::memfd_create(c"", nix::sys::memfd::MFdFlags::empty());
            let held = File::from(held.unwrap());
            let other = File::open(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap();
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            let kind = ThreadKind::FileServer(FileAccess::default());
            confined(SeccompMode::Kill, kind.clone(), move || {
                held.lock().unwrap();
                let wait = Interruptible::default();
                let (inside, entered) = std::sync::mpsc::channel();
                let threads =
                    Threads::new(|kind| enter_thread(&SeccompMode::Kill.into(), kind).map(drop));
                let waiter = threads.spawn("fs-lock0".to_owned(), kind, {
                    let wait = wait.clone();
                    move || {
                        let call = || {
                            inside.send(()).unwrap();
                            other.lock()
                        };
                        let outcome = wait.run(call).unwrap().expect("it was not ended before");
                        assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::Interrupted);
                    }
                });
                entered.recv().unwrap();
                assert!(wait.interrupt());
                waiter.unwrap().join().unwrap();
            });
        },
    );
    assert_done(&output);
}

#[test]
fn panic_with_a_backtrace_on_a_confined_thread_is_only_a_panic() {
    let output = in_own_process(
        "panic_with_a_backtrace_on_a_confined_thread_is_only_a_panic",
        || {
            report_violations();
            std::panic::set_hook(Box::new(|info| {
                eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            }));
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            let threads =
                Threads::new(|kind| enter_thread(&SeccompMode::Kill.into(), kind).map(drop));
            for kind in [
                ThreadKind::Vcpu,
                ThreadKind::EventLoop,
                ThreadKind::BlockIo,
                ThreadKind::FileServer(FileAccess::default()),
            ] {
                let handle = threads
                    .spawn("panics".to_owned(), kind, || panic!("on purpose"))
                    .unwrap();
                handle.join().unwrap_err();
            }
        },
    );
    assert_done(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("on purpose"));
}

#[test]
fn confined_thread_cannot_map_memory_that_it_could_execute() {
    let output = in_own_process(
        "confined_thread_cannot_map_memory_that_it_could_execute",
        || {
            report_violations();
            confined(SeccompMode::Kill, ThreadKind::EventLoop, || {
                let length = std::num::NonZeroUsize::new(4096).unwrap();
                let protection = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
                // SAFETY: a new anonymous mapping, at a place that the kernel
                // chooses, changes no memory that anything else uses.
                let _ = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) };
            });
        },
    );
    assert_eq!(output.status.code(), Some(VIOLATION_STATUS));
    assert!(String::from_utf8_lossy(&output.stderr).contains("9 (mmap)"));
}

#[test]
fn machine_threads_have_no_capabilities_and_no_new_privs() {
    let output = in_own_process(
        "machine_threads_have_no_capabilities_and_no_new_privs",
        || {
            let bounding = status("CapBnd");
            // Only a privileged thread can give up its bounding set.
            let bounding_after = match status("CapEff").as_str() {
                "0000000000000000" => bounding.clone(),
                _ => "0000000000000000".to_owned(),
            };
            confined(SeccompMode::Log, ThreadKind::Vcpu, move || {
                for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                    assert_eq!(status(set), "0000000000000000", "{set}");
                }
                assert_eq!(status("CapBnd"), bounding_after);
                assert_eq!(status("NoNewPrivs"), "1");
                assert_eq!(status("Seccomp:"), "2");
            });
            // The thread that started it is as it was.
            assert_eq!(status("NoNewPrivs"), "0");
            assert_eq!(status("CapBnd"), bounding);
        },
    );
    assert_done(&output);
}

#[test]
fn process_keeps_only_file_access_until_everything_is_open() {
    let output = in_own_process(
        "process_keeps_only_file_access_until_everything_is_open",
        || {
            let effective = u64::from_str_radix(&status("CapEff"), 16).unwrap();
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            // CAP_DAC_OVERRIDE is bit 1, CAP_DAC_READ_SEARCH bit 2.
            let kept = format!("{:016x}", effective & 0b110);
            assert_eq!(status("CapEff"), kept);
            assert_eq!(status("CapPrm"), kept);
            drop_capabilities().unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
            assert_eq!(status("NoNewPrivs"), "1");
            assert_eq!(status("Seccomp:"), "2");
        },
    );
    assert_done(&output);
}
