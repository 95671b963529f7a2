//! Which system calls each kind of thread may make, and why.
//!
//! Small lists by purpose make up the tables at the end. A call that no list
//! names is a violation: among them every way to start a program, to reach the
//! network, to look into another process, to mount, to load code into the kernel.

use libc::{
    EACCES, ENOSYS, SYS_accept4, SYS_access, SYS_bind, SYS_brk, SYS_capget, SYS_capset,
    SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close,
    SYS_connect, SYS_copy_file_range, SYS_dup, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
    SYS_epoll_pwait2, SYS_epoll_wait, SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_faccessat,
    SYS_faccessat2, SYS_fallocate, SYS_fchmod, SYS_fchmodat, SYS_fchownat, SYS_fcntl,
    SYS_fdatasync, SYS_flock, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex,
    SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups,
    SYS_getpeername, SYS_getpid, SYS_getppid, SYS_getrandom, SYS_getrusage, SYS_getsockname,
    SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_getuid, SYS_getxattr, SYS_io_uring_enter,
    SYS_io_uring_register, SYS_io_uring_setup, SYS_ioctl, SYS_landlock_add_rule,
    SYS_landlock_create_ruleset, SYS_landlock_restrict_self, SYS_linkat, SYS_listen, SYS_listxattr,
    SYS_lseek, SYS_lstat, SYS_madvise, SYS_membarrier, SYS_memfd_create, SYS_mincore, SYS_mkdir,
    SYS_mkdirat, SYS_mknodat, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep,
    SYS_newfstatat, SYS_open, SYS_openat, SYS_openat2, SYS_pipe2, SYS_poll, SYS_ppoll, SYS_prctl,
    SYS_pread64, SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_pwrite64, SYS_pwritev, SYS_pwritev2,
    SYS_read, SYS_readlink, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_removexattr,
    SYS_rename, SYS_renameat, SYS_renameat2, SYS_restart_syscall, SYS_rmdir, SYS_rseq,
    SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_seccomp, SYS_sendfile, SYS_sendmsg, SYS_sendto,
    SYS_set_robust_list, SYS_setfsgid, SYS_setfsuid, SYS_setgroups, SYS_setsockopt, SYS_setxattr,
    SYS_shutdown, SYS_sigaltstack, SYS_signalfd4, SYS_socket, SYS_socketpair, SYS_splice, SYS_stat,
    SYS_statfs, SYS_statx, SYS_symlinkat, SYS_syncfs, SYS_sysinfo, SYS_tgkill, SYS_timerfd_create,
    SYS_timerfd_gettime, SYS_timerfd_settime, SYS_umask, SYS_uname, SYS_unlink, SYS_unlinkat,
    SYS_utimensat, SYS_write, SYS_writev,
};

use crate::filter::{Allow, Refuse, Table, Test};

/// From the moment a command knows what it is to do: opens images, packs and
/// devices, starts the machine's threads, talks to the agent and the terminal.
pub(crate) const START_UP: Table = Table {
    allowed: &[
        EVERY_THREAD,
        NEW_THREADS,
        KVM,
        SIGNALS,
        STREAMS,
        SOCKETS,
        EVENTS,
        DISKS,
        RINGS,
        FILES,
        SHARED_FOLDERS,
        TERMINAL,
        PROCESS,
    ],
    refused: &[NO_CLONE3],
};

/// A vCPU: runs the guest and dispatches its bus accesses. A device that the
/// guest activates may start its threads from here, and they inherit this
/// filter, so it holds what they need.
pub(crate) const VCPU: Table = Table {
    allowed: &[EVERY_THREAD, NEW_THREADS, KVM, SIGNALS, EVENTS, DISKS],
    refused: &[NO_CLONE3, NO_OPEN, NO_OPENAT, NO_READLINK, NO_GETCWD],
};

/// The event loop: serves the devices that do not block, and starts the
/// machine's vCPUs, which inherit this filter, so it holds what they need.
pub(crate) const EVENT_LOOP: Table = Table {
    allowed: &[
        EVERY_THREAD,
        NEW_THREADS,
        KVM,
        SIGNALS,
        STREAMS,
        SOCKETS,
        EVENTS,
        DISKS,
    ],
    refused: &[NO_CLONE3, NO_OPEN, NO_OPENAT, NO_READLINK, NO_GETCWD],
};

/// A thread that reads and writes a disk image for one virtqueue.
pub(crate) const BLOCK_IO: Table = Table {
    allowed: &[EVERY_THREAD, INTERRUPTS, EVENTS, DISKS],
    refused: &[NO_CLONE3, NO_OPEN, NO_OPENAT, NO_READLINK, NO_GETCWD],
};

/// A thread that serves files of the host for one virtqueue, and those that it
/// starts to wait for a lock, which inherit this filter.
pub(crate) const FILE_SERVER: Table = Table {
    allowed: &[
        EVERY_THREAD,
        NEW_THREADS,
        INTERRUPTS,
        EVENTS,
        DISKS,
        LOCK_WAITS,
        SHARED_FOLDERS,
    ],
    refused: &[NO_CLONE3, NO_OPEN, NO_READLINK, NO_GETCWD],
};

/// A thread that takes connections to ports of the host, on listeners that it is
/// given, and those that it starts for each connection, which inherit this filter.
pub(crate) const FORWARDER: Table = Table {
    allowed: &[EVERY_THREAD, NEW_THREADS, STREAMS, EVENTS, NEW_STREAMS],
    refused: &[NO_CLONE3, NO_OPEN, NO_OPENAT, NO_READLINK, NO_GETCWD],
};

/// Any arguments.
const fn any(call: i64) -> Allow {
    Allow { call, when: &[] }
}

/// Only when every test holds.
const fn only(call: i64, when: &'static [Test]) -> Allow {
    Allow { call, when }
}

/// Argument `index` is `value`.
const fn is(index: u8, value: i32) -> Test {
    Test {
        index,
        mask: u32::MAX,
        value: value as u32,
    }
}

/// Argument `index` has none of `bits` set.
const fn without(index: u8, bits: i32) -> Test {
    Test {
        index,
        mask: bits as u32,
        value: 0,
    }
}

/// Argument `index` has all of `bits` set.
const fn with(index: u8, bits: i32) -> Test {
    Test {
        index,
        mask: bits as u32,
        value: bits as u32,
    }
}

/// Bits 8 to 15 of argument `index`, an ioctl's type, are `value`.
const fn type_is(index: u8, value: u8) -> Test {
    Test {
        index,
        mask: 0xff00,
        value: (value as u32) << 8,
    }
}

/// What the language's runtime and the C library do in any thread.
#[rustfmt::skip]
const EVERY_THREAD: &[Allow] = &[
    any(SYS_futex),                                     // locks, channels, joins
    any(SYS_sched_yield),                               // contended channels
    any(SYS_membarrier),                                // the C library, around restartable sequences
    only(SYS_mmap, &[without(2, libc::PROT_EXEC)]),     // heap, stacks of new threads
    only(SYS_mprotect, &[without(2, libc::PROT_EXEC)]), // heap growth, guard pages
    any(SYS_munmap),                                    // heap, stacks of ended threads
    any(SYS_mremap),                                    // growth of large allocations
    any(SYS_madvise),                                   // heap trim, stacks of ended threads, discarded guest RAM
    any(SYS_brk),                                       // heap
    any(SYS_getrandom),                                 // seeds of hash maps
    any(SYS_sched_getaffinity),                         // the allocator and new threads count CPUs
    any(SYS_clock_gettime),                             // time-outs, where the clock is not read from the vDSO
    any(SYS_gettimeofday),                              // likewise
    any(SYS_read),                                      // event descriptors, streams
    any(SYS_write),                                     // event descriptors, streams, logs, panic messages
    any(SYS_readv),                                     // likewise, in pieces
    any(SYS_writev),
    any(SYS_close),                                     // descriptors go with the devices that own them
    any(SYS_fstat),                                     // sizes of open files
    any(SYS_newfstatat),                                // the C library's fstat; by name it tells no contents
    any(SYS_statx),                                     // the standard library's fstat
    any(SYS_fcntl),                                     // duplicates, O_NONBLOCK, checks on close in debug builds
    only(SYS_ioctl, &[is(1, libc::FIONBIO as i32)]),    // non-blocking sockets
    only(SYS_ioctl, &[is(1, libc::FIONREAD as i32)]),   // how much is readable
    only(SYS_ioctl, &[is(1, libc::TCSETS as i32)]),     // the terminal's modes back, after a violation
    only(SYS_prctl, &[is(0, libc::PR_GET_NAME)]),       // reports of panics and violations
    any(SYS_getpid),                                    // with tgkill: signals to threads, abort
    any(SYS_gettid),                                    // likewise
    any(SYS_tgkill),                                    // kicks vCPUs out of the guest; abort
    any(SYS_rt_sigprocmask),                            // around thread start, signals and abort
    any(SYS_rt_sigreturn),                              // end of a signal handler
    any(SYS_sigaltstack),                               // start and end of a thread
    any(SYS_restart_syscall),                           // the kernel goes on after a stop and a continue
    any(SYS_exit),                                      // end of the thread
    any(SYS_exit_group),                                // end of the process
];

/// What it takes to start a thread and to confine it.
#[rustfmt::skip]
const NEW_THREADS: &[Allow] = &[
    only(SYS_clone, &[with(0, THREAD_FLAGS)]),    // threads only
    any(SYS_rseq),                                // registers a new thread's restartable sequences
    any(SYS_set_robust_list),                     // registers a new thread's held locks
    only(SYS_prctl, &[is(0, libc::PR_SET_NAME)]), // names it
    only(SYS_prctl, &[is(0, libc::PR_SET_NO_NEW_PRIVS)]), // confines it, from here on
    only(SYS_prctl, &[is(0, libc::PR_CAPBSET_READ)]),
    only(SYS_prctl, &[is(0, libc::PR_CAPBSET_DROP)]),
    only(SYS_prctl, &[is(0, libc::PR_CAP_AMBIENT)]),
    any(SYS_capget),
    any(SYS_capset),
    any(SYS_seccomp),
];

/// The virtual machine: KVM's requests are all of type 0xae.
const KVM: &[Allow] = &[only(SYS_ioctl, &[type_is(1, KVMIO)])];

/// Interrupts to the guest, of threads that ask nothing else of KVM.
const INTERRUPTS: &[Allow] = &[only(SYS_ioctl, &[is(1, KVM_IRQ_LINE)])];

/// Signals that a thread takes by asking for them.
#[rustfmt::skip]
const SIGNALS: &[Allow] = &[
    any(SYS_rt_sigtimedwait), // takes the signal that ended KVM_RUN
    any(SYS_rt_sigpending),   // likewise
];

/// Bytes to and from peers on sockets that are open.
#[rustfmt::skip]
const STREAMS: &[Allow] = &[
    any(SYS_recvfrom),   // reads
    any(SYS_recvmsg),    // reads in pieces
    any(SYS_sendto),     // writes, without SIGPIPE
    any(SYS_sendmsg),    // writes in pieces
    any(SYS_shutdown),   // half-close
    any(SYS_accept4),    // programs that connect to a guest's port
    any(SYS_getsockopt), // outcome of a connect
    any(SYS_setsockopt), // buffer sizes, time-outs
    any(SYS_getsockname),
    any(SYS_getpeername),
];

/// New streams to the guest.
const NEW_STREAMS: &[Allow] = &[only(SYS_socketpair, &[is(0, libc::AF_UNIX)])];

/// New connections to programs of this host, and no network.
#[rustfmt::skip]
const SOCKETS: &[Allow] = &[
    only(SYS_socket, &[is(0, libc::AF_UNIX)]),     // a guest connects to a program
    only(SYS_socketpair, &[is(0, libc::AF_UNIX)]), // streams within the process
    any(SYS_connect),                              // of the above sockets only
    any(SYS_unlink),                               // a socket's name goes with its device
    any(SYS_unlinkat),                             // likewise
];

/// Waiting, and waking others.
#[rustfmt::skip]
const EVENTS: &[Allow] = &[
    any(SYS_epoll_wait),
    any(SYS_epoll_pwait),
    any(SYS_epoll_pwait2),
    any(SYS_epoll_ctl),     // devices come and go with the driver's resets
    any(SYS_epoll_create1), // a device's own set
    any(SYS_eventfd2),      // a device's own wake-ups
    any(SYS_poll),
    any(SYS_ppoll),
    any(SYS_timerfd_create),
    any(SYS_timerfd_settime),
    any(SYS_timerfd_gettime),
];

/// Waits for file locks that another thread can end.
#[rustfmt::skip]
const LOCK_WAITS: &[Allow] = &[
    any(SYS_flock),        // the locks that fcntl does not take
    any(SYS_rt_sigaction), // a handler that does nothing for the signal that ends a wait
];

/// Disk images that are open.
#[rustfmt::skip]
const DISKS: &[Allow] = &[
    any(SYS_pread64),
    any(SYS_preadv),
    any(SYS_preadv2),
    any(SYS_pwrite64),
    any(SYS_pwritev),
    any(SYS_pwritev2),
    any(SYS_fdatasync), // flush
    any(SYS_fsync),     // flush, of a file that grew
    any(SYS_fallocate), // discard and write-zeroes
    any(SYS_ftruncate), // images that grow
    any(SYS_lseek),     // size, holes
    any(SYS_io_uring_enter), // rings that exist, each bound to disk operations
];

/// New rings, which devices have from their making on: what a ring is bound to
/// cannot be changed, but another one could do anything.
const RINGS: &[Allow] = &[any(SYS_io_uring_setup), any(SYS_io_uring_register)];

/// Files by name: images, packs, devices, sockets of the host.
#[rustfmt::skip]
const FILES: &[Allow] = &[
    any(SYS_open),
    any(SYS_openat),
    any(SYS_openat2),
    any(SYS_stat),
    any(SYS_lstat),
    any(SYS_statfs),
    any(SYS_fstatfs),
    any(SYS_access),
    any(SYS_faccessat),
    any(SYS_faccessat2),
    any(SYS_readlink),
    any(SYS_readlinkat),
    any(SYS_getcwd),
    any(SYS_getdents64),
    any(SYS_mkdir),
    any(SYS_mkdirat),
    any(SYS_rmdir),
    any(SYS_rename),
    any(SYS_renameat),
    any(SYS_renameat2),
    any(SYS_fchmod),
    any(SYS_ftruncate),
    any(SYS_flock),
    any(SYS_umask),
    any(SYS_memfd_create),    // guest RAM
    any(SYS_mmap),            // with PROT_EXEC too: the C library loads its own parts late
    any(SYS_mprotect),
    any(SYS_mincore),
    any(SYS_copy_file_range), // the standard library's copy, with the two below
    any(SYS_sendfile),
    any(SYS_splice),
];

/// Shared folders of the host: one name at a time in folders that are open, and
/// files over their links in `/proc/self/fd`. Threads that serve them start from
/// [`START_UP`], so it has this too.
#[rustfmt::skip]
const SHARED_FOLDERS: &[Allow] = &[
    any(SYS_openat2),         // finds a name; Landlock holds where
    any(SYS_openat),          // opens what was found, and makes files
    any(SYS_getdents64),      // reads folders
    any(SYS_readlinkat),      // symbolic links, and whether a folder is still inside
    any(SYS_mkdirat),
    any(SYS_mknodat),
    any(SYS_symlinkat),
    any(SYS_linkat),
    any(SYS_unlinkat),
    any(SYS_renameat2),
    any(SYS_fchownat),        // ownership as is
    any(SYS_fchmodat),
    any(SYS_utimensat),
    any(SYS_ftruncate),
    any(SYS_copy_file_range),
    any(SYS_fstatfs),
    any(SYS_syncfs),
    any(SYS_flock),           // locks of open files; others are fcntl's
    any(SYS_getxattr),        // attributes of guests, and records of owners
    any(SYS_setxattr),
    any(SYS_listxattr),
    any(SYS_removexattr),
    any(SYS_setfsuid),        // ownership as is: what is made is made as its owner
    any(SYS_setfsgid),
    any(SYS_setgroups),
    any(SYS_capget),          // setfsuid takes what the guest's kernel has allowed
    any(SYS_capset),
    any(SYS_landlock_create_ruleset), // confines the thread to the folders
    any(SYS_landlock_add_rule),
    any(SYS_landlock_restrict_self),
];

/// The terminal or the pipes that the command was started with.
#[rustfmt::skip]
const TERMINAL: &[Allow] = &[
    only(SYS_ioctl, &[is(1, libc::TCGETS as i32)]),
    only(SYS_ioctl, &[is(1, libc::TCSETSW as i32)]),
    only(SYS_ioctl, &[is(1, libc::TCSETSF as i32)]),
    only(SYS_ioctl, &[is(1, libc::TIOCGWINSZ as i32)]),
    only(SYS_ioctl, &[is(1, BLKGETSIZE64)]), // size of a disk that is a block device
    any(SYS_dup),
    any(SYS_pipe2),
    any(SYS_signalfd4),
];

/// The process about itself, and sockets that listen.
#[rustfmt::skip]
const PROCESS: &[Allow] = &[
    any(SYS_getuid),
    any(SYS_geteuid),
    any(SYS_getgid),
    any(SYS_getegid),
    any(SYS_getgroups), // what the server of a shared folder goes back to
    any(SYS_getppid),
    any(SYS_uname),
    any(SYS_sysinfo),
    any(SYS_getrusage),
    any(SYS_prlimit64),
    any(SYS_clock_getres),
    any(SYS_clock_nanosleep),
    any(SYS_nanosleep),
    any(SYS_rt_sigaction),
    any(SYS_bind),
    any(SYS_listen),
];

/// The C library then uses `clone`, whose flags a filter can see.
const NO_CLONE3: Refuse = Refuse {
    call: SYS_clone3,
    errno: ENOSYS,
    when_logging: true,
};

// A panic looks for its backtrace's names in files. Denied, it goes on without
// them; a violation here would hide the panic's message.
const NO_OPEN: Refuse = denied(SYS_open);
const NO_OPENAT: Refuse = denied(SYS_openat);
const NO_READLINK: Refuse = denied(SYS_readlink);
const NO_GETCWD: Refuse = denied(SYS_getcwd);

const fn denied(call: i64) -> Refuse {
    Refuse {
        call,
        errno: EACCES,
        when_logging: false,
    }
}

/// Flags without which `clone` makes a process and not a thread.
const THREAD_FLAGS: i32 = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;

/// The type of KVM's ioctl requests (`linux/kvm.h`), their bits 8 to 15.
const KVMIO: u8 = 0xae;
/// `linux/kvm.h`: `_IOW(KVMIO, 0x61, struct kvm_irq_level)`.
const KVM_IRQ_LINE: i32 = 0x4008_ae61;
/// `linux/fs.h`: `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: i32 = 0x8008_1272u32 as i32;
