//! One blob into one file: from where it ended before, checked by its digest,
//! and never longer than it should be.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gvmi::Digest;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::error::Cause;
use crate::fault::broken;
use crate::retry::Retry;
use crate::transport::{Target, Transport, within};

/// Bytes of a file in memory at a time, when it is read again.
const CHUNK: usize = 128 << 10;
/// Bytes that a request has to bring so that faults are counted anew. A
/// registry could else have us ask once for each byte.
const STEP: u64 = 1 << 20;

/// A blob, and the file that it goes to.
pub(crate) struct Download<'a> {
    pub(crate) target: Target,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) file: &'a File,
    /// For errors.
    pub(crate) path: &'a Path,
    /// Told how many bytes are there.
    pub(crate) done: &'a dyn Fn(u64),
}

/// The start of a file, hashed as far as it was read or written.
pub(crate) struct Hashed<'a> {
    file: &'a File,
    hasher: Sha256,
    len: u64,
}

impl<'a> Hashed<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self {
            file,
            hasher: Sha256::new(),
            len: 0,
        }
    }

    /// Reads what is there already, up to `limit` bytes in all.
    pub(crate) fn take_all(&mut self, limit: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let left = usize::try_from(limit - self.len).unwrap_or(usize::MAX);
            let want = CHUNK.min(left);
            let read = match self.file.read_at(&mut buffer[..want], self.len) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..read]);
            self.len += read as u64;
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        *self = Self::new(self.file);
        Ok(())
    }

    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().into()
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

impl Download<'_> {
    /// Completes the file. After an error it holds what may be gone on from, or
    /// nothing.
    pub(crate) async fn run(&self, transport: &Transport) -> Result<(), Error> {
        let mut there = Hashed::new(self.file);
        self.io(self.adopt(&mut there))?;
        // What an earlier process left may be damaged, which is nobody's fault
        // and seen only in the end.
        let mut inherited = there.len > 0;
        let mut retry = Retry::new(&transport.options);
        loop {
            (self.done)(there.len);
            let before = there.len;
            if let Err(error) = self.rest(transport, &mut there).await {
                if there.len >= before.saturating_add(STEP) {
                    retry.reset();
                }
                retry.wait(error).await?;
                continue;
            }
            let found = there.digest();
            if found == self.digest {
                return Ok(());
            }
            self.io(there.clear())?;
            if !std::mem::take(&mut inherited) {
                return Err(Error::WrongDigest {
                    what: self.target.what.clone(),
                    registry: self.target.registry.clone(),
                    found,
                });
            }
        }
    }

    fn adopt(&self, there: &mut Hashed<'_>) -> io::Result<()> {
        match self.file.metadata()?.len() > self.size {
            true => there.clear(),
            false => there.take_all(self.size),
        }
    }

    /// Fetches what is missing, by one request.
    async fn rest(&self, transport: &Transport, there: &mut Hashed<'_>) -> Result<(), Error> {
        if there.len == self.size {
            return Ok(());
        }
        let url = transport.url(&self.target, &format!("blobs/{}", self.digest))?;
        let mut request = transport.request(Method::GET, url);
        if there.len > 0 {
            let range = format!("bytes={}-", there.len);
            let range = HeaderValue::from_str(&range).expect("digits are a header");
            request.headers.insert(RANGE, range);
        }
        let mut response = match transport.once(&self.target, &request).await {
            Err(Error::Status { status: 416, .. }) if there.len > 0 => {
                self.io(there.clear())?;
                return Err(self.truncated(there, Cause("it cannot go on within a blob".into())));
            }
            response => response?,
        };
        self.place(&response, there)?;
        loop {
            let chunk = async { Ok(response.chunk().await) };
            let chunk = within(&self.target, transport.options.idle_timeout, chunk).await?;
            let chunk = chunk.map_err(|error| match broken(&self.target, error) {
                Error::Broken { source, .. } => self.truncated(there, source),
                other => other,
            })?;
            let Some(chunk) = chunk else {
                break;
            };
            if chunk.len() as u64 > self.size - there.len {
                self.io(there.clear())?;
                return Err(self.wrong_size());
            }
            self.io(there.push(&chunk))?;
            (self.done)(there.len);
        }
        match there.len == self.size {
            true => Ok(()),
            false => Err(self.truncated(there, Cause("the answer ended early".into()))),
        }
    }

    /// Makes the file end where the answer starts.
    fn place(&self, response: &Response, there: &mut Hashed<'_>) -> Result<(), Error> {
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE);
            let range = range.and_then(|range| parse_range(range.to_str().ok()?));
            return match range {
                Some((start, total)) if start == there.len => match total {
                    Some(total) if total != self.size => Err(self.wrong_size()),
                    _ => Ok(()),
                },
                _ => Err(self
                    .target
                    .protocol("sends another part of a blob than was asked for")),
            };
        }
        // The whole, also when a part was asked for.
        self.io(there.clear())?;
        match response.content_length() {
            Some(len) if len != self.size => Err(self.wrong_size()),
            _ => Ok(()),
        }
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::file(self.path, source))
    }

    fn wrong_size(&self) -> Error {
        Error::WrongSize {
            what: self.target.what.clone(),
            registry: self.target.registry.clone(),
            size: self.size,
        }
    }

    fn truncated(&self, there: &Hashed<'_>, source: Cause) -> Error {
        Error::Truncated {
            what: self.target.what.clone(),
            registry: self.target.registry.clone(),
            got: there.len,
            size: self.size,
            source,
        }
    }
}

/// Start and total length of `bytes START-END/TOTAL`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}
