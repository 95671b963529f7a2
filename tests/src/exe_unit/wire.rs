//! Protobuf by hand: what the messages of golem-runtime, section 2.2, are on the wire.

use std::collections::HashMap;

use super::{Answer, Message};

/// A number as protobuf has it: seven bits a byte, the last ones first.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Such a number, and the rest; `None` where it is not whole.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, &bytes[end + 1..]))
}

/// A field with a number.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field with bytes, or a message.
pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

/// A field with a text.
pub fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

impl Field<'_> {
    fn number(&self) -> u64 {
        match self {
            Field::Number(value) => *value,
            _ => panic!("it is no number"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            _ => panic!("it is no bytes"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("texts are UTF-8")
    }
}

fn fields(mut message: &[u8]) -> HashMap<u64, Field<'_>> {
    let mut found = HashMap::new();
    while !message.is_empty() {
        let (key, rest) = read_varint(message).expect("a key");
        let (field, rest) = match key & 7 {
            0 => {
                let (value, rest) = read_varint(rest).expect("a number");
                (Field::Number(value), rest)
            }
            1 => {
                let (value, rest) = rest.split_first_chunk::<8>().expect("a double");
                (Field::Double(f64::from_le_bytes(*value)), rest)
            }
            2 => {
                let (len, rest) = read_varint(rest).expect("a length");
                let (value, rest) = rest.split_at(len as usize);
                (Field::Bytes(value), rest)
            }
            wire => panic!("wire type {wire}"),
        };
        found.insert(key >> 3, field);
        message = rest;
    }
    found
}

/// A frame, as what it tells.
pub fn decode(frame: &[u8]) -> Message {
    let response = fields(frame);
    let id = response.get(&2).map_or(0, Field::number);
    let is_event = response.get(&1).map_or(0, Field::number) == 1;
    let command = response
        .keys()
        .find(|field| **field > 2)
        .expect("a command");
    let body = fields(response[command].bytes());
    let text = |field: u64| body.get(&field).map_or(String::new(), Field::text);
    let number = |field: u64| body.get(&field).map_or(0, Field::number);
    let data = |field: u64| {
        body.get(&field)
            .map_or(Vec::new(), |data| data.bytes().to_vec())
    };
    assert_eq!(
        is_event,
        matches!(command, 20 | 21),
        "{command} with event {is_event}"
    );
    assert!(!is_event || id == 0, "events have no id");
    let answer = match command {
        3 => Answer::Error(number(1), text(2)),
        4 => Answer::Hello(text(1)),
        10 => Answer::Run(number(1)),
        11 => Answer::Kill,
        12 => Answer::Shutdown,
        30 => {
            let kind = *body.keys().next().expect("an endpoint");
            Answer::Network(kind, text(kind))
        }
        20 => {
            let code = number(3) as i32;
            return Message::Status(number(1), number(2) == 1, code, data(4), data(5));
        }
        21 => {
            let counter = fields(body[&2].bytes());
            let value = match counter.get(&2) {
                Some(Field::Double(value)) => *value,
                // A zero is left out.
                None => 0.0,
                Some(_) => panic!("a counter is a double"),
            };
            return Message::Counter(counter[&1].text(), value);
        }
        other => panic!("a response has no field {other}"),
    };
    Message::Answer(id, answer)
}
