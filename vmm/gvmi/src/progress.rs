//! Tells how far a build is.

use crate::layer::Layer;

/// What is done with the layers; each is read once for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Their entries are looked at.
    Index,
    /// What is left of them is packed.
    Pack,
}

/// How far a pass is, in bytes of the layers as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The present pass.
    pub pass: Pass,
    /// Bytes done in it.
    pub done: u64,
    /// Bytes in all, the same in both.
    pub total: u64,
}

/// Bytes between two calls.
const STEP: u64 = 1 << 20;

/// Counts, and calls at the start and the end of a pass and about every
/// megabyte.
pub(crate) struct Meter<'a> {
    report: &'a mut dyn FnMut(Progress),
    progress: Progress,
    /// Bytes of the parts that are finished.
    finished: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(layers: &[Layer], report: &'a mut dyn FnMut(Progress)) -> Self {
        let total = layers
            .iter()
            .fold(0u64, |sum, layer| sum.saturating_add(layer.blob.len()));
        Self {
            report,
            progress: Progress {
                pass: Pass::Index,
                done: 0,
                total,
            },
            finished: 0,
        }
    }

    pub(crate) fn start(&mut self, pass: Pass) {
        self.finished = 0;
        self.progress = Progress {
            pass,
            done: 0,
            ..self.progress
        };
        (self.report)(self.progress);
    }

    /// So many bytes of the present layer are done.
    pub(crate) fn part(&mut self, done: u64) {
        let done = self.finished.saturating_add(done);
        if done.saturating_sub(self.progress.done) >= STEP {
            self.progress.done = done;
            (self.report)(self.progress);
        }
    }

    /// All `len` bytes of the present layer are.
    pub(crate) fn finish_part(&mut self, len: u64) {
        self.finished = self.finished.saturating_add(len);
        if self.finished > self.progress.done {
            self.progress.done = self.finished;
            (self.report)(self.progress);
        }
    }
}
