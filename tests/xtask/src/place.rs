//! Where a job that starts VMs runs: here when KVM works, else in the lab.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::paths::Scratch;
use crate::process::{self, command, show};
use crate::say;

/// How long the probe guest may take; it needs milliseconds.
const PROBE_LIMIT: &str = "20";
/// How long a job that exceeds its limit has to tidy up after SIGTERM.
const GRACE: &str = "--kill-after=10";

/// A machine for VMs.
pub enum Place {
    /// This machine has a KVM that runs stock kernels.
    Here,
    /// The emulated machine.
    Lab,
}

impl Place {
    /// Runs the probe guest. Opening `/dev/kvm` would prove little: some
    /// machines have one that dies in the first instructions of a kernel.
    pub fn choose(shem: &Path) -> Self {
        let mut probe = command("timeout");
        probe
            .args([GRACE, PROBE_LIMIT])
            .arg(shem)
            .args(["doctor", "--probe"]);
        let answer = probe.stdin(Stdio::null()).output();
        if answer.as_ref().is_ok_and(|answer| answer.status.success()) {
            return Self::Here;
        }
        let text = answer
            .map(|answer| [answer.stdout, answer.stderr].concat())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let reason = text.lines().find(|line| !line.trim().is_empty());
        let reason = reason.unwrap_or("the probe guest did not run").trim();
        let reason = reason.strip_prefix("fail: ").unwrap_or(reason);
        say(&format!("using the lab: {reason}"));
        Self::Lab
    }

    /// Runs a job whose output goes to the writers, with an empty standard
    /// input, and gives its exit status.
    pub fn run(
        &self,
        argv: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        limit: Duration,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<i32> {
        if matches!(self, Self::Lab) {
            let mut lab = Lab::new(argv);
            lab.env = env;
            lab.limit = Some(limit);
            return lab.run(stdout, stderr);
        }
        // Others use /tmp too, and some tests look for what they leave there.
        let temporary = Scratch::new("job")?;
        let mut job = command("timeout");
        job.arg(GRACE)
            .arg(limit.as_secs().to_string())
            .args(argv)
            .envs(env)
            .env("TMPDIR", temporary.path());
        let mut job = job
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the job")?;
        let out = job.stdout.take().expect("stdout is piped");
        let err = job.stderr.take().expect("stderr is piped");
        std::thread::scope(|scope| {
            let copy = scope.spawn(|| pass_on(out, stdout));
            pass_on(err, stderr)?;
            copy.join().expect("copying does not panic")
        })
        .context("pass the output on")?;
        Ok(process::exit_code(job.wait()?))
    }

    /// Becomes the command, so that its streams and signals are ours. In the
    /// lab we stay in between and its terminal is not passed on. There it may
    /// write to `shares` alone.
    pub fn become_command(
        &self,
        argv: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        shares: Vec<PathBuf>,
    ) -> Result<i32> {
        if matches!(self, Self::Lab) {
            let mut lab = Lab::new(argv);
            lab.env = env;
            lab.shares = shares;
            lab.stdin = true;
            return lab.run(&mut io::stdout(), &mut io::stderr());
        }
        let mut words = argv.into_iter();
        let program = words.next().context("no command")?;
        // No child, so that nothing has to end it with us.
        let mut command = Command::new(program);
        command.args(words).envs(env);
        let error = command.exec();
        bail!("start `{}`: {error}", show(&command));
    }
}

fn pass_on(mut from: impl Read, to: &mut (dyn Write + Send)) -> io::Result<()> {
    io::copy(&mut from, to)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set where the test below runs as the program that is replaced.
    const INNER: &str = "SHEM_TEST_REPLACED";

    #[test]
    fn a_command_here_takes_our_place() {
        let argv = ["sh", "-c", "exit 7"].map(OsString::from).to_vec();
        if std::env::var_os(INNER).is_some() {
            let error = Place::Here.become_command(argv, Vec::new(), Vec::new());
            panic!("{error:?}");
        }
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "place::tests::a_command_here_takes_our_place"])
            .env(INNER, "1")
            .stdout(Stdio::null())
            .status();
        assert_eq!(ended.unwrap().code(), Some(7));
    }
}
