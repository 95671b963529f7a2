//! How far a transfer is.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gvmi::Digest;

/// How far a transfer is, told whenever a blob has moved on. A blob that has to
/// start again goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The blob that moved on.
    pub blob: Digest,
    /// Bytes of it that are there.
    pub blob_done: u64,
    /// Bytes of it in all.
    pub blob_size: u64,
    /// Bytes of all blobs that are there.
    pub done: u64,
    /// Bytes of all blobs.
    pub size: u64,
}

/// Adds the blobs of a transfer up.
pub(crate) struct Meter<'a> {
    state: RefCell<State<'a>>,
}

struct State<'a> {
    /// Bytes there, and in all, of each blob.
    blobs: BTreeMap<Digest, (u64, u64)>,
    done: u64,
    size: u64,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Meter<'a> {
    pub(crate) fn new(blobs: &BTreeMap<Digest, u64>, tell: &'a mut dyn FnMut(Progress)) -> Self {
        let size = blobs
            .values()
            .fold(0, |sum: u64, size| sum.saturating_add(*size));
        let blobs = blobs.iter().map(|(blob, size)| (*blob, (0, *size)));
        Self {
            state: RefCell::new(State {
                blobs: blobs.collect(),
                done: 0,
                size,
                tell,
            }),
        }
    }

    /// `done` bytes of `blob` are there. Blobs that are none of this transfer
    /// are not counted.
    pub(crate) fn set(&self, blob: &Digest, done: u64) {
        let state = &mut *self.state.borrow_mut();
        let Some((before, blob_size)) = state.blobs.get_mut(blob) else {
            return;
        };
        state.done = state.done.saturating_sub(*before).saturating_add(done);
        *before = done;
        (state.tell)(Progress {
            blob: *blob,
            blob_done: done,
            blob_size: *blob_size,
            done: state.done,
            size: state.size,
        });
    }
}
