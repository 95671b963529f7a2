//! JSON of others: its length is limited before it is read.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::error::OciFault;
use crate::blob::Blob;

/// Longest manifest, index or configuration in bytes, as registries have it.
pub const MAX_JSON_LEN: u64 = 4 << 20;

/// All of `blob`, which is `what` in errors.
pub(crate) fn read(what: &str, blob: &Blob) -> Result<Vec<u8>, OciFault> {
    check_len(what, blob.len())?;
    let mut bytes = Vec::new();
    let read = blob.reader().read_to_end(&mut bytes);
    read.map_err(|source| OciFault::Read {
        what: what.to_owned(),
        source,
    })?;
    Ok(bytes)
}

/// `bytes` as a `T`.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, OciFault> {
    check_len(what, bytes.len() as u64)?;
    serde_json::from_slice(bytes).map_err(|source| OciFault::Json {
        what: what.to_owned(),
        source,
    })
}

fn check_len(what: &str, len: u64) -> Result<(), OciFault> {
    if len > MAX_JSON_LEN {
        return Err(OciFault::JsonTooLong {
            what: what.to_owned(),
            len,
        });
    }
    Ok(())
}
