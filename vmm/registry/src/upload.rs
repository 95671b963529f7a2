//! Pushing a blob: nothing when the repository has it, else one session with
//! the whole of it as a stream, as Docker does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use gvmi::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, RequestBuilder, Response, Url};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Error;
use crate::fault::broken;
use crate::retry::Retry;
use crate::transport::{Target, Transport, within};

/// Bytes of a file in memory at a time.
const CHUNK: usize = 128 << 10;
/// Longest time in which a registry puts a blob that it has in its place.
const COMMIT_TIME: Duration = Duration::from_secs(300);
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The body of a request.
pub(crate) enum Content<'a> {
    None,
    Bytes(Vec<u8>),
    /// The first `len` bytes of a file.
    File {
        file: Arc<File>,
        len: u64,
        /// Told how much of it has gone.
        sent: &'a dyn Fn(u64),
    },
}

/// What is pushed as a blob.
pub(crate) enum Source<'a> {
    Bytes(&'a [u8]),
    File {
        file: Arc<File>,
        len: u64,
        sent: &'a dyn Fn(u64),
    },
}

impl Content<'_> {
    /// Sends the request with this body, and waits for the head of the answer:
    /// as long as something moves, and `patience` after that.
    pub(crate) async fn transmit(
        &self,
        target: &Target,
        builder: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, Error> {
        let send = |builder: RequestBuilder| async {
            builder.send().await.map_err(|error| broken(target, error))
        };
        match self {
            Self::None => within(target, patience, send(builder)).await,
            Self::Bytes(bytes) => within(target, patience, send(builder.body(bytes.clone()))).await,
            Self::File { file, len, sent } => {
                let (told, mut moved) = watch::channel(0);
                let body = Body::wrap_stream(stream::iter(Chunks {
                    file: file.clone(),
                    at: 0,
                    len: *len,
                    told,
                }));
                let sending = send(builder.header(CONTENT_LENGTH, *len).body(body));
                let mut sending = std::pin::pin!(sending);
                loop {
                    tokio::select! {
                        biased;
                        answer = &mut sending => return answer,
                        change = timeout(patience, moved.changed()) => match change {
                            Ok(Ok(())) => sent(*moved.borrow_and_update()),
                            // All is sent.
                            Ok(Err(_)) => return within(target, patience, sending).await,
                            Err(_) => return Err(Error::Silent {
                                what: target.what.clone(),
                                registry: target.registry.clone(),
                                waited: patience,
                            }),
                        },
                    }
                }
            }
        }
    }
}

/// Reads a file piece by piece, and tells how far it is.
struct Chunks {
    file: Arc<File>,
    at: u64,
    len: u64,
    told: watch::Sender<u64>,
}

impl Iterator for Chunks {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return None;
        }
        let mut chunk = vec![0; CHUNK.min(left)];
        if let Err(error) = self.file.read_exact_at(&mut chunk, self.at) {
            return Some(Err(error));
        }
        self.at += chunk.len() as u64;
        self.told.send_replace(self.at);
        Some(Ok(chunk))
    }
}

impl Transport {
    /// Puts a blob into the repository of `target`.
    pub(crate) async fn push_blob(
        &self,
        target: &Target,
        digest: &Digest,
        source: &Source<'_>,
    ) -> Result<(), Error> {
        let target = target.blob(digest);
        if self.has_blob(&target, digest).await? {
            return Ok(());
        }
        let mut retry = Retry::new(&self.options);
        loop {
            match self.session(&target, digest, source).await {
                Ok(()) => return Ok(()),
                Err(error) => retry.wait(error).await?,
            }
        }
    }

    async fn has_blob(&self, target: &Target, digest: &Digest) -> Result<bool, Error> {
        let url = self.url(target, &format!("blobs/{digest}"))?;
        match self.send(target, &self.request(Method::HEAD, url)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One try to upload a blob: a session is opened, filled and closed.
    async fn session(
        &self,
        target: &Target,
        digest: &Digest,
        source: &Source<'_>,
    ) -> Result<(), Error> {
        let url = self.url(target, "blobs/uploads/")?;
        let mut request = self.request(Method::POST, url);
        request.headers.insert(CONTENT_LENGTH, 0.into());
        let opened = self.once(target, &request).await?;

        request = self.request(Method::PATCH, location(target, &opened)?);
        request.headers.insert(CONTENT_TYPE, OCTETS);
        request.content = match source {
            Source::Bytes(bytes) => Content::Bytes(bytes.to_vec()),
            Source::File { file, len, sent } => Content::File {
                file: file.clone(),
                len: *len,
                sent: *sent,
            },
        };
        let filled = self.once(target, &request).await?;

        let mut url = location(target, &filled)?;
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let mut request = self.request(Method::PUT, url);
        request.headers.insert(CONTENT_LENGTH, 0.into());
        request.patience = request.patience.max(COMMIT_TIME);
        let closed = self.once(target, &request).await?;
        same_digest(target, closed.headers(), digest)
    }
}

/// Where a session goes on. It may be on another host, which is not told who we
/// are; but not without TLS, when the registry has it.
fn location(target: &Target, response: &Response) -> Result<Url, Error> {
    let from = response.url();
    response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| from.join(location).ok())
        .filter(|url| url.scheme() == "https" || url.scheme() == from.scheme())
        .ok_or_else(|| target.protocol("does not say where to send a blob"))
}

/// Checks that the registry has what we sent, where it says what it has.
pub(crate) fn same_digest(
    target: &Target,
    headers: &HeaderMap,
    digest: &Digest,
) -> Result<(), Error> {
    let stored = headers
        .get("docker-content-digest")
        .and_then(|stored| stored.to_str().ok())
        .and_then(|stored| stored.parse::<Digest>().ok());
    match stored {
        Some(found) if found != *digest => Err(target.protocol(format!(
            "has stored something else, whose digest is {found}"
        ))),
        _ => Ok(()),
    }
}

/// The digest and the length of a file that is to be pushed.
pub(crate) fn digest_of(file: &File, path: &Path) -> Result<(Digest, u64), Error> {
    let mut hashed = crate::download::Hashed::new(file);
    hashed
        .take_all(u64::MAX)
        .map_err(|source| Error::file(path, source))?;
    Ok((hashed.digest(), hashed.len()))
}
