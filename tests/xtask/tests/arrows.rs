//! Holds the dependency arrows of ARCHITECTURE.md: who may know whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const DEVICES: [&str; 5] = [
    "device_serial",
    "device_virtio_blk",
    "device_virtio_fs",
    "device_virtio_net",
    "device_virtio_vsock",
];
/// Package name to the names of what it is built with, without dev-dependencies.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().expect("a name").to_owned();
            let built_with = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
                .collect();
            (name, built_with)
        })
        .collect()
}

fn ours(of: &str) -> BTreeSet<String> {
    let arrows = arrows();
    arrows[of]
        .iter()
        .filter(|name| arrows.contains_key(*name))
        .cloned()
        .collect()
}

fn who_knows(what: &str) -> Vec<String> {
    let arrows = arrows();
    arrows
        .iter()
        .filter(|(_, built_with)| built_with.contains(what))
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn devices_and_transport_know_the_device_model_only() {
    for device in DEVICES.iter().chain(&["virtio_transport"]) {
        assert_eq!(
            ours(device),
            BTreeSet::from(["device_model".into()]),
            "{device}"
        );
    }
    assert!(ours("device_model").is_empty());
}

#[test]
fn only_the_machine_knows_devices_and_kvm() {
    for name in DEVICES
        .iter()
        .chain(&["virtio_transport", "kvm-ioctls", "kvm-bindings"])
    {
        let allowed = ["fuzz", "machine"];
        assert!(
            who_knows(name)
                .iter()
                .all(|who| allowed.contains(&who.as_str())),
            "{name}: {:?}",
            who_knows(name)
        );
    }
}

#[test]
fn what_runs_in_the_guest_knows_its_own_four_crates_only() {
    let guests = [
        "guest_protocol",
        "mkfs_ext4",
        "stream_relay",
        "tree_archive",
    ];
    assert_eq!(
        ours("guest_init"),
        guests.into_iter().map(String::from).collect()
    );
    for name in guests.iter().chain(&["ya_self_test"]) {
        assert!(ours(name).is_empty(), "{name}");
    }
    assert_eq!(
        ours("guest_client"),
        BTreeSet::from(["guest_protocol".into()])
    );
}

#[test]
fn the_plugin_abi_needs_nothing_and_its_host_no_more_than_devices_do() {
    assert_eq!(arrows()["plugin_abi"], BTreeSet::new());
    assert_eq!(ours("plugin_sdk"), BTreeSet::from(["plugin_abi".into()]));
    for plugin in ["hello", "entropy", "net", "rust-devices"] {
        assert_eq!(
            ours(plugin),
            BTreeSet::from(["plugin_sdk".into()]),
            "{plugin}"
        );
    }
    let host = ["device_model", "plugin_abi"];
    assert_eq!(
        ours("plugin_host"),
        host.into_iter().map(String::from).collect()
    );
    let check = ["device_model", "plugin_host"];
    assert_eq!(
        ours("plugin_check"),
        check.into_iter().map(String::from).collect()
    );
    assert_eq!(who_knows("plugin_check"), ["shem_cli"]);
}

#[test]
fn runtime_of_exe_unit_knows_vms_by_the_library_alone() {
    assert!(ours("runtime_api").is_empty());
    let known = ["confine", "runtime_api", "shem"];
    assert_eq!(
        ours("ya_runtime"),
        known.into_iter().map(String::from).collect()
    );
}

#[test]
fn only_the_plugin_host_loads_libraries() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders: Vec<_> = ["vmm", "devices", "plugins", "guest-init"]
        .map(|folder| root.join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let loads = text.contains("dlopen(");
                let may = path.ends_with("plugins/host/src/load.rs");
                assert_eq!(loads, may, "{}", path.display());
            }
        }
    }
}

#[test]
fn images_stand_alone() {
    assert!(ours("gvmi").is_empty());
}

#[test]
fn registries_are_known_to_one_crate_and_that_to_the_command() {
    assert_eq!(ours("registry"), BTreeSet::from(["gvmi".into()]));
    for name in ["oci-client", "reqwest", "rustls", "tokio"] {
        assert_eq!(who_knows(name), ["registry"], "{name}");
    }
    assert!(who_knows("registry").iter().all(|who| who == "shem_cli"));
}

#[test]
fn only_the_registry_names_a_device() {
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vmm/machine/src");
    for entry in std::fs::read_dir(machine).expect("the machine's sources") {
        let path = entry.expect("an entry").path();
        if path.ends_with("registry.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        for device in DEVICES {
            assert!(!text.contains(device), "{} names {device}", path.display());
        }
    }
}

#[test]
fn one_vm_memory_serves_all() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let text = std::fs::read_to_string(lock).expect("the lock file");
    for name in ["vm-memory", "vmm-sys-util", "virtio-queue"] {
        let line = format!("name = \"{name}\"");
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{name}"
        );
    }
}
