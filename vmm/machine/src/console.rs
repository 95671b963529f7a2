//! What the guest writes to its serial console: the tail is kept for the
//! report of why the machine stopped, and the first byte's time for the
//! timeline.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How much of the console's end is kept, in bytes: some 200 lines.
const TAIL: usize = 16 << 10;

/// Reader's side of the console; clones share one tail.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<Tail>>);

#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    first_byte: Option<Instant>,
}

impl Console {
    /// The serial device's side, which copies to `copy` too when there is one.
    pub fn writer(&self, copy: Option<Box<dyn Write + Send>>) -> ConsoleWriter {
        ConsoleWriter {
            console: self.clone(),
            copy,
        }
    }

    /// The last lines that the guest wrote, as text.
    pub fn tail(&self) -> String {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.bytes.make_contiguous()).into_owned()
    }

    /// When the guest wrote its first byte.
    pub fn first_byte(&self) -> Option<Instant> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .first_byte
    }
}

/// Takes the guest's bytes. Never fails: a copy that cannot take more loses
/// bytes, the guest is not held up.
pub struct ConsoleWriter {
    console: Console,
    copy: Option<Box<dyn Write + Send>>,
}

impl Write for ConsoleWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut tail = self
            .console
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tail.first_byte.get_or_insert_with(Instant::now);
        let kept = &data[data.len().saturating_sub(TAIL)..];
        let excess = (tail.bytes.len() + kept.len()).saturating_sub(TAIL);
        tail.bytes.drain(..excess);
        tail.bytes.extend(kept);
        if let Some(copy) = &mut self.copy {
            // Losing console output is better than stopping a vCPU for it.
            let _ = copy.write_all(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_bytes_only() {
        let console = Console::default();
        let mut writer = console.writer(None);
        writer.write_all(&vec![b'a'; TAIL]).unwrap();
        writer.write_all(b"end").unwrap();
        let tail = console.tail();
        assert_eq!(tail.len(), TAIL);
        assert!(tail.ends_with("aend"));
    }

    #[test]
    fn one_write_longer_than_the_tail_is_cut_at_its_start() {
        let console = Console::default();
        let mut long = vec![b'a'; TAIL + 5];
        long.extend(b"end");
        console.writer(None).write_all(&long).unwrap();
        assert_eq!(console.tail().len(), TAIL);
        assert!(console.tail().ends_with("end"));
    }
}
