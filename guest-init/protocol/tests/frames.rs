//! Frames survive any split of the stream, and nothing a peer writes makes the reader panic or grow.

use std::io::{self, ErrorKind, Read};

use guest_protocol::{
    FrameError, FrameKind, FrameReader, HEADER_LEN, MAX_DATA, MAX_REPLY, ProcessMessage, decode,
    frame_header, write_data, write_message,
};
use proptest::prelude::*;

/// Gives the bytes in pieces of the given sizes with `WouldBlock` between them.
struct Trickle {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    blocked: bool,
}

impl Read for Trickle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.blocked = !self.blocked;
        if self.blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        let piece = self.pieces.pop().unwrap_or(usize::MAX);
        let n = piece.min(into.len()).min(self.bytes.len());
        into[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes.drain(..n);
        Ok(n)
    }
}

/// All frames of a stream that blocks now and then.
fn read_all(stream: Trickle) -> Result<Vec<(FrameKind, Vec<u8>)>, FrameError> {
    let mut reader = FrameReader::new(stream, MAX_REPLY);
    let mut frames = Vec::new();
    loop {
        match reader.read_frame() {
            Ok(Some(frame)) => frames.push((frame.kind, frame.body.to_vec())),
            Ok(None) => return Ok(frames),
            Err(FrameError::Io(e)) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn data_kind() -> impl Strategy<Value = FrameKind> {
    prop_oneof![
        Just(FrameKind::Stdin),
        Just(FrameKind::Stdout),
        Just(FrameKind::Stderr),
        Just(FrameKind::File)
    ]
}

proptest! {
    #[test]
    fn frames_arrive_whole_however_the_stream_is_cut(
        frames in prop::collection::vec((data_kind(), prop::collection::vec(any::<u8>(), 1..300)), 0..8),
        pieces in prop::collection::vec(1_usize..50, 0..60),
    ) {
        let mut bytes = Vec::new();
        for (kind, body) in &frames {
            write_data(&mut bytes, *kind, body).unwrap();
        }
        let read = read_all(Trickle { bytes, pieces, blocked: false }).unwrap();
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn arbitrary_bytes_end_in_a_bounded_frame_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut reader = FrameReader::new(bytes.as_slice(), MAX_REPLY);
        while let Ok(Some(frame)) = reader.read_frame() {
            prop_assert!(frame.body.len() <= 400);
        }
    }
}

#[test]
fn stream_that_ends_inside_a_frame_is_truncated() {
    let mut bytes = Vec::new();
    write_data(&mut bytes, FrameKind::Stdout, b"hello").unwrap();
    for cut in 1..bytes.len() {
        let mut reader = FrameReader::new(&bytes[..cut], MAX_REPLY);
        assert!(
            matches!(reader.read_frame(), Err(FrameError::Truncated)),
            "cut at {cut}"
        );
    }
}

#[test]
fn length_beyond_the_limit_is_refused_before_the_body_is_read() {
    for (kind, limit) in [
        (FrameKind::Message, MAX_REPLY),
        (FrameKind::Stdout, MAX_DATA),
    ] {
        let header = frame_header(kind, limit + 1);
        let mut reader = FrameReader::new(header.as_slice(), MAX_REPLY);
        let error = reader.read_frame().unwrap_err();
        assert!(
            matches!(error, FrameError::TooLong { len, .. } if len == limit + 1),
            "{error}"
        );
    }
}

#[test]
fn unknown_kind_is_refused() {
    let mut reader = FrameReader::new([0, 0, 0, 0, 99].as_slice(), MAX_REPLY);
    assert!(matches!(
        reader.read_frame(),
        Err(FrameError::UnknownKind(99))
    ));
}

#[test]
fn empty_data_frame_is_refused() {
    let header = frame_header(FrameKind::Stdout, 0);
    let mut reader = FrameReader::new(header.as_slice(), MAX_REPLY);
    assert!(matches!(reader.read_frame(), Err(FrameError::EmptyData)));
}

#[test]
fn data_beyond_one_frame_is_split() {
    let data = vec![7; MAX_DATA + 1];
    let mut bytes = Vec::new();
    write_data(&mut bytes, FrameKind::File, &data).unwrap();
    assert_eq!(bytes.len(), data.len() + 2 * HEADER_LEN);
    let mut reader = FrameReader::new(bytes.as_slice(), MAX_REPLY);
    assert_eq!(reader.read_frame().unwrap().unwrap().body.len(), MAX_DATA);
    assert_eq!(reader.read_frame().unwrap().unwrap().body, [7]);
    assert_eq!(reader.read_frame().unwrap(), None);
}

#[test]
fn message_travels_in_a_frame() {
    let started = ProcessMessage::Started { pid: 17 };
    let mut bytes = Vec::new();
    write_message(&mut bytes, &started).unwrap();
    let mut reader = FrameReader::new(bytes.as_slice(), MAX_REPLY);
    let frame = reader.read_frame().unwrap().unwrap();
    assert_eq!(frame.kind, FrameKind::Message);
    assert_eq!(decode::<ProcessMessage>(frame.body).unwrap(), started);
}
