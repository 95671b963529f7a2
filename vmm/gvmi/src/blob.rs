//! Bytes in a file that may be read more than once: a layer in an archive of
//! `docker save`, a blob of an OCI layout, or of a cache.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A stretch of an open file. Cheap to clone; clones are read independently.
#[derive(Clone, Debug)]
pub struct Blob {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl Blob {
    /// The whole of `file`, as long as it is now.
    pub fn whole(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            start: 0,
            len,
        })
    }

    /// The `len` bytes from byte `start` of this stretch; `None` where it does
    /// not reach that far.
    pub fn slice(&self, start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| Self {
            file: self.file.clone(),
            start: self.start + start,
            len,
        })
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads it from its start.
    pub fn reader(&self) -> BlobReader {
        BlobReader {
            blob: self.clone(),
            at: 0,
        }
    }
}

/// Reads a [`Blob`] in order. Ends early where the file has been cut.
#[derive(Debug)]
pub struct BlobReader {
    blob: Blob,
    at: u64,
}

impl BlobReader {
    /// Passes over `len` bytes, or all there are when there are fewer, without
    /// reading them; returns how many.
    pub(crate) fn pass_over(&mut self, len: u64) -> u64 {
        let len = len.min(self.blob.len - self.at);
        self.at += len;
        len
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.len - self.at;
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let at = self.blob.start + self.at;
        let read = self.blob.file.read_at(&mut buf[..want], at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn slices_are_read_apart_and_end_where_they_should() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let whole = Blob::whole(file).unwrap();
        let middle = whole.slice(2, 6).unwrap().slice(1, 4).unwrap();
        let mut first = middle.reader();
        let mut byte = [0];
        first.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"3");
        let mut all = String::new();
        middle.reader().read_to_string(&mut all).unwrap();
        assert_eq!(all, "3456");
        all.clear();
        first.read_to_string(&mut all).unwrap();
        assert_eq!(all, "456");
        assert!(middle.slice(1, 4).is_none());
        assert!(middle.slice(u64::MAX, 2).is_none());
    }
}
