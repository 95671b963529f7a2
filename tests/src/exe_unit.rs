//! What Golem's exe-unit is to a runtime: it calls its verbs, talks frames to it,
//! and breaks where the rules of golem-runtime, section 2, are broken. Messages are
//! read and written here by hand, from the contract, so that the runtime's own idea of
//! them is tested too.

mod wire;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, CommandArgs, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tempfile::TempDir;

pub use self::wire::{bytes, number, text};
use self::wire::{decode, read_varint, varint};
use crate::{LIMIT, Outcome, build_image, demo_image, runtime};

/// A verb of the runtime with the options that exe-unit gives it.
pub struct Call {
    command: Command,
}

/// A work folder, an image or several, and what an activity costs.
#[derive(Clone)]
pub struct Activity {
    /// Where all of it is.
    pub workdir: PathBuf,
    /// Images, the top one first.
    pub images: Vec<PathBuf>,
    /// CPUs and GiB of memory and storage, as options.
    pub caps: Vec<String>,
    /// Whose it is, when not ours.
    pub provider: Option<Provider>,
}

/// A user who has an installation of their own.
#[derive(Clone)]
pub struct Provider {
    /// The runtime's program.
    pub program: PathBuf,
    /// Variables of the environment.
    pub env: Vec<(&'static str, PathBuf)>,
    /// User and group, when not ours.
    pub user: Option<u32>,
}

/// A runtime whose VM is up, as exe-unit has it.
pub struct Runtime {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    buffer: Vec<u8>,
    next_id: u64,
    /// Requests that were not answered yet.
    asked: HashSet<u64>,
    /// Answers that came while something else was waited for.
    answers: HashMap<u64, Answer>,
    /// What was heard of each process.
    processes: HashMap<u64, Heard>,
    /// Usage counters, as they were told last.
    pub counters: HashMap<String, f64>,
}

/// What was heard of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// Its end, if it has ended.
    pub code: Option<i32>,
    /// Events with output.
    pub pieces: usize,
}

impl Heard {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// What the runtime answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Code and message.
    Error(u64, String),
    /// Version.
    Hello(String),
    /// Number of the process.
    Run(u64),
    /// The signal was sent.
    Kill,
    /// The VM is gone.
    Shutdown,
    /// Field of the endpoint's kind, and its address.
    Network(u64, String),
}

/// A frame from the runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// To the request of that number.
    Answer(u64, Answer),
    /// Of a process: its number, whether it runs, its end's code, stdout, stderr.
    Status(u64, bool, i32, Vec<u8>, Vec<u8>),
    /// Name and value.
    Counter(String, f64),
}

impl Activity {
    /// In a new folder below `dir`.
    pub fn new(dir: &Path, images: &[&Path]) -> Self {
        let workdir = dir.join("activity");
        std::fs::create_dir(&workdir).unwrap();
        Activity {
            workdir,
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            caps: [
                "--cpu-cores",
                "1",
                "--mem-gib",
                "0.5",
                "--storage-gib",
                "0.5",
            ]
            .map(String::from)
            .into(),
            provider: None,
        }
    }

    /// With the demo's files, below an image of this configuration: words for `shem
    /// image build`. It ends with the folder that comes first.
    pub fn configured(words: &[&str]) -> (TempDir, Self) {
        let dir = TempDir::new().unwrap();
        let tree = dir.path().join("top");
        std::fs::create_dir(&tree).unwrap();
        let top = build_image(&tree, words);
        let activity = Activity::new(dir.path(), &[&top, &demo_image()]);
        (dir, activity)
    }

    /// `deploy`, with more options.
    pub fn deploy(&self, options: &[&str]) -> Call {
        self.call(options, &["deploy", "--"])
    }

    /// Deploys, and gives what exe-unit was told.
    #[track_caller]
    pub fn deployed(&self, options: &[&str]) -> Value {
        let outcome = self.deploy(options).outcome();
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).expect("it is one JSON object")
    }

    /// The volume's folder at `path` in the guest, by what deploy told.
    pub fn volume(&self, told: &Value, path: &str) -> PathBuf {
        let vols = told["vols"].as_array().expect("there is a list");
        let vol = vols.iter().find(|vol| vol["path"] == path);
        let name = vol.expect("it is told of")["name"].as_str().unwrap();
        self.workdir.join(name)
    }

    /// `start`, with more options and words behind the verb.
    pub fn start(&self, options: &[&str], words: &[&str]) -> Call {
        let words: Vec<&str> = ["start"].iter().chain(words).copied().collect();
        self.call(options, &words)
    }

    /// Starts, and says hello.
    #[track_caller]
    pub fn started(&self) -> Runtime {
        let mut runtime = self.start(&[], &[]).spawn();
        runtime.hello();
        runtime
    }

    fn call(&self, options: &[&str], words: &[&str]) -> Call {
        let args = ["--workdir".as_ref(), self.workdir.as_os_str()];
        let mut call = match &self.provider {
            None => Call::new(&args),
            Some(provider) => Call::of(provider, &args),
        };
        for image in &self.images {
            call.command.arg("--task-package").arg(image);
        }
        call.command.args(&self.caps).args(options).args(words);
        // As exe-unit does.
        call.command.current_dir(&self.workdir);
        call
    }
}

impl Call {
    /// `ya-runtime-shem ARGS…`.
    pub fn new<S: AsRef<OsStr>>(args: &[S]) -> Self {
        Self::of_program(&runtime(), args)
    }

    fn of<S: AsRef<OsStr>>(provider: &Provider, args: &[S]) -> Self {
        let mut call = Self::of_program(&provider.program, args);
        call.command.envs(provider.env.iter().cloned());
        if let Some(user) = provider.user {
            call.command.uid(user).gid(user);
        }
        call
    }

    fn of_program<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Self {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Call { command }
    }

    /// Its program.
    pub fn program(&self) -> &OsStr {
        self.command.get_program()
    }

    /// Its words.
    pub fn args(&self) -> CommandArgs<'_> {
        self.command.get_args()
    }

    /// Changes the call further.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end.
    pub fn outcome(mut self) -> Outcome {
        Outcome::of(self.command.output().expect("the runtime starts"))
    }

    /// Runs it to its end with `input` as its stdin.
    pub fn outcome_with_input(mut self, input: &[u8]) -> Outcome {
        let mut child = self.command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // It may end before it has read everything.
        let _ = stdin.write_all(input);
        drop(stdin);
        Outcome::of(child.wait_with_output().unwrap())
    }

    /// Starts it, to talk to.
    pub fn spawn(mut self) -> Runtime {
        self.command.stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = self.command.spawn().expect("the runtime starts");
        Runtime {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().expect("stdout is piped"),
            child,
            buffer: Vec::new(),
            next_id: 2,
            asked: HashSet::new(),
            answers: HashMap::new(),
            processes: HashMap::new(),
            counters: HashMap::new(),
        }
    }
}

impl Outcome {
    /// Asserts a failure of the runtime's: nothing on stdout, and one line on stderr
    /// with `word` in it.
    #[track_caller]
    pub fn assert_refused_by_runtime(&self, word: &str) {
        assert_eq!((self.status, &*self.stdout), (Some(1), ""), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
    }
}

impl Runtime {
    /// Process id of the runtime on the host.
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    /// Says hello as exe-unit does.
    #[track_caller]
    pub fn hello(&mut self) {
        let id = self.ask(2, &text(1, "0.1.0"));
        let answer = self.answer(id);
        assert!(matches!(answer, Answer::Hello(_)), "{answer:?}");
    }

    /// Runs a program as exe-unit does: its name is the first argument. Its number.
    #[track_caller]
    pub fn run(&mut self, program: &str, args: &[&str]) -> u64 {
        let id = self.ask_run(program, args);
        match self.answer(id) {
            Answer::Run(pid) => pid,
            other => panic!("{program}: {other:?}"),
        }
    }

    /// Asks for it, and does not wait.
    pub fn ask_run(&mut self, program: &str, args: &[&str]) -> u64 {
        let name = program.rsplit('/').next().unwrap_or_default();
        let mut body = text(1, program);
        for arg in [name].iter().chain(args) {
            body.extend(text(2, arg));
        }
        self.ask(10, &body)
    }

    /// A script of the guest's shell, run to its end.
    #[track_caller]
    pub fn shell(&mut self, script: &str) -> Heard {
        let pid = self.run("/bin/sh", &["-c", script]);
        self.ended(pid)
    }

    /// What a script wrote, which has to end well.
    #[track_caller]
    pub fn output(&mut self, script: &str) -> String {
        let heard = self.shell(script);
        assert_eq!(heard.code, Some(0), "{script}: {heard:?}");
        heard.text()
    }

    /// The words of the error that a program does not start with.
    #[track_caller]
    pub fn run_error(&mut self, program: &str) -> String {
        let id = self.ask_run(program, &[]);
        self.error(id)
    }

    /// Sends a signal.
    #[track_caller]
    pub fn kill(&mut self, pid: u64, signal: u64) -> Answer {
        let body = [number(1, pid), number(2, signal)].concat();
        let id = self.ask(11, &body);
        self.answer(id)
    }

    /// Joins a network: 0 is the VPN, 1 the Internet.
    #[track_caller]
    pub fn join(&mut self, kind: u64, networks: &[[&str; 4]], hosts: &[(&str, &str)]) -> Answer {
        let mut body = Vec::new();
        for network in networks {
            let fields: Vec<u8> = (1..)
                .zip(network)
                .flat_map(|(field, word)| text(field, word))
                .collect();
            body.extend(bytes(1, &fields));
        }
        for (name, address) in hosts {
            body.extend(bytes(2, &[text(1, name), text(2, address)].concat()));
        }
        if kind != 0 {
            body.extend(number(3, kind));
        }
        let id = self.ask(30, &body);
        self.answer(id)
    }

    /// Ends the VM as exe-unit does, and then the runtime, which has to end well.
    #[track_caller]
    pub fn shut_down(mut self) {
        let id = self.ask(12, &[]);
        assert_eq!(self.answer(id), Answer::Shutdown);
        assert_eq!(self.close().code(), Some(0));
    }

    /// Sends a command, field `field` of a request, and gives the request's number.
    pub fn ask(&mut self, field: u64, body: &[u8]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id);
        self.send(&[number(1, id), bytes(field, body)].concat());
        id
    }

    /// Sends a message, whatever it is.
    pub fn send(&mut self, message: &[u8]) {
        let mut frame = varint(message.len() as u64);
        frame.extend(message);
        self.send_raw(&frame);
    }

    /// Sends bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(bytes).expect("the runtime reads");
    }

    /// Another way to its stdin, for a thread.
    pub fn stdin(&self) -> ChildStdin {
        let stdin = self.stdin.as_ref().expect("it is open");
        stdin.as_fd().try_clone_to_owned().unwrap().into()
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Answer {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            self.hear();
        }
    }

    /// Waits for an answer that is an error, and gives its message.
    #[track_caller]
    pub fn error(&mut self, id: u64) -> String {
        match self.answer(id) {
            Answer::Error(0, message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the end of a process.
    #[track_caller]
    pub fn ended(&mut self, pid: u64) -> Heard {
        while self.heard(pid).code.is_none() {
            self.hear();
        }
        self.heard(pid).clone()
    }

    /// What was heard of a process so far.
    pub fn heard(&self, pid: u64) -> &Heard {
        &self.processes[&pid]
    }

    /// Waits for one more frame, and takes it.
    #[track_caller]
    pub fn hear(&mut self) {
        let message = self.next_message().expect("the runtime lives");
        match message {
            Message::Answer(id, answer) => {
                self.answers.insert(id, answer);
            }
            Message::Status(pid, running, code, stdout, stderr) => {
                let heard = self.processes.entry(pid).or_default();
                heard.pieces += usize::from(!(stdout.is_empty() && stderr.is_empty()));
                heard.stdout.extend(stdout);
                heard.stderr.extend(stderr);
                heard.code = (!running).then_some(code);
            }
            Message::Counter(name, value) => {
                self.counters.insert(name, value);
            }
        }
    }

    /// The next frame, whose rules are looked at; `None` at the end of all.
    #[track_caller]
    pub fn next_message(&mut self) -> Option<Message> {
        let frame = self.frame()?;
        let message = decode(&frame);
        match &message {
            Message::Answer(id, answer) => {
                assert!(
                    *id == 0 || self.asked.remove(id),
                    "{answer:?} answers nothing"
                );
                if let Answer::Run(pid) = answer {
                    assert!(
                        self.processes.contains_key(pid),
                        "no event of {pid} came before"
                    );
                }
            }
            Message::Status(pid, running, _, stdout, stderr) => {
                let known = self.processes.get(pid);
                let empty = stdout.is_empty() && stderr.is_empty();
                match known {
                    None if *pid == 0 => {}
                    None => assert!(*running && empty, "the first of {pid} is {message:?}"),
                    Some(heard) => assert_eq!(heard.code, None, "{pid} has ended"),
                }
                assert!(*running || empty, "the last of {pid} is {message:?}");
                // What is only looked at is remembered too.
                self.processes.entry(*pid).or_default();
            }
            Message::Counter(..) => {}
        }
        Some(message)
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((len, rest)) = read_varint(&self.buffer) {
                let (start, len) = (self.buffer.len() - rest.len(), len as usize);
                if rest.len() >= len {
                    let frame = self.buffer[start..start + len].to_vec();
                    self.buffer.drain(..start + len);
                    return Some(frame);
                }
            }
            let limit = PollTimeout::try_from(LIMIT).unwrap();
            let ready = poll(
                &mut [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)],
                limit,
            );
            assert_ne!(ready, Ok(0), "the runtime says nothing");
            let mut piece = vec![0; 1 << 16];
            let len = self.stdout.read(&mut piece).unwrap();
            if len == 0 {
                assert!(self.buffer.is_empty(), "it ends in the middle of a frame");
                return None;
            }
            self.buffer.extend(&piece[..len]);
        }
    }

    /// Closes its stdin, reads the rest, and gives its end.
    pub fn close(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.wait()
    }

    /// Reads the rest, and gives its end.
    pub fn wait(mut self) -> ExitStatus {
        while self.next_message().is_some() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // It has ended as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
