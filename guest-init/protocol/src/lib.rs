//! The language that the host and the agent in the guest speak, and the configuration a guest boots with.
//!
//! This crate holds frames, messages, limits and their codecs. It opens no
//! sockets and knows neither vsock nor processes: `guest_client` (host side)
//! and `guest-init` (guest side) do.
//!
//! # Connections
//!
//! | connection | who connects | first frame | then |
//! | --- | --- | --- | --- |
//! | control | agent → host, [`HOST_CID`] port [`CONTROL_PORT`] | [`Hello`], answered by [`Answer`] | [`Request`] → [`FromAgent`] |
//! | process | host → agent, port [`AGENT_PORT`] | [`Open::Exec`], answered by [`ProcessMessage`] | stdin → stdout, stderr, last [`ProcessMessage::Exit`] |
//! | signal, resize | host → agent, port [`AGENT_PORT`] | [`Open::Signal`], [`Open::Resize`] | one [`Done`] |
//! | file | host → agent, port [`AGENT_PORT`] | [`Open::FileRead`], … | file data and [`FileMessage`] |
//! | port | host → agent, port [`AGENT_PORT`] | [`Open::Connect`], answered by [`Done`] | raw bytes both ways |
//! | archive | host → agent, port [`AGENT_PORT`] | [`Open::ArchiveRead`], [`Open::ArchiveWrite`] | a tar archive as file data, and [`FileMessage`] |
//!
//! Signals and window sizes have connections of their own because on the
//! process connection they would wait behind stdin that the process does not
//! read. Flow control is that of the stream below: there are no windows here.
#![forbid(unsafe_code)]

mod boot;
mod control;
mod error;
mod frame;
mod limits;
mod message;
mod mount;
mod network;
mod process;

pub use boot::{BOOT_CONFIG_PATH, BootConfig, MODULES_DIR};
pub use control::{Answer, BootTimes, FromAgent, Hello, HostEntry, Request, RequestBody};
pub use error::{Failure, FrameError, MessageError};
pub use frame::{
    Frame, FrameKind, FrameReader, HEADER_LEN, frame_header, write_data, write_message,
};
pub use limits::*;
pub use message::{Message, decode, encode};
pub use mount::{Mount, MountSource, OnError, Upper};
pub use network::{Interface, IpPrefix, Resolver, Route};
pub use process::{
    ArchiveRead, Done, Exec, ExecFailure, ExecFailureKind, Exit, ExitStatus, FileKind, FileMessage,
    FileRequest, FileStat, FileWrite, Open, ProcessMessage, ProcessRequest, Tty, WindowSize,
};

/// Version of everything in this crate. It changes whenever an encoding does:
/// both sides come from one release, so there is no negotiation. 5: a process's
/// program may be another than its first argument.
pub const VERSION: u32 = 5;

/// vsock port on the host that the agent connects to when it is ready.
pub const CONTROL_PORT: u32 = 1024;

/// vsock port in the guest on which the agent takes process and file connections.
pub const AGENT_PORT: u32 = 1025;

/// vsock address of the host as the guest sees it.
pub const HOST_CID: u32 = 2;
