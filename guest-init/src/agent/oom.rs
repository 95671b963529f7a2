//! Finds out whether the kernel killed something for want of memory while a process ran.
//!
//! The kernel says so in its log. A watch is a position in it from which to
//! look, so that watching costs nothing while nothing happens.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

const KERNEL_LOG: &str = "/dev/kmsg";

/// The kernel's limit of one record.
const MAX_RECORD: usize = 8 * 1024;

/// More than the kernel's log holds; new records may come while it is read.
const MAX_RECORDS: usize = 64 * 1024;

/// Either comes before the killed process can end: the report may be left out
/// when there are many, the line about the kill follows in a moment.
const SIGNS: [&[u8]; 2] = [b"invoked oom-killer", b"Killed process"];

/// A position in the kernel's log; `None` without one to read.
pub struct OomWatch(Option<File>);

impl OomWatch {
    /// Starts now.
    pub fn start() -> Self {
        let log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(KERNEL_LOG);
        Self(
            log.and_then(|mut log| log.seek(SeekFrom::End(0)).map(|_| log))
                .ok(),
        )
    }

    /// Whether there was a kill since the start.
    pub fn saw_kill(self) -> bool {
        let Some(mut log) = self.0 else {
            return false;
        };
        let mut record = vec![0; MAX_RECORD];
        for _ in 0..MAX_RECORDS {
            match log.read(&mut record) {
                Ok(0) => return false,
                Ok(len) if is_kill(&record[..len]) => return true,
                Ok(_) => {}
                // Records were overwritten before they were read.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// Whether a record, `level,sequence,time,flags;text`, tells of a kill. The
/// level's facility tells the kernel's records from those of programs.
fn is_kill(record: &[u8]) -> bool {
    const FACILITY: u32 = !7;
    let level = record
        .split(|&b| b == b',')
        .next()
        .and_then(|l| std::str::from_utf8(l).ok());
    let from_kernel = level
        .and_then(|l| l.parse::<u32>().ok())
        .is_some_and(|l| l & FACILITY == 0);
    from_kernel
        && SIGNS
            .iter()
            .any(|sign| record.windows(sign.len()).any(|window| window == *sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_record_of_a_kill_counts_and_that_of_a_program_does_not() {
        let text = "Out of memory: Killed process 77 (hog) total-vm:1kB";
        assert!(is_kill(format!("3,812,5140900,-;{text}").as_bytes()));
        assert!(is_kill(
            b"4,811,5140900,-;sh invoked oom-killer: gfp_mask=0x1"
        ));
        assert!(!is_kill(format!("12,812,5140900,-;{text}").as_bytes()));
        assert!(!is_kill(b"6,1,0,-;Linux version 6.12"));
        assert!(!is_kill(b""));
    }
}
