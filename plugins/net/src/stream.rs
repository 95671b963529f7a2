//! Frames over a stream socket, each after its length. What is sent is gathered, as a
//! system call for each frame costs more than to copy it, and what a full socket leaves
//! of it goes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plugin_sdk::Pieces;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use crate::frames::{Decoder, Prefix};
use crate::link::{ETHERNET, Ended, Link, SOCKET_BUFFER, Stop, end_of};

/// Bytes that are gathered, if they are not one frame. The kernel takes as many whole or
/// not at all, and shows them at once: it cuts what is sent at 36 544 bytes (Linux
/// `net/unix/af_unix.c`, `unix_stream_sendmsg`), and passt as Debian 12 has it loses its
/// place where a length is cut in two.
const GATHERED: usize = 32 << 10;

/// A connected stream.
pub struct Stream {
    socket: OwnedFd,
    prefix: Prefix,
    decoder: Decoder,
    /// Frames that were taken and what is before each, to be sent from `sent` on.
    taken: Vec<u8>,
    sent: usize,
    /// The socket took no more of it.
    is_full: bool,
    /// The longest frame either way.
    longest: usize,
}

impl Stream {
    /// Of a connected socket, for frames of at most `longest` bytes.
    pub fn new(socket: OwnedFd, prefix: Prefix, longest: usize) -> rustix::io::Result<Self> {
        sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)?;
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
        Ok(Stream {
            socket,
            prefix,
            decoder: Decoder::new(prefix),
            taken: Vec::new(),
            sent: 0,
            is_full: false,
            longest,
        })
    }

    /// [`Link::send`] of a frame whose beginning is `copied`, whatever has become of it
    /// in the guest's memory since.
    pub fn send_copied(&mut self, copied: &[u8], frame: Pieces<'_>) -> Result<(), Stop> {
        let len = frame.len();
        if !(ETHERNET..=self.longest).contains(&len) {
            return Err(Stop::FrameSize);
        }
        let prefix = self.prefix.head(len).ok_or(Stop::FrameSize)?;
        let prefix = prefix.bytes();
        if self.is_full || self.taken.len() + prefix.len() + len > GATHERED {
            self.send_rest()?;
        }
        self.taken.extend_from_slice(prefix);
        self.taken.extend_from_slice(copied);
        let from = self.taken.len();
        self.taken.resize(from + len - copied.len(), 0);
        frame.copy_to(copied.len(), &mut self.taken[from..]);
        Ok(())
    }
}

fn stop(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::WouldBlock => Stop::WouldBlock,
        io::ErrorKind::BrokenPipe => Ended::Closed.into(),
        _ => Ended::Socket(error).into(),
    }
}

impl Link for Stream {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&mut self, frame: Pieces<'_>) -> Result<(), Stop> {
        self.send_copied(&[], frame)
    }

    fn receive(&mut self, room: Pieces<'_>) -> Result<usize, Stop> {
        loop {
            if let Some(frame) = self.decoder.frame().map_err(Ended::from)? {
                if !(ETHERNET..=self.longest.min(room.len())).contains(&frame.len()) {
                    return Err(Stop::FrameSize);
                }
                return Ok(room.copy_from(frame));
            }
            // Each turn has a part of a frame, which is no longer than the longest.
            let read = recv(&self.socket, self.decoder.room(), RecvFlags::DONTWAIT);
            match read.map_err(|error| stop(error.into()))? {
                (0, _) => return Err(Ended::Closed.into()),
                (count, _) => self.decoder.filled(count),
            }
        }
    }

    fn has_rest(&self) -> bool {
        self.is_full
    }

    fn send_rest(&mut self) -> Result<(), Stop> {
        while self.sent < self.taken.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, &self.taken[self.sent..], flags) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.is_full = error == Errno::AGAIN;
                    return Err(stop(error.into()));
                }
            }
        }
        self.taken.clear();
        self.sent = 0;
        self.is_full = false;
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.decoder.has_answer()
    }

    fn trouble(&mut self) -> Stop {
        end_of(self.socket.as_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use plugin_sdk::testing::Frame;

    use super::*;

    const LONGEST: usize = 65_535;

    fn pair(prefix: Prefix) -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(ours.into(), prefix, LONGEST).unwrap(), theirs)
    }

    #[test]
    fn frames_go_and_come_with_their_lengths() {
        let (mut link, mut theirs) = pair(Prefix::Native16);
        link.send(Frame::cut(&[7; 60], &[14]).pieces()).unwrap();
        link.send_rest().unwrap();
        let mut got = [0; 62];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got[..2], 60u16.to_ne_bytes());
        assert_eq!(got[2..], [7; 60]);
        theirs.write_all(&got).unwrap();
        theirs.write_all(&got[..30]).unwrap();
        let mut room = Frame::room(LONGEST);
        assert_eq!(link.receive(room.pieces()).unwrap(), 60);
        assert_eq!(room.bytes()[..60], [7; 60]);
        let half = link.receive(room.pieces());
        assert!(matches!(half, Err(Stop::WouldBlock)));
        theirs.write_all(&got[30..]).unwrap();
        assert_eq!(link.receive(room.pieces()).unwrap(), 60);
    }

    #[test]
    fn frames_are_gathered_until_they_are_sent_or_many() {
        let (mut link, mut theirs) = pair(Prefix::Big32);
        theirs.set_nonblocking(true).unwrap();
        let mut got = vec![0; 4 * GATHERED];
        let mut taken = 0;
        let first = loop {
            link.send(Frame::cut(&[taken as u8; 1500], &[14]).pieces())
                .unwrap();
            taken += 1;
            match theirs.read(&mut got) {
                Ok(count) => break count,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        };
        // All but the last, which had no room beside them, and in one read.
        assert_eq!(
            (first, taken),
            (GATHERED / 1504 * 1504, GATHERED / 1504 + 1)
        );
        for (number, frame) in got[..first].chunks(1504).enumerate() {
            assert_eq!(frame[..4], 1500u32.to_be_bytes());
            assert_eq!(frame[4..], [number as u8; 1500]);
        }
        assert!(!link.has_rest(), "nobody waits for room");
        link.send_rest().unwrap();
        assert_eq!(theirs.read(&mut got).unwrap(), 1504);
    }

    #[test]
    fn what_is_seen_of_short_frames_ends_with_one() {
        let (mut link, mut theirs) = pair(Prefix::Big32);
        theirs.set_nonblocking(true).unwrap();
        let mut got = vec![0; 8 << 20];
        let mut is_full = false;
        for turn in 0..2 {
            // Until nothing more fits, and then what was left.
            for len in (14..1_514).cycle().step_by(97).take(8_000 * (1 - turn)) {
                let sent = link.send(Frame::room(len).pieces());
                is_full = matches!(sent, Err(Stop::WouldBlock));
                if is_full {
                    break;
                }
            }
            let _ = link.send_rest();
            let seen = theirs.read(&mut got).unwrap();
            let mut rest = &got[..seen];
            while let Some((prefix, more)) = rest.split_first_chunk() {
                rest = &more[u32::from_be_bytes(*prefix) as usize..];
            }
            assert!(rest.is_empty(), "a length is cut");
        }
        assert!(is_full);
    }

    #[test]
    fn a_full_stream_keeps_the_rest_and_loses_no_byte() {
        let (mut link, mut theirs) = pair(Prefix::Big32);
        let mut sent = 0u8;
        loop {
            // As a guest's that has changed its frame after a look at it.
            let mut changed = [sent; 50_000];
            changed[..20].fill(0xff);
            match link.send_copied(&[sent; 20], Frame::cut(&changed, &[14, 7]).pieces()) {
                Ok(()) => sent += 1,
                Err(Stop::WouldBlock) => break,
                Err(stop) => panic!("{stop:?}"),
            }
            assert!(sent < 250, "a socket without end");
        }
        // So that both ends of a frame are met, also with a socket that takes whole
        // ones.
        let reader = std::thread::spawn(move || {
            let mut frames = Vec::new();
            let mut head = [0; 4];
            while theirs.read_exact(&mut head).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(head) as usize];
                theirs.read_exact(&mut frame).unwrap();
                frames.push(frame);
            }
            frames
        });
        while link.has_rest() {
            let mut fds = [rustix::event::PollFd::new(
                &link.socket,
                rustix::event::PollFlags::OUT,
            )];
            rustix::event::poll(&mut fds, None).unwrap();
            match link.send_rest() {
                Ok(()) | Err(Stop::WouldBlock) => {}
                Err(stop) => panic!("{stop:?}"),
            }
        }
        drop(link);
        let frames = reader.join().unwrap();
        assert_eq!(frames.len(), usize::from(sent));
        for (number, frame) in (0..).zip(frames) {
            assert_eq!(frame, [number; 50_000]);
        }
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_link() {
        let (mut link, mut theirs) = pair(Prefix::Big32);
        theirs.write_all(&[0xff; 8]).unwrap();
        let ended = link.receive(Frame::room(LONGEST).pieces());
        let Err(Stop::Ended(Ended::Framing(bad))) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(bad.0, 0xffff_ffff);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_passed_over() {
        let (mut link, mut theirs) = pair(Prefix::Big32);
        for len in [13u32, 65_540, 60] {
            theirs.write_all(&len.to_be_bytes()).unwrap();
            theirs.write_all(&vec![1; len as usize]).unwrap();
        }
        for _ in 0..2 {
            let dropped = link.receive(Frame::room(LONGEST).pieces());
            assert!(matches!(dropped, Err(Stop::FrameSize)), "{dropped:?}");
        }
        assert_eq!(link.receive(Frame::room(LONGEST).pieces()).unwrap(), 60);
    }

    #[test]
    fn the_end_of_the_other_side_is_told_in_both_directions() {
        let (mut link, theirs) = pair(Prefix::Big32);
        drop(theirs);
        let ended = link.receive(Frame::room(LONGEST).pieces());
        assert!(matches!(ended, Err(Stop::Ended(Ended::Closed))));
        link.send(Frame::room(60).pieces()).unwrap();
        let ended = link.send_rest();
        assert!(matches!(ended, Err(Stop::Ended(Ended::Closed))));
        assert!(matches!(link.trouble(), Stop::Ended(Ended::Closed)));
    }
}
