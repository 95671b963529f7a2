//! Frames: the length of a message as a protobuf varint, then the message.

use std::io::{self, ErrorKind, Read};
use std::marker::PhantomData;

use prost::{DecodeError, Message};

/// Longest message that is read, in bytes: more than Linux takes as the arguments
/// of a program, and than a runtime sends in one event.
pub const MAX_FRAME: usize = 4 << 20;

/// Most bytes of a length below [`MAX_FRAME`], seven bits each. A length may be
/// written with more than it needs.
const MAX_VARINT: u32 = 10;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("read a message")]
    Io(#[source] io::Error),
    /// The stream ended within a message.
    #[error("the stream ends in the middle of a message")]
    Truncated,
    /// Where a length should be is none, and where the next message begins is
    /// not known any more.
    #[error("the length of a message is no number")]
    Length,
    /// The message would be too long; where the next one begins is not looked for.
    #[error("a message of {len} bytes: the longest has {MAX_FRAME}")]
    TooLong {
        /// As it was announced.
        len: u64,
    },
    /// What came is no message of that kind. The next one can be read.
    #[error("a message that is not one of the Runtime API's")]
    Malformed(#[source] DecodeError),
}

/// Reads messages of one kind.
#[derive(Debug)]
pub struct FrameReader<R, M> {
    stream: R,
    /// Kept over messages, so that a stream of them allocates once.
    body: Vec<u8>,
    kind: PhantomData<M>,
}

impl<R: Read, M: Message + Default> FrameReader<R, M> {
    /// Reads from `stream`, which is to have a buffer of its own.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            body: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Waits for the next message; `None` when the stream ended between two.
    ///
    /// # Errors
    /// All but [`FrameError::Malformed`] are final.
    pub fn read(&mut self) -> Result<Option<M>, FrameError> {
        let Some(len) = self.read_len()? else {
            return Ok(None);
        };
        let len = match usize::try_from(len) {
            Ok(len) if len <= MAX_FRAME => len,
            _ => return Err(FrameError::TooLong { len }),
        };
        self.body.resize(len, 0);
        self.stream
            .read_exact(&mut self.body)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => FrameError::Truncated,
                _ => FrameError::Io(error),
            })?;
        M::decode(self.body.as_slice())
            .map(Some)
            .map_err(FrameError::Malformed)
    }

    fn read_len(&mut self) -> Result<Option<u64>, FrameError> {
        let mut len = 0_u64;
        for index in 0..MAX_VARINT {
            let Some(byte) = self.read_byte()? else {
                return match index {
                    0 => Ok(None),
                    _ => Err(FrameError::Truncated),
                };
            };
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return Err(FrameError::Length);
            }
            len |= shifted;
            if byte & 0x80 == 0 {
                return Ok(Some(len));
            }
        }
        Err(FrameError::Length)
    }

    fn read_byte(&mut self) -> Result<Option<u8>, FrameError> {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(FrameError::Io(error)),
            }
        }
    }
}

/// The bytes of a message and its length, to be written in one piece.
pub fn to_frame(message: &impl Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::{Command, CreateNetwork, Hello, RunProcess, Shutdown};
    use crate::{Network, NetworkInterface, ProcessStatus, Request, Response, response};

    fn request(id: u64, command: Command) -> Request {
        let command = Some(command);
        Request { id, command }
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Request>, FrameError> {
        let mut reader = FrameReader::new(bytes);
        std::iter::from_fn(|| reader.read().transpose()).collect()
    }

    /// The bytes that Golem's own exe-unit and runtime sent: golem-runtime 2.3.
    #[test]
    fn requests_of_exe_unit_are_understood_to_the_byte() {
        let hello = b"\x0b\x08\x02\x12\x07\x0a\x050.1.0";
        let run = b"\x1e\x08\x03\x52\x1a\x0a\x07/bin/sh\x12\x02sh\x12\x02-c\x12\x07echo hi";
        let network = b"\x3c\x08\x03\xf2\x01\x37\x0a\x33\x0a\x0a10.42.42.1\x12\x0a10.42.42.1\x1a\x0d255.255.255.0\x22\x0a10.42.42.2\x18\x01";
        let shutdown = b"\x04\x08\x04\x62\x00";
        let version = "0.1.0".into();
        let args = ["sh", "-c", "echo hi"].map(String::from).into();
        let expected = [
            request(2, Command::Hello(Hello { version })),
            request(
                3,
                Command::Run(RunProcess {
                    bin: "/bin/sh".into(),
                    args,
                    ..RunProcess::default()
                }),
            ),
            request(
                3,
                Command::Network(CreateNetwork {
                    networks: vec![Network {
                        addr: "10.42.42.1".into(),
                        gateway: "10.42.42.1".into(),
                        mask: "255.255.255.0".into(),
                        if_addr: "10.42.42.2".into(),
                    }],
                    interface: NetworkInterface::Inet.into(),
                    ..CreateNetwork::default()
                }),
            ),
            request(4, Command::Shutdown(Shutdown {})),
        ];
        let bytes = [&hello[..], run, network, shutdown].concat();
        assert_eq!(read_all(&bytes).unwrap(), expected);
        let written: Vec<u8> = expected.iter().flat_map(to_frame).collect();
        assert_eq!(written, bytes);
    }

    #[test]
    fn responses_are_those_that_exe_unit_understands() {
        let response = |id, command| Response {
            event: false,
            id,
            command: Some(command),
        };
        let event = |status| Response {
            event: true,
            id: 0,
            command: Some(response::Command::Status(status)),
        };
        let hello = response::Hello {
            version: "0.5.2".into(),
        };
        let endpoint = response::CreateNetwork {
            endpoint: Some(response::create_network::Endpoint::UdpDatagram(
                "127.0.0.1:60113".into(),
            )),
        };
        let exit = ProcessStatus {
            pid: 1,
            ..ProcessStatus::default()
        };
        for (message, bytes) in [
            (
                response(2, response::Command::Hello(hello)),
                &b"\x0b\x10\x02\x22\x07\x0a\x050.5.2"[..],
            ),
            (
                response(4, response::Command::Run(response::RunProcess { pid: 1 })),
                b"\x06\x10\x04\x52\x02\x08\x01",
            ),
            (event(exit), b"\x07\x08\x01\xa2\x01\x02\x08\x01"),
            (
                response(3, response::Command::Network(endpoint)),
                b"\x16\x10\x03\xf2\x01\x11\x1a\x0f127.0.0.1:60113",
            ),
        ] {
            assert_eq!(to_frame(&message), bytes);
        }
    }

    #[test]
    fn broken_streams_are_told_apart() {
        let whole = to_frame(&request(2, Command::Shutdown(Shutdown {})));
        assert!(matches!(
            read_all(&whole[..whole.len() - 1]),
            Err(FrameError::Truncated)
        ));
        assert!(matches!(read_all(&[0x80]), Err(FrameError::Truncated)));
        assert!(matches!(read_all(&[0xff; 11]), Err(FrameError::Length)));
        let too_long = [0x81, 0x80, 0x80, 0x02];
        assert!(matches!(
            read_all(&too_long),
            Err(FrameError::TooLong { len: 0x40_0001 })
        ));
        assert!(read_all(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_message_is_skipped() {
        let mut bytes = vec![2, 0xff, 0xff];
        let good = request(7, Command::Shutdown(Shutdown {}));
        bytes.extend(to_frame(&good));
        let mut reader = FrameReader::<_, Request>::new(bytes.as_slice());
        assert!(matches!(reader.read(), Err(FrameError::Malformed(_))));
        assert_eq!(reader.read().unwrap(), Some(good));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_an_error(bytes: Vec<u8>) {
            let mut reader = FrameReader::<_, Request>::new(bytes.as_slice());
            // Each message takes at least a byte.
            for _ in 0..=bytes.len() {
                match reader.read() {
                    Ok(Some(_)) | Err(FrameError::Malformed(_)) => {}
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            prop_assert!(false, "it does not end");
        }
    }
}
