//! Merges the layers of an image into one tar archive without unpacking any:
//! the first pass makes an index of what is left of each, the second writes
//! it. Each layer is read at most twice and one buffer of file data is held;
//! beside that memory goes to the index alone, up to 80 bytes for each entry.
//! zstd layers may ask for 128 MiB more each, two at a time.

mod apply;
mod arena;
mod index;
mod source;
mod tree;
mod write;

use std::io::{self, Write};

use thiserror::Error;

use crate::builder::BuildError;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::limits::Limits;
use crate::owners::Owners;
use crate::progress::{Meter, Progress};
use crate::tar::{Attributes, TarError};
use crate::warnings::Warnings;
use index::Index;
use tree::{Body, Tree};

/// Most layers of an image. Container engines make at most 128.
pub(crate) const MAX_LAYERS: usize = 1000;

/// Why a layer cannot be merged.
#[derive(Debug, Error)]
pub enum LayerError {
    /// Its archive cannot be read, or holds what no image can.
    #[error(transparent)]
    Archive(TarError),
    /// Its bytes are not those that the image names.
    #[error("its digest is {found} and should be {expected} (fetch the image again)")]
    Digest {
        /// Of the bytes.
        found: Digest,
        /// Of the image's manifest.
        expected: Digest,
    },
    /// The archive in it is not the one that the image names.
    #[error("unpacked, its digest is {found} and should be {expected} (fetch the image again)")]
    DiffId {
        /// Of the archive.
        found: Digest,
        /// Of the image's configuration.
        expected: Digest,
    },
    /// The second pass found something else than the first.
    #[error("it changed while it was read (build again when nothing writes to it)")]
    Changed,
    /// No thread can be started to read it.
    #[error("start a thread to read it")]
    Thread(#[source] io::Error),
}

impl LayerError {
    fn of(self, layer: &Layer) -> BuildError {
        match self {
            // The layer has nothing to do with who reads it.
            Self::Archive(TarError::Write(error)) => TarError::Write(error).into(),
            source => BuildError::Layer {
                layer: layer.name.clone(),
                source,
            },
        }
    }
}

/// What files are that are named as whiteouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// What they are in layers.
    Remove,
    /// As in any other archive.
    AreFiles,
}

/// How layers are merged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) whiteouts: Whiteouts,
    /// Layers that are read at the same time in the first pass.
    pub(crate) readers: usize,
}

/// Layers whose index has been made.
pub(crate) struct Merge<'a> {
    layers: &'a [Layer],
    index: Index,
}

impl<'a> Merge<'a> {
    /// The first pass.
    pub(crate) fn new(
        layers: &'a [Layer],
        rules: &Rules,
        meter: &mut Meter<'_>,
    ) -> Result<Self, BuildError> {
        let index = index::index(layers, rules, meter)?;
        Ok(Self { layers, index })
    }

    pub(crate) fn root(&self) -> Attributes {
        let Body::Folder(root) = self.index.tree.body(Tree::ROOT) else {
            unreachable!("the root is never removed");
        };
        self.index.tree.folder(root).attributes()
    }

    /// The newest time of anything in the layers, in seconds since 1970.
    pub(crate) fn newest(&self) -> u32 {
        self.index.newest
    }

    /// The second pass; returns what was left out.
    pub(crate) fn write(
        self,
        owners: Option<&Owners>,
        sink: &mut dyn Write,
        meter: &mut Meter<'_>,
    ) -> Result<Warnings, BuildError> {
        write::write(self.layers, &self.index.tree, owners, sink, meter)?;
        Ok(self.index.warnings)
    }
}

/// Writes what `layers`, the bottom one first, make of an empty root folder as
/// one tar archive to `sink`, without the root itself: what [`Builder`] passes
/// to `mksquashfs`, for those who test it.
///
/// [`Builder`]: crate::Builder
#[doc(hidden)]
pub fn merge_layers(
    layers: &[Layer],
    limits: &Limits,
    sink: &mut dyn Write,
) -> Result<(), BuildError> {
    let mut ignore = |_: Progress| {};
    let mut meter = Meter::new(layers, &mut ignore);
    let rules = Rules {
        limits: *limits,
        whiteouts: Whiteouts::Remove,
        readers: 1,
    };
    let merge = Merge::new(layers, &rules, &mut meter)?;
    merge.write(None, sink, &mut meter).map(drop)
}

#[cfg(test)]
mod tests;
