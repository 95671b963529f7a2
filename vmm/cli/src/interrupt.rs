//! Signals to what works through something: the first one lets it end in order, so
//! that nothing half done stays behind, and the second one ends the process.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::status;

const TAKEN: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

/// Whether a signal came, and which; 0 is none.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Takes the signals from their default actions in this thread and those
    /// that it starts. The first one is `told` of, to end a wait.
    pub fn start(told: impl Fn() + Send + 'static) -> Result<Self> {
        let mask: SigSet = TAKEN.into_iter().collect();
        mask.thread_block().context("block signals")?;
        let interrupt = Self::default();
        let seen = interrupt.clone();
        // It ends with the process.
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while let Ok(signal) = mask.wait() {
                    if seen.0.swap(signal as i32, Ordering::Relaxed) != 0 {
                        std::process::exit(status::signalled(signal as i32).into());
                    }
                    told();
                }
            })
            .context("start the thread for signals")?;
        Ok(interrupt)
    }

    /// The exit status when a signal came.
    pub fn status(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(status::signalled(signal)),
        }
    }

    /// Lets a stream end when a signal comes.
    pub fn over<S>(&self, stream: S) -> Interrupted<S> {
        Interrupted(stream, self.clone())
    }

    fn check(&self) -> io::Result<()> {
        match self.status() {
            None => Ok(()),
            Some(_) => Err(io::Error::other("a signal came")),
        }
    }
}

/// A stream that fails once a signal came.
pub struct Interrupted<S>(S, Interrupt);

impl<S> Interrupted<S> {
    pub fn into_inner(self) -> S {
        self.0
    }
}

impl<S: Read> Read for Interrupted<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.read(into)
    }
}

impl<S: Write> Write for Interrupted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
