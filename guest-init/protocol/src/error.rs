//! What can be wrong with a frame or a message, and the failure the agent reports.

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::MAX_TEXT;
use crate::message::{Message, check_len};

/// Why no frame could be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream failed. After `WouldBlock`, `TimedOut` or `Interrupted` the
    /// call may be repeated: what was read so far is kept.
    #[error("exchange a frame")]
    Io(#[source] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The kind byte is none of [`FrameKind`](crate::FrameKind).
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The header announces more than this side accepts.
    #[error("frame of {len} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Announced length.
        len: usize,
        /// Limit for its kind.
        limit: usize,
    },
    /// A data frame without data, which would say nothing.
    #[error("empty data frame")]
    EmptyData,
    /// The message does not encode.
    #[error("encode a message")]
    Message(#[source] MessageError),
}

/// Why bytes are not the expected message, or a message may not be sent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// The bytes are not an encoding of the message.
    #[error("malformed message")]
    Malformed,
    /// A field is longer than its limit.
    #[error("{what} of length {len} exceeds the limit of {limit}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        len: usize,
        /// Its limit.
        limit: usize,
    },
    /// A field holds what it must not hold, such as a NUL byte.
    #[error("{what} is not valid")]
    Invalid {
        /// The field.
        what: &'static str,
    },
    /// The first bytes are not those of this protocol.
    #[error("the peer does not speak the agent protocol")]
    NotOurs,
    /// The two sides come from different releases.
    #[error("protocol version mismatch: ours is {ours}, theirs is {theirs}")]
    VersionMismatch {
        /// Version of this side.
        ours: u32,
        /// Version of the other side.
        theirs: u32,
    },
}

/// A request that the agent could not fulfil.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Linux error number, 0 when there is none.
    pub errno: i32,
    /// What failed, in one line.
    pub message: String,
}

impl Message for Failure {
    fn check(&self) -> Result<(), MessageError> {
        check_len("failure message", self.message.len(), MAX_TEXT)
    }
}
