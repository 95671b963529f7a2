//! The first pass: reads the headers of every layer and makes the tree of
//! them. Up to two layers are read at the same time, each by a thread that
//! runs ahead of the tree as far as a few batches go.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use super::source::{self, Check};
use super::tree::{LayerNumber, Tree};
use super::{LayerError, MAX_LAYERS, Rules};
use crate::builder::BuildError;
use crate::layer::Layer;
use crate::limits::Budget;
use crate::progress::{Meter, Pass};
use crate::squashfs::Xattr;
use crate::tar::{Entry, EntryError, Kind, TarError};
use crate::warnings::Warnings;

/// Entries in a batch. It is sent sooner once this many bytes have been read,
/// or its entries hold that many.
const BATCH: usize = 512;
const BATCH_READ: u64 = 2 << 20;
const BATCH_HELD: usize = 256 << 10;
/// Batches that a thread is ahead. One entry may add a megabyte of extended
/// attributes to its batch, so that a thread's batches hold 8 MiB at most.
const AHEAD: usize = 4;

/// What tar mode has no way to take.
const ROOT_XATTRS: &str = "the extended attributes of the root folder are left out";

/// What all layers make, and what was seen on the way.
pub(super) struct Index {
    pub(super) tree: Tree,
    /// The newest time of any entry.
    pub(super) newest: u32,
    pub(super) warnings: Warnings,
}

/// Some entries of a layer, in order.
struct Batch {
    entries: Vec<Entry>,
    /// Bytes of the layer that have been read so far.
    read: u64,
    /// At the end of the layer, what was left out of it.
    end: Option<Warnings>,
}

/// Reads `layers`.
pub(super) fn index(
    layers: &[Layer],
    rules: &Rules,
    meter: &mut Meter<'_>,
) -> Result<Index, BuildError> {
    if layers.len() > MAX_LAYERS {
        return Err(BuildError::Layers {
            count: layers.len(),
        });
    }
    let mut index = Index {
        tree: Tree::new(rules),
        newest: 0,
        warnings: Warnings::default(),
    };
    let budget = Budget::new(&rules.limits);
    let mut count = 0;
    meter.start(Pass::Index);
    std::thread::scope(|scope| {
        let mut waiting = layers.iter();
        let mut running = VecDeque::new();
        for (number, layer) in layers.iter().enumerate() {
            while running.len() < rules.readers
                && let Some(next) = waiting.next()
            {
                let started = start(scope, next, budget.clone());
                running.push_back(started.map_err(|error| error.of(next))?);
            }
            let batches = running
                .pop_front()
                .expect("as many run as there are layers");
            let number = number as LayerNumber + 1;
            index
                .add(number, &mut count, batches, meter)
                .map_err(|error| error.of(layer))?;
            meter.finish_part(layer.blob.len());
        }
        Ok(index)
    })
}

impl Index {
    fn add(
        &mut self,
        layer: LayerNumber,
        count: &mut u32,
        batches: Receiver<Result<Batch, LayerError>>,
        meter: &mut Meter<'_>,
    ) -> Result<(), LayerError> {
        let mut number = 0;
        for batch in batches {
            let batch = batch?;
            for entry in &batch.entries {
                self.add_entry(layer, number, count, entry)
                    .map_err(|fault| fault.of(name(entry)))?;
                number += 1;
            }
            meter.part(batch.read);
            if let Some(warnings) = batch.end {
                self.warnings.append(warnings);
                self.tree.end_layer();
                return Ok(());
            }
        }
        // A thread ends without a word only when it panics, and then the
        // scope does.
        Err(LayerError::Changed)
    }

    fn add_entry(
        &mut self,
        layer: LayerNumber,
        number: u32,
        count: &mut u32,
        entry: &Entry,
    ) -> Result<(), EntryError> {
        *count += 1;
        let max = self.tree.limits().max_entries;
        if *count > max {
            return Err(EntryError::TooMany { max });
        }
        if entry.path.is_root() && !entry.xattrs.is_empty() {
            self.warnings.add(ROOT_XATTRS.to_owned());
        }
        self.newest = self.newest.max(entry.attributes.mtime);
        self.tree.apply(layer, number, entry)
    }
}

/// What errors call `entry`.
fn name(entry: &Entry) -> &[u8] {
    match entry.path.is_root() {
        true => b"/",
        false => entry.path.as_bytes(),
    }
}

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    layer: &'scope Layer,
    budget: Budget,
) -> Result<Receiver<Result<Batch, LayerError>>, LayerError> {
    let (sender, receiver) = sync_channel(AHEAD);
    Builder::new()
        .name("layer".to_owned())
        .spawn_scoped(scope, move || {
            if let Err(error) = read(layer, &budget, &sender) {
                // Where nobody listens, there has been an error before.
                let _ = sender.send(Err(error));
            }
        })
        .map_err(LayerError::Thread)?;
    Ok(receiver)
}

/// Sends the entries of `layer`; stops early when nobody listens.
fn read(
    layer: &Layer,
    budget: &Budget,
    sender: &SyncSender<Result<Batch, LayerError>>,
) -> Result<(), LayerError> {
    let explain = |error| source::explain(error, layer);
    let mut reader = source::open(layer, Check::Stored, budget).map_err(explain)?;
    let mut batch = Vec::new();
    let (mut sent, mut held) = (0, 0);
    while let Some(mut entry) = reader.next().map_err(explain)? {
        // Those of a file are read with it in the second pass.
        if entry.kind != Kind::Folder {
            entry.xattrs = Vec::new();
        }
        held += bytes_held(&entry);
        batch.push(entry);
        loop {
            let read = source::bytes_read(&reader);
            if batch.len() >= BATCH || held >= BATCH_HELD || read - sent >= BATCH_READ {
                (sent, held) = (read, 0);
                let entries = std::mem::take(&mut batch);
                let batch = Batch {
                    entries,
                    read,
                    end: None,
                };
                if sender.send(Ok(batch)).is_err() {
                    return Ok(());
                }
            }
            if reader.piece().map_err(explain)?.is_none() {
                break;
            }
        }
    }
    let warnings = source::finish(reader, layer).map_err(|error| match error {
        LayerError::Archive(error) => source::explain(error, layer),
        error => error,
    })?;
    let last = Batch {
        entries: batch,
        read: layer.blob.len(),
        end: Some(warnings),
    };
    let _ = sender.send(Ok(last));
    Ok(())
}

/// Bytes of memory that `entry` takes, about.
fn bytes_held(entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink(target) => target.len(),
        Kind::HardLink(target) => target.as_bytes().len(),
        _ => 0,
    };
    let xattrs = entry.xattrs.iter();
    let xattrs = xattrs.map(|xattr| size_of::<Xattr>() + xattr.name.len() + xattr.value.len());
    size_of::<Entry>() + entry.path.as_bytes().len() + target + xattrs.sum::<usize>()
}

impl From<TarError> for LayerError {
    fn from(error: TarError) -> Self {
        Self::Archive(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::merge::tests::{Tar, layer};
    use crate::squashfs::MAX_XATTR_TOTAL;

    #[test]
    fn what_is_read_ahead_of_the_tree_is_limited_with_its_attributes() {
        let value = vec![b'v'; 60 << 10];
        let keys: Vec<_> = (0..10).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (&key[..], &value[..])).collect();
        let tar = (0..20).fold(Tar::new(), |tar, number| {
            tar.records(&records).folder(&format!("d{number}"), 0o755)
        });
        let (sender, receiver) = sync_channel(100);
        read(&layer(tar), &Budget::new(&Limits::default()), &sender).unwrap();
        drop(sender);
        let batches: Vec<_> = receiver.into_iter().map(Result::unwrap).collect();
        let held = |batch: &Batch| batch.entries.iter().map(bytes_held).sum::<usize>();
        let count: usize = batches.iter().map(|batch| batch.entries.len()).sum();
        assert_eq!(count, 20);
        for batch in &batches {
            assert!(
                held(batch) < BATCH_HELD + MAX_XATTR_TOTAL,
                "{}",
                held(batch)
            );
        }
    }
}
