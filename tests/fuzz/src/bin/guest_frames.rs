//! The frame reader on any stream, in pieces of any size and with pauses.
//!
//! Holds: pieces and pauses change nothing; the frames, written again, are the
//! bytes that were read; no body exceeds the limit of its kind; the end is
//! clean only between frames.

#![cfg_attr(fuzzing, no_main)]

use std::io::{self, Read};

use fuzz::Choices;
use guest_protocol::{
    FrameError, FrameKind, FrameReader, HEADER_LEN, MAX_DATA, MAX_REPLY, MAX_REQUEST, frame_header,
};

fuzz::target!(check);

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let limit = [MAX_REPLY, MAX_REQUEST][usize::from(choices.byte() & 1)];
    let pace = choices.bytes(4);
    let stream = choices.rest();

    let whole = read_all(FrameReader::new(stream, limit), limit);
    let pieces = Pieces {
        data: stream,
        pace,
        turn: 0,
    };
    let pieces = read_all(FrameReader::new(pieces, limit), limit);
    assert_eq!(whole, pieces);
    let (read, end) = whole;
    assert!(stream.starts_with(&read));
    if end == "end" {
        assert_eq!(read.len(), stream.len());
    }
}

/// The frames of a stream, written again, and how it ended.
fn read_all<R: Read>(mut reader: FrameReader<R>, max_message: usize) -> (Vec<u8>, String) {
    let mut written = Vec::new();
    loop {
        match reader.read_frame() {
            Ok(Some(frame)) => {
                let limit = match frame.kind {
                    FrameKind::Message => max_message,
                    _ => MAX_DATA,
                };
                assert!(frame.body.len() <= limit);
                let header: [u8; HEADER_LEN] = frame_header(frame.kind, frame.body.len());
                written.extend(header);
                written.extend(frame.body);
            }
            Ok(None) => return (written, "end".to_owned()),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return (written, error.to_string()),
        }
    }
}

/// A stream that gives as many bytes at a time as `pace` says, in turn; for 0
/// it has none yet.
struct Pieces<'a> {
    data: &'a [u8],
    pace: &'a [u8],
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        // Every second turn gives something, so that all of it is read.
        let pace = self.pace.get(self.turn / 2 % 4).copied().unwrap_or(255);
        if pace == 0 && self.turn.is_multiple_of(2) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = usize::from(pace).max(1).min(buf.len());
        self.data.read(&mut buf[..len])
    }
}
