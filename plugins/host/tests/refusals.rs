//! What is no plugin is refused with a reason of its own, and what is one is read.

mod support;

use std::path::Path;

use plugin_host::{LoadError, NotALibrary, Plugin, PluginSet, SetError};
use support::library;

fn refused(definitions: &[&str]) -> LoadError {
    let library = library("entry.c", definitions);
    Plugin::load(&library.path).unwrap_err()
}

#[test]
fn a_sound_plugin_says_all_that_it_declares() {
    let library = library("entry.c", &[]);
    let plugin = Plugin::load(&library.path).unwrap();
    assert_eq!(
        (plugin.name.as_str(), plugin.version.as_str()),
        ("no-op", "1.2.3")
    );
    assert_eq!(plugin.abi, (1, 1));
    assert_eq!(plugin.syscalls, ["socket", "bind"]);
    assert_eq!(plugin.paths[0].path, Path::new("/dev/net/tun"));
    assert!(plugin.paths[0].read && plugin.paths[0].write && !plugin.paths[0].execute);
    assert_eq!(
        plugin.offer_properties[0].value,
        serde_json::json!([1, true])
    );
    assert_eq!(plugin.drivers[0].name, "no-op");
    assert!(plugin.drivers[0].schema.is_some());
}

#[test]
fn what_is_no_library_for_this_machine_is_refused_before_it_is_opened() {
    let library = library("entry.c", &[]);
    let bytes = std::fs::read(&library.path).unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        bytes
    };
    for (content, said) in [
        (b"#!/bin/sh\n".to_vec(), "no ELF file"),
        (Vec::new(), "no ELF file"),
        (bytes[..18].to_vec(), "no ELF file"),
        (changed(16, 1), "no shared library"),
        (changed(18, 183), "it is for Arm64"),
        (changed(4, 1), "another word size"),
    ] {
        let path = library.folder.path().join("changed.so");
        std::fs::write(&path, content).unwrap();
        let error = Plugin::load(&path).unwrap_err();
        assert!(matches!(error, LoadError::NotALibrary(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(matches!(
        Plugin::load(library.folder.path()),
        Err(LoadError::NotAFile)
    ));
    let nowhere = library.folder.path().join("nowhere.so");
    assert!(matches!(Plugin::load(&nowhere), Err(LoadError::Read(_))));
    let _: NotALibrary = NotALibrary::NotElf;
}

#[test]
fn a_library_that_ends_in_the_middle_is_refused_by_the_loader() {
    let library = library("entry.c", &[]);
    let bytes = std::fs::read(&library.path).unwrap();
    let path = library.folder.path().join("cut.so");
    std::fs::write(&path, &bytes[..100]).unwrap();
    let error = Plugin::load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Open { .. }), "{error}");
}

#[test]
fn a_symbol_that_nobody_defines_is_found_at_once() {
    let error = refused(&["UNDEFINED"]);
    assert!(error.to_string().contains("nobody_defines_this"), "{error}");
}

#[test]
fn a_library_without_the_entry_is_no_plugin() {
    let error = refused(&["NO_ENTRY"]);
    assert!(matches!(error, LoadError::NoEntry), "{error}");
    assert!(error.to_string().contains("shem_plugin_entry"), "{error}");
}

#[test]
fn another_major_number_is_refused_and_a_later_minor_one_loads() {
    for found in [0, 2, 65535] {
        let error = refused(&[&format!("MAJOR={found}"), "ENTRY_SIZE=8"]);
        assert!(
            matches!(error, LoadError::OtherMajor { found: told } if told == found),
            "{error}"
        );
    }
    let later = library(
        "entry.c",
        &["MINOR=9", "ENTRY_SIZE=(sizeof(shem_plugin_entry_t)+64)"],
    );
    assert_eq!(Plugin::load(&later.path).unwrap().abi, (1, 9));
}

#[test]
fn struct_sizes_that_never_were_are_refused() {
    for struct_size in ["0", "119"] {
        let error = refused(&[&format!("ENTRY_SIZE={struct_size}")]);
        assert!(matches!(error, LoadError::ShortStruct { .. }), "{error}");
        let error = refused(&[&format!("DRIVER_SIZE={struct_size}%64")]);
        assert!(error.to_string().contains("driver 0"), "{error}");
        assert!(matches!(error, LoadError::ShortStruct { .. }), "{error}");
    }
    for definition in ["ENTRY_SIZE=4294967295u", "DRIVER_SIZE=4294967295u"] {
        let error = refused(&[definition]);
        assert!(
            matches!(
                error,
                LoadError::HugeStruct {
                    found: u32::MAX,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn missing_functions_drivers_and_names_are_refused() {
    for (definition, said) in [
        ("CREATE=NULL", "create of driver \"no-op\" is NULL"),
        ("DRIVERS=NULL", "its driver 0 is NULL"),
        ("DRIVER_COUNT=0", "no driver"),
        ("DRIVER_COUNT=100000", "at most 1024"),
        ("NAME=\"\"", "its name is \"\""),
        ("NAME=\"a b\"", "letters, digits and -"),
        ("DRIVER_NAME=\"\\xff\"", "its driver's name is not UTF-8"),
        ("DRIVERS=&driver,&driver", "two drivers named \"no-op\""),
        (
            "SCHEMA=\"{\\\"pattern\\\":1}\"",
            "configuration schema of its driver \"no-op\"",
        ),
        ("PATH=\"dev\"", "not absolute"),
        ("OFFER=\"{\"", "no JSON"),
    ] {
        let error = refused(&[definition]);
        assert!(error.to_string().contains(said), "{definition}: {error}");
    }
}

#[test]
fn a_driver_name_is_there_once() {
    let (one, other) = (
        library("entry.c", &[]),
        library("entry.c", &["NAME=\"other\""]),
    );
    let mut set = PluginSet::new(["virtio-blk"]);
    set.add(&one.path).unwrap();
    let error = set.add(&other.path).unwrap_err();
    let SetError::DriverTaken { name, by, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(name, "no-op");
    assert!(by.contains(one.path.to_str().unwrap()), "{by}");

    let built_in = library("entry.c", &["DRIVER_NAME=\"virtio-blk\""]);
    let error = set.add(&built_in.path).unwrap_err();
    assert!(error.to_string().ends_with("built in"), "{error}");
}

#[test]
fn an_unknown_driver_is_answered_with_the_nearest_and_all() {
    let library = library("entry.c", &[]);
    let mut set = PluginSet::new(["virtio-blk", "virtio-fs"]);
    set.add(&library.path).unwrap();
    assert!(set.driver("virtio-fs").unwrap().is_none());
    assert_eq!(set.driver("no-op").unwrap().unwrap().0.name, "no-op");
    let text = set.driver("virtio-bkl").unwrap_err().to_string();
    assert!(text.contains("did you mean \"virtio-blk\"?"), "{text}");
    let rest = "; the drivers are no-op, virtio-blk, virtio-fs; one of a plugin needs --plugin";
    assert!(text.ends_with(rest), "{text}");
}
