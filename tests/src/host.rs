//! What a process holds of its host, and a program of it.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// Counts of what must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Entries in the folder for temporary files.
    pub temporary_files: usize,
    /// Mapped regions of memory.
    pub mappings: usize,
}

impl Resources {
    /// Of this process.
    pub fn now() -> Self {
        let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let temporary = std::env::temp_dir();
        Resources {
            descriptors: entries("/proc/self/fd"),
            threads: threads(),
            temporary_files: entries(&temporary.to_string_lossy()),
            mappings: fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count()),
        }
    }
}

/// Threads that have not begun to exit: one that has been joined stays listed
/// until the kernel has cleaned up after it.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("a process sees its own threads");
    let living = tasks.filter_map(Result::ok).filter(|task| {
        let stat = fs::read_to_string(task.path().join("stat"));
        stat.is_ok_and(|stat| !exits(&stat))
    });
    living.count()
}

/// Whether a `stat` file of proc(5) tells of a thread that exits: `PF_EXITING`
/// in the flags, the seventh field after the name.
fn exits(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
    let flags = fields.and_then(|fields| fields.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & PF_EXITING != 0)
}

/// A sha256 that the host's own program makes.
pub struct HostSum {
    child: Child,
    len: usize,
}

impl HostSum {
    /// Of nothing yet.
    pub fn start() -> Self {
        let child = Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        HostSum { child, len: 0 }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Bytes seen, and their sum as a line.
    pub fn finish(mut self) -> (usize, String) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (self.len, format!("{}\n", &text[..64]))
    }
}
