//! Messages of the control connection: greeting, requests, responses, events.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, FrameError, MessageError};
use crate::frame::{FrameKind, write_body};
use crate::limits::{MAX_HOST_ENTRIES, MAX_HOST_ENTRY_NAME, MAX_TEXT};
use crate::message::{Message, check_len, check_text, decode_versioned, encode_versioned};
use crate::network::{Interface, Resolver};

/// First frame of the agent: it is ready for processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the `guest-init` package, for logs.
    pub agent_version: String,
    /// How long the guest took to get here.
    pub boot_times: BootTimes,
}

/// Points of the boot in microseconds of the guest's `CLOCK_BOOTTIME`.
///
/// The guest may write anything here: use it to inform, never to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTimes {
    /// PID 1 ran its first instruction.
    pub init_start_us: u64,
    /// The root file system was assembled.
    pub root_ready_us: u64,
    /// The agent listened and connected.
    pub agent_ready_us: u64,
}

/// The host's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Go on.
    Welcome,
    /// The host will not talk to this agent.
    Refuse {
        /// Why, for the guest's console.
        reason: String,
    },
}

/// A request of the host; the agent answers in the order of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host, returned in the response.
    pub id: u32,
    /// What to do.
    pub body: RequestBody,
}

/// What the host may ask for. Grows at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Append entries to `/etc/hosts` that are not there yet.
    Hosts(Vec<HostEntry>),
    /// Write all file systems out.
    Sync,
    /// Set the wall clock.
    SetTime {
        /// Nanoseconds since the epoch, UTC.
        unix_nanos: u64,
    },
    /// Write all file systems out, leave disks as unmounted ones and power off.
    /// The response comes before the power goes, but may not arrive.
    Shutdown,
    /// Give a network interface what it is to have, and bring it up.
    Interface(Interface),
    /// Replace `/etc/resolv.conf`.
    Resolver(Resolver),
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// Where the name points to.
    pub address: IpAddr,
    /// One name without white space.
    pub name: String,
}

/// What the agent sends on the control connection after its greeting. Grows at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// The outcome of a request.
    Response {
        /// [`Request::id`].
        id: u32,
        /// Nothing, or why not.
        result: Result<(), Failure>,
    },
}

/// Declares the frame body of a message that starts with magic and version.
macro_rules! versioned {
    ($type:ty) => {
        impl $type {
            /// Writes the message as a frame with magic and version in front.
            ///
            /// # Errors
            /// As [`write_message`](crate::write_message).
            pub fn write_to(&self, stream: &mut impl std::io::Write) -> Result<(), FrameError> {
                let body = encode_versioned(self).map_err(FrameError::Message)?;
                write_body(stream, FrameKind::Message, &body)
            }

            /// Decodes the body of such a frame.
            ///
            /// # Errors
            /// [`MessageError::VersionMismatch`] for that of another release,
            /// before anything else of it is looked at.
            pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
                decode_versioned(body)
            }
        }
    };
}
versioned!(Hello);
versioned!(Answer);

impl Message for Hello {
    fn check(&self) -> Result<(), MessageError> {
        check_len("agent version", self.agent_version.len(), MAX_TEXT)
    }
}

impl Message for Answer {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Welcome => Ok(()),
            Self::Refuse { reason } => check_len("reason", reason.len(), MAX_TEXT),
        }
    }
}

impl Message for Request {
    fn check(&self) -> Result<(), MessageError> {
        let entries = match &self.body {
            RequestBody::Hosts(entries) => entries,
            RequestBody::Interface(interface) => return interface.check(),
            RequestBody::Resolver(resolver) => return resolver.check(),
            RequestBody::Sync | RequestBody::SetTime { .. } | RequestBody::Shutdown => {
                return Ok(());
            }
        };
        check_len("number of host entries", entries.len(), MAX_HOST_ENTRIES)?;
        for HostEntry { name, .. } in entries {
            check_text("host entry name", name.as_bytes(), MAX_HOST_ENTRY_NAME)?;
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '#') {
                return Err(MessageError::Invalid {
                    what: "host entry name",
                });
            }
        }
        Ok(())
    }
}

impl Message for FromAgent {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Response {
                result: Err(failure),
                ..
            } => failure.check(),
            Self::Response { .. } => Ok(()),
        }
    }
}
