//! Runs a command and takes the time to something that it does.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::host;

/// Longest time that anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Kills its program when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it with nothing to read, and gives what it writes to either stream.
pub fn start(mut command: Command) -> Result<(Running, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    // The command holds the other ends of the pipe until it is dropped here, and the
    // reader would wait for them.
    let child = command.spawn();
    let child = child.with_context(|| format!("start {command:?}"))?;
    Ok((Running(child), reader))
}

/// Runs it to its end, which must be a success.
pub fn done(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

/// In washed memory, the time until a line of its output contains `words`; then it is killed.
pub fn until_line(command: Command, words: &'static str) -> Result<Duration> {
    host::wash();
    let begin = Instant::now();
    let name = format!("{command:?}");
    let (running, reader) = start(command)?;
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
        Ok(when) => Ok(when - begin),
        Err(_) => bail!("no line with {words:?} came from {name}, but:\n{seen}"),
    }
}

/// In washed memory, the time until it has exited with 0, having written `expected`.
pub fn until_exit(mut command: Command, expected: &str) -> Result<Duration> {
    host::wash();
    let begin = Instant::now();
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| format!("start {name}"))?);
    let mut reader = running.0.stdout.take().context("stdout is piped")?;
    let (ended, output) = mpsc::channel();
    let watcher = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = reader.read_to_string(&mut text);
        let _ = ended.send(text);
    });
    let output = output.recv_timeout(LIMIT);
    if output.is_err() {
        drop(running);
        let _ = watcher.join();
        bail!("{name} did not end within {} s", LIMIT.as_secs());
    }
    let status = running.0.wait()?;
    let time = begin.elapsed();
    let _ = watcher.join();
    let output = output.unwrap_or_default();
    ensure!(
        status.success() && output == expected,
        "{name}: {status}, output {output:?}"
    );
    Ok(time)
}
