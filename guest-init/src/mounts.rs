//! The file systems that every container has beside the image's: kernel
//! interfaces and memory. Those of the boot configuration are in `volumes.rs`.
//!
//! A mount that fails is a warning: a container without it is of more use
//! than none.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::console::say;

/// One file system of the container.
struct Mount {
    target: &'static str,
    fstype: &'static str,
    flags: MsFlags,
    options: &'static str,
    when: When,
}

#[derive(PartialEq, Eq)]
enum When {
    /// Its absence is worth a warning.
    Always,
    /// The kernel may do without.
    Supported,
    /// Only where the image has nothing of its own: an image may bring
    /// `/run/service` with its owner, and a mount would hide it.
    ImageHasNothing,
}

/// nosuid, nodev and noexec, as nothing but the kernel makes files there.
const KERNEL: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const MEMORY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In this order: some lie in others.
const CONTAINER: &[Mount] = &[
    Mount::new("/proc", "proc", KERNEL, "", When::Always),
    Mount::new("/sys", "sysfs", KERNEL, "", When::Always),
    Mount::new(
        "/dev",
        "devtmpfs",
        MsFlags::MS_NOSUID,
        "mode=0755",
        When::Always,
    ),
    Mount::new(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "gid=5,mode=0620,ptmxmode=0666",
        When::Always,
    ),
    Mount::new("/dev/shm", "tmpfs", MEMORY, "mode=1777", When::Always),
    Mount::new("/dev/mqueue", "mqueue", KERNEL, "", When::Supported),
    Mount::new("/tmp", "tmpfs", MEMORY, "mode=1777", When::ImageHasNothing),
    Mount::new("/run", "tmpfs", MEMORY, "mode=0755", When::ImageHasNothing),
    Mount::new(
        "/sys/fs/cgroup",
        "cgroup2",
        KERNEL,
        "nsdelegate",
        When::Supported,
    ),
];

const DEV_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

impl Mount {
    const fn new(
        target: &'static str,
        fstype: &'static str,
        flags: MsFlags,
        options: &'static str,
        when: When,
    ) -> Self {
        Self {
            target,
            fstype,
            flags,
            options,
            when,
        }
    }

    fn mount(&self) {
        if self.when == When::ImageHasNothing && has_entries(self.target) {
            return;
        }
        if let Err(e) = make_mount_point(self.target) {
            say(format_args!("warning: create {}: {e}", self.target));
        }
        let source = Some(self.fstype);
        match mount(source, self.target, source, self.flags, Some(self.options)) {
            Err(Errno::ENODEV) if self.when == When::Supported => {}
            Err(e) => say(format_args!("warning: mount {}: {e}", self.target)),
            Ok(()) => {}
        }
    }
}

/// What finding the disks takes, inside the initramfs. It stays there, out of
/// sight, when the root is switched.
pub fn mount_early() {
    Mount::new("/dev", "devtmpfs", MsFlags::MS_NOSUID, "", When::Always).mount();
    Mount::new("/sys", "sysfs", KERNEL, "", When::Always).mount();
}

/// What a container expects, relative to its own root so that links of the
/// image lead where the image means. What `volumes` will cover is left out.
pub fn mount_container(volumes: &[guest_protocol::Mount]) {
    for mount in CONTAINER {
        if !volumes.iter().any(|volume| volume.target == mount.target) {
            mount.mount();
        }
    }
    for (to, link) in DEV_LINKS {
        match symlink(to, link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                say(format_args!("warning: create {link}: {e}"));
            }
            _ => {}
        }
    }
    // Where the image had files of its own in it.
    if let Err(e) = fs::set_permissions("/tmp", Permissions::from_mode(0o1777)) {
        say(format_args!("warning: set mode of /tmp: {e}"));
    }
}

fn make_mount_point(path: &str) -> io::Result<()> {
    if Path::new(path).is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o755).create(path)
}

fn has_entries(dir: &str) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}
