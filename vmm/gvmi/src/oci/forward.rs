//! Bytes that are read in order, and partly passed over: of a file without
//! reading them, of a stream by reading them.

use std::io::{self, Read};

use crate::blob::Blob;

/// Bytes that can be passed over.
pub(crate) trait Forward: Read {
    /// Passes over `len` bytes, or all there are when there are fewer; returns
    /// how many.
    fn skip(&mut self, len: u64) -> io::Result<u64>;
}

/// Passes over bytes of a file without reading them.
pub(crate) struct Cursor<'a> {
    blob: &'a Blob,
    at: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(blob: &'a Blob) -> Self {
        Self { blob, at: 0 }
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = (buf.len() as u64).min(self.blob.len() - self.at);
        let rest = self
            .blob
            .slice(self.at, len)
            .expect("it is not beyond the end");
        let read = rest.reader().read(buf)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Forward for Cursor<'_> {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        let len = len.min(self.blob.len() - self.at);
        self.at += len;
        Ok(len)
    }
}

/// Passes over bytes of a stream by reading them.
pub(crate) struct Stream<R>(pub(crate) R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Forward for Stream<R> {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(len), &mut io::sink())
    }
}
