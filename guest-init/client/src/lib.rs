//! The host's side of the agent in the guest: run processes, move files, reach ports, ask for services.
//!
//! Everything blocks and nothing here starts a thread. The crate knows no
//! vsock: it is given the control connection and a way to connect to a port
//! of the guest, both as Unix streams. Files, archives and TCP ports need the second only
//! ([`AgentPort`]), which other processes can have as well. [`initramfs`] builds what the guest
//! boots from.
//!
//! The agent is part of the guest and so not trusted: its messages are bounded
//! and checked, and waits for an answer have a limit. Waits for a process have
//! none; they end at the latest when the VM stops and its streams close.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (control, connect): (std::os::unix::net::UnixStream, guest_client::Connect) = todo!();
//! use guest_client::{Agent, Event};
//! use guest_protocol::Exec;
//!
//! let agent = Agent::handshake(control, connect)?;
//! let exec = Exec { argv: vec!["uname".into()], ..Exec::default() };
//! let mut process = agent.exec(exec)?;
//! let exit = loop {
//!     match process.next_event()? {
//!         Event::Stdout(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
//!         Event::Stderr(bytes) => eprint!("{}", String::from_utf8_lossy(&bytes)),
//!         Event::Exit(exit) => break exit,
//!     }
//! };
//! println!("ended: {:?}", exit.status);
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod agent;
mod archive;
mod error;
mod files;
pub mod initramfs;
mod port;
mod process;
mod stream;

pub use agent::{Agent, HANDSHAKE_DEADLINE, REQUEST_DEADLINE};
pub use archive::{ArchiveReader, ArchiveWriter};
pub use error::{ClientError, ExecError, ProtocolError};
pub use guest_protocol as protocol;
pub use port::{AgentPort, Connect, Dialling};
pub use process::{Event, Output, Process, Stdin};
