//! Shared folders under the confinement of the threads that serve them: every
//! operation works, and nothing outside can be opened in any way.

mod own_process;

use std::ffi::CStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use confine::{Enforcement, SeccompMode, enter_process, enter_thread};
use device_model::ThreadKind;
use device_virtio_fs::{
    Caller, Dirent, DirentSink, Entry, FileSystem, Handle, HostFs, HostFsOptions, Lock, LockKind,
    Memory, Name, Node, OpenFlags, Owner, Ownership, SetAttr, SetTime, WriteHow,
};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use own_process::{assert_done, in_own_process};
use tempfile::TempDir;
use vm_memory::VolatileSlice;

const ROOT: Node = Node::ROOT;

struct Any;

impl DirentSink for Any {
    fn add(&mut self, _dirent: Dirent<'_>, _entry: Option<&Entry>) -> bool {
        true
    }
}

/// A folder to share in a folder that is not shared.
fn folders() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("share")).unwrap();
    fs::write(folder.path().join("canary"), "canary").unwrap();
    folder
}

fn share(folder: &TempDir, ownership: Ownership, read_only: bool) -> HostFs {
    let options = HostFsOptions {
        ownership,
        read_only,
        max_descriptors: None,
    };
    HostFs::open(&folder.path().join("share"), &options).unwrap()
}

/// Whether the kernel has enough of Landlock for the case to mean anything.
fn confine_to(fs: &HostFs, mode: SeccompMode) -> bool {
    let kind = ThreadKind::FileServer(fs.access());
    enter_thread(&mode.into(), &kind).unwrap() == Enforcement::Full
}

fn name(text: &CStr) -> Name<'_> {
    Name::new(text).unwrap()
}

fn how(flags: OFlag) -> OpenFlags {
    OpenFlags {
        flags: flags.bits() as u32,
        kill_privileges: true,
    }
}

fn path_only(path: &Path) -> OwnedFd {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// Opens over the descriptor's link.
fn reopen(fd: &OwnedFd) -> std::io::Result<fs::File> {
    fs::File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Every operation there is, with `by` as the caller.
fn do_everything(fs: &HostFs, by: Caller) {
    let d = fs.mkdir(by, ROOT, name(c"d"), 0o755).unwrap().node;
    let e = fs.mkdir(by, ROOT, name(c"e"), 0o2755).unwrap().node;
    let (file, handle) = fs
        .create(by, d, name(c"f"), 0o4644, how(OFlag::O_RDWR))
        .unwrap();
    let node = file.node;
    change_data(fs, node, handle);
    change_attributes(fs, node, handle);
    take_locks(fs, node, handle);

    fs.mknod(by, d, name(c"pipe"), 0o1_0644, 0).unwrap();
    let link = fs.symlink(by, d, name(c"l"), c"f").unwrap();
    assert_eq!(fs.readlink(link.node).unwrap(), b"f");
    fs.link(node, e, name(c"hard")).unwrap();
    fs.rename((d, name(c"f")), (e, name(c"g")), 0).unwrap();
    fs.rename((e, name(c"g")), (d, name(c"pipe")), 2).unwrap();
    fs.lookup(d, name(c"pipe")).unwrap();
    fs.rename((d, name(c"pipe")), (e, name(c"f")), 0).unwrap();

    let again = fs.open(node, how(OFlag::O_RDWR | OFlag::O_TRUNC)).unwrap();
    fs.release(node, again).unwrap();
    let tmp = how(OFlag::O_RDWR);
    let (unnamed, tmp) = fs.tmpfile(by, d, 0o600, tmp).unwrap();
    fs.link(unnamed.node, e, name(c"named")).unwrap();
    fs.release(unnamed.node, tmp).unwrap();

    let folder = fs.opendir(e).unwrap().handle;
    fs.readdir(e, folder, 0, &mut Any).unwrap();
    fs.readdirplus(e, folder, 0, &mut Any).unwrap();
    fs.fsyncdir(e, folder, false).unwrap();
    fs.releasedir(e, folder).unwrap();

    for gone in [c"hard", c"g", c"f", c"named"] {
        fs.unlink(e, name(gone)).unwrap();
    }
    let nameless = fs.open(node, how(OFlag::O_RDONLY)).unwrap();
    fs.release(node, nameless).unwrap();
    fs.release(node, handle).unwrap();
    fs.rmdir(ROOT, name(c"e")).unwrap();
    fs.statfs(ROOT).unwrap();
    fs.syncfs(ROOT).unwrap();
    fs.reset();
}

fn change_data(fs: &HostFs, node: Node, handle: Handle) {
    let mut bytes = [7; 4096];
    let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
    let how = WriteHow {
        kill_privileges: true,
        from_cache: false,
    };
    assert_eq!(fs.write(node, handle, 0, &memory, how), Ok(4096));
    assert_eq!(fs.read(node, handle, 0, &memory), Ok(4096));
    fs.fallocate(node, handle, 0, 4096, 4096).unwrap();
    assert_eq!(fs.lseek(node, handle, 0, libc::SEEK_DATA as u32), Ok(0));
    let copied = fs.copy_file_range((node, handle, 0), (node, handle, 8192), 100);
    assert_eq!(copied, Ok(100));
    fs.fsync(node, handle, false).unwrap();
    fs.fsync(node, handle, true).unwrap();
}

fn change_attributes(fs: &HostFs, node: Node, handle: Handle) {
    let set = SetAttr {
        mode: Some(0o600),
        uid: Some(0),
        gid: Some(0),
        size: Some(10),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::Now),
        ctime: None,
        kill_privileges: true,
    };
    fs.setattr(node, None, &set).unwrap();
    fs.setattr(node, Some(handle), &set).unwrap();
    fs.setxattr(node, c"user.x", b"1", 0).unwrap();
    fs.getxattr(node, c"user.x").unwrap();
    fs.listxattr(node).unwrap();
    fs.removexattr(node, c"user.x").unwrap();
}

fn take_locks(fs: &HostFs, node: Node, handle: Handle) {
    let all = Lock {
        kind: LockKind::Write,
        start: 0,
        end: u64::MAX >> 1,
        pid: 1,
    };
    fs.setlk(node, handle, Owner(1), all, true).unwrap();
    let found = fs.getlk(node, handle, Owner(2), all).unwrap();
    assert_eq!(found.kind, LockKind::Write);
    fs.flush(node, handle, Owner(1)).unwrap();
    fs.flock(node, handle, LockKind::Write, true).unwrap();
    fs.flock(node, handle, LockKind::Unlock, false).unwrap();
}

#[test]
fn every_operation_works_under_the_filter_and_within_the_folder() {
    let output = in_own_process(
        "every_operation_works_under_the_filter_and_within_the_folder",
        || {
            let folder = folders();
            confine::report_violations(|| {}).unwrap();
            enter_process(&SeccompMode::Kill.into(), false).unwrap();
            let fs = share(&folder, Ownership::Mapped { default: (0, 0) }, false);
            confine_to(&fs, SeccompMode::Kill);
            let by = Caller {
                uid: 1000,
                gid: 1000,
                group: Some(50),
            };
            do_everything(&fs, by);
        },
    );
    assert_done(&output);
}

#[test]
fn files_of_other_users_are_made_within_the_folder() {
    // It takes root to act as others.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let output = in_own_process("files_of_other_users_are_made_within_the_folder", || {
        let folder = folders();
        confine::report_violations(|| {}).unwrap();
        enter_process(&SeccompMode::Kill.into(), true).unwrap();
        let fs = share(&folder, Ownership::AsIs, false);
        confine_to(&fs, SeccompMode::Kill);
        let by = Caller {
            uid: 1000,
            gid: 1000,
            group: Some(50),
        };
        do_everything(&fs, by);
    });
    assert_done(&output);
}

#[test]
fn nothing_outside_is_opened_by_name_or_descriptor() {
    let output = in_own_process("nothing_outside_is_opened_by_name_or_descriptor", || {
        let folder = folders();
        let canary = folder.path().join("canary");
        let outside = path_only(&canary);
        let inside = folder.path().join("share/f");
        fs::write(&inside, "inside").unwrap();
        let fs = share(&folder, Ownership::Mapped { default: (0, 0) }, false);
        if !confine_to(&fs, SeccompMode::Off) {
            return;
        }
        fs::read(&inside).unwrap();
        reopen(&path_only(&inside)).unwrap();
        let denied = [
            fs::read(&canary).map(drop),
            fs::write(folder.path().join("new"), "new"),
            fs::rename(&inside, folder.path().join("moved")),
            reopen(&outside).map(drop),
            fs::read_dir("/").map(drop),
        ];
        for outcome in denied {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    });
    assert_done(&output);
}

#[test]
fn what_another_process_moves_out_is_not_opened_any_more() {
    let output = in_own_process(
        "what_another_process_moves_out_is_not_opened_any_more",
        || {
            let folder = folders();
            let inside = folder.path().join("share/d");
            fs::create_dir(&inside).unwrap();
            fs::write(inside.join("f"), "text").unwrap();
            let held = path_only(&inside.join("f"));
            let fs = share(&folder, Ownership::Mapped { default: (0, 0) }, false);
            // This thread stays what it is; the one that serves is confined.
            let (confined, is_confined) = mpsc::channel();
            let (moved, is_moved) = mpsc::channel();
            let server = thread::spawn(move || {
                let enforced = confine_to(&fs, SeccompMode::Off);
                reopen(&held).unwrap();
                confined.send(enforced).unwrap();
                is_moved.recv().unwrap();
                reopen(&held).map(drop)
            });
            let enforced = is_confined.recv().unwrap();
            fs::rename(&inside, folder.path().join("d")).unwrap();
            moved.send(()).unwrap();
            assert_eq!(server.join().unwrap().is_err(), enforced);
        },
    );
    assert_done(&output);
}

#[test]
fn folder_to_read_is_only_read() {
    let output = in_own_process("folder_to_read_is_only_read", || {
        let folder = folders();
        let inside = folder.path().join("share/f");
        fs::write(&inside, "inside").unwrap();
        let fs = share(&folder, Ownership::Mapped { default: (0, 0) }, true);
        if !confine_to(&fs, SeccompMode::Off) {
            return;
        }
        let node = fs.lookup(ROOT, name(c"f")).unwrap().node;
        let handle = fs.open(node, how(OFlag::O_RDONLY)).unwrap();
        fs.release(node, handle).unwrap();
        let listed = fs.opendir(ROOT).unwrap().handle;
        fs.readdirplus(ROOT, listed, 0, &mut Any).unwrap();
        for outcome in [
            fs::write(&inside, "changed"),
            fs::remove_file(&inside),
            fs::create_dir(folder.path().join("share/d")),
        ] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    });
    assert_done(&output);
}
