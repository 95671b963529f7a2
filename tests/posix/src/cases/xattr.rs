//! Extended attributes.

use rustix::fs::{
    XattrFlags, fsetxattr, getxattr, getxattr_query, lgetxattr, listxattr, listxattr_query,
    llistxattr, lsetxattr, removexattr, setxattr,
};

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok, refused, skip};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    ("values of all lengths come back", values),
    ("all names are listed, and go one by one", lists),
    ("XATTR_CREATE and XATTR_REPLACE", flags),
    ("ENODATA of what is not there", missing),
    (
        "ERANGE for a small buffer, and the size on question",
        buffers,
    ),
    ("names and values that are too long", lengths),
    (
        "EPERM for user attributes of links and special files",
        kinds,
    ),
    ("EACCES without the permission of the file", access),
    ("trusted attributes are root's", trusted),
    ("EOPNOTSUPP for unknown names", unknown),
    ("the time of the change is kept", times),
    (
        "a program's capabilities go with the next write",
        capabilities,
    ),
    ("what belongs to the file system is not shown", hidden),
    ("errors of the path", errors),
];

const PLAIN: XattrFlags = XattrFlags::empty();

fn get(path: &str, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 70_000];
    let length = getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn names(path: &str) -> Vec<String> {
    let mut list = vec![0; 70_000];
    let length = ok(listxattr(path, &mut list[..]));
    let names = list[..length].split(|byte| *byte == 0);
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("user.")).collect();
    names.sort();
    names
}

fn values() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    for path in ["f", "d"] {
        for length in [0, 1, 100, 2000] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            ok(setxattr(path, "user.x", &value, PLAIN));
            is(get(path, "user.x"), Ok(value));
        }
    }
    let file = ok(open("f", rustix::fs::OFlags::RDWR, 0));
    ok(fsetxattr(&file, "user.y", b"open", PLAIN));
    is(get("f", "user.y"), Ok(b"open".to_vec()));
}

fn lists() {
    file("f", 0o644, b"");
    is(names("f"), Vec::<String>::new());
    let mut wanted: Vec<String> = (0..20).map(|number| format!("user.n{number:02}")).collect();
    for name in &wanted {
        ok(setxattr("f", name, b"v", PLAIN));
    }
    is(names("f"), wanted.clone());
    while let Some(name) = wanted.pop() {
        ok(removexattr("f", &*name));
        is(names("f"), wanted.clone());
    }
}

fn flags() {
    file("f", 0o644, b"");
    fails(
        setxattr("f", "user.x", b"1", XattrFlags::REPLACE),
        Errno::NODATA,
    );
    ok(setxattr("f", "user.x", b"1", XattrFlags::CREATE));
    fails(
        setxattr("f", "user.x", b"2", XattrFlags::CREATE),
        Errno::EXIST,
    );
    ok(setxattr("f", "user.x", b"3", XattrFlags::REPLACE));
    is(get("f", "user.x"), Ok(b"3".to_vec()));
    let unknown = XattrFlags::from_bits_retain(0x80);
    fails(setxattr("f", "user.x", b"4", unknown), Errno::INVAL);
}

fn missing() {
    file("f", 0o644, b"");
    fails(get("f", "user.none"), Errno::NODATA);
    fails(removexattr("f", "user.none"), Errno::NODATA);
}

fn buffers() {
    file("f", 0o644, b"");
    ok(setxattr("f", "user.x", b"value", PLAIN));
    fails(getxattr("f", "user.x", &mut [0; 4][..]), Errno::RANGE);
    is(getxattr_query("f", "user.x"), Ok(5));
    fails(listxattr("f", &mut [0; 3][..]), Errno::RANGE);
    holds(ok(listxattr_query("f")) >= 7, "the name is counted");
}

fn lengths() {
    file("f", 0o644, b"");
    let longest = format!("user.{}", "n".repeat(250));
    ok(setxattr("f", &*longest, b"v", PLAIN));
    is(names("f"), vec![longest.clone()]);
    fails(
        setxattr("f", format!("{longest}x"), b"v", PLAIN),
        Errno::RANGE,
    );
    fails(setxattr("f", "", b"v", PLAIN), Errno::RANGE);
    fails(setxattr("f", "user.x", &[0; 65_537], PLAIN), Errno::TOOBIG);
}

fn kinds() {
    ok(symlink("none", "l"));
    ok(mkfifo("p", 0o666));
    fails(lsetxattr("l", "user.x", b"1", PLAIN), Errno::PERM);
    fails(setxattr("p", "user.x", b"1", PLAIN), Errno::PERM);
    let read = lgetxattr("l", "user.x", &mut [0; 9][..]);
    refused("l", read, &[Errno::NODATA]);
    ok(llistxattr("l", &mut [0; 999][..]));
}

fn access() {
    file_of("f", ANN.uid, ANN.gid, 0o644);
    ok(setxattr("f", "user.x", b"1", PLAIN));
    as_user(BOB, || {
        is(get("f", "user.x"), Ok(b"1".to_vec()));
        fails(setxattr("f", "user.x", b"2", PLAIN), Errno::ACCESS);
        fails(removexattr("f", "user.x"), Errno::ACCESS);
    });
    ok(chmod("f", 0o622));
    as_user(BOB, || {
        fails(get("f", "user.x"), Errno::ACCESS);
        ok(setxattr("f", "user.x", b"2", PLAIN));
    });
    // In a sticky folder's own attributes only the owner has a say.
    folder_of("t", ANN.uid, ANN.gid, 0o1777);
    as_user(BOB, || {
        fails(setxattr("t", "user.x", b"2", PLAIN), Errno::PERM)
    });
}

fn trusted() {
    file("f", 0o666, b"");
    ok(setxattr("f", "trusted.x", b"1", PLAIN));
    is(get("f", "trusted.x"), Ok(b"1".to_vec()));
    as_user(ANN, || {
        fails(get("f", "trusted.x"), Errno::NODATA);
        fails(setxattr("f", "trusted.x", b"2", PLAIN), Errno::PERM);
        let mut list = [0; 999];
        let length = ok(listxattr("f", &mut list[..]));
        let shown = String::from_utf8_lossy(&list[..length]).into_owned();
        is(shown.contains("trusted."), false);
    });
    ok(removexattr("f", "trusted.x"));
}

fn unknown() {
    file("f", 0o644, b"");
    for name in ["x", "unknown.x", "user"] {
        fails(setxattr("f", name, b"1", PLAIN), Errno::OPNOTSUPP);
        fails(get("f", name), Errno::OPNOTSUPP);
    }
}

fn times() {
    file("f", 0o644, b"");
    moves_on("f", "c", || ok(setxattr("f", "user.x", b"1", PLAIN)));
    moves_on("f", "c", || ok(removexattr("f", "user.x")));
}

fn capabilities() {
    // Revision 2: cap_net_bind_service, permitted and effective.
    let mut value = [0; 20];
    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    value[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
    let file = file("f", 0o777, b"text");
    match setxattr("f", "security.capability", &value, PLAIN) {
        Err(Errno::OPNOTSUPP) => return skip(),
        outcome => ok(outcome),
    }
    is(get("f", "security.capability"), Ok(value.to_vec()));
    is(pwrite(&file, b"x", 0), Ok(1));
    fails(get("f", "security.capability"), Errno::NODATA);
}

fn hidden() {
    file("f", 0o644, b"");
    ok(chown("f", Some(ANN.uid), Some(ANN.gid)));
    ok(chmod("f", 0o4711));
    is(names("f"), Vec::<String>::new());
}

fn errors() {
    path_errors(|path| setxattr(path, "user.x", b"1", PLAIN));
    path_errors_of_get();
}

fn path_errors_of_get() {
    ok(mkdir("get", 0o755));
    std::env::set_current_dir("get").expect("it is there");
    path_errors(|path| get(path, "user.x"));
    fails(get("way/loop-a", "user.x"), Errno::LOOP);
}
