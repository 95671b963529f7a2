//! Options as a configuration gives them.

use std::fs;
use std::path::Path;

use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, Threads, VirtioDevice};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::factory::Factory;

fn folder_with_disk(bytes: u64) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn create(options: Value) -> anyhow::Result<Box<dyn VirtioDevice>> {
    let spec = DeviceSpec {
        id: "layer0".into(),
        driver: "virtio-blk".into(),
        options,
        attachment: None,
    };
    let env = DeviceEnv {
        vcpus: 1,
        line: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap()),
        threads: Threads::new(|_| Ok(())),
    };
    match Factory.create(spec, &env)? {
        NewDevice::Virtio(device) => Ok(device),
        _ => panic!("not a virtio device"),
    }
}

fn refusal(options: Value) -> String {
    match create(options) {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error:#}"),
    }
}

fn sectors(device: &dyn VirtioDevice) -> u64 {
    let mut capacity = [0; 8];
    device.read_config(0, &mut capacity);
    u64::from_le_bytes(capacity)
}

fn is_read_only(device: &dyn VirtioDevice) -> bool {
    device.features() >> 5 & 1 != 0
}

#[test]
fn disk_is_read_only_unless_asked_otherwise() {
    let (_folder, path) = folder_with_disk(4096);
    let device = create(json!({"path": path})).unwrap();
    assert!(is_read_only(&*device));
    let device = create(json!({"path": path, "read_only": false})).unwrap();
    assert!(!is_read_only(&*device));
}

#[test]
fn read_only_disk_needs_no_right_to_write() {
    let device = create(json!({"path": "/proc/self/exe"})).unwrap();
    assert!(is_read_only(&*device));
}

#[test]
fn whole_sectors_of_the_size_count() {
    let (_folder, path) = folder_with_disk(5000);
    let device = create(json!({"path": path})).unwrap();
    assert_eq!(sectors(&*device), 9);
    let device = create(json!({"path": path, "size": 2047})).unwrap();
    assert_eq!(sectors(&*device), 3);
}

#[test]
fn impossible_sizes_name_the_file() {
    let (_folder, path) = folder_with_disk(5000);
    let error = refusal(json!({"path": path, "size": 5001}));
    assert!(error.contains(&path) && error.contains("5001"), "{error}");
    let error = refusal(json!({"path": path, "size": 511}));
    assert!(error.contains(&path) && error.contains("512"), "{error}");
}

#[test]
fn unknown_option_is_answered_with_the_known_ones() {
    let error = refusal(json!({"path": "x", "cache": "none"}));
    for word in [
        "cache",
        "path",
        "format",
        "read_only",
        "serial",
        "size",
        "direct",
        "engine",
    ] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn bad_serials_are_refused() {
    let (_folder, path) = folder_with_disk(4096);
    for serial in ["twenty-one characters", "a b", "ä", "tab\t"] {
        let error = refusal(json!({"path": path, "serial": serial}));
        assert!(error.contains("serial"), "{error}");
    }
    create(json!({"path": path, "serial": "exactly-20-character"})).unwrap();
}

#[test]
fn things_that_are_no_disk_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    for path in [folder.path(), &pipe, Path::new("/dev/null")] {
        let error = refusal(json!({"path": path}));
        assert!(error.contains("neither a regular file nor"), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn missing_file_is_named_with_the_cause() {
    let error = refusal(json!({"path": "/nonexistent/disk"}));
    assert!(error.contains("/nonexistent/disk"), "{error}");
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn each_engine_takes_both_ways_to_the_file() {
    let (_folder, path) = folder_with_disk(4096);
    for read_only in [true, false] {
        for engine in ["auto", "threads", "io_uring"] {
            if engine == "io_uring" && crate::flights::tests::ring().is_none() {
                continue;
            }
            let options = json!({"path": path, "read_only": read_only, "engine": engine});
            let device = create(options).unwrap();
            assert_eq!(sectors(&*device), 8);
            let options = json!({
                "path": path, "read_only": read_only, "engine": engine, "direct": false,
            });
            create(options).unwrap();
        }
    }
}

#[test]
fn unknown_engine_is_answered_with_the_known_ones() {
    let (_folder, path) = folder_with_disk(4096);
    let error = refusal(json!({"path": path, "engine": "aio"}));
    for word in ["aio", "auto", "threads", "io_uring"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn direct_is_refused_only_where_it_is_asked_for_and_impossible() {
    // A file system without any storage to go to directly.
    let path = "/proc/self/cmdline";
    let error = refusal(json!({"path": path, "direct": true}));
    assert!(error.contains(path) && error.contains("direct"), "{error}");
    let error = refusal(json!({"path": path}));
    assert!(!error.contains("direct"), "{error}");
}

#[test]
fn qcow2_image_has_the_size_that_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    crate::qcow2::tests::make_image(fs::File::create_new(&path).unwrap(), (1 << 30) + 700);
    for read_only in [true, false] {
        let options = json!({"path": path, "format": "qcow2", "read_only": read_only});
        let device = create(options).unwrap();
        assert_eq!(sectors(&*device), (1 << 21) + 1);
        assert_eq!(is_read_only(&*device), read_only);
    }
    for (option, value) in [
        ("size", json!(512)),
        ("direct", json!(true)),
        ("engine", json!("io_uring")),
    ] {
        let error = refusal(json!({"path": path, "format": "qcow2", option: value}));
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn format_is_taken_as_it_is_given() {
    let (_folder, path) = folder_with_disk(4096);
    let error = refusal(json!({"path": path, "format": "qcow2"}));
    assert!(error.contains("not a qcow2 image"), "{error}");
    assert!(error.contains(&path), "{error}");
    let error = refusal(json!({"path": path, "format": "vmdk"}));
    for word in ["vmdk", "raw", "qcow2"] {
        assert!(error.contains(word), "{error}");
    }
}
