//! The control connection: greeting, then one request after the other.

use std::fs::File;
use std::io;
use std::path::Path;

use guest_protocol::{
    Answer, BootTimes, Failure, FrameReader, FromAgent, Hello, MAX_REQUEST, Request, RequestBody,
    decode, write_message,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::{failure, resolver, shorten};
use crate::error::{BootError, Result};
use crate::{identity, interface};

/// Why the control connection was left.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The host is gone.
    HungUp,
    /// The host asked for the guest's end, and was answered.
    Shutdown,
}

/// Tells the host that everything is ready.
pub fn send_hello(mut control: &File, boot_times: BootTimes) -> Result<()> {
    let hello = Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_times,
    };
    hello.write_to(&mut control).map_err(lost)
}

/// Takes the host's answer to the greeting, then serves requests in order.
/// Files are those of the container at `root`.
pub fn serve(control: File, root: &Path) -> Result<End> {
    let mut reader = FrameReader::new(control, MAX_REQUEST);
    let Some(frame) = reader.read_frame().map_err(lost)? else {
        return Ok(End::HungUp);
    };
    match Answer::decode(frame.body) {
        Ok(Answer::Welcome) => {}
        Ok(Answer::Refuse { reason }) => {
            return Err(BootError::new(format!("refused by the host: {reason}")));
        }
        Err(e) => return Err(BootError::new(format!("answer of the host: {e}"))),
    }
    while let Some(frame) = reader.read_frame().map_err(lost)? {
        let Request { id, body } =
            decode(frame.body).map_err(|e| BootError::new(format!("request of the host: {e}")))?;
        let is_shutdown = body == RequestBody::Shutdown;
        let response = FromAgent::Response {
            id,
            result: fulfil(body, root),
        };
        write_message(&mut reader.get_ref(), &response).map_err(lost)?;
        if is_shutdown {
            return Ok(End::Shutdown);
        }
    }
    Ok(End::HungUp)
}

fn fulfil(request: RequestBody, root: &Path) -> std::result::Result<(), Failure> {
    match request {
        RequestBody::Hosts(entries) => {
            let hosts = root.join(identity::HOSTS_FILE);
            identity::add_hosts(root, &entries).map_err(|e| failure(&e, hosts.display()))
        }
        RequestBody::Interface(wanted) => interface::set_up(&wanted).map_err(|failed| Failure {
            errno: failed.errno as i32,
            message: shorten(failed.message),
        }),
        RequestBody::Resolver(wanted) => {
            resolver::write(root, &wanted).map_err(|e| failure(&e, resolver::FILE))
        }
        RequestBody::Sync | RequestBody::Shutdown => {
            nix::unistd::sync();
            Ok(())
        }
        RequestBody::SetTime { unix_nanos } => {
            set_time(unix_nanos).map_err(|e| failure(&e, "set the clock"))
        }
    }
}

fn set_time(unix_nanos: u64) -> io::Result<()> {
    const SECOND: u64 = 1_000_000_000;
    let part = |value: u64| i64::try_from(value).map_err(io::Error::other);
    let time = TimeSpec::new(part(unix_nanos / SECOND)?, part(unix_nanos % SECOND)?);
    Ok(clock_settime(ClockId::CLOCK_REALTIME, time)?)
}

fn lost(error: guest_protocol::FrameError) -> BootError {
    BootError::new(match std::error::Error::source(&error) {
        Some(cause) => format!("control connection: {error}: {cause}"),
        None => format!("control connection: {error}"),
    })
}
