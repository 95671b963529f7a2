//! `runtime_api::FrameReader`: any stream of requests, in any pieces. It ends in an
//! error or with the stream, holds no more than the longest message, and what it read
//! is the same when it is written and read again.

#![cfg_attr(fuzzing, no_main)]

use std::io::{self, Read};

use runtime_api::{FrameError, FrameReader, Request, to_frame};

fuzz::target!(check);

/// A stream that gives its bytes in pieces of a size.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(self.size);
        self.bytes.read(&mut into[..len])
    }
}

fn check(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let size = usize::from(*size) + 1;
    let mut reader = FrameReader::<_, Request>::new(Pieces { bytes, size });
    loop {
        match reader.read() {
            Ok(Some(request)) => {
                let frame = to_frame(&request);
                let again = FrameReader::<_, Request>::new(frame.as_slice()).read();
                assert_eq!(again.expect("what was read can be written"), Some(request));
            }
            Err(FrameError::Malformed(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
