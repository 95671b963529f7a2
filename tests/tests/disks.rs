//! Disks and memory of a guest's own, and volumes that have a name.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use e2e_tests::{Shem, with_each_kernel};

with_each_kernel!(a_disk_is_formatted_once_and_kept);

fn shem(kernel: &str, options: &[&str], script: &str) -> e2e_tests::Outcome {
    Shem::run(kernel, options, &["sh", "-c", script]).outcome()
}

/// `--mount`'s text for a disk, with more of it.
fn disk(path: &Path, rest: &str) -> String {
    format!("type=disk,src={},dst=/d{rest}", path.display())
}

fn a_disk_is_formatted_once_and_kept(kernel: &str) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.img");
    let mount = disk(&image, ",size=64m");
    let first = shem(
        kernel,
        &["--mount", &mount],
        "echo kept > /d/f; grep ' /d ' /proc/mounts",
    );
    assert!(first.stdout.contains("ext4"), "{first:?}");
    assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 20);
    let second = shem(kernel, &["--mount", &disk(&image, "")], "cat /d/f");
    assert_eq!(
        (second.status, &*second.stdout),
        (Some(0), "kept\n"),
        "{second:?}"
    );
    let read = shem(
        kernel,
        &["--mount", &disk(&image, ",readonly")],
        "cat /d/f; touch /d/g",
    );
    assert_eq!(read.stdout, "kept\n", "{read:?}");
    assert!(read.stderr.contains("Read-only"), "{read:?}");
}

#[test]
fn image_grows_with_what_is_written_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.qcow2");
    let mount = disk(&image, ",format=qcow2,size=10g");
    let length = || fs::metadata(&image).unwrap().len();
    let write = "dd if=/dev/urandom of=/d/big bs=1M count=10 2>/dev/null; \
                 mkdir /d/many; for i in $(seq 200); do echo $i > /d/many/$i; done; \
                 rm /d/many/1*; df -k /d | tail -n 1 | awk '{print ($2 > 9500000)}'; \
                 cd /d; cat big many/* | sha256sum";
    let first = shem("tuned", &["--cpus", "2", "--mount", &mount], write);
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(first.stdout.starts_with("1\n"), "{first:?}");
    assert!(length() < 100 << 20, "{}", length());

    let mount = disk(&image, ",format=qcow2");
    let read = "echo 1; cd /d; cat big many/* | sha256sum; rm /d/big; sync";
    let second = shem("tuned", &["--mount", &mount], read);
    assert_eq!(second.stdout, first.stdout, "{second:?}");
    let before = length();
    let write = "dd if=/dev/urandom of=/d/new bs=1M count=10 2>/dev/null";
    assert_eq!(shem("tuned", &["--mount", &mount], write).status, Some(0));
    assert!(length() < before + (4 << 20), "its room is used again");

    let mut check = Command::new("qemu-img");
    let checked = check.args(["check", "-f", "qcow2"]).arg(&image).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    shem("tuned", &["--mount", &disk(&image, "")], "true")
        .assert_refused(125, &["d.qcow2", "format qcow2 and not raw"]);
}

#[test]
fn image_of_a_killed_vm_has_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mount = disk(&dir.path().join("d.qcow2"), ",format=qcow2,size=1g");
    let script = "echo kept > /d/f; sync; echo synced; \
                  while :; do dd if=/dev/zero of=/d/big bs=1M count=50 2>/dev/null; done";
    let mut child = Shem::run("tuned", &["--mount", &mount], &["sh", "-c", script]).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "synced");
    child.kill().unwrap();
    child.wait().unwrap();
    let read = "cat /d/f; dd if=/dev/zero of=/d/more bs=1M count=50 2>/dev/null; sync; cat /d/f";
    let outcome = shem("tuned", &["--mount", &mount], read);
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(0), "kept\nkept\n"),
        "{outcome:?}"
    );
}

#[test]
fn room_of_removed_files_goes_back_to_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.img");
    let mount = disk(&image, ",size=256m");
    let used = || fs::metadata(&image).unwrap().blocks() * 512;
    let write = "dd if=/dev/urandom of=/d/big bs=1M count=64 2>/dev/null; sync";
    assert_eq!(shem("tuned", &["--mount", &mount], write).status, Some(0));
    let full = used();
    assert!(full >= 64 << 20, "{full}");
    assert_eq!(
        shem("tuned", &["--mount", &mount], "rm /d/big; sync").status,
        Some(0)
    );
    assert!(used() + (60 << 20) < full, "{} of {full}", used());
}

#[test]
fn full_disk_is_enospc_and_the_vm_lives() {
    let dir = tempfile::tempdir().unwrap();
    let mount = disk(&dir.path().join("d.img"), ",size=8m");
    let script = "dd if=/dev/zero of=/d/big bs=1M count=32; rm /d/big; echo alive";
    let outcome = shem("tuned", &["--mount", &mount], script);
    assert!(outcome.stderr.contains("No space left"), "{outcome:?}");
    assert_eq!(outcome.stdout, "alive\n");
}

#[test]
fn root_on_a_disk_holds_more_than_the_ram() {
    let dir = tempfile::tempdir().unwrap();
    let script = "dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null && wc -c < /big; \
                  df -k / | tail -n 1 | awk '{print ($2 > 900000)}'";
    let mut shem = Shem::run(
        "tuned",
        &["-m", "128m", "--disk-size", "1g"],
        &["sh", "-c", script],
    );
    shem.command().env("TMPDIR", dir.path());
    let outcome = shem.outcome();
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(0), "209715200\n1\n"),
        "{outcome:?}"
    );
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left of it"
    );
}

#[test]
fn root_on_a_file_keeps_its_changes() {
    let dir = tempfile::tempdir().unwrap();
    let root = format!(
        "type=disk,src={},dst=/,size=128m",
        dir.path().join("r.img").display()
    );
    assert_eq!(
        shem(
            "tuned",
            &["--mount", &root],
            "echo new > /etc/new; rm /etc/group"
        )
        .status,
        Some(0)
    );
    let outcome = shem("tuned", &["--mount", &root], "cat /etc/new; ls /etc/group");
    assert_eq!(outcome.stdout, "new\n", "{outcome:?}");
    assert_eq!(outcome.status, Some(1));
}

#[test]
fn memory_has_the_size_that_it_was_given() {
    let options = ["--tmpfs", "/m:size=4m,mode=700", "--tmpfs", "/run"];
    let script =
        "stat -c '%a' /m /run; dd if=/dev/zero of=/m/f bs=1M count=8 2>&1 | grep -c 'No space'";
    let outcome = shem("tuned", &options, script);
    assert_eq!(outcome.stdout, "700\n1777\n1\n", "{outcome:?}");
}

#[test]
fn disk_has_one_user_and_one_size() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d.img");
    shem("tuned", &["--mount", &disk(&image, "")], "true")
        .assert_refused(125, &["d.img", "give its size"]);
    shem("tuned", &["--mount", &disk(&image, ",size=1000")], "true")
        .assert_refused(125, &["d.img", "at least"]);
    assert_eq!(
        shem("tuned", &["--mount", &disk(&image, ",size=8m")], "true").status,
        Some(0)
    );
    shem("tuned", &["--mount", &disk(&image, ",size=9m")], "true")
        .assert_refused(125, &["d.img", "leave the size out"]);
    let lock = fs::File::open(&image).unwrap();
    lock.lock().unwrap();
    shem("tuned", &["--mount", &disk(&image, "")], "true")
        .assert_refused(125, &["d.img", "in use by another VM"]);
    drop(lock);
    fs::write(&image, vec![7; 8 << 20]).unwrap();
    let foreign = shem("tuned", &["--mount", &disk(&image, "")], "true");
    assert_eq!(foreign.status, Some(125), "{foreign:?}");
    assert!(
        foreign.stderr.contains("neither empty nor ext4"),
        "{foreign:?}"
    );
}

#[test]
fn volumes_with_a_name_are_made_listed_used_and_removed() {
    // The store has kernels and the init too.
    let store = tempfile::tempdir().unwrap();
    let real = std::path::PathBuf::from(std::env::var_os("SHEM_STORE").unwrap());
    std::os::unix::fs::symlink(real.join("kernels"), store.path().join("kernels")).unwrap();
    let call = |args: &[&str]| {
        let mut shem = Shem::new(args);
        shem.command().env("SHEM_STORE", store.path());
        shem.outcome()
    };
    let demo = e2e_tests::demo_image();
    let run = |options: &[&str], script: &str| {
        let line = [
            &["run"],
            options,
            &[demo.to_str().unwrap(), "--", "sh", "-c", script],
        ]
        .concat();
        call(&line)
    };
    assert_eq!(
        call(&["volume", "create", "db", "--disk", "16m"]).stdout,
        "db\n"
    );
    let wrote = run(
        &["-v", "data:/data", "-v", "db:/db"],
        "echo a > /data/f; echo b > /db/f",
    );
    assert_eq!(wrote.status, Some(0), "{wrote:?}");
    let listed = call(&["volume", "ls"]);
    assert_eq!(
        listed.stdout,
        "NAME  KIND\ndata  folder\ndb    disk of 16 MiB\n"
    );
    assert_eq!(call(&["volume", "ls", "-q"]).stdout, "data\ndb\n");
    let read = run(&["-v", "data:/x:ro", "-v", "db:/y"], "cat /x/f /y/f");
    assert_eq!(read.stdout, "a\nb\n", "{read:?}");
    let shown: serde_json::Value =
        serde_json::from_str(&call(&["volume", "inspect", "data"]).stdout).unwrap();
    let place = shown[0]["Mountpoint"].as_str().unwrap().to_owned();
    assert_eq!(
        fs::read_to_string(Path::new(&place).join("f")).unwrap(),
        "a\n"
    );

    call(&["volume", "inspect", "none"]).assert_refused(125, &["\"none\"", "shem volume ls"]);
    call(&["volume", "create", "../up"]).assert_refused(125, &["../up", "letters"]);
    call(&["volume", "create", "data", "--disk", "1g"]).assert_refused(125, &["is a folder"]);
    assert_eq!(call(&["volume", "rm", "data", "db"]).stdout, "data\ndb\n");
    assert!(!Path::new(&place).exists());
    call(&["volume", "rm", "data"]).assert_refused(125, &["\"data\""]);
    assert_eq!(call(&["volume", "rm", "-f", "data"]).status, Some(0));
}
