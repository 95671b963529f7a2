//! Child processes: every one dies with us, even when we are killed.
//!
//! The parent-death signal fires when the *thread* that started the child
//! ends, so children are started from the main thread only.
// UNSAFETY: `CommandExt::pre_exec` is the only way to run code between fork
// and exec.
#![expect(unsafe_code, reason = "pre_exec")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A command whose process is killed when the thread that starts it ends.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let parent = Pid::this();
    // SAFETY: the closure runs in the forked child and makes system calls
    // only; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // A parent that died before the call above sends no signal.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
    command
}

/// Lets the child inherit `descriptors` under the numbers they have here.
/// They stay open in this process until the command is dropped.
pub fn inherit(command: &mut Command, descriptors: Vec<OwnedFd>) {
    // SAFETY: as in `command`; the vector is only read.
    unsafe {
        command.pre_exec(move || {
            for descriptor in &descriptors {
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        });
    }
}

/// How a command line is shown to the user.
pub fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Runs a step whose output matters only when it fails.
pub fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a step and gives its standard output, without the line end.
pub fn output(command: &mut Command) -> Result<String> {
    let finished = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{}`", show(command)))?;
    let stdout = String::from_utf8_lossy(&finished.stdout);
    if !finished.status.success() {
        eprint!("{stdout}{}", String::from_utf8_lossy(&finished.stderr));
        bail!("`{}` failed: {}", show(command), finished.status);
    }
    Ok(stdout.trim_end().to_owned())
}

/// The exit status a shell would report: 128 + signal for a killed process.
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
