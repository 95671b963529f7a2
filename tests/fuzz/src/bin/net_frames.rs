//! The network plugin's frames on any stream, in pieces of any size.
//!
//! Holds: pieces change nothing; frames and the end are what a plain reader of the
//! whole stream finds; frames written again are what was read; there is always room for
//! more, and never more than a bounded one.

#![cfg_attr(fuzzing, no_main)]

use fuzz::Choices;
use shem_net::frames::{BadLength, Decoder, LONGEST_FRAME, Prefix};

fuzz::target!(check);

/// Streams are made of small inputs, and would grow without end.
const MAX_STREAM: usize = 1 << 20;
/// More than a decoder ever holds.
const MAX_ROOM: usize = 1 << 20;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let prefix = [Prefix::Big32, Prefix::Native16][usize::from(choices.byte() & 1)];
    let paces = [(); 4].map(|()| 1 + number(&mut choices));
    let stream = stream(prefix, choices);

    let found = decoded(prefix, &stream, paces);
    assert_eq!(found, plain(prefix, &stream));
    let mut written = Vec::new();
    for frame in &found.0 {
        written.extend_from_slice(prefix.head(frame.len()).expect("it was read").bytes());
        written.extend_from_slice(frame);
    }
    assert!(stream.starts_with(&written));
}

fn number(choices: &mut Choices<'_>) -> usize {
    usize::from(u16::from_be_bytes([choices.byte(), choices.byte()]))
}

/// Frames with a right length, which no input of a fuzzer is long enough for, and any
/// bytes.
fn stream(prefix: Prefix, mut choices: Choices<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while stream.len() < MAX_STREAM {
        let kind = choices.byte();
        if kind == 0 {
            break;
        }
        if kind < 128 {
            stream.extend_from_slice(choices.bytes(kind.into()));
            continue;
        }
        let len = number(&mut choices);
        let head = prefix.head(len).expect("a short one");
        stream.extend_from_slice(head.bytes());
        stream.resize(stream.len() + len, kind);
    }
    stream.extend_from_slice(choices.rest());
    stream
}

type Found = (Vec<Vec<u8>>, Option<BadLength>);

/// What the decoder finds.
fn decoded(prefix: Prefix, stream: &[u8], paces: [usize; 4]) -> Found {
    let mut decoder = Decoder::new(prefix);
    let (mut frames, mut rest, mut turn) = (Vec::new(), stream, 0);
    loop {
        let has_answer = decoder.has_answer();
        match decoder.frame() {
            Ok(Some(frame)) => {
                assert!(has_answer && (1..=LONGEST_FRAME).contains(&frame.len()));
                frames.push(frame.to_vec());
                continue;
            }
            Ok(None) => assert!(!has_answer),
            Err(bad) => return (frames, Some(bad)),
        }
        if rest.is_empty() {
            return (frames, None);
        }
        let room = decoder.room();
        assert!(!room.is_empty() && room.len() <= MAX_ROOM);
        let count = paces[turn % paces.len()].min(room.len()).min(rest.len());
        room[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
        turn += 1;
    }
}

/// What is there, read all at once.
fn plain(prefix: Prefix, mut stream: &[u8]) -> Found {
    let mut frames = Vec::new();
    loop {
        let size = if prefix == Prefix::Big32 { 4 } else { 2 };
        let Some((head, rest)) = stream.split_at_checked(size) else {
            return (frames, None);
        };
        let len = match *head {
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize,
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            _ => unreachable!("it has one of two sizes"),
        };
        if len == 0 || len > LONGEST_FRAME {
            return (frames, Some(BadLength(len)));
        }
        let Some((frame, rest)) = rest.split_at_checked(len) else {
            return (frames, None);
        };
        frames.push(frame.to_vec());
        stream = rest;
    }
}
