//! Runs a command and takes the time to something that it does.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longest time that anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Kills its program when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Time until a line of its output contains `words`; then it is killed.
pub fn until_line(mut command: Command, words: &'static str) -> Result<Duration> {
    let start = Instant::now();
    let name = format!("{command:?}");
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let running = Running(command.spawn().with_context(|| format!("start {name}"))?);
    // It holds the other ends of the pipe, and the reader would wait for them.
    drop(command);
    let (found, when) = mpsc::channel();
    let watcher = std::thread::spawn(move || {
        let mut seen = String::new();
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if line.contains(words) {
                let _ = found.send(Instant::now());
            }
            seen += &line;
            seen.push('\n');
        }
        seen
    });
    let when = when.recv_timeout(LIMIT);
    drop(running);
    let seen = watcher.join().unwrap_or_default();
    match when {
        Ok(when) => Ok(when - start),
        Err(_) => bail!("no line with {words:?} came from {name}, but:\n{seen}"),
    }
}

/// Time until it has exited with 0, having written `expected`.
pub fn until_exit(mut command: Command, expected: &str) -> Result<Duration> {
    let start = Instant::now();
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| format!("start {name}"))?);
    let mut output = String::new();
    running
        .0
        .stdout
        .take()
        .context("stdout is piped")?
        .read_to_string(&mut output)?;
    let status = running.0.wait()?;
    let time = start.elapsed();
    ensure!(
        status.success() && output == expected,
        "{name}: {status}, output {output:?}"
    );
    Ok(time)
}
