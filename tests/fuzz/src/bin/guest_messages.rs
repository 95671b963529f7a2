//! Every message of the agent's protocol, and the boot configuration, decoded
//! from any bytes. The first byte says which.
//!
//! Holds: what is decoded can be encoded, is accepted again and is the same;
//! what is refused is refused in one line.

#![cfg_attr(fuzzing, no_main)]

use std::fmt::Debug;

use guest_protocol::{
    Answer, BootConfig, Done, Failure, FileMessage, FileRequest, FrameReader, FromAgent, Hello,
    MAX_REQUEST, Message, MessageError, Open, ProcessMessage, ProcessRequest, Request, decode,
    encode,
};

fuzz::target!(check);

fn check(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 11 {
        0 => message::<Open>(body),
        1 => message::<ProcessMessage>(body),
        2 => message::<ProcessRequest>(body),
        3 => message::<FileRequest>(body),
        4 => message::<FileMessage>(body),
        5 => message::<Done>(body),
        6 => message::<Request>(body),
        7 => message::<FromAgent>(body),
        8 => message::<Failure>(body),
        9 => {
            greeting(body, Hello::decode, |hello, out| hello.write_to(out));
            greeting(body, Answer::decode, |answer, out| answer.write_to(out));
        }
        _ => boot_config(body),
    }
}

fn message<M: Message + PartialEq + Debug>(body: &[u8]) {
    let Some(message) = accepted(decode::<M>(body)) else {
        return;
    };
    let encoded = encode(&message).expect("what was decoded is within the limits");
    let again: M = decode(&encoded).expect("what was encoded is decoded");
    assert_eq!(again, message);
}

/// A message with magic and version in front. Half of the inputs are given
/// both, which a fuzzer would not guess.
fn greeting<M: PartialEq + Debug>(
    body: &[u8],
    decode: fn(&[u8]) -> Result<M, MessageError>,
    write: fn(&M, &mut Vec<u8>) -> Result<(), guest_protocol::FrameError>,
) {
    let Some(message) = accepted(decode(&versioned(body))) else {
        return;
    };
    let mut frame = Vec::new();
    write(&message, &mut frame).expect("what was decoded is within the limits");
    let mut reader = FrameReader::new(&frame[..], MAX_REQUEST);
    let frame = reader.read_frame().expect("what was written is read");
    let frame = frame.expect("something was written");
    assert_eq!(decode(frame.body).expect("and decoded"), message);
}

fn boot_config(body: &[u8]) {
    let Some(config) = accepted(BootConfig::decode(&versioned(body))) else {
        return;
    };
    let encoded = config
        .encode()
        .expect("what was decoded is within the limits");
    let again = BootConfig::decode(&encoded).expect("what was encoded is decoded");
    assert_eq!(again, config);
}

fn versioned(body: &[u8]) -> Vec<u8> {
    match body.split_first() {
        Some((flag, rest)) if flag & 1 == 1 => {
            let version = guest_protocol::VERSION.to_le_bytes();
            [b"shem".as_slice(), &version, rest].concat()
        }
        _ => body.to_vec(),
    }
}

fn accepted<M>(result: Result<M, MessageError>) -> Option<M> {
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
    result.ok()
}
