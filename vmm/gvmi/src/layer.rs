//! A layer of a container image, as it lies somewhere: what it changes in the
//! tree of the layers below is in its tar archive, and read by the merger.

use crate::blob::Blob;
use crate::digest::Digest;

/// One layer: a tar archive of changes, plain or compressed with gzip or zstd
/// (told by its first bytes, whatever its media type said).
#[derive(Clone, Debug)]
pub struct Layer {
    /// What errors call it: its digest, or its name in an archive.
    pub name: String,
    /// Where its bytes are.
    pub blob: Blob,
    /// What its bytes as they are stored must hash to, where that is known.
    pub digest: Option<Digest>,
    /// What its tar archive, unpacked, must hash to (the OCI `diff_id`), where
    /// that is known.
    pub diff_id: Option<Digest>,
}
