//! Each rule of layers by itself.

use super::*;
use crate::squashfs::MAX_DEPTH;

#[test]
fn whiteout_removes_what_is_below_and_not_its_own_layers() {
    let lower = || {
        Tar::new()
            .file("a", "1")
            .folder("d", 0o700)
            .file("d/x", "1")
    };
    assert_eq!(
        merge([lower(), Tar::new().white_out(".wh.a").white_out(".wh.d")]),
        [""; 0]
    );
    let before = Tar::new().white_out(".wh.a").file("a", "2");
    assert_eq!(merge([Tar::new().file("a", "1"), before]), ["a 2"]);
    let after = Tar::new().file("a", "2").white_out(".wh.a");
    assert_eq!(merge([Tar::new().file("a", "1"), after]), ["a 2"]);
    let inside = Tar::new().file("d/y", "2").white_out(".wh.d");
    assert_eq!(merge([lower(), inside]), ["a 1", "d/ 700", "d/y 2"]);
    assert_eq!(merge([Tar::new().white_out("no/.wh.a")]), [""; 0]);
    assert_eq!(
        merge([Tar::new().file("f", "1"), Tar::new().white_out("f/.wh.a")]),
        ["f 1"]
    );
}

#[test]
fn opaque_folder_hides_lower_layers_wherever_the_mark_stands() {
    let lower = || {
        Tar::new()
            .folder("d", 0o700)
            .file("d/old", "1")
            .folder("d/sub", 0o700)
            .file("d/sub/old", "1")
    };
    let expected = ["d/ 711", "d/new 2", "d/sub/ 700", "d/sub/new 2"];
    let first = Tar::new()
        .folder("d", 0o711)
        .white_out("d/.wh..wh..opq")
        .file("d/new", "2")
        .folder("d/sub", 0o700)
        .file("d/sub/new", "2");
    assert_eq!(merge([lower(), first]), expected);
    let last = Tar::new()
        .folder("d", 0o711)
        .file("d/new", "2")
        .file("d/sub/new", "2")
        .white_out("d/.wh..wh..opq")
        .white_out("d/.wh..wh..opq");
    assert_eq!(merge([lower(), last]), expected);
    let root = Tar::new().white_out(".wh..wh..opq").file("x", "2");
    assert_eq!(merge([lower(), root]), ["x 2"]);
    let nowhere = Tar::new().white_out("no/.wh..wh..opq");
    assert_eq!(merge([nowhere]), [""; 0]);
}

#[test]
fn what_aufs_left_is_ignored_and_its_links_lead_on() {
    let tar = Tar::new()
        .folder(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/12.34", "data")
        .folder(".wh..wh.orph", 0o700)
        .file(".wh..wh.aufs", "")
        .file("d/.wh..wh.aufs/x", "")
        .hard_link("a", ".wh..wh.plnk/12.34")
        .hard_link("b", ".wh..wh.plnk/12.34");
    assert_eq!(merge([tar]), ["a data = a", "b data = a"]);
}

#[test]
fn whiteouts_of_an_archive_that_is_no_layer_are_files() {
    let layers = [layer(
        Tar::new()
            .file("a", "1")
            .file(".wh.a", "2")
            .file("d/.wh..wh..opq", "3")
            .file(".wh..wh.plnk/x", "4"),
    )];
    let mut ignore = |_: Progress| {};
    let mut meter = Meter::new(&layers, &mut ignore);
    let rules = Rules {
        whiteouts: Whiteouts::AreFiles,
        ..rules(1)
    };
    let merge = Merge::new(&layers, &rules, &mut meter).unwrap();
    let mut out = Vec::new();
    merge.write(None, &mut out, &mut meter).unwrap();
    let files: Vec<_> = list(&out)
        .into_iter()
        .filter(|line| !line.contains("/ "))
        .collect();
    assert_eq!(
        files,
        [".wh..wh.plnk/x 4", ".wh.a 2", "a 1", "d/.wh..wh..opq 3"]
    );
}

#[test]
fn whiteout_of_overlayfs_is_a_device_like_any_other() {
    let device = || {
        let mut device = Tar::header(tar::EntryType::Char, "a");
        device.set_device_major(0).unwrap();
        device.set_device_minor(0).unwrap();
        device
    };
    let layers = [Tar::new().file("a", "1"), Tar::new().add(device(), b"")];
    assert_eq!(merge(layers), ["a Char"]);
}

#[test]
fn whiteout_of_no_name_is_refused() {
    for name in [".wh.", "d/.wh..", ".wh..."] {
        let error = merge_error([Tar::new().white_out(name)]);
        assert!(
            error.contains(name) && error.contains("whiteout of no name"),
            "{error}"
        );
    }
}

#[test]
fn hard_links_survive_what_later_layers_do_to_their_other_names() {
    let lower = || {
        Tar::new()
            .file("a", "1")
            .hard_link("b", "a")
            .hard_link("c", "b")
    };
    assert_eq!(merge([lower()]), ["a 1 = a", "b 1 = a", "c 1 = a"]);
    let removed = Tar::new().white_out(".wh.a");
    assert_eq!(merge([lower(), removed]), ["b 1 = b", "c 1 = b"]);
    let replaced = Tar::new().file("a", "2");
    assert_eq!(merge([lower(), replaced]), ["a 2", "b 1 = b", "c 1 = b"]);
    let across = Tar::new().hard_link("d", "c").white_out(".wh.b");
    assert_eq!(merge([lower(), across]), ["a 1 = a", "c 1 = a", "d 1 = a"]);
    let alone = Tar::new().white_out(".wh.a").white_out(".wh.b");
    assert_eq!(merge([lower(), alone]), ["c 1"]);
    let moved = Tar::new()
        .hard_link("d", "a")
        .file("a", "2")
        .hard_link("e", "a");
    assert_eq!(
        merge([Tar::new().file("a", "1"), moved]),
        ["a 2 = a", "d 1", "e 2 = a"]
    );
}

#[test]
fn hard_link_to_a_symbolic_link_is_a_name_of_it() {
    let tar = Tar::new().symlink("s", "nowhere").hard_link("t", "s");
    assert_eq!(merge([tar]), ["s -> nowhere = s", "t -> nowhere = s"]);
}

#[test]
fn hard_links_to_nowhere_or_to_folders_are_refused() {
    for (tar, what) in [
        (
            Tar::new().hard_link("a", "b"),
            "a hard link to b, which is not there",
        ),
        (Tar::new().hard_link("a", "b").file("b", ""), "not there"),
        (Tar::new().file("a", "").hard_link("a", "a"), "not there"),
        (
            Tar::new().folder("d", 0o700).hard_link("a", "d"),
            "a folder",
        ),
        (Tar::new().hard_link("a", "/"), "a folder"),
        (Tar::new().file("f", "").hard_link("a", "f/x"), "not there"),
    ] {
        let error = merge_error([tar]);
        assert!(error.starts_with("layer layer: entry a: "), "{error}");
        assert!(error.contains(what), "{error}");
    }
    let gone = [
        Tar::new().file("a", ""),
        Tar::new().white_out(".wh.a").hard_link("b", "a"),
    ];
    assert!(merge_error(gone).contains("not there"));
}

#[test]
fn file_replaces_a_folder_with_all_in_it_and_the_reverse() {
    let folder = || Tar::new().folder("x", 0o700).file("x/y/z", "1");
    assert_eq!(merge([folder(), Tar::new().file("x", "2")]), ["x 2"]);
    let again = [
        folder(),
        Tar::new().file("x", "2"),
        Tar::new().folder("x", 0o711),
    ];
    assert_eq!(merge(again), ["x/ 711"]);
    let link = [folder(), Tar::new().symlink("x", "y")];
    assert_eq!(merge(link), ["x -> y"]);
}

#[test]
fn folder_over_a_folder_changes_it_and_keeps_what_is_in_it() {
    let lower = Tar::new().folder("d", 0o700).file("d/x", "1");
    assert_eq!(
        merge([lower, Tar::new().folder("d/", 0o1777)]),
        ["d/ 1777", "d/x 1"]
    );
}

#[test]
fn last_of_one_name_in_a_layer_wins() {
    let tar = Tar::new()
        .file("a", "1")
        .file("./a", "2")
        .folder("d", 0o700)
        .file("d/x", "1")
        .file("d", "3")
        .file("e", "1")
        .folder("e", 0o711);
    assert_eq!(merge([tar]), ["a 2", "d 3", "e/ 711"]);
}

#[test]
fn entries_go_through_symbolic_links_inside_of_the_root() {
    let lower = || Tar::new().folder("usr", 0o755).folder("usr/lib", 0o700);
    for target in [
        "usr/lib",
        "/usr/lib",
        "../../usr/lib",
        "./usr/../usr/lib",
        "link2",
    ] {
        let base = lower().symlink("link2", "/usr/lib").symlink("lib", target);
        let listed = merge([base, Tar::new().file("lib/x", "1")]);
        assert!(
            listed.contains(&"usr/lib/x 1".to_owned()),
            "{target}: {listed:?}"
        );
        assert!(listed.contains(&format!("lib -> {target}")));
    }
    let dangling = Tar::new().symlink("a", "b/c").file("a/x", "1");
    assert_eq!(
        merge([dangling]),
        ["a -> b/c", "b/ 755", "b/c/ 755", "b/c/x 1"]
    );
    let deletes = Tar::new().white_out("lib/.wh.x");
    let base = lower().file("usr/lib/x", "1").symlink("lib", "usr/lib");
    assert!(
        !merge([base, deletes])
            .iter()
            .any(|line| line.contains("/x"))
    );
    let links = lower()
        .symlink("lib", "usr/lib")
        .file("lib/x", "1")
        .hard_link("y", "lib/x");
    assert!(merge([links]).contains(&"y 1 = usr/lib/x".to_owned()));
    // The last name is not followed.
    let itself = lower().symlink("lib", "usr/lib").folder("lib", 0o700);
    assert!(merge([itself]).contains(&"lib/ 700".to_owned()));
}

#[test]
fn links_in_a_circle_are_refused_and_end() {
    let tar = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "");
    assert!(merge_error([tar]).contains("too many symbolic links"));
    let grows = Tar::new().symlink("a", "a/a/a/a/a").file("a/x", "");
    assert!(merge_error([grows]).contains("too many symbolic links"));
}

#[test]
fn entry_inside_of_a_file_is_refused() {
    let error = merge_error([Tar::new().file("a", ""), Tar::new().file("a/b/c", "")]);
    assert_eq!(
        error,
        "layer layer: entry a/b/c: it is inside of a, which is not a folder (make the archive again)"
    );
}

#[test]
fn implied_folders_belong_to_the_root_user() {
    let mut file = Tar::header(tar::EntryType::Regular, "a/b/c");
    file.set_uid(7);
    file.set_mtime(77);
    let bytes = merged_within(&[layer(Tar::new().add(file, b""))], &Limits::default()).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    let header = entry.header();
    assert_eq!(&*entry.path_bytes(), b"a");
    assert_eq!(
        (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.mtime().unwrap()
        ),
        (0o755, 0, 77)
    );
}

#[test]
fn root_is_as_the_last_layer_that_has_it_says() {
    let layers = [
        layer(Tar::new().folder("./", 0o1750)),
        layer(
            Tar::new()
                .file("a", "")
                .records(&[("SCHILY.xattr.user.k", b"v")])
                .folder("/", 0o711),
        ),
        layer(Tar::new().file("b", "")),
    ];
    let mut ignore = |_: Progress| {};
    let mut meter = Meter::new(&layers, &mut ignore);
    let merge = Merge::new(&layers, &rules(2), &mut meter).unwrap();
    assert_eq!(merge.root().mode, 0o711);
    assert_eq!(merge.newest(), 100);
    let mut out = Vec::new();
    let warnings = merge
        .write(None, &mut out, &mut meter)
        .unwrap()
        .into_lines();
    assert_eq!(list(&out), ["a ", "b "]);
    assert!(
        warnings[0].contains("attributes of the root folder"),
        "{warnings:?}"
    );
    let error = merge_error([Tar::new().symlink("./", "x")]);
    assert!(error.contains("replace the root folder"), "{error}");
}

#[test]
fn attributes_of_folders_and_files_are_those_of_their_last_entries() {
    let xattr = |value: &'static [u8]| [("SCHILY.xattr.user.k", value)];
    let layers = [
        layer(
            Tar::new()
                .records(&xattr(b"d1"))
                .folder("d", 0o700)
                .records(&xattr(b"\0f"))
                .file("d/f", "data"),
        ),
        layer(Tar::new().records(&xattr(b"d2")).folder("d", 0o711)),
    ];
    let out = merged_within(&layers, &Limits::default()).unwrap();
    let mut archive = tar::Archive::new(&out[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let records = entry.pax_extensions().unwrap().unwrap();
        for record in records {
            let record = record.unwrap();
            found.push((
                record.key().unwrap().to_owned(),
                record.value_bytes().to_vec(),
            ));
        }
    }
    let key = "SCHILY.xattr.user.k".to_owned();
    assert_eq!(
        found,
        [(key.clone(), b"d2".to_vec()), (key, b"\0f".to_vec())]
    );
}

#[test]
fn names_of_any_bytes_and_lengths_survive() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let target = "t".repeat(300);
    let odd = b"\xff\n\xfe";
    let mut raw = Tar::header(tar::EntryType::Regular, "");
    raw.as_old_mut().name[..3].copy_from_slice(odd);
    let tar = Tar::new()
        .add(raw, b"")
        .records(&[("path", long.as_bytes())])
        .file("x", "1")
        .records(&[("path", b"s"), ("linkpath", target.as_bytes())])
        .symlink("x", "y")
        .records(&[("path", b"h"), ("linkpath", long.as_bytes())])
        .hard_link("x", "y");
    let out = merged_within(&[layer(tar)], &Limits::default()).unwrap();
    let mut archive = tar::Archive::new(&out[..]);
    let entries: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name_bytes().map(|name| name.into_owned());
            (entry.path_bytes().into_owned(), link.unwrap_or_default())
        })
        .collect();
    let expected: Vec<(Vec<u8>, Vec<u8>)> = vec![
        ("d".repeat(200).into(), Vec::new()),
        (odd.to_vec(), Vec::new()),
        (long.clone().into(), Vec::new()),
        (b"h".to_vec(), long.into()),
        (b"s".to_vec(), target.into()),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn order_is_the_same_however_many_layers_are_read_at_once() {
    let layers: Vec<_> = (0..5)
        .map(|number| {
            let mut tar = Tar::new();
            for file in 0..1000 {
                tar = tar.file(&format!("d{}/{file}", file % 7 + number), "x");
            }
            layer(tar)
        })
        .collect();
    let once = |readers| {
        let mut ignore = |_: Progress| {};
        let mut meter = Meter::new(&layers, &mut ignore);
        let merge = Merge::new(&layers, &rules(readers), &mut meter).unwrap();
        let mut out = Vec::new();
        merge.write(None, &mut out, &mut meter).unwrap();
        out
    };
    assert!(once(1) == once(2));
}

#[test]
fn both_passes_tell_how_far_they_are_up_to_the_end() {
    let data = "x".repeat(3 << 20);
    let layers = [
        layer(Tar::new().file("a", &data)),
        layer(Tar::new().file("a", &data)),
    ];
    let mut told = Vec::new();
    let mut report = |progress| told.push(progress);
    let mut meter = Meter::new(&layers, &mut report);
    let merge = Merge::new(&layers, &rules(2), &mut meter).unwrap();
    merge.write(None, &mut io::sink(), &mut meter).unwrap();
    let total = layers.iter().map(|layer| layer.blob.len()).sum();
    for pass in [crate::Pass::Index, crate::Pass::Pack] {
        let done: Vec<_> = told
            .iter()
            .filter(|progress| progress.pass == pass)
            .map(|progress| progress.done)
            .collect();
        assert!(done.is_sorted() && done.len() > 4, "{done:?}");
        assert_eq!((done.first(), done.last()), (Some(&0), Some(&total)));
    }
}

#[test]
fn digests_that_differ_are_refused_with_both() {
    let good = layer(Tar::new().file("a", "1"));
    let other = Digest::of(b"other");
    let digest = Layer {
        digest: Some(other),
        ..good.clone()
    };
    let diff_id = Layer {
        diff_id: Some(other),
        ..good.clone()
    };
    for bad in [digest, diff_id] {
        let error = text(&merged_within(&[bad], &Limits::default()).unwrap_err());
        let found = good.digest.unwrap().to_string();
        assert!(error.starts_with("layer layer: "), "{error}");
        assert!(
            error.contains(&found) && error.contains(&other.to_string()),
            "{error}"
        );
        assert!(error.contains("fetch the image again"), "{error}");
    }
    let unknown = Layer {
        digest: None,
        diff_id: None,
        ..good
    };
    assert!(merged_within(&[unknown], &Limits::default()).is_ok());
}

#[test]
fn damage_is_a_wrong_digest_where_one_is_known() {
    let good = Tar::new().file("a", "1").bytes();
    let mut bytes = good.clone();
    bytes[0] ^= 1;
    let mut bad = Layer {
        name: "layer".to_owned(),
        blob: blob(&bytes),
        digest: Some(Digest::of(&good)),
        diff_id: None,
    };
    let error = merged_within(&[bad.clone()], &Limits::default()).unwrap_err();
    assert!(text(&error).contains("its digest is"), "{error:?}");
    bad.digest = None;
    let error = merged_within(&[bad], &Limits::default()).unwrap_err();
    assert!(text(&error).contains("not a tar archive"), "{error:?}");
}

#[test]
fn compressed_layers_are_read_and_what_is_cut_is_named() {
    let tar = || Tar::new().file("a", &"1".repeat(9000)).bytes();
    let (first, second) = (tar(), tar());
    let (start, end) = first.split_at(700);
    let gzip = |bytes: &[u8]| {
        let level = flate2::Compression::fast();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let of = |bytes: &[u8]| Layer {
        name: "layer".to_owned(),
        blob: blob(bytes),
        digest: None,
        diff_id: Some(Digest::of(&second)),
    };
    for packed in [
        gzip(&first),
        zstd(&first),
        [gzip(start), gzip(end)].concat(),
        [zstd(start), zstd(end)].concat(),
    ] {
        assert!(merged_within(&[of(&packed)], &Limits::default()).is_ok());
        let cut = &packed[..packed.len() - 3];
        let error = text(&merged_within(&[of(cut)], &Limits::default()).unwrap_err());
        assert!(
            error.contains("compression is damaged or cut short"),
            "{error}"
        );
    }
}

#[test]
fn archive_without_an_end_mark_is_whole_only_with_the_right_digest() {
    let bytes = Tar::new().file("a", "1").bytes();
    let bytes = &bytes[..bytes.len() - 1024];
    let mut cut = Layer {
        name: "layer".to_owned(),
        blob: blob(bytes),
        digest: Some(Digest::of(bytes)),
        diff_id: None,
    };
    assert!(merged_within(&[cut.clone()], &Limits::default()).is_ok());
    cut.digest = None;
    let error = merged_within(&[cut], &Limits::default()).unwrap_err();
    assert!(text(&error).contains("cut short"), "{error:?}");
}

#[test]
fn limits_are_errors_that_name_their_flags() {
    let small = Limits {
        max_entries: 3,
        max_size: 1 << 20,
    };
    let error = |tar| text(&merged_within(&[layer(tar)], &small).unwrap_err());
    let three = || Tar::new().file("a", "").file("b", "").file("c", "");
    assert!(merged_within(&[layer(three())], &small).is_ok());
    assert!(
        error(three().file("d", ""))
            .contains("entry d: the image has more than 3 entries (allow more with --max-entries)")
    );
    assert!(error(three().file("a", "")).contains("--max-entries"));
    assert!(error(Tar::new().file("a/b/c/d", "")).contains("--max-entries"));
    let large = Tar::new().file("a", &"x".repeat(2 << 20));
    assert!(error(large).contains("--max-size"));
    let target = vec![b't'; 4000];
    let names = (0..300).fold(Tar::new(), |tar, number| {
        tar.records(&[("linkpath", &target)])
            .symlink(&format!("l{number}"), "t")
    });
    let limits = Limits {
        max_entries: 300,
        max_size: 4 << 20,
    };
    let error = text(&merged_within(&[layer(names)], &limits).unwrap_err());
    assert!(error.contains("names of the image's entries"), "{error}");
    assert!(error.contains("--max-entries"), "{error}");
}

#[test]
fn paths_that_grow_through_links_end_at_the_longest_path() {
    let deep = vec!["d".repeat(250); 15].join("/");
    let tar = Tar::new()
        .records(&[("path", deep.as_bytes())])
        .folder("x", 0o755)
        .records(&[("path", b"s"), ("linkpath", deep.as_bytes())])
        .symlink("x", "y");
    let far = format!("s/{}", vec!["e".repeat(250); 2].join("/"));
    let tar = tar.records(&[("path", far.as_bytes())]).file("x", "");
    assert!(merge_error([tar]).contains("longer than 4095 bytes"));
}

#[test]
fn too_many_layers_are_refused() {
    let layers = vec![layer(Tar::new()); MAX_LAYERS + 1];
    let error = merged_within(&layers, &Limits::default()).unwrap_err();
    assert!(text(&error).contains("1001 layers"), "{error:?}");
}

#[test]
fn second_pass_refuses_what_has_changed_since_the_first() {
    let files = Tar::new().file("a", "1").file("b", "2").bytes();
    let other = Tar::new().folder("a", 0o755).bytes();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &files).unwrap();
    let layers = [Layer {
        name: "layer".to_owned(),
        blob: Blob::whole(File::open(file.path()).unwrap()).unwrap(),
        digest: Some(Digest::of(&files)),
        diff_id: None,
    }];
    let mut ignore = |_: Progress| {};
    let mut meter = Meter::new(&layers, &mut ignore);
    let merge = Merge::new(&layers, &rules(1), &mut meter).unwrap();
    std::fs::write(file.path(), other).unwrap();
    let error = merge.write(None, &mut io::sink(), &mut meter).unwrap_err();
    assert!(
        text(&error).contains("changed while it was read"),
        "{error:?}"
    );
}

#[test]
fn index_of_many_entries_stays_below_80_bytes_each() {
    const ENTRIES: u32 = 200_000;
    let mut tree = Tree::new(&rules(1));
    for number in 0..ENTRIES {
        let path = match number % 10 {
            0 => format!("usr/share/dir{number}"),
            _ => format!("usr/share/dir{}/some-file-name.{number}", number / 10 * 10),
        };
        let kind = match number % 10 {
            0 => crate::tar::Kind::Folder,
            1 => crate::tar::Kind::Symlink(b"../target/of/link".to_vec()),
            _ => crate::tar::Kind::File(0),
        };
        let entry = crate::tar::Entry {
            path: crate::tar::CleanPath::new(path.as_bytes()).unwrap(),
            kind,
            attributes: Attributes::default(),
            xattrs: Vec::new(),
        };
        tree.apply(1, number, &entry).unwrap();
    }
    let each = tree.len_in_bytes() / ENTRIES as usize;
    assert!(each < 80, "{each}");
}

#[test]
fn folders_are_as_deep_as_an_image_is_read() {
    let deep = |depth: usize| {
        let path = vec!["d"; depth].join("/");
        Tar::new()
            .records(&[("path", path.as_bytes())])
            .folder("x", 0o755)
    };
    let folders = merge([deep(MAX_DEPTH - 1)]);
    assert_eq!(folders.len(), MAX_DEPTH - 1);
    let error = merge_error([deep(MAX_DEPTH)]);
    assert!(error.contains("more than 1023 folders deep"), "{error}");
}

#[test]
fn attributes_of_folders_have_a_limit_of_their_own() {
    let value = vec![b'v'; 64 << 10];
    let tar = (0..17).fold(Tar::new(), |tar, number| {
        tar.records(&[("SCHILY.xattr.user.k", &value)])
            .folder(&format!("d{number}"), 0o755)
    });
    let limits = Limits {
        max_entries: 100,
        ..Default::default()
    };
    let error = text(&merged_within(&[layer(tar)], &limits).unwrap_err());
    assert!(
        error.contains("extended attributes of the image's folders take more than 1048576 bytes"),
        "{error}"
    );
}
