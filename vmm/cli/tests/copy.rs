//! `shem cp` out of guests whose agent is hostile, broken or slow: a socket of
//! this test stands for the VM.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guest_protocol::{
    Failure, FileMessage, FrameKind, FrameReader, MAX_DATA, MAX_REQUEST, Open, decode, write_data,
    write_message,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tree_archive::{Entry, Kind};

/// A registered VM whose agent answers one request by a function.
struct FakeVm {
    folder: tempfile::TempDir,
    agent: JoinHandle<()>,
    _lock: File,
}

impl FakeVm {
    fn new(answer: impl FnOnce(UnixStream, Open) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        let run = folder.path().join("shem/box");
        fs::create_dir_all(&run).unwrap();
        let lock = File::create(run.join("lock")).unwrap();
        lock.try_lock().unwrap();
        let record = format!(
            r#"{{"pid":1,"image":"i","since":1,"protocol":{}}}"#,
            guest_protocol::VERSION
        );
        fs::write(run.join("vm.json"), record).unwrap();
        let listener = UnixListener::bind(run.join("vsock")).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = [0; 13];
            stream.read_exact(&mut line).unwrap();
            stream.write_all(b"OK 1\n").unwrap();
            let copy = stream.try_clone().unwrap();
            let mut reader = FrameReader::new(copy, MAX_REQUEST);
            let open = decode(reader.read_frame().unwrap().unwrap().body).unwrap();
            answer(stream, open);
        });
        Self {
            folder,
            agent,
            _lock: lock,
        }
    }

    /// One that sends these entries, each file with the content `x`.
    fn sending(entries: Vec<Entry>) -> Self {
        Self::new(move |mut stream, _| {
            write_data(&mut stream, FrameKind::File, &archive(&entries)).unwrap();
            // A command that has seen enough may be gone.
            let _ = write_message(&mut stream, &FileMessage::End);
        })
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_shem"))
            .arg("cp")
            .args(args)
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("SHEM_STORE", self.folder.path())
            .current_dir(self.out())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn cp(&self, args: &[&str]) -> Output {
        self.start(args).wait_with_output().unwrap()
    }

    /// Copies, and expects one line of refusal and nothing anywhere.
    fn refuses(self, args: &[&str], word: &str) {
        let output = self.cp(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        assert!(text.contains(word), "{word:?} is not in {text:?}");
        assert_eq!(names(&self.out()), Vec::<String>::new(), "{text}");
        assert_eq!(names(self.folder.path()), ["out", "shem"], "{text}");
        self.agent.join().unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn entry(path: &str, kind: Kind, link: &str) -> Entry {
    let mut entry = Entry::new(path.as_bytes(), kind);
    entry.mode = 0o6755;
    entry.link = link.into();
    entry
}

/// An archive as no honest agent would make it.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let size = u64::from(entry.kind == Kind::File);
        archive.extend_from_slice(&header(entry, size));
        if size > 0 {
            archive.extend_from_slice(b"x");
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}

/// The header of an entry with `size` bytes of content.
fn header(entry: &Entry, size: u64) -> [u8; 512] {
    let mut header = [0u8; 512];
    header[..entry.path.len()].copy_from_slice(&entry.path);
    header[100..108].copy_from_slice(format!("{:07o}\0", entry.mode).as_bytes());
    header[157..157 + entry.link.len()].copy_from_slice(&entry.link);
    let kind = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Folder => b'5',
        Kind::Fifo => b'6',
    };
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn nothing_is_written_outside_of_the_destination() {
    use Kind::{File as F, Folder, HardLink, Symlink};
    let f = || entry("f", F, "");
    for (entries, word) in [
        (vec![f(), entry("../evil", F, "")], "../evil is refused"),
        (vec![f(), entry("/evil", F, "")], "/evil is refused"),
        (vec![f(), entry("f/../../evil", F, "")], "is refused"),
        // Only what was asked for, even where it would be inside.
        (
            vec![f(), entry(".bashrc", F, "")],
            ".bashrc is refused: it was not asked for",
        ),
        (
            vec![entry("f", Symlink, ".."), entry("f/evil", F, "")],
            "f/evil is refused",
        ),
        (
            vec![
                entry("f", Folder, ""),
                entry("f/l", Symlink, "../.."),
                entry("f/l/evil", F, ""),
            ],
            "f/l/evil is refused",
        ),
        (
            vec![
                entry("f", Folder, ""),
                entry("f/h", HardLink, "f/../../shem/box/vm.json"),
            ],
            "is refused",
        ),
    ] {
        FakeVm::sending(entries).refuses(&["box:/f", "."], word);
    }
}

#[test]
fn rights_and_devices_stay_in_the_guest() {
    let vm = FakeVm::sending(vec![
        entry("f", Kind::Folder, ""),
        entry("f/tool", Kind::File, ""),
        entry("f/disk", Kind::BlockDevice, ""),
        entry("f/link", Kind::Symlink, "/etc/passwd"),
    ]);
    let output = vm.cp(&["box:/f", "."]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 device nodes were left out"), "{text}");
    assert!(text.contains("Copied 3 files, 1 bytes, to ."), "{text}");
    assert_eq!(names(&vm.out().join("f")), ["link", "tool"]);
    let tool = fs::metadata(vm.out().join("f/tool")).unwrap();
    assert_eq!(tool.mode() & 0o7777, 0o755);
    assert_eq!(tool.uid(), nix::unistd::geteuid().as_raw());
}

#[test]
fn folder_does_not_take_the_place_of_a_file() {
    let vm = FakeVm::sending(vec![entry("g", Kind::Folder, "")]);
    fs::write(vm.out().join("g"), "mine").unwrap();
    let output = vm.cp(&["box:/f", "g"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text.contains("it is a folder"), "{text}");
    assert_eq!(fs::read(vm.out().join("g")).unwrap(), b"mine");
}

#[test]
fn vm_that_ends_in_the_middle_leaves_nothing() {
    let vm = FakeVm::new(|mut stream, _| {
        let whole = archive(&[entry("f", Kind::File, "")]);
        write_data(&mut stream, FrameKind::File, &whole[..1024]).unwrap();
    });
    vm.refuses(&["box:/f", "."], "box:/f: the VM ended in the middle");
}

#[test]
fn guest_that_fails_is_quoted_in_one_harmless_line() {
    let vm = FakeVm::new(|mut stream, _| {
        let failure = Failure {
            errno: 5,
            message: "bad\n\x1b[2Jdisk".into(),
        };
        write_message(&mut stream, &FileMessage::Failed(failure)).unwrap();
    });
    vm.refuses(&["box:/f", "."], "box:/f: the VM says: bad??[2Jdisk");
}

/// Copies out of a VM that says when it has answered as far as it will, sends it
/// this signal then, and expects that it ends at once and leaves nothing.
fn ends_by(signal: Signal, status: i32, answer: fn(&mut UnixStream, Sender<()>)) {
    /// Far below the time for which an agent is waited for.
    const AT_ONCE: Duration = Duration::from_secs(30);
    let (answered, wait) = mpsc::channel();
    let vm = FakeVm::new(move |mut stream, open| {
        assert!(matches!(open, Open::ArchiveRead(_)));
        answer(&mut stream, answered);
        // Until the command is gone.
        let _ = stream.read(&mut [0]);
    });
    let child = vm.start(&["box:/f", "."]);
    wait.recv().unwrap();
    let start = Instant::now();
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(start.elapsed() < AT_ONCE);
    assert_eq!(names(&vm.out()), Vec::<String>::new());
    vm.agent.join().unwrap();
}

/// The header of a file that takes for ever to come.
fn begin_file(stream: &mut UnixStream) {
    const SIZE: u64 = 1 << 32;
    let header = header(&entry("f", Kind::File, ""), SIZE);
    write_data(stream, FrameKind::File, &header).unwrap();
}

fn send_part(stream: &mut UnixStream) -> bool {
    write_data(stream, FrameKind::File, &[b'x'; MAX_DATA]).is_ok()
}

/// So much that the command has to have begun with the file.
fn send_some(stream: &mut UnixStream) {
    const MORE_THAN_SOCKETS_HOLD: usize = 16 << 20;
    for _ in 0..MORE_THAN_SOCKETS_HOLD / MAX_DATA {
        assert!(send_part(stream));
    }
}

#[test]
fn signal_in_the_middle_leaves_nothing() {
    ends_by(Signal::SIGTERM, 143, |stream, answered| {
        begin_file(stream);
        send_some(stream);
        answered.send(()).unwrap();
        while send_part(stream) {}
    });
}

#[test]
fn signal_ends_the_copy_from_a_vm_that_fell_silent() {
    ends_by(Signal::SIGINT, 130, |stream, answered| {
        begin_file(stream);
        send_some(stream);
        answered.send(()).unwrap();
    });
}

#[test]
fn signal_ends_the_copy_from_a_vm_that_never_answers() {
    ends_by(Signal::SIGTERM, 143, |_, answered| {
        answered.send(()).unwrap();
    });
}

#[test]
fn vm_of_another_release_is_told_from_a_broken_one() {
    let vm = FakeVm::new(|_, _| {});
    let record = r#"{"pid":1,"image":"i","since":1,"protocol":1}"#;
    fs::write(vm.folder.path().join("shem/box/vm.json"), record).unwrap();
    let output = vm.cp(&["box:/f", "."]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("another release of shem: start it again"),
        "{text}"
    );
}
