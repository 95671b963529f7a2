//! Folders of the host in a guest: what either side writes the other sees,
//! owners are what the mode says, and nothing outside is reached.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use e2e_tests::{
    Folder, Shem, build_image, builder, demo_image, image_of_programs, output, vm, with_each_kernel,
};
use shem::{Cache, Command, Image, STOP_GRACE, SharedFolder, Volume};

const ROOM: u64 = 64 << 20;

with_each_kernel!(a_folder_is_shared_in_both_directions);

fn a_folder_is_shared_in_both_directions(kernel: &str) {
    let folder = Folder::of(ROOM);
    fs::write(folder.join("from-host"), "hello guest\n").unwrap();
    let vm = builder(kernel)
        .layer(Image::open(demo_image()).unwrap())
        .volume(Volume::new(SharedFolder::new(folder.path()), "/data"))
        .boot()
        .unwrap();
    assert_eq!(output(&vm, &["cat", "/data/from-host"]), "hello guest\n");
    output(&vm, &["sh", "-c", "echo hello host > /data/from-guest"]);
    assert_eq!(
        fs::read_to_string(folder.join("from-guest")).unwrap(),
        "hello host\n"
    );
    // While the guest has it mounted.
    fs::write(folder.join("from-host"), "changed\n").unwrap();
    fs::write(folder.join("later"), "new\n").unwrap();
    assert_eq!(
        output(&vm, &["sh", "-c", "cat /data/from-host /data/later"]),
        "changed\nnew\n"
    );
    fs::remove_file(folder.join("later")).unwrap();
    assert_eq!(output(&vm, &["ls", "/data"]), "from-guest\nfrom-host\n");
    vm.stop(STOP_GRACE);
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let folder = Folder::of(ROOM);
    fs::write(folder.join("f"), "kept").unwrap();
    let script = "cat /v/f; echo; echo no > /v/f; rm /v/f; mkdir /v/d; mount -o remount,rw /v; \
                  touch /v/new; chmod 0 /v/f; echo done";
    let outcome = Shem::run("tuned", &["-v", &folder.at("/v:ro")], &["sh", "-c", script]).outcome();
    assert_eq!(outcome.stdout, "kept\ndone\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        5,
        "{outcome:?}"
    );
    assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn one_name_too_many_is_an_error_of_its_own() {
    /// ext4's limit of names for a file.
    const MOST: usize = 65_000;
    let folder = Folder::of(ROOM);
    let file = folder.join("f");
    fs::write(&file, "").unwrap();
    // The host's part, as a guest would take an hour for it.
    for number in 1..MOST {
        fs::hard_link(&file, folder.join(&number.to_string())).unwrap();
    }
    let script = "ln /v/f /v/more; stat -c %h /v/f; rm /v/7; ln /v/f /v/more; stat -c %h /v/f";
    let outcome = Shem::run("tuned", &["-v", &folder.at("/v")], &["sh", "-c", script]).outcome();
    outcome.assert_ok("65000\n65000\n");
    assert_eq!(
        outcome.stderr.matches("Too many links").count(),
        1,
        "{outcome:?}"
    );
}

/// What the guest is told and what the host has, after the guest made a file
/// of user 7 with a set-user-id bit and a device node.
fn owners(option: &str) -> (Folder, String) {
    let folder = Folder::of(ROOM);
    fs::write(folder.join("hosts"), "x").unwrap();
    chown(folder.join("hosts"), Some(1234), Some(1234)).unwrap();
    let script = "cd /v && echo x > f && chown 7:8 f && chmod 4751 f && mknod dev c 5 1; \
                  mkfifo pipe; stat -c '%n %u:%g %a %F' *";
    let volume = folder.at(&format!("/v{option}"));
    let outcome = Shem::run("tuned", &["-v", &volume], &["sh", "-c", script]).outcome();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    (folder, outcome.stdout)
}

#[test]
fn as_is_the_users_of_the_guest_are_the_hosts() {
    let (folder, seen) = owners(",owner=as-is");
    assert_eq!(
        seen,
        "dev 0:0 644 character special file\nf 7:8 4751 regular file\n\
         hosts 1234:1234 644 regular file\npipe 0:0 644 fifo\n"
    );
    let file = fs::metadata(folder.join("f")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (7, 8, 0o4751)
    );
    assert_eq!(
        fs::metadata(folder.join("dev")).unwrap().mode() & 0o170000,
        0o20000
    );
}

#[test]
fn mapped_owners_are_recorded_and_the_files_stay_ours() {
    let (folder, seen) = owners(",owner=mapped");
    let all = "dev 0:0 644 character special file\nf 7:8 4751 regular file\n\
               hosts 0:0 644 regular file\npipe 0:0 644 fifo\n";
    assert_eq!(seen, all);
    let file = fs::metadata(folder.join("f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7000), (0, 0, 0));
    assert!(fs::metadata(folder.join("dev")).unwrap().is_file());
    // Another VM reads the record; what has none is whose we say.
    let again = Shem::run(
        "tuned",
        &["-v", &folder.at("/v,owner=mapped"), "--volume-uid", "33"],
        &["sh", "-c", "cd /v; stat -c '%n %u:%g %a' f hosts"],
    );
    assert_eq!(again.outcome().stdout, "f 7:8 4751\nhosts 33:33 644\n");
}

#[test]
fn mapped_owners_need_a_place_and_it_is_said_when_there_is_none() {
    let folder = Folder::without_attributes();
    let volume = folder.at("/v,owner=mapped");
    let script = "cd /v && echo x > f && stat -c '%u:%g' f; chown 7 f";
    let outcome = Shem::run("tuned", &["-v", &volume], &["sh", "-c", script]).outcome();
    assert_eq!(outcome.stdout, "0:0\n", "{outcome:?}");
    assert!(
        outcome.stderr.contains("keeps no extended attributes"),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{outcome:?}"
    );
}

#[test]
fn squashed_files_belong_to_one_user() {
    let folder = Folder::of(ROOM);
    let script = "cd /v && echo x > f; chown 7 f; stat -c '%u:%g' f";
    let volume = folder.at("/v,owner=squash");
    let options = ["-v", &volume, "--volume-uid", "5:6"];
    let outcome = Shem::run("tuned", &options, &["sh", "-c", script]).outcome();
    assert_eq!(outcome.stdout, "5:6\n", "{outcome:?}");
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{outcome:?}"
    );
    assert_eq!(fs::metadata(folder.join("f")).unwrap().uid(), 0);
}

#[test]
fn links_lead_nowhere_on_the_host() {
    let folder = Folder::of(ROOM);
    let canary = tempfile::NamedTempFile::new().unwrap();
    fs::write(canary.path(), "canary").unwrap();
    fs::create_dir(folder.join("share")).unwrap();
    symlink(canary.path(), folder.join("share/planted")).unwrap();
    symlink("../..", folder.join("share/up")).unwrap();
    let script = format!(
        "cd /v; cat planted; echo no > planted; cat up/disk; ln -s {0} mine; cat mine; \
         echo no > mine; cat ../{0}; ls up | grep -c etc",
        canary.path().display()
    );
    let volume = format!("{}:/v", folder.join("share").display());
    let outcome = Shem::run("tuned", &["-v", &volume], &["sh", "-c", &script]).outcome();
    // In the guest they lead to places of the guest.
    assert!(!outcome.stdout.contains("canary"), "{outcome:?}");
    assert_eq!(fs::read_to_string(canary.path()).unwrap(), "canary");
}

#[test]
fn volumes_lie_in_each_other_and_behind_links_of_the_image() {
    let (outer, inner) = (Folder::of(ROOM), Folder::of(ROOM));
    fs::write(outer.join("f"), "outer\n").unwrap();
    fs::write(inner.join("f"), "inner\n").unwrap();
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("root/real")).unwrap();
    symlink("/real", tree.path().join("root/link")).unwrap();
    let top = build_image(&tree.path().join("root"), &[]);
    let vm = builder("tuned")
        .layer(Image::open(&top).unwrap())
        .layer(Image::open(demo_image()).unwrap())
        .volume(Volume::new(SharedFolder::new(inner.path()), "/link/a/b"))
        .volume(Volume::new(SharedFolder::new(outer.path()), "/link/a/"))
        .boot()
        .unwrap();
    assert_eq!(
        output(&vm, &["cat", "/real/a/f", "/real/a/b/f"]),
        "outer\ninner\n"
    );
    assert!(
        outer.join("b").is_dir(),
        "the mount point was made in the outer one"
    );
    vm.stop(STOP_GRACE);
}

/// An image with a `VOLUME /data` that has something in it.
fn image_with_a_volume(dir: &std::path::Path) -> std::path::PathBuf {
    let data = dir.join("root/data");
    fs::create_dir_all(data.join("d")).unwrap();
    fs::write(data.join("d/f"), "from the image\n").unwrap();
    fs::set_permissions(data.join("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(data.join("d/f"), Some(7), Some(8)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    chown(&data, Some(9), Some(9)).unwrap();
    build_image(&dir.join("root"), &["--volume", "/data"])
}

#[test]
fn empty_volume_gets_what_the_image_has_there() {
    let dir = tempfile::tempdir().unwrap();
    let image = image_with_a_volume(dir.path());
    let look = |options: &[&str]| {
        let demo = demo_image();
        let mut options = options.to_vec();
        options.extend(["--entrypoint", "sh"]);
        let mut shem = Shem::new(&["run", "--kernel", "tuned"]);
        shem.command().args(options).arg(&image).arg(demo).args([
            "--",
            "-c",
            "cd /data && cat d/f; stat -c '%n %u:%g %a' . d/f 2>/dev/null",
        ]);
        shem.outcome()
    };
    let full = "from the image\n. 9:9 750\nd/f 7:8 640\n";
    for owner in ["as-is", "mapped"] {
        let folder = Folder::of(ROOM);
        let volume = folder.at(&format!("/data,owner={owner}"));
        assert_eq!(look(&["-v", &volume]).stdout, full, "{owner}");
        // What is there is not filled again.
        fs::write(folder.join("d/f"), "mine\n").unwrap();
        assert!(
            look(&["-v", &volume]).stdout.starts_with("mine\n"),
            "{owner}"
        );
    }
    let folder = Folder::of(ROOM);
    let empty = look(&["-v", &folder.at("/data:nocopy")]);
    assert!(!empty.stdout.contains("image"), "{empty:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn full_folder_is_the_guests_enospc_and_the_vm_lives() {
    let folder = Folder::of(16 << 20);
    let script = "dd if=/dev/zero of=/v/big bs=1M count=64; rm /v/big; echo alive > /v/f; cat /v/f";
    for cache in ["coherent", "exclusive"] {
        let volume = folder.at(&format!("/v:cache={cache}"));
        let outcome = Shem::run("tuned", &["-v", &volume], &["sh", "-c", script]).outcome();
        assert!(
            outcome.stderr.contains("No space left on device"),
            "{cache}: {outcome:?}"
        );
        assert_eq!(outcome.stdout, "alive\n", "{cache}");
    }
}

#[test]
fn folder_that_goes_away_is_an_error_of_the_guest_only() {
    let folder = Folder::of(ROOM);
    let share = folder.join("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("f"), "old").unwrap();
    let vm = vm()
        .volume(Volume::new(SharedFolder::new(&share), "/v"))
        .boot()
        .unwrap();
    assert_eq!(output(&vm, &["cat", "/v/f"]), "old");
    fs::rename(&share, folder.join("moved")).unwrap();
    fs::create_dir(&share).unwrap();
    fs::write(share.join("f"), "somebody else's").unwrap();
    assert_eq!(
        output(&vm, &["cat", "/v/f"]),
        "old",
        "it is the folder that was given"
    );
    fs::remove_dir_all(folder.join("moved")).unwrap();
    let (said, _) = e2e_tests::run(
        &vm,
        &Command::new(["sh", "-c", "cat /v/f; touch /v/g; ls /v; echo alive"]),
    );
    assert!(said.ends_with("alive\n"), "{said}");
    assert!(!said.contains("somebody"), "{said}");
    vm.stop(STOP_GRACE);
}

#[test]
fn two_vms_see_each_others_writes_and_locks() {
    let folder = Folder::of(ROOM);
    let dir = tempfile::tempdir().unwrap();
    let programs = image_of_programs(dir.path(), &["/usr/bin/flock"]);
    let boot = || {
        let shared = SharedFolder::new(folder.path());
        builder("tuned")
            .layer(Image::open(&programs).unwrap())
            .layer(Image::open(demo_image()).unwrap())
            .volume(Volume::new(shared, "/v"))
            .boot()
            .unwrap()
    };
    let (one, two) = (boot(), boot());
    output(&one, &["sh", "-c", "echo 1 > /v/f"]);
    assert_eq!(output(&two, &["cat", "/v/f"]), "1\n");
    output(&two, &["sh", "-c", "echo 22 > /v/f"]);
    assert_eq!(output(&one, &["cat", "/v/f"]), "22\n");

    // The holder tells when it has the lock, and keeps it until its input ends.
    let hold = Command::new(["flock", "/v/lock", "sh", "-c", "echo locked; cat"]).stdin(true);
    let mut holder = one.exec(&hold).unwrap();
    let shem::Event::Stdout(said) = holder.next_event().unwrap() else {
        panic!("it says that it has the lock");
    };
    assert_eq!(said, b"locked\n");
    let try_it = Command::new(["flock", "-n", "/v/lock", "echo", "mine"]);
    assert_eq!(e2e_tests::run(&two, &try_it).1, shem::ExitStatus::Code(1));
    // One that waits gets it when it is free.
    let waiter = two
        .exec(&Command::new(["flock", "/v/lock", "echo", "mine"]))
        .unwrap();
    holder.stdin().close().unwrap();
    assert_eq!(e2e_tests::collect(holder).1, shem::ExitStatus::Code(0));
    assert_eq!(
        e2e_tests::collect(waiter),
        ("mine\n".into(), shem::ExitStatus::Code(0))
    );
    one.stop(STOP_GRACE);
    two.stop(STOP_GRACE);
}

#[test]
fn guest_that_opens_too_much_is_told_so() {
    let folder = Folder::of(ROOM);
    let script = "mkdir /v/d; i=0; while [ $i -lt 700 ]; do : > /v/d/$i || exit 9; i=$((i+1)); done; \
                  ls /v/d | wc -l; find /v -type f | wc -l; \
                  i=3; while [ $i -lt 400 ]; do eval \"exec $i< /v/d/$i\" || exit 7; i=$((i+1)); done";
    let mut shem = Shem::run("tuned", &["-v", &folder.at("/v")], &["sh", "-c", script]);
    let limited = {
        let inner = shem.command();
        let mut limited = std::process::Command::new("sh");
        limited
            .args(["-c", "ulimit -n 512 && exec \"$@\"", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .output()
            .unwrap()
    };
    let outcome = e2e_tests::Outcome::of(limited);
    assert!(outcome.stdout.starts_with("700\n700\n"), "{outcome:?}");
    assert_ne!(
        outcome.status,
        Some(9),
        "files that are closed cost nothing"
    );
    assert!(
        outcome.stderr.contains("Too many open files in system"),
        "{outcome:?}"
    );
}

#[test]
fn guest_reads_ahead_on_a_folder_as_much_as_one_request_takes() {
    let folder = Folder::of(ROOM);
    let vm = vm()
        .volume(Volume::new(SharedFolder::new(folder.path()), "/v"))
        .boot()
        .unwrap();
    let script = "cat /sys/class/bdi/0:*/read_ahead_kb";
    assert_eq!(output(&vm, &["sh", "-c", script]), "1024\n");
    vm.stop(STOP_GRACE);
}

#[test]
fn exclusive_folder_is_written_back_at_the_end() {
    let folder = Folder::of(ROOM);
    let shared = SharedFolder::new(folder.path()).cache(Cache::Exclusive);
    let vm = vm().volume(Volume::new(shared, "/v")).boot().unwrap();
    output(
        &vm,
        &["sh", "-c", "for i in 1 2 3; do echo $i >> /v/f; done; sync"],
    );
    assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "1\n2\n3\n");
    output(&vm, &["sh", "-c", "echo 4 >> /v/f"]);
    vm.stop(STOP_GRACE);
    assert_eq!(
        fs::read_to_string(folder.join("f")).unwrap(),
        "1\n2\n3\n4\n"
    );
}

#[test]
fn exclusive_folder_lists_what_it_holds_while_others_list_it_too() {
    let folder = Folder::of(ROOM);
    fs::create_dir(folder.join("d")).unwrap();
    // Several parts of a listing.
    for number in 100..220 {
        fs::write(
            folder.join(&format!("d/a-name-of-some-length-{number}")),
            "",
        )
        .unwrap();
    }
    let script = "cd /v; mkdir e
        for _ in 1 2; do (while ! test -e /stop; do ls d; done >/dev/null 2>&1) & done
        wrong=0
        for _ in $(seq 30); do for number in 110 140 170 200 219; do
            name=a-name-of-some-length-$number
            mv d/$name e; case \"$(ls d)\" in *$name*) wrong=$((wrong + 1));; esac
            mv e/$name d; case \"$(ls d)\" in *$name*) ;; *) wrong=$((wrong + 1));; esac
        done; done 2>/dev/null
        : > /stop; wait; echo $wrong wrong";
    let volume = folder.at("/v:cache=exclusive");
    let outcome = Shem::run("tuned", &["-v", &volume], &["sh", "-c", script]).outcome();
    assert_eq!(outcome.stdout, "0 wrong\n", "{outcome:?}");
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let folder = Folder::of(ROOM);
    fs::write(folder.join("file"), "").unwrap();
    let refused = |options: &[&str], words: &[&str]| {
        Shem::run("tuned", options, &["true"])
            .outcome()
            .assert_refused(125, words);
    };
    refused(&["-v", "/no/such:/v"], &["/no/such", "create it first"]);
    refused(
        &["-v", &format!("{}:/v", folder.join("file").display())],
        &["file", "not a folder"],
    );
    refused(
        &["-v", &folder.at("/v"), "-v", &folder.at("/v/")],
        &["two volumes at \"/v\""],
    );
    refused(&["-v", &folder.at("v")], &["absolute"]);
    refused(&["-v", &folder.at("/a/../b")], &[".."]);
    refused(&["-v", &folder.at("/")], &["use a disk"]);
    refused(
        &["-v", &folder.at("/v"), "--volume-uid", "5"],
        &["--volume-uid", "owner=mapped"],
    );
    for (option, text, word) in [
        ("-v", "/a", "HOST:GUEST"),
        ("-v", "a:/b:q", "unknown option"),
        ("--mount", "type=disk,src=x,dst=/d,size=huge", "size"),
        ("--disk-size", "many", "--disk-size"),
    ] {
        let outcome = Shem::run("tuned", &[option, text], &["true"]).outcome();
        assert_eq!(outcome.status, Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}
