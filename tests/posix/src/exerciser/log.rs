//! The last operations, for whoever has to find out.

use std::collections::VecDeque;
use std::fmt::Arguments;

/// Operations that are kept.
const KEPT: usize = 60;

#[derive(Default)]
pub struct Log {
    done: usize,
    last: VecDeque<String>,
}

impl Log {
    /// Notes what comes next.
    pub fn note(&mut self, operation: Arguments<'_>) {
        self.done += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(format!("{}: {operation}", self.done));
    }

    /// The notes, oldest first.
    pub fn tail(&self) -> String {
        self.last
            .iter()
            .map(|line| format!("    {line}\n"))
            .collect()
    }
}
