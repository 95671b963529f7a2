//! How passt is known to run: asked for its gateway's address (RFC 826), it answers,
//! or it has ended.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use plugin_sdk::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::process::Process;

/// How long passt may take until it serves.
const LIMIT: Duration = Duration::from_secs(10);

/// Length of an ARP frame.
const LEN: usize = 42;
/// The address of everybody. Asked from there, passt goes on not to know the guest's
/// address, and sends to everybody until the guest has spoken.
const EVERYBODY: [u8; 6] = [0xff; 6];

/// The guest's network, as passt has to know it.
pub struct Question {
    pub guest: Ipv4Addr,
    pub gateway: Ipv4Addr,
}

impl Question {
    /// A request, with its length before it as passt's stream has it.
    fn bytes(&self) -> [u8; 4 + LEN] {
        let mut bytes = [0; 4 + LEN];
        let (head, frame) = bytes.split_at_mut(4);
        head.copy_from_slice(&(LEN as u32).to_be_bytes());
        frame[..6].copy_from_slice(&EVERYBODY);
        frame[6..12].copy_from_slice(&EVERYBODY);
        // ARP for Ethernet and IPv4, a request.
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&EVERYBODY);
        frame[28..32].copy_from_slice(&self.guest.octets());
        frame[38..].copy_from_slice(&self.gateway.octets());
        bytes
    }

    /// Waits until passt answers at the other end of `link`, where the answer stays: to
    /// the guest it is one more word of the gateway's. Its lines go to `line`.
    pub fn ask(
        &self,
        link: &UnixStream,
        process: &mut Process,
        mut line: impl FnMut(&str),
    ) -> Result<()> {
        let end = Instant::now() + LIMIT;
        // An error is passt's end, for which the wait is then.
        let _ = (&mut &*link).write_all(&self.bytes());
        let (mut is_open, mut is_heard) = (true, true);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("passt has not answered for {} s", LIMIT.as_secs());
                return Err(Error::new(text));
            }
            let [has_ended, answer, words] = wait(process, link, [true, is_open, is_heard], left)?;
            if !has_ended.is_empty() {
                return Err(Error::new(process.ended()));
            }
            if answer == PollFlags::IN {
                return Ok(());
            }
            // It is about to end when it has closed the link.
            is_open &= answer.is_empty();
            // What nobody hears may hold it up.
            if !words.is_empty() {
                is_heard = process.hear(&mut line);
            }
        }
    }
}

/// What has come, `limit` at most, of those that are awaited: passt's end, its answer,
/// its words.
fn wait(
    process: &Process,
    link: &UnixStream,
    awaited: [bool; 3],
    limit: Duration,
) -> Result<[PollFlags; 3]> {
    let sources = [process.exit(), link.as_fd(), process.stderr()];
    let mut fds: Vec<_> = sources
        .iter()
        .zip(awaited)
        .filter(|(_, is_awaited)| *is_awaited)
        .map(|(fd, _)| PollFd::new(fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, Some(&Timespec::try_from(limit)?)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut came = fds.iter().map(PollFd::revents);
    Ok(awaited.map(|is_awaited| {
        let came = is_awaited.then(|| came.next());
        came.flatten().unwrap_or(PollFlags::empty())
    }))
}
