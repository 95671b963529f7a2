//! One layer as a stream of entries, counted and hashed on the way.

use super::LayerError;
use crate::blob::BlobReader;
use crate::decode::Decoder;
use crate::digest::Digest;
use crate::layer::Layer;
use crate::limits::Budget;
use crate::tap::Tap;
use crate::tar::{EndMark, Reader, TarError};
use crate::warnings::Warnings;

/// Which of a layer's two digests is computed, for either is needed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// That of the bytes as they are stored.
    Stored,
    /// That of the archive in them.
    Unpacked,
}

/// The entries of a layer.
pub(super) type Entries = Reader<Tap<Decoder<Tap<BlobReader>>>>;

pub(super) fn open(layer: &Layer, check: Check, budget: &Budget) -> Result<Entries, TarError> {
    let stored = check == Check::Stored && layer.digest.is_some();
    let unpacked = check == Check::Unpacked && layer.diff_id.is_some();
    let decoder = Decoder::new(Tap::new(layer.blob.reader(), stored))
        .map_err(|source| TarError::Read { offset: 0, source })?;
    let is_checked = layer.digest.is_some() || layer.diff_id.is_some();
    let end_mark = match is_checked {
        true => EndMark::Optional,
        false => EndMark::Required,
    };
    Ok(Reader::new(
        Tap::new(decoder, unpacked),
        budget.clone(),
        end_mark,
    ))
}

/// Bytes of the layer, as they are stored, that have been read.
pub(super) fn bytes_read(entries: &Entries) -> u64 {
    entries.get_ref().get_ref().get_ref().count()
}

/// Reads what is left of the layer and compares the digest that was computed.
pub(super) fn finish(mut entries: Entries, layer: &Layer) -> Result<Warnings, LayerError> {
    entries.drain()?;
    let (unpacked, warnings) = entries.into_parts();
    let (decoder, diff_id) = unpacked.finish();
    let (_, digest) = decoder.into_inner().finish();
    check_digest(layer, digest)?;
    match (layer.diff_id, diff_id) {
        (Some(expected), Some(found)) if found != expected => {
            Err(LayerError::DiffId { found, expected })
        }
        _ => Ok(warnings),
    }
}

/// What makes most sense of an error in a layer: where its bytes are not what
/// they should be, that is the reason of all others.
pub(super) fn explain(error: TarError, layer: &Layer) -> LayerError {
    if layer.digest.is_some() {
        let mut stored = Tap::new(layer.blob.reader(), true);
        let read = std::io::copy(&mut stored, &mut std::io::sink());
        let (_, digest) = stored.finish();
        if let (Ok(_), Err(mismatch)) = (read, check_digest(layer, digest)) {
            return mismatch;
        }
    }
    error.into()
}

fn check_digest(layer: &Layer, found: Option<Digest>) -> Result<(), LayerError> {
    match (layer.digest, found) {
        (Some(expected), Some(found)) if found != expected => {
            Err(LayerError::Digest { found, expected })
        }
        _ => Ok(()),
    }
}
