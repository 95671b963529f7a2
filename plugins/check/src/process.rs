//! A process of our own that may crash or block: it has a time, and what it wrote is
//! kept.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// A process that has ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    /// It had to be ended, because its time was over.
    pub late: bool,
    /// What it wrote to standard output, and to standard error if that was kept.
    pub out: String,
    pub err: String,
}

/// Runs `command` for at most `limit`, in a process group that ends with it. Its
/// output goes to memory, so that nobody has to read it meanwhile.
pub(crate) fn run(mut command: Command, limit: Duration, keep_err: bool) -> io::Result<Ended> {
    let (mut out, mut err) = (memory()?, memory()?);
    command.stdin(Stdio::null()).stdout(out.try_clone()?);
    if keep_err {
        command.stderr(err.try_clone()?);
    }
    let mut child = command.process_group(0).spawn()?;
    let pid = Pid::from_child(&child);
    let waited = wait(pid, limit);
    // Whoever of the group is left. It has the child's number, which is the child's
    // until it is waited for.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(Ended {
        status,
        late: !waited?,
        out: text(&mut out)?,
        err: text(&mut err)?,
    })
}

/// Whether the process ends within `limit`.
fn wait(pid: Pid, limit: Duration) -> io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut fds, Some(&limit))? == 1)
}

fn memory() -> io::Result<File> {
    Ok(memfd_create("output", MemfdFlags::CLOEXEC)?.into())
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
