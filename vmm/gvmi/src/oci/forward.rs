//! Bytes that are read in order, and partly passed over: of a file without
//! reading them, of a stream by reading them.

use std::io::{self, Read};

use crate::blob::BlobReader;
use crate::decode::Decoder;

/// Bytes that can be passed over.
pub(crate) trait Forward: Read {
    /// Passes over `len` bytes, or all there are when there are fewer; returns
    /// how many.
    fn skip(&mut self, len: u64) -> io::Result<u64>;
}

impl Forward for BlobReader {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        Ok(self.pass_over(len))
    }
}

impl<R: Read> Forward for Decoder<R> {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        io::copy(&mut self.take(len), &mut io::sink())
    }
}
