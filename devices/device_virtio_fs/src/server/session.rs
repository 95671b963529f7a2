//! The handshake and the end of a session.

use std::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use super::{Call, Done};
use crate::fs::Errno;
use crate::wire::{Flags, InitIn, InitMore, InitOut, InterruptIn, MAJOR, MINOR, OLDEST_MINOR};

/// Set in the server's session word while there is one. No feature has this bit.
pub(super) const OPEN: u64 = 1 << 63;

/// Pages of 4 KiB in one READ or WRITE: a mebibyte, and as many descriptors.
pub(crate) const MAX_PAGES: u16 = 256;
/// Bytes of them.
pub(super) const MAX_WRITE: u32 = MAX_PAGES as u32 * 4096;

/// Requests that the guest may have under way without a process that waits for
/// them: read-ahead and written-back pages. Many small ones, or as many large
/// ones as the queues hold.
const MAX_BACKGROUND: u16 = 64;

/// Offered in every session.
///
/// Not offered, and why: EXPORT_SUPPORT needs `.` and `..` to be looked up;
/// SUBMOUNTS needs mounts of the host to be told apart, and here they are plain
/// folders; POSIX_ACL needs the host to keep the guest's ACLs; the guest
/// applies its umask itself without DONT_MASK.
const FEATURES: &[Flags] = &[
    Flags::ASYNC_READ,
    Flags::POSIX_LOCKS,
    Flags::ATOMIC_O_TRUNC,
    Flags::BIG_WRITES,
    Flags::FLOCK_LOCKS,
    Flags::ASYNC_DIO,
    Flags::PARALLEL_DIROPS,
    Flags::MAX_PAGES,
    Flags::HANDLE_KILLPRIV_V2,
    Flags::SETXATTR_EXT,
    Flags::INIT_EXT,
    Flags::CREATE_SUPP_GROUP,
];

impl super::Server {
    /// The features of the session; `None` when there is none.
    pub(super) fn agreed(&self) -> Option<Flags> {
        let session = self.session.load(Ordering::Acquire);
        (session & OPEN != 0).then_some(Flags(session & !OPEN))
    }
}

impl Call<'_> {
    /// INIT. A second one means that the guest mounted anew without an end of
    /// the first session.
    pub(super) fn init(mut self) -> Result<usize, Errno> {
        let asked: InitIn = self.arguments.take()?;
        if asked.major > MAJOR {
            // The guest shall ask again in our version.
            let reply = InitOut {
                major: MAJOR,
                minor: MINOR,
                ..InitOut::default()
            };
            return self.put(reply.as_bytes());
        }
        if asked.major < MAJOR || asked.minor < OLDEST_MINOR {
            self.server.warnings.note(format_args!(
                "the guest speaks FUSE {}.{}: the oldest served is {MAJOR}.{OLDEST_MINOR}",
                asked.major, asked.minor
            ));
            return Err(Errno::PROTO);
        }
        let mut theirs = u64::from(asked.flags);
        if Flags(theirs).has(Flags::INIT_EXT) {
            theirs |= u64::from(self.arguments.take::<InitMore>()?.flags2) << 32;
        }
        let ours = Flags(Flags::of(FEATURES).0 | self.server.cache.features().0);
        let agreed = ours.and(Flags(theirs));

        self.server.reset();
        self.server
            .session
            .store(agreed.0 | OPEN, Ordering::Release);
        let reply = InitOut {
            major: MAJOR,
            minor: MINOR,
            max_readahead: asked.max_readahead,
            flags: agreed.0 as u32,
            max_background: MAX_BACKGROUND,
            congestion_threshold: MAX_BACKGROUND / 4 * 3,
            max_write: MAX_WRITE,
            // Nanoseconds.
            time_gran: 1,
            max_pages: MAX_PAGES,
            map_alignment: 0,
            flags2: (agreed.0 >> 32) as u32,
            unused: [0; 7],
        };
        self.put(reply.as_bytes())
    }

    /// DESTROY: the guest unmounted.
    pub(super) fn destroy(self) -> Result<usize, Errno> {
        self.server.reset();
        Ok(0)
    }

    /// INTERRUPT. There is no reply when the request ends by it; `EAGAIN` asks
    /// the guest to try again as long as the request is under way. Linux 6.12
    /// never sends this over virtio.
    pub(super) fn interrupt(mut self) -> Result<Done, Errno> {
        let asked: InterruptIn = self.arguments.take()?;
        if self.server.waiters.interrupt(asked.unique) {
            Ok(Done::Silent)
        } else {
            Err(Errno::AGAIN)
        }
    }
}
