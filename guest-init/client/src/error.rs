//! Why the agent could not be asked, would not do it, or cannot be trusted any more.

use std::io;

use guest_protocol::{ExecFailure, ExecFailureKind, Failure, FrameError, MessageError};
use thiserror::Error;

/// Why a call on the agent failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection ended: the VM stopped, or the agent died, or, for
    /// [`Stdin`](crate::Stdin), the process ended.
    #[error("connection to the guest agent lost")]
    Lost,
    /// The connection cannot be made.
    #[error("connect to the guest agent")]
    Connect(#[source] io::Error),
    /// The connection failed otherwise.
    #[error("exchange data with the guest agent")]
    Io(#[source] io::Error),
    /// The agent did not answer in time.
    #[error("no answer from the guest agent to {what} within {seconds} s")]
    Timeout {
        /// What it was asked for.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The agent comes from another release than this program.
    #[error("guest agent speaks protocol version {theirs}, this program version {ours}")]
    VersionMismatch {
        /// Version of this program.
        ours: u32,
        /// Version of the agent.
        theirs: u32,
    },
    /// The request exceeds a limit; nothing was sent.
    #[error("request to the guest agent")]
    Request(#[source] MessageError),
    /// The agent sent what it must not. The connection is of no more use.
    #[error("guest agent breaks the protocol")]
    Protocol(#[source] ProtocolError),
    /// The agent tried and failed.
    #[error("guest: {}", .0.message)]
    Failed(Failure),
    /// The process wrote more than the caller wanted to keep.
    #[error("output of the process exceeds {limit} bytes")]
    OutputLimit {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The local end of a file transfer failed.
    #[error("local side of the file transfer")]
    Local(#[source] io::Error),
}

/// How the agent broke the protocol.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// A frame was not one.
    #[error(transparent)]
    Frame(FrameError),
    /// A message was not one.
    #[error(transparent)]
    Message(MessageError),
    /// A frame or message came out of turn.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
}

/// Why a process could not be started.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The agent could not start it and says why.
    #[error("{}", .0.message)]
    Failed(ExecFailure),
    /// The agent could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl ExecError {
    /// The status a command should exit with, as shells and Docker do: 127 for
    /// a program that is missing, 126 for one that does not execute, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(ExecFailure {
                kind: ExecFailureKind::NotFound,
                ..
            }) => 127,
            Self::Failed(ExecFailure {
                kind: ExecFailureKind::NotExecutable,
                ..
            }) => 126,
            Self::Failed(_) | Self::Client(_) => 125,
        }
    }
}

impl ClientError {
    /// For a message or frame that came out of turn.
    pub(crate) fn unexpected(what: &'static str) -> Self {
        Self::Protocol(ProtocolError::Unexpected(what))
    }

    pub(crate) fn from_message(error: MessageError) -> Self {
        match error {
            MessageError::VersionMismatch { ours, theirs } => {
                Self::VersionMismatch { ours, theirs }
            }
            other => Self::Protocol(ProtocolError::Message(other)),
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof => Self::Lost,
            _ => Self::Io(error),
        }
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::from_io(error),
            FrameError::Truncated => Self::Lost,
            FrameError::Message(error) => Self::Request(error),
            other => Self::Protocol(ProtocolError::Frame(other)),
        }
    }
}
