//! Trees that tests make, archives of them and images of those.

use std::collections::BTreeMap;
use std::path::Path;

use gvmi::{Builder, Image};
use tar::EntryType;
use tempfile::TempDir;

/// The block size of `mksquashfs`.
pub const BLOCK: usize = 128 << 10;

/// On a disk, because a tmpfs may refuse extended attributes.
pub fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// One entry of a tree that is made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// As `ls -l` marks it; `h` is a further name of the file `target`.
    pub kind: char,
    pub mode: u16,
    pub owner: (u32, u32),
    pub mtime: u32,
    pub content: Vec<u8>,
    pub target: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            kind: '-',
            mode: 0o644,
            owner: (0, 0),
            mtime: 86400,
            content: Vec::new(),
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

pub fn file(content: impl Into<Vec<u8>>) -> Made {
    Made {
        content: content.into(),
        ..Made::default()
    }
}

pub fn dir(mode: u16) -> Made {
    Made {
        kind: 'd',
        mode,
        ..Made::default()
    }
}

pub fn link(kind: char, target: impl Into<Vec<u8>>) -> Made {
    Made {
        kind,
        mode: 0o777,
        target: target.into(),
        ..Made::default()
    }
}

pub fn node(kind: char, device: (u32, u32)) -> Made {
    Made {
        kind,
        device,
        ..Made::default()
    }
}

/// Bytes that no compressor makes smaller.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn words(len: usize) -> Vec<u8> {
    let text = (0..).flat_map(|number: u32| format!("{} ", number % 1000).into_bytes());
    text.take(len).collect()
}

pub type MadeTree = BTreeMap<Vec<u8>, Made>;

/// A tree with all that a squashfs has a form for. Paths are in the order of
/// their bytes, which is not a walk's.
pub fn everything() -> MadeTree {
    let mut tree = MadeTree::new();
    let mut add = |path: &[u8], made: Made| {
        tree.insert(path.to_vec(), made);
    };
    add(
        b"",
        Made {
            owner: (70000, 70000),
            ..dir(0o1750)
        },
    );
    add(b"empty", file(""));
    add(b"one", file("1"));
    add(b"block", file(noise(BLOCK)));
    add(b"blocks", file(words(2 * BLOCK)));
    add(b"tail", file([noise(BLOCK), words(1000)].concat()));
    add(b"almost", file(words(BLOCK - 1)));
    let holes = [words(BLOCK), vec![0; 3 * BLOCK], words(5)].concat();
    add(b"holes", file(holes));
    add(b"only-holes", file(vec![0; 2 * BLOCK]));
    add(
        b"ends-in-a-hole",
        file([words(BLOCK), vec![0; BLOCK + 7]].concat()),
    );
    add(
        b"suid",
        Made {
            mode: 0o6755,
            owner: (100_000, u32::MAX - 100),
            ..file("#!")
        },
    );
    add(
        b"old",
        Made {
            mtime: 0,
            ..file("old")
        },
    );
    add(
        b"late",
        Made {
            mtime: u32::MAX,
            ..file("late")
        },
    );
    add(b"link", link('h', "blocks"));
    add(b"zz/link", link('h', "blocks"));
    add(b"zz", dir(0o700));
    add(b"zz-pipe", node('p', (0, 0)));
    add(b"null", node('c', (1, 3)));
    add(b"disk", node('b', (259, 70000)));
    add(b"sym", link('l', "../../etc/passwd"));
    add(b"sym-long", link('l', "t".repeat(4000)));
    add(b"\xff\xfe\x01", file("odd name"));
    add(&[b'n'; 255], file("long name"));
    let deep = [[b'd'; 200], [b'e'; 200]];
    add(&deep[0], dir(0o755));
    add(&deep.join(&b'/'), dir(0o755));
    add(
        &[&deep.join(&b'/'), &b"/\xc3\xa4\xff"[..]].concat(),
        file("deep"),
    );
    let user = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    add(
        b"xattrs",
        Made {
            xattrs: vec![
                user("security.capability", capability),
                user("trusted.t", b""),
                user("user.a", b"first"),
                user("user.b", &noise(3000)),
            ],
            ..file("with attributes")
        },
    );
    for path in [&b"same-xattrs-1"[..], b"same-xattrs-2"] {
        let xattrs = vec![user("user.b", &noise(3000)), user("user.c", path)];
        add(path, Made { xattrs, ..file("") });
    }
    add(
        b"xattr-dir",
        Made {
            xattrs: vec![user("user.d", b"=\n0")],
            ..dir(0o755)
        },
    );
    add(
        b"xattr-link",
        Made {
            xattrs: vec![user("security.l", b"1")],
            ..link('l', "x")
        },
    );
    add(b"many", dir(0o755));
    for number in 0..700 {
        let path = format!("many/entry with a long name {number:04}");
        add(
            path.as_bytes(),
            Made {
                owner: (number % 300, 7),
                ..file(format!("content {number}"))
            },
        );
    }
    tree
}

/// The tree as an archive; hard links come after all else.
pub fn archive(tree: &MadeTree) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    let (links, first): (Vec<_>, Vec<_>) = tree.iter().partition(|(_, made)| made.kind == 'h');
    for (path, made) in first.into_iter().chain(links) {
        let mut records: Vec<(String, Vec<u8>)> = made
            .xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone()))
            .collect();
        let name = if path.is_empty() {
            b"./"
        } else {
            path.as_slice()
        };
        let mut header = tar::Header::new_ustar();
        let kind = match made.kind {
            'd' => EntryType::Directory,
            'l' => EntryType::Symlink,
            'h' => EntryType::Link,
            'c' => EntryType::Char,
            'b' => EntryType::Block,
            'p' => EntryType::Fifo,
            _ => EntryType::Regular,
        };
        header.set_entry_type(kind);
        header.set_mode(made.mode.into());
        header.set_uid(made.owner.0.into());
        header.set_gid(made.owner.1.into());
        header.set_mtime(made.mtime.into());
        header.set_size(made.content.len() as u64);
        let ustar = header.as_ustar_mut().unwrap();
        let mut put = |field: &mut [u8], key: &str, value: &[u8]| match field.get_mut(..value.len())
        {
            Some(start) => start.copy_from_slice(value),
            None => records.push((key.to_owned(), value.to_vec())),
        };
        put(&mut ustar.name, "path", name);
        put(&mut ustar.linkname, "linkpath", &made.target);
        if matches!(made.kind, 'b' | 'c') {
            header.set_device_major(made.device.0).unwrap();
            header.set_device_minor(made.device.1).unwrap();
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (&**key, &**value));
        out.append_pax_extensions(records).unwrap();
        out.append(&header, &*made.content).unwrap();
    }
    out.into_inner().unwrap()
}

/// The image of an archive.
pub fn build(archive: &[u8], compression: &str, to: &Path) -> Image {
    let builder = Builder {
        compression: compression.parse().unwrap(),
        ..Builder::default()
    };
    let built = builder.pack_tar(archive, to).unwrap();
    assert_eq!(built.warnings, [""; 0]);
    Image::open(to).unwrap()
}
