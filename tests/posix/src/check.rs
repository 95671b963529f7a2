//! What cases say about what they see, and how the runner hears it: over a
//! pipe that all processes of a case hold, a line for each check.

use std::fmt::{self, Debug, Display};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;

use crate::process;

/// Seconds that one case may take. An emulated guest is slow, and a lock that
/// never comes is a finding.
const LIMIT_SECONDS: u32 = 300;

/// Exit status of a process of a case that has told what was wrong.
pub const TOLD: i32 = 3;

static PIPE: OnceLock<File> = OnceLock::new();
static READ_ONLY: OnceLock<PathBuf> = OnceLock::new();

/// What a case said.
#[derive(Default)]
pub struct Report {
    checks: usize,
    skipped: bool,
    /// Each with its place.
    pub wrong: Vec<String>,
}

/// What follows from it.
#[derive(PartialEq)]
pub enum Verdict {
    /// All checks held.
    Passed,
    /// The file system cannot do what the case is about.
    Skipped,
    /// One did not, or there were none.
    Failed,
}

impl Report {
    /// The outcome.
    pub fn verdict(&self) -> Verdict {
        if !self.wrong.is_empty() || (self.checks == 0 && !self.skipped) {
            Verdict::Failed
        } else if self.skipped {
            Verdict::Skipped
        } else {
            Verdict::Passed
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "ok",
            Verdict::Skipped => "ok, skipped",
            Verdict::Failed => "FAILED",
        })
    }
}

/// Runs `body` in a process of its own and collects what it says.
pub fn watch(body: impl FnOnce()) -> io::Result<Report> {
    let (reader, writer) = io::pipe()?;
    let child = process::fork(|| {
        let _ = PIPE.set(File::from(std::os::fd::OwnedFd::from(
            writer.try_clone().expect("a descriptor is free"),
        )));
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        nix::unistd::alarm::set(LIMIT_SECONDS);
        body();
    });
    drop(writer);
    let mut report = Report::default();
    for line in BufReader::new(reader).lines() {
        let line = line?;
        match line.split_at_checked(1) {
            Some(("+", _)) => report.checks += 1,
            Some(("s", _)) => report.skipped = true,
            Some((_, wrong)) => report.wrong.push(wrong.to_owned()),
            None => {}
        }
    }
    match child.wait() {
        process::End::Code(0 | TOLD) => {}
        end => report.wrong.push(format!("the case ended by {end:?}")),
    }
    Ok(report)
}

fn say(line: &str) {
    let mut pipe = PIPE.get().expect("a case runs in `watch`");
    // One write below PIPE_BUF is not torn by another process's.
    let line: String = line.chars().filter(|c| *c != '\n').take(900).collect();
    pipe.write_all(format!("{line}\n").as_bytes())
        .expect("the runner reads");
}

/// A check that held.
pub fn right() {
    say("+");
}

/// A check that did not.
#[track_caller]
pub fn wrong(what: &str) {
    let place = Location::caller();
    let file = Path::new(place.file()).file_name().unwrap_or_default();
    say(&format!("-{}:{}: {what}", file.display(), place.line()));
}

/// The file system cannot do this.
pub fn skip() {
    say("s");
}

/// The two are equal.
#[track_caller]
pub fn is<T: PartialEq + Debug>(got: T, wanted: T) {
    if got == wanted {
        right();
    } else {
        wrong(&format!("expected {wanted:?}, got {got:?}"));
    }
}

/// It is so.
#[track_caller]
pub fn holds(so: bool, what: &str) {
    if so { right() } else { wrong(what) }
}

/// It succeeds; what comes after would make no sense without, so a failure
/// ends the process of the case.
#[track_caller]
pub fn ok<T>(outcome: Result<T, Errno>) -> T {
    match outcome {
        Ok(value) => {
            right();
            value
        }
        Err(errno) => {
            wrong(&format!("expected success, got {}", named(errno)));
            std::process::exit(TOLD);
        }
    }
}

/// It fails, and so.
#[track_caller]
pub fn fails<T>(outcome: Result<T, Errno>, wanted: Errno) {
    refused("", outcome, &[wanted]);
}

/// It fails in one of the ways that POSIX leaves open; `what` tells more.
#[track_caller]
pub fn refused<T>(what: &str, outcome: Result<T, Errno>, wanted: &[Errno]) {
    let got = match outcome {
        Err(errno) if wanted.contains(&errno) => return right(),
        Err(errno) => named(errno),
        Ok(_) => "success".to_owned(),
    };
    let wanted: Vec<String> = wanted.iter().copied().map(named).collect();
    wrong(&format!(
        "{what} expected {}, got {got}",
        wanted.join(" or ")
    ));
}

fn named(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// Keeps the folder that cannot be written.
pub fn set_read_only(folder: Option<&Path>) {
    if let Some(folder) = folder {
        let _ = READ_ONLY.set(folder.to_owned());
    }
}

/// The folder that cannot be written, if there is one.
pub fn read_only() -> Option<&'static Path> {
    READ_ONLY.get().map(PathBuf::as_path)
}

/// Has the process told of a size limit by an error instead of a signal.
pub fn block_size_signal() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    set.thread_block().expect("the signal exists");
}
