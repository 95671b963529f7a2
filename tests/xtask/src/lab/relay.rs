//! The lab's streams on the host's side: output is passed on as it comes, the
//! status lines become events, the console's tail is kept for the case that
//! the machine dies.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ChildStderr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

/// How much of the console and of QEMU's messages is kept.
const TAIL_BYTES: usize = 8192;
const TAIL_LINES: usize = 25;

/// What the main thread has to know.
pub enum Event {
    /// The lab is up and starts the command.
    Up,
    /// The command ended and its output has been sent.
    Exit(i32),
    /// Our own output cannot be written any more.
    OutputClosed(io::Error),
    /// QEMU ended.
    MachineGone,
}

/// The threads that read from QEMU. All end when QEMU does.
pub struct Relay<'scope> {
    sender: Sender<Event>,
    events: Receiver<Event>,
    tail: Arc<Mutex<VecDeque<u8>>>,
    /// The threads that fill the tail.
    listeners: Vec<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Relay<'scope> {
    /// Starts the threads for everything but the command's output.
    pub fn start(
        scope: &'scope Scope<'scope, '_>,
        serial: &'scope UnixStream,
        complaints: ChildStderr,
        status: UnixStream,
    ) -> Self {
        let (sender, events) = mpsc::channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let console = tail.clone();
        let serial = scope.spawn(move || keep_tail(serial, &console));
        let console = tail.clone();
        let gone = sender.clone();
        let complaints = scope.spawn(move || {
            keep_complaints(complaints, &console);
            // No receiver means that nobody waits any more.
            let _ = gone.send(Event::MachineGone);
        });
        let told = sender.clone();
        scope.spawn(move || read_status(status, &told));
        Self {
            sender,
            events,
            tail,
            listeners: vec![serial, complaints],
        }
    }

    /// Starts a thread that passes one stream of the command on.
    pub fn copy(
        &self,
        scope: &'scope Scope<'scope, '_>,
        from: UnixStream,
        to: &'scope mut (dyn Write + Send),
    ) {
        let sender = self.sender.clone();
        scope.spawn(move || {
            if let Err(error) = pass_on(from, to) {
                let _ = sender.send(Event::OutputClosed(error));
            }
        });
    }

    /// The next event; none when the deadline passes first.
    pub fn next(&self, deadline: Instant) -> Option<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.events.recv_timeout(left).ok()
    }

    /// The end of what the machine's console and QEMU said, which has ended.
    pub fn last_words(self) -> String {
        for listener in self.listeners {
            listener.join().expect("the listeners do not panic");
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        if lines.is_empty() {
            return "the console said nothing".to_owned();
        }
        format!(
            "the console's last lines:\n    {}",
            lines[from..].join("\n    ")
        )
    }
}

/// Sends our standard input to the lab, then its end.
pub fn forward_stdin(to: UnixStream) {
    // The lab may end first; then nobody wants the rest.
    let _ = io::copy(&mut io::stdin().lock(), &mut &to);
    let _ = to.shutdown(Shutdown::Write);
    // Closing the socket would discard what QEMU has not read yet. It is
    // needed until the process ends.
    std::mem::forget(to);
}

fn pass_on(mut from: UnixStream, to: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A killed QEMU resets the connection.
            Err(_) => return Ok(()),
        };
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

fn read_status(status: UnixStream, events: &Sender<Event>) {
    for line in BufReader::new(status).lines().map_while(Result::ok) {
        let event = match line.split_once(' ') {
            None if line == "up" => Event::Up,
            Some(("exit", code)) => Event::Exit(code.parse().unwrap_or(125)),
            _ => continue,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn keep_complaints(complaints: ChildStderr, tail: &Mutex<VecDeque<u8>>) {
    for line in BufReader::new(complaints).lines().map_while(Result::ok) {
        // QEMU lists every feature of the processor model that it lacks.
        if !line.contains("TCG doesn't support requested feature") {
            keep(tail, format!("{line}\n").as_bytes());
        }
    }
}

fn keep_tail(mut serial: &UnixStream, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = serial.read(&mut buffer) {
        keep(tail, &buffer[..length]);
    }
}

fn keep(tail: &Mutex<VecDeque<u8>>, bytes: &[u8]) {
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.extend(bytes);
    let excess = tail.len().saturating_sub(TAIL_BYTES);
    tail.drain(..excess);
}
