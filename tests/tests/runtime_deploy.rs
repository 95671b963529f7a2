//! What the runtime for exe-unit deploys: volumes, disks, and what it refuses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use e2e_tests::{Activity, Call, Folder, Unprivileged, build_image, demo_image};
use tempfile::TempDir;

#[test]
fn volumes_are_shared_while_the_vm_runs_and_the_folder_is_used_again() {
    let words = ["--volume", "/golem/work", "--volume", "/seeded"];
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("top");
    fs::create_dir_all(tree.join("seeded")).unwrap();
    fs::write(tree.join("seeded/of-image"), "seed").unwrap();
    let top = build_image(&tree, &words);
    let activity = Activity::new(dir.path(), &[&top, &demo_image()]);
    let wishes = r#"{"/":{"storage":{"size":"100.7 MB","preallocate":"1mi","errors":"continue"}},"/golem/out":{"host":{}},"/ram":{"ram":{"size":"1.6 MB"}},"/disk":{"storage":{"size":"10.7 MB","errors":"panic"}}}"#;
    let mut names = Vec::new();
    for round in 0..2 {
        let told = activity.deployed(&["--volume-override", wishes, "--hostname", "myhost"]);
        let vols = told["vols"].as_array().unwrap();
        let paths: Vec<_> = vols
            .iter()
            .map(|vol| vol["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["/golem/work", "/seeded", "/golem/out"]);
        names.extend(
            vols.iter()
                .map(|vol| vol["name"].as_str().unwrap().to_owned()),
        );
        let work = activity.volume(&told, "/golem/work");
        fs::write(work.join("early"), "before the start").unwrap();
        let mut runtime = activity.started();
        assert_eq!(runtime.output("hostname"), "myhost\n");
        assert_eq!(runtime.output("cat /golem/work/early"), "before the start");
        assert_eq!(runtime.output("cat /seeded/of-image"), "seed");
        // A transfer into the live volume, in exe-unit's manner: over the old file.
        for text in ["first", "second, and longer", "3"] {
            fs::write(work.join("in"), text).unwrap();
            assert_eq!(runtime.output("cat /golem/work/in"), text);
        }
        // What a run wrote is in the host's file when its end is told.
        runtime.output(
            "mkdir /golem/out/d && echo result > /golem/out/d/file && chown 7:8 /golem/out/d",
        );
        let out = activity.volume(&told, "/golem/out");
        assert_eq!(fs::read_to_string(out.join("d/file")).unwrap(), "result\n");
        assert_eq!(runtime.output("stat -c %u:%g /golem/out/d"), "7:8\n");
        assert_eq!(
            runtime.output("stat -c %a /ram; df -k / /ram /disk | awk 'NR>1 {print ($2 > 1000)}'"),
            "700\n1\n1\n1\n"
        );
        let mounts = runtime.output("grep -E ' (/|/ram|/disk) ' /proc/mounts");
        assert!(
            mounts.contains("overlay / overlay") && mounts.contains("/disk ext4"),
            "{mounts}"
        );
        assert_eq!(
            runtime.output("ls /disk /ram | grep -v lost.found | wc -l"),
            "3\n",
            "round {round}"
        );
        runtime.output("echo kept > /disk/kept; head -c 5000000 /dev/zero > /root-file; sync");
        runtime.shut_down();
        // What was deployed starts again, with its disks.
        let mut runtime = activity.started();
        assert_eq!(
            runtime.output("cat /disk/kept; wc -c < /root-file"),
            "kept\n5000000\n"
        );
        runtime.shut_down();
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6, "each deployment has names of its own");
}

#[test]
fn room_in_the_work_folder_is_that_which_is_used() {
    let (_dir, mut activity) = Activity::configured(&[]);
    activity.caps[5] = "8".into();
    activity.deployed(&[
        "--volume-override",
        r#"{"/disk":{"storage":{"size":"50gi"}}}"#,
    ]);
    let mut runtime = activity.started();
    assert_eq!(
        runtime.output("df -k / | awk 'NR==2 {print ($2 > 7000000)}'"),
        "1\n",
        "--storage-gib"
    );
    runtime.output(
        "head -c 20000000 /dev/urandom > /file; head -c 20000000 /dev/urandom > /disk/file; sync",
    );
    let apparent = apparent_size(&activity.workdir);
    assert!(
        (20_000_000..200_000_000).contains(&apparent),
        "{apparent} bytes"
    );
    runtime.shut_down();
    assert!(apparent_size(&activity.workdir) < 200_000_000);
}

/// As exe-unit counts it.
fn apparent_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let data = entry.metadata().unwrap();
            if data.is_dir() {
                apparent_size(&entry.path())
            } else {
                data.len()
            }
        })
        .sum()
}

#[test]
fn what_cannot_be_deployed_or_started_is_refused_in_one_line() {
    let (_dir, activity) = Activity::configured(&["--volume", "/data"]);
    for (options, word) in [
        (
            ["--volume-override", r#"{"/":{"host":{}}}"#],
            "Volume of type `host` specified for path=\"/\"",
        ),
        (["--volume-override", "nonsense"], "--volume-override"),
        (["--volume-override", r#"{"/x":{"cloud":{}}}"#], "cloud"),
        (["--cpu-cores", "0"], "--cpu-cores"),
        (["--pci-device", "0000:01:00.0"], "no plugin"),
    ] {
        activity
            .deploy(&options)
            .outcome()
            .assert_refused_by_runtime(word);
    }
    let missing = |file: &str| {
        let mut other = activity.clone();
        other.images = vec![PathBuf::from(file)];
        other.deploy(&[]).outcome()
    };
    missing("/nonexistent.gvmi").assert_refused_by_runtime("/nonexistent.gvmi");
    missing("/bin/sh").assert_refused_by_runtime("/bin/sh");
    let mut other = activity.clone();
    other.workdir = "/nonexistent".into();
    let mut call = other.deploy(&[]);
    call.command().current_dir("/");
    call.outcome().assert_refused_by_runtime("/nonexistent");
    activity
        .start(&[], &[])
        .outcome()
        .assert_refused_by_runtime("`deploy`");
    assert_eq!(
        fs::read_dir(&activity.workdir).unwrap().count(),
        1,
        "only logs are there"
    );
    activity.deployed(&[]);
    let image = &activity.images[0];
    let mut bytes = fs::read(image).unwrap();
    bytes[8] ^= 1;
    fs::write(image, &bytes).unwrap();
    activity
        .start(&[], &[])
        .outcome()
        .assert_refused_by_runtime("deploy again");
    let file = activity.workdir.join("deployment.json");
    fs::write(&file, r#"{"cpu_cores":2,"mem_mib":512}"#).unwrap();
    activity
        .start(&[], &[])
        .outcome()
        .assert_refused_by_runtime("is damaged");
    activity
        .start(&["--vpn-endpoint", "x"], &[])
        .outcome()
        .assert_refused_by_runtime("is damaged");
    let outcome = Call::new(&["run", "/bin/sh"]).outcome();
    outcome.assert_refused_by_runtime("CLI `run` is not supported");
}

#[test]
fn provider_without_rights_keeps_the_files_and_the_guest_its_owners() {
    let (user, folder) = (Unprivileged::new(), Folder::of(64 << 20));
    let activity = user.activity(&folder);
    let told = activity.deployed(&["--volume-override", r#"{"/golem/work":{"host":{}}}"#]);
    let work = activity.volume(&told, "/golem/work");
    fs::write(work.join("in"), "from the host").unwrap();
    let mut runtime = activity.started();
    let script = "cd /golem/work; cat in; echo out > out; chown 7:8 out; chmod 4711 out; stat -c %u:%g:%a out in";
    assert_eq!(runtime.output(script), "from the host7:8:4711\n0:0:644\n");
    let out = fs::metadata(work.join("out")).unwrap();
    assert_eq!(out.uid(), activity.workdir.metadata().unwrap().uid());
    assert_eq!(fs::read_to_string(work.join("out")).unwrap(), "out\n");
    runtime.shut_down();
}

#[test]
fn work_folder_that_is_full_is_an_error_of_deploy() {
    let (_dir, mut activity) = Activity::configured(&["--volume", "/data"]);
    let folder = Folder::of(4 << 20);
    activity.workdir = folder.path().to_owned();
    fs::create_dir(folder.join("logs")).unwrap();
    let wish = r#"{"/disk":{"storage":{"size":"1gi","preallocate":"8mi"}}}"#;
    activity
        .deploy(&["--volume-override", wish])
        .outcome()
        .assert_refused_by_runtime("No space left on device");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
