//! What every fuzz target shares: its entry point, with libFuzzer and without,
//! and a way to draw decisions from the input. The targets are the files in
//! `src/bin`; README.md says how to run them and how to add one.

#[cfg(fuzzing)]
pub use libfuzzer_sys;

use std::fs;
use std::path::{Path, PathBuf};

/// Makes a program of a target: `check` takes the input and panics when a
/// property does not hold. Built for fuzzing the program is libFuzzer's;
/// otherwise it runs `check` once on each file that it is given.
#[macro_export]
macro_rules! target {
    ($check:path) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $check(data));

        #[cfg(not(fuzzing))]
        fn main() -> ::std::process::ExitCode {
            $crate::replay($check)
        }
    };
}

/// Runs `check` on the files, and the files of the folders, among the
/// program's arguments.
pub fn replay(check: fn(&[u8])) -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if arguments.is_empty() {
        eprintln!("usage: give the inputs to replay; to fuzz, see tests/fuzz/README.md");
        return std::process::ExitCode::from(2);
    }
    for path in arguments.iter().flat_map(|path| files(path)) {
        eprintln!("{}", path.display());
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check(&data);
    }
    std::process::ExitCode::SUCCESS
}

fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_path_buf()],
    }
}

/// Takes the decisions of a test case from the front of its input. When the
/// input is used up, every decision is 0.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Decisions out of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// A number of 8 bits.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// The next bytes, up to `len` of them.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}
