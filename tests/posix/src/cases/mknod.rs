//! mkfifo and mknod: FIFOs, sockets, device nodes, plain files.

use rustix::fs::{FileType, OFlags, makedev};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, refused};
use crate::process::{ANN, as_user, fork};

pub const CASES: &[Case] = &[
    ("a FIFO has type, permissions and owner", fifos),
    ("what one end of a FIFO writes the other reads", passes),
    ("ENXIO for a FIFO without a reader", no_reader),
    ("a socket has a type, and connect finds nobody", sockets),
    ("a plain file is made empty", plain),
    ("root makes device nodes with their numbers", devices),
    ("EPERM for devices of others", devices_of_others),
    ("a folder or link is not made so", not_so),
    ("times of the folder move on", times),
    ("EEXIST whatever has the name", taken),
    ("EACCES without the right to write the folder", closed),
    ("errors of the path", errors),
];

fn fifos() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || ok(mkfifo("d/p", 0o640)));
    is(
        (kind("d/p"), mode("d/p"), owner("d/p")),
        (FileType::Fifo, 0o640, (ANN.uid, ANN.gid)),
    );
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o077));
    ok(mkfifo("masked", 0o666));
    is(mode("masked"), 0o600);
}

fn passes() {
    ok(mkfifo("p", 0o666));
    let writer = fork(|| {
        let file = ok(open("p", OFlags::WRONLY, 0));
        is(write(&file, b"through"), Ok(7));
    });
    let file = ok(open("p", OFlags::RDONLY, 0));
    let mut bytes = [0; 16];
    is(rustix::io::read(&file, &mut bytes), Ok(7));
    is(&bytes[..7], b"through");
    is(rustix::io::read(&file, &mut bytes), Ok(0));
    writer.join();
    is(ok(lstat("p")).st_size, 0);
}

fn no_reader() {
    ok(mkfifo("p", 0o666));
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    fails(open("p", flags, 0), Errno::NXIO);
    let _reader = ok(open("p", OFlags::RDONLY | OFlags::NONBLOCK, 0));
    ok(open("p", flags, 0));
}

fn sockets() {
    ok(mknod("s", FileType::Socket, 0o755, 0));
    is((kind("s"), mode("s")), (FileType::Socket, 0o755));
    fails(open("s", OFlags::RDWR, 0), Errno::NXIO);
    // A bound one connects, and leaves its name behind.
    let listener = std::os::unix::net::UnixListener::bind("bound").expect("a name is free");
    is(kind("bound"), FileType::Socket);
    is(
        std::os::unix::net::UnixStream::connect("bound").is_ok(),
        true,
    );
    drop(listener);
    is(
        std::os::unix::net::UnixStream::connect("bound").is_err(),
        true,
    );
    ok(unlink("bound"));
}

fn plain() {
    ok(mknod("f", FileType::RegularFile, 0o640, 0));
    is((kind("f"), mode("f")), (FileType::RegularFile, 0o640));
    is(text("f"), Vec::new());
}

fn devices() {
    for (name, kind_of, device) in [
        ("c", FileType::CharacterDevice, makedev(1, 3)),
        ("b", FileType::BlockDevice, makedev(7, 200)),
        ("large", FileType::CharacterDevice, makedev(0xfff, 0xf_ffff)),
    ] {
        ok(mknod(name, kind_of, 0o600, device));
        is((kind(name), mode(name)), (kind_of, 0o600));
        is(ok(lstat(name)).st_rdev, device);
        ok(chown(name, Some(ANN.uid), Some(ANN.gid)));
        is(owner(name), (ANN.uid, ANN.gid));
        ok(unlink(name));
    }
}

fn devices_of_others() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || {
        for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
            fails(mknod("d/x", kind, 0o666, makedev(1, 3)), Errno::PERM);
        }
    });
}

fn not_so() {
    let folder = mknod("x", FileType::Directory, 0o755, 0);
    refused("folder", folder, &[Errno::PERM, Errno::INVAL]);
    fails(mknod("x", FileType::Symlink, 0o755, 0), Errno::INVAL);
    is(exists("x"), false);
}

fn times() {
    ok(mkdir("d", 0o755));
    moves_on("d", "mc", || ok(mkfifo("d/p", 0o644)));
}

fn taken() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("none", "dangling"));
    for name in ["f", "d", "dangling", "."] {
        fails(mkfifo(name, 0o644), Errno::EXIST);
        fails(mknod(name, FileType::RegularFile, 0o644, 0), Errno::EXIST);
    }
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    as_user(ANN, || fails(mkfifo("d/p", 0o644), Errno::ACCESS));
}

fn errors() {
    path_errors(|path| mkfifo(path, 0o644));
    fails(mkfifo("p/", 0o644), Errno::NOENT);
}
