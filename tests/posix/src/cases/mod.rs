//! The cases, in a file for each call or matter.

mod allocate;
mod chmod;
mod chown;
mod copy;
mod direct;
mod entries;
mod holes;
mod link;
mod locks;
mod many;
mod mapping;
mod mkdir;
mod mknod;
mod names;
mod open;
mod read_only;
mod rename;
mod rmdir;
mod status;
mod symlink;
mod times;
mod truncate;
mod unlink;
mod unnamed;
mod write;
mod xattr;

/// What holds, and what shows it.
pub type Case = (&'static str, fn());

/// The cases of one file.
pub struct File {
    pub name: &'static str,
    pub cases: &'static [Case],
    /// They take minutes where each call is slow.
    pub slow: bool,
}

/// All of them.
pub const FILES: &[File] = &[
    usual("chmod", chmod::CASES),
    usual("chown", chown::CASES),
    usual("link", link::CASES),
    usual("mkdir", mkdir::CASES),
    usual("mknod", mknod::CASES),
    usual("open", open::CASES),
    usual("rename", rename::CASES),
    usual("rmdir", rmdir::CASES),
    usual("symlink", symlink::CASES),
    usual("truncate", truncate::CASES),
    usual("unlink", unlink::CASES),
    usual("write", write::CASES),
    usual("times", times::CASES),
    usual("allocate", allocate::CASES),
    usual("xattr", xattr::CASES),
    usual("locks", locks::CASES),
    usual("unnamed", unnamed::CASES),
    usual("holes", holes::CASES),
    usual("copy", copy::CASES),
    usual("status", status::CASES),
    usual("mapping", mapping::CASES),
    usual("direct", direct::CASES),
    usual("entries", entries::CASES),
    usual("names", names::CASES),
    usual("read-only", read_only::CASES),
    File {
        name: "many",
        cases: many::CASES,
        slow: true,
    },
];

const fn usual(name: &'static str, cases: &'static [Case]) -> File {
    File {
        name,
        cases,
        slow: false,
    }
}
