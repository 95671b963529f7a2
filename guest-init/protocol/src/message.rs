//! Turning messages into bytes and back, with every limit checked both ways.
//!
//! Messages are postcard encoded. Enums may grow at their end only; anything
//! else is a new [`VERSION`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::VERSION;
use crate::error::MessageError;

/// First bytes of what carries a version: [`Hello`](crate::Hello),
/// [`Answer`](crate::Answer) and [`BootConfig`](crate::BootConfig).
const MAGIC: [u8; 4] = *b"shem";

/// Something that travels in a message frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Checks every length and content that the type itself does not bound.
    ///
    /// # Errors
    /// The first field that exceeds its limit or holds what it must not.
    fn check(&self) -> Result<(), MessageError>;
}

/// Encodes a message.
///
/// # Errors
/// When [`Message::check`] does.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    message.check()?;
    postcard::to_stdvec(message).map_err(|_| MessageError::Malformed)
}

/// Decodes a message and checks it. Bytes left over are an error.
///
/// # Errors
/// [`MessageError::Malformed`] or what [`Message::check`] finds.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, MessageError> {
    let (message, rest) =
        postcard::take_from_bytes::<M>(bytes).map_err(|_| MessageError::Malformed)?;
    if !rest.is_empty() {
        return Err(MessageError::Malformed);
    }
    message.check()?;
    Ok(message)
}

/// Encodes behind the magic and the version, which stay readable for every other release.
pub(crate) fn encode_versioned<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(encode(message)?);
    Ok(bytes)
}

/// Decodes what [`encode_versioned`] made; the version is looked at first.
pub(crate) fn decode_versioned<M: Message>(bytes: &[u8]) -> Result<M, MessageError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(MessageError::NotOurs)?;
    let (version, rest) = rest.split_first_chunk().ok_or(MessageError::NotOurs)?;
    let theirs = u32::from_le_bytes(*version);
    if theirs != VERSION {
        return Err(MessageError::VersionMismatch {
            ours: VERSION,
            theirs,
        });
    }
    decode(rest)
}

/// Checks a length against its limit.
pub(crate) fn check_len(what: &'static str, len: usize, limit: usize) -> Result<(), MessageError> {
    if len > limit {
        Err(MessageError::TooLong { what, len, limit })
    } else {
        Ok(())
    }
}

/// Checks a string that the kernel will take: bounded and without NUL.
pub(crate) fn check_text(
    what: &'static str,
    text: &[u8],
    limit: usize,
) -> Result<(), MessageError> {
    check_len(what, text.len(), limit)?;
    if text.contains(&0) {
        Err(MessageError::Invalid { what })
    } else {
        Ok(())
    }
}
