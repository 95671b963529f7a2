//! Signals to a script that runs: the first one ends the command at hand and then the
//! VM in order.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Result;

use crate::{interrupt, status};

/// Whether a signal came, and which; 0 is none.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Takes signals from their default actions. The first one is `told` of, to end a
    /// wait; the second one ends the process.
    pub fn start(told: impl Fn() + Send + 'static) -> Result<Self> {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        interrupt::take_signals(move |signal| {
            if seen.0.swap(signal as i32, Ordering::Relaxed) != 0 {
                return Some(status::signalled(signal as i32));
            }
            told();
            None
        })?;
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
