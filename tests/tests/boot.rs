//! A guest boots, runs a command, and its status becomes ours.

use e2e_tests::{Shem, build_image, builder, demo_image, output, vm_of, with_each_kernel};
use shem::{Image, Resolver, STOP_GRACE, Stage, StopReason};

with_each_kernel!(
    a_command_prints_and_its_status_is_ours,
    every_vcpu_is_there,
    memory_reaches_beyond_the_hole,
    the_kernel_finds_nothing_to_warn_of,
    the_smallest_guest_boots,
    the_timeline_tells_every_stage,
);

fn a_command_prints_and_its_status_is_ours(kernel: &str) {
    let outcome = Shem::run(kernel, &[], &["sh", "-c", "echo out; echo err >&2; exit 3"]).outcome();
    assert_eq!(
        (outcome.status, &*outcome.stdout, &*outcome.stderr),
        (Some(3), "out\n", "err\n")
    );
}

fn every_vcpu_is_there(kernel: &str) {
    let vm = builder(kernel)
        .layer(Image::open(demo_image()).unwrap())
        .vcpus(4)
        .boot()
        .unwrap();
    assert_eq!(output(&vm, &["nproc"]), "4\n");
    let cores = output(
        &vm,
        &[
            "sh",
            "-c",
            "cat /sys/devices/system/cpu/cpu*/topology/core_id",
        ],
    );
    assert_eq!(cores, "0\n1\n2\n3\n", "each vCPU is a core of its own");
    let packages = output(
        &vm,
        &[
            "sh",
            "-c",
            "sort -u /sys/devices/system/cpu/cpu*/topology/physical_package_id",
        ],
    );
    assert_eq!(packages, "0\n", "in one package");
    assert_eq!(vm.stop(STOP_GRACE).reason, StopReason::GuestShutdown);
}

fn memory_reaches_beyond_the_hole(kernel: &str) {
    let vm = builder(kernel)
        .layer(Image::open(demo_image()).unwrap())
        .memory(3584 << 20)
        .boot()
        .unwrap();
    let total = output(
        &vm,
        &["sh", "-c", "grep MemTotal /proc/meminfo | tr -dc 0-9"],
    );
    let mib: u64 = total.parse::<u64>().unwrap() / 1024;
    assert!((3300..=3584).contains(&mib), "{mib} MiB");
    assert!(output(&vm, &["cat", "/proc/iomem"]).contains("100000000-11fffffff : System RAM"));
}

fn the_kernel_finds_nothing_to_warn_of(kernel: &str) {
    let vm = builder(kernel)
        .layer(Image::open(demo_image()).unwrap())
        .boot()
        .unwrap();
    let log = output(&vm, &["dmesg"]);
    assert!(log.contains("Linux version"), "{log}");
    assert!(!log.contains("cut here"), "{log}");
}

fn the_smallest_guest_boots(kernel: &str) {
    let smallest = format!("{}m", if kernel == "tuned" { 64 } else { 128 });
    let outcome = Shem::run(kernel, &["--memory", &smallest], &["echo", "small"]).outcome();
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(0), "small\n"),
        "{}",
        outcome.stderr
    );
}

fn the_timeline_tells_every_stage(kernel: &str) {
    let vm = builder(kernel)
        .layer(Image::open(demo_image()).unwrap())
        .boot()
        .unwrap();
    let timeline = vm.timeline();
    let at = |stage| {
        timeline
            .at(stage)
            .unwrap_or_else(|| panic!("no {stage} in\n{timeline}"))
    };
    let stages = [
        Stage::Start,
        Stage::VcpuEntry,
        Stage::FirstOutput,
        Stage::RootReady,
        Stage::AgentReady,
    ];
    assert!(
        stages.windows(2).all(|pair| at(pair[0]) < at(pair[1])),
        "{timeline}"
    );
    assert!(
        at(Stage::VcpuEntry) < at(Stage::Init) && at(Stage::Init) < at(Stage::RootReady),
        "{timeline}"
    );
}

#[test]
fn two_images_are_stacked_with_the_first_on_top() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("top.gvmi");
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/passwd"), "only:x:0:0::/:/bin/sh\n").unwrap();
    let source = tree.to_str().unwrap();
    let built = Shem::new(&[
        "image",
        "build",
        source,
        "-o",
        top.to_str().unwrap(),
        "--env",
        "FROM=top",
    ])
    .outcome();
    assert_eq!(built.status, Some(0), "{built:?}");

    let vm = builder("tuned")
        .layer(Image::open(&top).unwrap())
        .layer(Image::open(demo_image()).unwrap())
        .boot()
        .unwrap();
    assert_eq!(
        output(&vm, &["sh", "-c", "cat /etc/passwd; echo $FROM"]),
        "only:x:0:0::/:/bin/sh\ntop\n"
    );
    assert!(
        output(&vm, &["cat", "/etc/group"]).starts_with("root:"),
        "the lower layer shows through"
    );
}

#[test]
fn an_image_of_one_program_is_given_the_folders_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let vm = vm_of(&build_image(&tree, &[])).boot().unwrap();
    let sh = |script: &str| output(&vm, &["/bin/busybox", "sh", "-c", script]);
    let folders = sh("cd /; busybox stat -c '%a %u %n' proc/1 sys/class dev/pts tmp run etc");
    assert_eq!(
        folders,
        "555 0 proc/1\n755 0 sys/class\n755 0 dev/pts\n1777 0 tmp\n755 0 run\n755 0 etc\n"
    );
    // Later too, should the container have removed it.
    sh("busybox rm -r /etc");
    vm.set_resolver(&Resolver {
        nameservers: vec!["10.0.2.3".parse().unwrap()],
        search: vec![],
    })
    .unwrap();
    assert_eq!(sh("busybox cat /etc/resolv.conf"), "nameserver 10.0.2.3\n");
}
