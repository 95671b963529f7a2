//! A reader that counts and, when asked to, hashes what passes.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

pub(crate) struct Tap<R> {
    source: R,
    hasher: Option<Sha256>,
    count: u64,
}

impl<R: Read> Tap<R> {
    pub(crate) fn new(source: R, hash: bool) -> Self {
        Self {
            source,
            hasher: hash.then(Sha256::new),
            count: 0,
        }
    }

    /// Bytes that have passed.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.source
    }

    /// What was read from, and the digest of what has passed if that was
    /// asked for.
    pub(crate) fn finish(self) -> (R, Option<Digest>) {
        (self.source, self.hasher.map(Digest::from))
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buf)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..len]);
        }
        self.count += len as u64;
        Ok(len)
    }
}
