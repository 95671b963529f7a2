//! Devices of plugins in real guests: named on the command line, in a file, or added
//! by the library.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e_tests::{Shem, demo_image, newcomer, output, vm, with_each_kernel};
use shem::{DeviceOptions, Devices};

with_each_kernel!(random_numbers_of_the_host_come_out_of_hwrng);

/// The driver of the guest says who it is, and what it reads is not always the same.
const READ_HWRNG: &str = "cat /sys/class/misc/hw_random/rng_current && \
    a=$(head -c 4096 /dev/hwrng | md5sum) && b=$(head -c 4096 /dev/hwrng | md5sum) && \
    test \"$a\" != \"$b\" && echo differs";

fn random_numbers_of_the_host_come_out_of_hwrng(kernel: &str) {
    let options = ["--plugin", "entropy", "--device", "entropy,id=rng0"];
    Shem::run(kernel, &options, &["sh", "-c", READ_HWRNG])
        .outcome()
        .assert_ok("virtio_rng.0\ndiffers\n");
}

#[test]
fn a_newcomers_plugin_runs_in_either_language() {
    for (name, file) in [
        ("demo-rust", "libshem_demo_rust.so"),
        ("demo-c", "libshem_demo_c.so"),
    ] {
        let plugin = newcomer().join(file);
        let device = format!("{name},greeting=ahoy");
        let options = ["--plugin", plugin.to_str().unwrap(), "--device", &device];
        Shem::run("tuned", &options, &["sh", "-c", "echo $GREETING"])
            .outcome()
            .assert_ok("ahoy\n");
    }
}

#[test]
fn configuration_file_says_what_the_command_line_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("zeros");
    fs::write(&source, vec![0; 1 << 20]).unwrap();
    let file = folder.path().join("vm.toml");
    let text = format!(
        "images = [{:?}]\ncommand = [\"sh\", \"-c\", \"head -c 64 /dev/hwrng | od -v -An -tx1 | sort -u\"]\n\
         [machine]\nmemory = \"256m\"\n[boot]\nkernel = \"tuned\"\n\
         [[device]]\ndriver = \"entropy\"\nplugin = \"entropy\"\nid = \"rng0\"\nsource = {source:?}\n",
        demo_image(),
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let zeros = " 00".repeat(16);
    Shem::new(&["run", "--config", file])
        .outcome()
        .assert_ok(&format!("{zeros}\n"));
    // The command line comes first.
    Shem::new(&["run", "--config", file, "--", "echo", "other"])
        .outcome()
        .assert_ok("other\n");
}

#[test]
fn a_library_user_adds_devices_too() {
    let plugin = Shem::folder().join("libshem_entropy.so");
    let mut devices = Devices::new(1, shem::DEFAULT_MEMORY);
    devices.load(plugin.to_str().unwrap()).unwrap();
    let options = DeviceOptions::Text(Vec::new());
    devices.add("entropy", Some("rng0"), options).unwrap();
    let vm = vm().devices(devices).boot().unwrap();
    let read = "head -c 1000 /dev/hwrng | wc -c";
    assert_eq!(output(&vm, &["sh", "-c", read]), "1000\n");
}

#[test]
fn a_built_in_device_comes_by_the_same_option() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.img");
    fs::write(&disk, b"words on a disk\n".repeat(4096)).unwrap();
    let device = format!(
        "virtio-blk,id=extra,path={},read_only=true,serial=7",
        disk.display()
    );
    let command = "for d in /sys/block/vd*; do test \"$(cat $d/serial)\" = 7 && \
        head -n 1 /dev/${d##*/} && cat $d/ro; done; true";
    Shem::run("tuned", &["--device", &device], &["sh", "-c", command])
        .outcome()
        .assert_ok("words on a disk\n1\n");
}

#[test]
fn what_cannot_be_a_device_is_refused_before_anything_boots() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).unwrap();
    let text = text.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--plugin", "nosuch"], &["nosuch", "libshem_nosuch.so"]),
        (&["--plugin", text], &["text.so", "no ELF file"]),
        (
            &["--plugin", "entropy", "--device", "entropi"],
            &["entropi", "did you mean \"entropy\"?"],
        ),
        (
            &["--plugin", "entropy", "--device", "entropy,sauce=x"],
            &["/sauce", "did you mean source?"],
        ),
        (
            &[
                "--plugin",
                "entropy",
                "--device",
                "entropy,source=/nonexistent",
            ],
            &["/nonexistent"],
        ),
        (&["--device", "virtio-blk,id=layer0"], &["layer0"]),
        (
            &["--device", "virtio-blk,path=/dev/null,sise=5"],
            &["sise", "expected one of"],
        ),
    ];
    for (options, words) in cases {
        Shem::run("tuned", options, &["true"])
            .outcome()
            .assert_refused(125, words);
    }
}
