//! Several blobs into the cache, some at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use gvmi::Digest;
use tokio::time::timeout;

use crate::auth::Access;
use crate::cache::Found;
use crate::download::Download;
use crate::progress::Meter;
use crate::transport::{Target, Transport};
use crate::{Cache, Error, Progress, Reference};

/// Longest time for which another process may fetch a blob that we wait for.
/// Its own limits end it sooner when nothing moves.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);
/// How often a part is opened anew because another process has removed it.
const OPENS: u32 = 100;

impl Transport {
    pub(crate) async fn fetch(
        &self,
        reference: &Reference,
        blobs: &[(Digest, u64)],
        cache: &Cache,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let target = Target::of(reference, Access::Pull);
        let blobs = distinct(&target, blobs)?;
        let size = blobs.values().copied().fold(0, u64::saturating_add);
        self.afford(reference, size)?;
        let meter = Meter::new(&blobs, progress);
        let mut missing = Vec::new();
        for (digest, size) in &blobs {
            match hold(&target, cache, digest, *size)? {
                true => meter.set(digest, *size),
                false => missing.push((*digest, *size)),
            }
        }
        let (wanted, sizes): (BTreeSet<_>, Vec<_>) = missing.iter().copied().unzip();
        let bytes = sizes.into_iter().fold(0, u64::saturating_add);
        if let Some(digest) = wanted.first() {
            cached(cache, digest, cache.make_room(bytes, &wanted))?;
        }
        stream::iter(missing)
            .map(|(digest, size)| self.fetch_one(&target, digest, size, cache, &meter))
            .buffer_unordered(self.options.jobs.max(1))
            .try_collect()
            .await
    }

    async fn fetch_one(
        &self,
        target: &Target,
        digest: Digest,
        size: u64,
        cache: &Cache,
        meter: &Meter<'_>,
    ) -> Result<(), Error> {
        let target = target.blob(&digest);
        let Some(part) = part(&target, &digest, size, cache).await? else {
            meter.set(&digest, size);
            return Ok(());
        };
        let path = cache.part_path(&digest);
        let done = |done| meter.set(&digest, done);
        let download = Download {
            target,
            digest,
            size,
            file: &part,
            path: &path,
            done: &done,
        };
        match download.run(self).await {
            Ok(()) => cached(cache, &digest, cache.keep(&digest, part)),
            Err(error) => {
                // Nothing to go on from, and the error is what matters.
                if part.metadata().is_ok_and(|part| part.len() == 0) {
                    let _ = cache.discard(&digest);
                }
                Err(error)
            }
        }
    }
}

/// The part of a blob, for us alone; `None` when another process has brought
/// the whole meanwhile.
async fn part(
    target: &Target,
    digest: &Digest,
    size: u64,
    cache: &Cache,
) -> Result<Option<File>, Error> {
    for _ in 0..OPENS {
        let part = cached(cache, digest, cache.open_part(digest))?;
        let part = lock(target, cache, digest, part).await?;
        // Else it may be the whole by now, which is shared only when it is let
        // go here.
        let is_part = cached(cache, digest, cache.is_part(digest, &part))?;
        let part = is_part.then_some(part);
        if hold(target, cache, digest, size)? {
            if part.is_some() {
                cached(cache, digest, cache.discard(digest))?;
            }
            return Ok(None);
        }
        if part.is_some() {
            return Ok(part);
        }
    }
    let gone = io::Error::other("other processes keep removing it");
    cached(cache, digest, Err(gone))
}

/// Waits until no other process has the lock of `part`: on a thread, as the
/// system has no other way, which ends with the lock or the process.
async fn lock(target: &Target, cache: &Cache, digest: &Digest, part: File) -> Result<File, Error> {
    match part.try_lock() {
        Ok(()) => return Ok(part),
        Err(std::fs::TryLockError::WouldBlock) => {}
        Err(std::fs::TryLockError::Error(error)) => return cached(cache, digest, Err(error)),
    }
    let waiting = tokio::task::spawn_blocking(move || part.lock().map(|()| part));
    let Ok(locked) = timeout(MAX_WAIT, waiting).await else {
        return Err(Error::Busy {
            what: target.what.clone(),
            waited: MAX_WAIT,
        });
    };
    cached(
        cache,
        digest,
        locked.unwrap_or_else(|lost| Err(lost.into())),
    )
}

/// The blobs without those named twice, as layers of an image may be.
fn distinct(target: &Target, blobs: &[(Digest, u64)]) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut distinct = BTreeMap::new();
    for (digest, size) in blobs {
        let known = distinct.insert(*digest, *size);
        if known.is_some_and(|known| known != *size) {
            return Err(target.protocol(format!("names blob {digest} with two sizes")));
        }
    }
    Ok(distinct)
}

/// Whether the cache has a blob, which stays then.
fn hold(target: &Target, cache: &Cache, digest: &Digest, size: u64) -> Result<bool, Error> {
    match cached(cache, digest, cache.hold(digest, size))? {
        Found::Whole => Ok(true),
        Found::Nothing => Ok(false),
        Found::OtherSize(len) => Err(target.protocol(format!(
            "gives blob {digest} {size} bytes in the manifest, and it has {len}"
        ))),
    }
}

fn cached<T>(cache: &Cache, digest: &Digest, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::file(&cache.path(digest), source))
}
