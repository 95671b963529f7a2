//! The program `shem`, run as a user would.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::{LIMIT, demo_image, variable};

/// A call of `shem`.
pub struct Shem(Command);

/// What a call left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Shem {
    /// The folder of the program and of the plugins built with it.
    pub fn folder() -> PathBuf {
        let program = variable("SHEM_BIN");
        program.parent().expect("a file is in a folder").to_owned()
    }

    /// `shem ARGS…`.
    pub fn new<S: AsRef<OsStr>>(args: &[S]) -> Self {
        Self::of(&variable("SHEM_BIN"), args)
    }

    /// As [`Shem::new`], of another copy of the program.
    pub fn of<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Self {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Shem(command)
    }

    /// `shem run --kernel KERNEL OPTIONS… demo.gvmi -- CMD…`.
    pub fn run(kernel: &str, options: &[&str], command: &[&str]) -> Self {
        Self::run_image(kernel, options, &demo_image(), command)
    }

    /// As [`Shem::run`], of another image.
    pub fn run_image(kernel: &str, options: &[&str], image: &Path, command: &[&str]) -> Self {
        let limit = format!("{}s", LIMIT.as_secs());
        let mut shem = Self::new(&["run", "--kernel", kernel, "--timeout", &limit]);
        shem.0.args(options).arg(image).arg("--").args(command);
        shem
    }

    /// Changes the call further.
    pub fn command(&mut self) -> &mut Command {
        &mut self.0
    }

    /// Has the host refuse it files of more than `bytes`, a multiple of 512.
    pub fn limit_files(&mut self, bytes: u64) {
        let mut limited = Command::new("sh");
        let script = format!("ulimit -f {} && exec \"$0\" \"$@\"", bytes / 512);
        limited
            .args(["-c", &script])
            .arg(self.0.get_program())
            .args(self.0.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.0 = limited;
    }

    /// Runs it to its end.
    pub fn outcome(mut self) -> Outcome {
        Outcome::of(self.0.output().expect("shem starts"))
    }

    /// Runs it to its end, with `input` as its stdin.
    pub fn outcome_with_input(mut self, input: &[u8]) -> Outcome {
        let mut child = self.0.stdin(Stdio::piped()).spawn().expect("shem starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_vec();
        // A command may end before it has read everything.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("shem ends");
        feeder.join().expect("the feeder does not panic");
        Outcome::of(output)
    }

    /// Starts it.
    pub fn spawn(mut self) -> Child {
        self.0.spawn().expect("shem starts")
    }
}

impl Outcome {
    /// From what the system collected.
    pub fn of(output: Output) -> Self {
        Outcome {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts that it went well and wrote `stdout`. On stderr there may be warnings
    /// of a slow machine.
    #[track_caller]
    pub fn assert_ok(&self, stdout: &str) {
        let found = (self.status, &*self.stdout);
        assert_eq!(found, (Some(0), stdout), "{}", self.stderr);
    }

    /// Asserts a failure of shem's own: nothing on stdout, one line on stderr
    /// that holds all of `words`, and `status`.
    #[track_caller]
    pub fn assert_refused(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("shem: "), "{self:?}");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not in {:?}",
                self.stderr
            );
        }
    }
}
