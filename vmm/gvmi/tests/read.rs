//! Trees of images made by the real `mksquashfs`, compared with what they were
//! made of.

mod made;

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use gvmi::{Aspect, Builder, Change, Counts, Device, Entry, Image, Kind, Tree, TreeFault, Xattr};
use made::{BLOCK, Made, MadeTree, archive, build, dir, everything, file, scratch, words};
use tar::EntryType;

const COMPRESSORS: [&str; 5] = ["gzip", "lzo", "xz", "lz4", "zstd"];

fn walk(tree: &Tree<'_>) -> Vec<Entry> {
    let entries: Result<_, _> = tree.walk().unwrap().collect();
    entries.unwrap()
}

fn read(tree: &Tree<'_>, entry: &Entry) -> Vec<u8> {
    let mut content = Vec::new();
    tree.file(&entry.inode)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    content
}

/// What was made, as it is found in the image.
fn found(tree: &Tree<'_>, entry: &Entry) -> Made {
    let inode = &entry.inode;
    let mut made = Made {
        kind: inode.kind.letter(),
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        mtime: inode.mtime,
        ..Made::default()
    };
    match &inode.kind {
        Kind::File(data) => {
            made.content = read(tree, entry);
            assert_eq!(made.content.len() as u64, data.size());
        }
        Kind::Symlink(target) => made.target.clone_from(target),
        Kind::Block(Device { major, minor }) | Kind::Char(Device { major, minor }) => {
            made.device = (*major, *minor);
        }
        _ => {}
    }
    made.xattrs = tree
        .xattrs(inode)
        .unwrap()
        .into_iter()
        .map(|Xattr { name, value }| (String::from_utf8(name).unwrap(), value))
        .collect();
    made
}

/// In the order of a walk.
fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

#[test]
fn every_compressor_gives_back_what_was_packed() {
    let folder = scratch();
    let mut expected: Vec<_> = everything().into_iter().collect();
    expected.sort_by(|(a, _), (b, _)| parts(a).cmp(&parts(b)));
    let blocks = everything()[&b"blocks"[..]].clone();
    let archive = archive(&everything());
    for compression in COMPRESSORS {
        let image = build(&archive, compression, &folder.path().join(compression));
        let tree = Tree::open(&image).unwrap();
        let entries = walk(&tree);
        assert_eq!(entries.len(), expected.len());
        for (entry, (path, made)) in entries.iter().zip(&expected) {
            let mut found = found(&tree, entry);
            if path.is_empty() {
                // That of the packing: tar mode has no option for it.
                found.mtime = made.mtime;
            }
            assert_eq!(entry.path, *path, "{compression}");
            let made = if made.kind == 'h' { &blocks } else { made };
            assert!(
                found == *made,
                "{compression}: {}",
                gvmi::display_path(path)
            );
            let links = if *made == blocks { 3 } else { 1 };
            assert!(entry.inode.is_dir() || entry.inode.links == links);
        }
        let numbers = ["blocks", "link", "zz/link"].map(|path| {
            let entry = tree.lookup(path.as_bytes(), false).unwrap();
            entry.inode.number
        });
        assert!(numbers.iter().all(|number| *number == numbers[0]));
    }
}

#[test]
fn more_owners_than_a_metadata_block_holds_are_read() {
    let folder = scratch();
    let owned = |id: u32| Made {
        owner: (id, 0),
        ..file("")
    };
    let mut made: MadeTree = (0..2500)
        .map(|id| (format!("{id:04}").into_bytes(), owned(id)))
        .collect();
    made.insert(Vec::new(), dir(0o755));
    let image = build(&archive(&made), "lzo", &folder.path().join("a"));
    let tree = Tree::open(&image).unwrap();
    let owners = walk(&tree).into_iter().skip(1).map(|entry| entry.inode.uid);
    assert!(owners.eq(0..2500));
}

#[test]
fn verified_images_are_counted() {
    let folder = scratch();
    let made = everything();
    let image = build(&archive(&made), "zstd", &folder.path().join("a"));
    let tree = Tree::open(&image).unwrap();
    let mut told = Vec::new();
    let verification = tree.verify_with(&mut |counts| told.push(counts.inodes()));
    assert!(verification.is_ok(), "{verification:?}");
    assert_eq!(told.len(), made.len());
    assert!(told.is_sorted());
    let inodes = image.contents().superblock.inodes;
    assert_eq!(told.last(), Some(&inodes.into()));
    let count = |kinds: &[char]| {
        let of_kind = made.values().filter(|made| kinds.contains(&made.kind));
        of_kind.count() as u64
    };
    let expected = Counts {
        directories: count(&['d']),
        files: count(&['-']),
        symlinks: count(&['l']),
        devices: count(&['b', 'c']),
        pipes: count(&['p']),
        hard_links: count(&['h']),
        xattrs: made.values().map(|made| made.xattrs.len() as u64).sum(),
        data: made.values().map(|made| made.content.len() as u64).sum(),
    };
    assert_eq!(verification.counts, expected);
}

#[test]
fn exported_trees_are_packed_to_the_same() {
    let folder = scratch();
    let image = build(&archive(&everything()), "lzo", &folder.path().join("a"));
    let tree = Tree::open(&image).unwrap();
    let mut exported = Vec::new();
    let done = tree.export(&mut exported).unwrap();
    assert_eq!(done.warnings, [""; 0]);
    assert_eq!(done.entries, walk(&tree).len() as u64);
    assert_eq!(&exported[..3], b"./\0");

    let again = build(&exported, "gzip", &folder.path().join("b"));
    let again = Tree::open(&again).unwrap();
    let changes: Result<Vec<_>, _> = tree.diff(&again, true).unwrap().collect();
    // The root's time is that of the packing.
    for change in changes.unwrap() {
        let Change::Changed { old, aspects, .. } = change else {
            panic!("{change:?}");
        };
        assert!(
            old.path.is_empty() && aspects == [Aspect::Mtime],
            "{old:?}: {aspects:?}"
        );
    }
    let mut twice = Vec::new();
    again.export(&mut twice).unwrap();
    // But for that time and its checksum, in the first header.
    assert!(twice[512..] == exported[512..]);
}

#[test]
fn other_readers_of_archives_agree() {
    let folder = scratch();
    let made = everything();
    let image = build(&archive(&made), "lz4", &folder.path().join("a"));
    let mut exported = Vec::new();
    Tree::open(&image).unwrap().export(&mut exported).unwrap();
    let mut reader = tar::Archive::new(&exported[..]);
    let mut seen = 0;
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path_bytes().into_owned();
        let path = match path.as_slice() {
            b"./" => b"",
            path => path.strip_suffix(b"/").unwrap_or(path),
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if entry.header().entry_type() == EntryType::Link {
            assert_eq!(*entry.link_name_bytes().unwrap(), *b"blocks");
        } else {
            let expected = &made[path];
            assert_eq!(content, expected.content);
            assert_eq!(entry.header().mode().unwrap(), u32::from(expected.mode));
        }
        seen += 1;
    }
    assert_eq!(seen, made.len());
}

#[test]
fn differences_are_named_by_what_differs() {
    let folder = scratch();
    let old = everything();
    let mut new = old.clone();
    let mut change = |path: &str, change: &dyn Fn(&mut Made)| {
        change(new.get_mut(path.as_bytes()).unwrap());
    };
    change("empty", &|made| made.mode = 0o600);
    change("one", &|made| made.content = b"2".to_vec());
    change("tail", &|made| *made.content.last_mut().unwrap() ^= 1);
    change("only-holes", &|made| made.content[BLOCK] = 1);
    change("old", &|made| made.mtime = 1);
    change("suid", &|made| made.content.push(1));
    change("null", &|made| made.device.1 = 4);
    change("sym", &|made| made.target = b"x".to_vec());
    change("many", &|made| made.owner.1 = 1);
    change("xattrs", &|made| made.xattrs[2].1[0] = 0);
    change("zz-pipe", &|made| *made = file("no pipe"));
    new.remove(&b"holes"[..]);
    new.remove(&b"link"[..]);
    new.insert(b"many/new".to_vec(), file(""));
    new.insert(b"zz/folder".to_vec(), dir(0o755));
    new.insert(b"zz/folder/file".to_vec(), file(""));

    let images = [("lzo", &old), ("xz", &new)]
        .map(|(name, made)| build(&archive(made), name, &folder.path().join(name)));
    let [a, b] = images.each_ref().map(|image| Tree::open(image).unwrap());
    let list = |mtime| {
        let changes = a.diff(&b, mtime).unwrap();
        let changes = changes.map(|change| match change.unwrap() {
            Change::Added(entry) => format!("+{}", gvmi::display_path(&entry.path)),
            Change::Removed(entry) => format!("-{}", gvmi::display_path(&entry.path)),
            Change::Changed { new, aspects, .. } => {
                let aspects: Vec<_> = aspects.iter().map(Aspect::to_string).collect();
                format!("{}: {}", gvmi::display_path(&new.path), aspects.join(" "))
            }
        });
        changes.collect::<Vec<_>>()
    };
    let expected = [
        "blocks: links",
        "empty: mode",
        "-holes",
        "-link",
        "many: owner",
        "+many/new",
        "null: device",
        "one: content",
        "only-holes: content",
        "suid: size",
        "sym: target",
        "tail: content",
        "xattrs: attributes",
        "+zz/folder",
        "+zz/folder/file",
        "zz/link: links",
        "zz-pipe: type",
    ];
    assert_eq!(list(false), expected);
    let with_times = list(true);
    assert!(
        with_times.contains(&"old: time".to_owned()),
        "{with_times:?}"
    );
    assert_eq!(a.diff(&a, true).unwrap().count(), 0);
}

#[test]
fn folders_are_read_as_they_are_on_the_disk() {
    let folder = scratch();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("sub/sub")).unwrap();
    fs::write(source.join("file"), words(300_000)).unwrap();
    fs::hard_link(source.join("file"), source.join("sub/link")).unwrap();
    std::os::unix::fs::symlink("../file", source.join("sub/sym")).unwrap();
    // A socket has no form in an archive.
    let _socket = std::os::unix::net::UnixListener::bind(source.join("sub/socket")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 50 << 20).unwrap();
    fs::set_permissions(source.join("sub/sub"), PermissionsExt::from_mode(0o3711)).unwrap();
    let to = folder.path().join("a.gvmi");
    Builder::default().pack_dir(&source, &to).unwrap();
    let image = Image::open(&to).unwrap();
    let tree = Tree::open(&image).unwrap();

    let entries = walk(&tree);
    assert_eq!(entries.len(), 8);
    for entry in &entries {
        let metadata = source
            .join(std::ffi::OsStr::from_bytes(&entry.path))
            .symlink_metadata();
        let metadata = metadata.unwrap();
        let inode = &entry.inode;
        assert_eq!(u32::from(inode.mode), metadata.mode() & 0o7777, "{entry:?}");
        assert_eq!((inode.uid, inode.gid), (metadata.uid(), metadata.gid()));
        assert_eq!(i64::from(inode.mtime), metadata.mtime());
        if !inode.is_dir() {
            assert_eq!(u64::from(inode.links), metadata.nlink(), "{entry:?}");
            assert_eq!(inode.size(), metadata.size());
        }
    }
    let verification = tree.verify();
    assert!(verification.is_ok(), "{verification:?}");
    let file = tree.lookup(b"/sub/sym", true).unwrap();
    assert_eq!(file.path, b"file");
    assert_eq!(read(&tree, &file), words(300_000));
    let sparse = tree.lookup(b"sparse", false).unwrap();
    assert!(read(&tree, &sparse).ends_with(b"\0end"));

    let mut exported = Vec::new();
    let done = tree.export(&mut exported).unwrap();
    let socket = "/sub/socket: a socket cannot be in an archive and is left out";
    assert_eq!(done.warnings, [socket]);
    let listed = tree.walk_from(tree.lookup(b"sub", true).unwrap());
    let listed: Vec<_> = listed.map(|entry| entry.unwrap().path).collect();
    let names = ["sub", "sub/link", "sub/socket", "sub/sub", "sub/sym"];
    assert_eq!(listed, names.map(|name| name.as_bytes().to_vec()));
}

#[test]
fn a_folder_that_is_skipped_is_not_listed() {
    let folder = scratch();
    let image = build(&archive(&everything()), "lz4", &folder.path().join("a"));
    let tree = Tree::open(&image).unwrap();
    let mut walk = tree.walk().unwrap();
    let mut top = Vec::new();
    // The root itself is not skipped.
    walk.next();
    while let Some(entry) = walk.next() {
        top.push(entry.unwrap().path);
        walk.skip_folder();
    }
    let expected: Vec<_> = everything()
        .into_keys()
        .filter(|path| !path.is_empty() && !path.contains(&b'/'))
        .collect();
    assert_eq!(top, expected);
}

/// The first block of a file's data is that of the first file that has one.
#[test]
fn damaged_data_is_found_by_its_path() {
    let folder = scratch();
    for compression in COMPRESSORS {
        let to = folder.path().join(compression);
        let made = MadeTree::from([
            (b"".to_vec(), dir(0o755)),
            (b"a".to_vec(), file(words(BLOCK))),
            (b"b".to_vec(), file(words(10))),
        ]);
        let image = build(&archive(&made), compression, &to);
        // The options of LZ4 are there always, 8 bytes in a metadata block.
        let start = if compression == "lz4" { 96 + 10 } else { 96 };
        let file = fs::OpenOptions::new().write(true).open(&to).unwrap();
        file.write_all_at(&[0xff; 64], start).unwrap();
        let tree = Tree::open(&image).unwrap();
        let verification = tree.verify();
        assert_eq!(
            verification.fault_count, 1,
            "{compression}: {verification:?}"
        );
        let error = &verification.faults[0];
        assert!(matches!(error.fault, TreeFault::Damaged(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "/a: damaged: file data at byte {start} do not unpack"
            )),
            "{text}"
        );
        let entry = tree.lookup(b"a", false).unwrap();
        let copied = std::io::copy(&mut tree.file(&entry.inode).unwrap(), &mut std::io::sink());
        assert!(copied.is_err());
        assert!(tree.export(std::io::sink()).is_err());
    }
}

/// As far as metadata goes: file data behind the options is at its offset.
#[test]
fn options_of_the_compressor_are_no_data() {
    let folder = scratch();
    let made = MadeTree::from([
        (b"".to_vec(), dir(0o755)),
        (b"a".to_vec(), file(words(BLOCK))),
    ]);
    for compression in ["gzip:1", "lzo:3", "lz4", "zstd:5"] {
        let image = build(
            &archive(&made),
            compression,
            &folder.path().join(compression),
        );
        assert_ne!(
            image.contents().superblock.flags & 0x400,
            0,
            "{compression}"
        );
        let tree = Tree::open(&image).unwrap();
        let entry = tree.lookup(b"a", false).unwrap();
        assert_eq!(read(&tree, &entry), words(BLOCK), "{compression}");
    }
}
