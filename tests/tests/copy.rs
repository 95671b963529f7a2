//! Files between this host and VMs and volumes: `shem cp`, `shem ps`, names.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use e2e_tests::{Outcome, Shem, kernel, with_each_kernel};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

/// Ends what a command of a [`Named`] VM wrote; busybox prints its status there.
const END: &str = "== the end ";

/// A VM started by `shem run --name`, whose shell takes commands.
struct Named {
    name: &'static str,
    user: User,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// A user's run folder and store, of this test alone.
struct User {
    folder: TempDir,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        let packs = kernel("tuned").vmlinux();
        let packs = packs.ancestors().nth(2).unwrap();
        symlink(packs, store.join("kernels")).unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        Self { folder }
    }

    /// `shem ARGS…` of this user.
    fn shem<S: AsRef<OsStr>>(&self, args: &[S]) -> Shem {
        self.adopt(Shem::new(args))
    }

    fn adopt(&self, mut shem: Shem) -> Shem {
        shem.command()
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("SHEM_STORE", self.folder.path().join("store"))
            .current_dir(self.files());
        shem
    }

    fn cp(&self, args: &[&str]) -> Outcome {
        self.shem(&[&["cp"], args].concat()).outcome()
    }

    /// Copies, and expects that it works.
    #[track_caller]
    fn copied(&self, args: &[&str]) {
        let outcome = self.cp(args);
        assert_eq!(outcome.status, Some(0), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.starts_with("Copied "), "{outcome:?}");
    }

    /// Where commands run.
    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }
}

impl Named {
    fn start(name: &'static str, kernel: &str, user: User, options: &[&str]) -> Self {
        let options = [&["--name", name, "-i"], options].concat();
        let mut shem = user.adopt(Shem::run(kernel, &options, &["sh"]));
        shem.command()
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = shem.spawn();
        let mut vm = Self {
            name,
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            user,
        };
        // From here on it is registered.
        vm.sh("true");
        vm
    }

    /// What a script in the guest prints; it has to end well.
    #[track_caller]
    fn sh(&mut self, script: &str) -> String {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{{ {script}\n}}; echo '{END}'$?").unwrap();
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the VM ended after {text:?}");
            if let Some(at) = line.find(END) {
                text += &line[..at];
                assert_eq!(line[at + END.len()..].trim(), "0", "{script}: {text}");
                return text;
            }
            text += &line;
        }
    }

    /// Ends the shell, and with it the VM.
    fn end(mut self) -> User {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.user
    }
}

/// All that matters of a file, as text.
fn look(path: &Path) -> String {
    let data = fs::symlink_metadata(path).unwrap();
    let kind = data.file_type();
    let links = if kind.is_dir() { 0 } else { data.nlink() };
    let (mode, uid, gid) = (data.mode(), data.uid(), data.gid());
    let (seconds, nanos) = (data.mtime(), data.mtime_nsec());
    let mut text = format!(
        "{mode:o} {uid}:{gid} {seconds}.{nanos} {links} {}",
        data.rdev()
    );
    if kind.is_symlink() {
        text += &format!(" -> {:?}", fs::read_link(path).unwrap());
    } else if kind.is_file() {
        text += &format!(" {:?} {:?}", fs::read(path).unwrap(), capability(path));
    }
    text
}

/// Every file below a folder, by name.
fn tree(folder: &Path) -> Vec<(Vec<u8>, String)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes();
            found.push((name.to_vec(), look(&path)));
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The file capabilities, as `getfattr` shows them.
fn capability(path: &Path) -> Vec<u8> {
    let mut value = [0; 64];
    let len = rustix::fs::lgetxattr(path, "security.capability", &mut value[..]).unwrap_or(0);
    value[..len].to_vec()
}

fn make_tree(root: &Path) {
    let long = "d".repeat(150);
    fs::create_dir_all(root.join("sub").join(&long)).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not \xff text\n")), "odd").unwrap();
    fs::write(root.join("sub").join(&long).join("f".repeat(255)), "far").unwrap();
    fs::write(root.join("tool"), vec![7; 300_001]).unwrap();
    fs::hard_link(root.join("tool"), root.join("sub/same")).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    symlink("t".repeat(300), root.join("sub/long-link")).unwrap();
    mkfifo(&root.join("fifo"), Mode::S_IRUSR).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/secret"), "in").unwrap();
    for (name, uid, mode) in [
        ("tool", 1000, 0o4751),
        ("closed/secret", 1234, 0o400),
        ("closed", 1234, 0o500),
        ("sub", 3_000_000, 0o2750),
    ] {
        lchown(root.join(name), Some(uid), Some(uid)).unwrap();
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted.
    let mut value = [0u8; 20];
    (value[3], value[5]) = (2, 0x20);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(root.join("tool"), "security.capability", &value, flags).unwrap();
}

fn tree_copy_is_the_same_after_a_way_in_and_out(kernel: &str) {
    let mut vm = Named::start("box", kernel, User::new(), &[]);
    let files = vm.user.files();
    let from = files.join("tree");
    fs::create_dir(&from).unwrap();
    make_tree(&from);

    vm.user.copied(&["-a", "tree", "box:/data"]);
    let told = vm.sh("stat -c '%a %u %h' /data/tool; readlink /data/link; ls -A /data | wc -l");
    assert_eq!(told, "4751 1000 2\n/etc/passwd\n6\n");
    vm.user.copied(&["-a", "box:/data", "back"]);
    assert_eq!(tree(&files.join("back")), tree(&from));
    assert_eq!(look(&files.join("back")), look(&from));

    // Without -a: root's in there, ours out here, and nobody's rights.
    vm.user.copied(&["tree/tool", "box:/root"]);
    assert_eq!(vm.sh("stat -c '%a %u %g' /root/tool"), "751 0 0\n");
    vm.user.copied(&["box:/data/tool", "mine"]);
    let mine = fs::metadata(files.join("mine")).unwrap();
    assert_eq!((mine.mode() & 0o7777, mine.uid()), (0o751, 0));
    assert_eq!(capability(&files.join("mine")), b"");
    assert_eq!(fs::read_dir(&files).unwrap().count(), 3, "nothing hidden");
    vm.end();
}

with_each_kernel!(tree_copy_is_the_same_after_a_way_in_and_out);

#[test]
fn large_copy_goes_both_ways_byte_for_byte() {
    let mut vm = Named::start("box", "tuned", User::new(), &[]);
    let files = vm.user.files();
    let bytes: Vec<u8> = (0..64 << 20u32)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(files.join("big"), &bytes).unwrap();
    vm.user.copied(&["big", "box:/tmp/"]);
    let sum = std::process::Command::new("sha256sum")
        .arg(files.join("big"))
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(vm.sh("sha256sum /tmp/big")[..64], sum[..64]);
    vm.user.copied(&["box:/tmp/big", "again"]);
    assert!(fs::read(files.join("again")).unwrap() == bytes);
    vm.end();
}

#[test]
fn copy_destinations_mean_what_they_mean_to_docker() {
    let mut vm = Named::start("box", "tuned", User::new(), &[]);
    let files = vm.user.files();
    fs::create_dir(files.join("dir")).unwrap();
    fs::write(files.join("dir/f"), "f").unwrap();
    fs::write(files.join("file"), "file").unwrap();
    vm.sh("mkdir -p /there; ln -s /there /way; echo old > /old");
    for (args, shown, text) in [
        (["file", "box:/new"], "/new", "file"),
        (["file", "box:/old"], "/old", "file"),
        (["file", "box:/way"], "/there/file", "file"),
        (["dir", "box:/made"], "/made/f", "f"),
        (["dir/", "box:/made/"], "/made/dir/f", "f"),
        (["dir/.", "box:there"], "/there/f", "f"),
    ] {
        vm.user.copied(&args);
        assert_eq!(vm.sh(&format!("cat {shown}")), text, "{args:?}");
    }
    vm.sh("mkdir -p /src/deep; echo -n s > /src/deep/s; ln -s src /link");
    for (args, shown) in [
        (["box:/src/deep/s", "out"], "out"),
        (["box:/src/deep/s", "dir/"], "dir/s"),
        (["box:/src", "tree"], "tree/deep/s"),
        (["box:/src", "tree"], "tree/src/deep/s"),
        (["box:/src/.", "dir"], "dir/deep/s"),
        (["box:/link/", "via"], "via/deep/s"),
    ] {
        vm.user.copied(&args);
        assert_eq!(
            fs::read_to_string(files.join(shown)).unwrap(),
            "s",
            "{args:?}"
        );
    }
    vm.user.copied(&["box:/link", "as-link"]);
    assert_eq!(
        fs::read_link(files.join("as-link")).unwrap(),
        Path::new("src")
    );
    vm.user.copied(&["-L", "box:/link", "as-folder"]);
    assert!(files.join("as-folder/deep/s").is_file());

    let before = tree(&files);
    for (args, words) in [
        (
            ["file", "box:/none/"],
            &["box:/none/", "no such folder"][..],
        ),
        (
            ["file", "box:/none/x"],
            &["no such file or folder in the VM"],
        ),
        (["dir", "box:/old"], &["box:/old: not a folder"]),
        (
            ["box:/none", "x"],
            &["box:/none: no such file or folder in the VM"],
        ),
        (["box:/src", "file"], &["file", "it is a folder"]),
        (["box:/old", "none/"], &["none/: no such folder"]),
        (["box:/old", "none/x"], &["none: open the folder"]),
        (["none", "box:/"], &["none: No such file"]),
        (["other:/x", "."], &["no VM named other runs", "box"]),
        (["file", "dir"], &["neither side is in a VM"]),
        (["box:/a", "box:/b"], &["both sides", "shem cp box:/a -"]),
    ] {
        vm.user.cp(&args).assert_refused(125, words);
    }
    assert_eq!(tree(&files), before);
    vm.end();
}

#[test]
fn copy_streams_go_in_and_out() {
    let mut vm = Named::start("box", "tuned", User::new(), &[]);
    let out = vm.user.files().join("out.tar");
    let mut shem = vm.user.shem(&["cp", "box:/etc/passwd", "-"]);
    shem.command().stdout(fs::File::create(&out).unwrap());
    let outcome = shem.outcome();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let listed = std::process::Command::new("tar")
        .arg("tf")
        .arg(&out)
        .output();
    assert_eq!(listed.unwrap().stdout, b"passwd\n");
    vm.sh("mkdir /in");
    let shem = vm.user.shem(&["cp", "-", "box:/in"]);
    let outcome = shem.outcome_with_input(&fs::read(&out).unwrap());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert_eq!(vm.sh("cmp /in/passwd /etc/passwd"), "");
    let shem = vm.user.shem(&["cp", "-", "box:/in"]);
    shem.outcome_with_input(b"no tar")
        .assert_refused(125, &["box:/in", "cut short"]);
    assert_eq!(vm.sh("ls -A /in"), "passwd\n");
    vm.end();
}

/// A file as tar(1) packs it.
fn archive_of(folder: &Path, name: &str) -> Vec<u8> {
    let mut tar = std::process::Command::new("tar");
    tar.args(["c", "-C"]).arg(folder).arg(name);
    tar.output().unwrap().stdout
}

#[test]
fn copy_that_is_killed_leaves_nothing_in_the_vm() {
    let mut vm = Named::start("box", "tuned", User::new(), &[]);
    let files = vm.user.files();
    fs::write(files.join("data"), vec![1; 4 << 20]).unwrap();
    let archive = archive_of(&files, "data");
    vm.sh("mkdir /in");
    let mut shem = vm.user.shem(&["cp", "-", "box:/in"]);
    shem.command().stdin(Stdio::piped());
    let mut child = shem.spawn();
    let mut stdin = child.stdin.take().unwrap();
    // More than all buffers on the way hold, so that the agent has begun.
    stdin.write_all(&archive[..3 << 20]).unwrap();
    assert_ne!(vm.sh("ls -A /in"), "");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    // It ends when the agent has noticed.
    vm.sh("while [ -n \"$(ls -A /in)\" ]; do :; done");
    vm.user.copied(&["data", "box:/in"]);
    assert_eq!(vm.sh("ls -A /in"), "data\n");
    vm.end();
}

#[test]
fn copy_into_a_full_vm_says_so_and_keeps_what_it_had() {
    let options = ["--tmpfs", "/small:size=1m"];
    let mut vm = Named::start("box", "tuned", User::new(), &options);
    fs::write(vm.user.files().join("data"), vec![1; 4 << 20]).unwrap();
    vm.sh("echo -n old > /small/data");
    vm.user
        .cp(&["data", "box:/small"])
        .assert_refused(125, &["box:/small", "no room left in the VM"]);
    assert_eq!(vm.sh("cat /small/data; ls -A /small"), "olddata\n");
    vm.end();
}

#[test]
fn vms_to_copy_from_have_names_of_their_own() {
    let vm = Named::start("box", "tuned", User::new(), &[]);
    let listed = vm.user.shem(&["ps"]).outcome().stdout;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("NAME"), "{listed}");
    assert!(
        lines[1].starts_with(vm.name) && lines[1].contains("demo.gvmi"),
        "{listed}"
    );
    let pid = vm.child.id();
    let second = vm
        .user
        .adopt(Shem::run("tuned", &["--name", "box"], &["true"]));
    let words = ["a VM named box runs already", &pid.to_string(), "--name"];
    second.outcome().assert_refused(125, &words);
    // Nobody has to choose a name.
    let unnamed = vm.user.adopt(Shem::run("tuned", &[], &["true"]));
    assert_eq!(unnamed.outcome().status, Some(0));
    let user = vm.end();
    assert_eq!(user.shem(&["ps", "-q"]).outcome().stdout, "");
    assert_eq!(
        fs::read_dir(user.folder.path().join("shem"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn copy_knows_no_vm_that_was_killed() {
    let mut vm = Named::start("box", "tuned", User::new(), &[]);
    vm.child.kill().unwrap();
    vm.child.wait().unwrap();
    let outcome = vm.user.cp(&["box:/etc", "x"]);
    outcome.assert_refused(125, &["no VM named box runs", "none runs"]);
    let again = vm
        .user
        .adopt(Shem::run("tuned", &["--name", "box"], &["true"]));
    assert_eq!(again.outcome().status, Some(0));
}

#[test]
fn copy_reaches_volumes_that_no_vm_has() {
    let user = User::new();
    let files = user.files();
    fs::create_dir_all(files.join("tree/sub")).unwrap();
    fs::write(files.join("tree/sub/file"), "kept").unwrap();
    lchown(files.join("tree/sub/file"), Some(1234), Some(5678)).unwrap();
    for create in [
        &["volume", "create", "data"][..],
        &["volume", "create", "--disk", "64m", "disk"],
    ] {
        assert_eq!(user.shem(create).outcome().status, Some(0));
        let name = create[create.len() - 1];
        user.copied(&["-a", "tree/.", &format!("volume:{name}:/")]);
        let mount = format!("{name}:/data");
        let options = ["-v", &mount];
        let script = "stat -c '%u %g' /data/sub/file; cat /data/sub/file; ls -A /data";
        let run = user.adopt(Shem::run("tuned", &options, &["sh", "-c", script]));
        let outcome = run.outcome();
        let told = outcome.stdout.replace("lost+found\n", "");
        assert_eq!(told, "1234 5678\nkeptsub\n", "{outcome:?}");
        let back = format!("back-{name}");
        user.copied(&["-a", &format!("volume:{name}:sub"), &back]);
        assert_eq!(tree(&files.join(&back)), tree(&files.join("tree/sub")));
    }
    // Names of both kinds are told apart.
    user.cp(&["data:/sub", "x"])
        .assert_refused(125, &["no VM named data runs", "volume:data:PATH"]);
    user.cp(&["volume:none:/", "x"])
        .assert_refused(125, &["none"]);
}

#[test]
fn copy_into_a_volume_that_a_signal_ends_leaves_nothing_there() {
    let user = User::new();
    fs::write(user.files().join("data"), vec![1; 4 << 20]).unwrap();
    let archive = archive_of(&user.files(), "data");
    let create = user.shem(&["volume", "create", "v"]).outcome();
    assert_eq!(create.status, Some(0), "{create:?}");
    let volume = user.folder.path().join("store/volumes/v/data");
    let mut shem = user.shem(&["cp", "-", "volume:v:/"]);
    shem.command().stdin(Stdio::piped());
    let mut child = shem.spawn();
    let mut stdin = child.stdin.take().unwrap();
    // As above; the rest never comes.
    stdin.write_all(&archive[..3 << 20]).unwrap();
    assert_ne!(tree(&volume), []);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(stdin);
    assert_eq!(tree(&volume), []);
    user.copied(&["data", "volume:v:/"]);
}
