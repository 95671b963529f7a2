//! The FUSE server: takes one request at a time from any thread, checks it,
//! asks the [`FileSystem`], and puts the reply behind the place of its header.
//!
//! Knows neither queues nor files of the host. What every request is checked
//! for is checked here, before the operation's own function sees it: lengths,
//! whether there was a handshake, whether the volume may be changed, and
//! whether the reply will have room, so that nothing is done that could not be
//! told.

mod arguments;
mod attributes;
mod files;
mod folders;
mod locks;
mod names;
mod session;
mod waiters;
mod xattrs;

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use device_model::{FileAccess, Threads};

use crate::cache::Cache;
use crate::chain::Stream;
use crate::fs::{Caller, Errno, FileSystem, Node};
use crate::memory::Memory;
use crate::warnings::Warnings;
use crate::wire::{
    AttrOut, EntryOut, Flags, InHeader, InitOut, LkOut, LseekOut, Opcode, OpenOut, StatfsOut,
    StatxOut, WriteOut,
};
use arguments::Arguments;
pub(crate) use locks::LockRequest;
pub(crate) use session::MAX_PAGES;
pub(crate) use waiters::{Completion, Mailbox, Waiters};

/// Most bytes of a READ or a WRITE, in both directions: what the handshake
/// tells, and a page for transfers that are not aligned.
pub(crate) const MAX_TRANSFER: usize = session::MAX_WRITE as usize + 4096;

/// Most bytes of a request after its header, without the data of a WRITE. The
/// longest is an extended attribute of 64 KiB with its name.
const MAX_ARGUMENTS: usize = 72 << 10;

/// How the files are presented.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Name of the file system, for the log.
    pub tag: String,
    /// What the guest may keep.
    pub cache: Cache,
    /// Refuses every change with `EROFS`.
    pub read_only: bool,
}

/// Serves a file system to one guest.
pub struct Server {
    fs: Arc<dyn FileSystem>,
    cache: Cache,
    read_only: bool,
    /// What the handshake agreed on, with [`session::OPEN`]; 0 before it.
    session: AtomicU64,
    waiters: Waiters,
    warnings: Warnings,
}

/// What becomes of a request.
pub(crate) enum Answer {
    /// Nothing is to be told: the driver gets its buffers back.
    Silent,
    /// The number of bytes put after the reply's header, or the error.
    Reply {
        unique: u64,
        outcome: Result<usize, Errno>,
    },
    /// It waits for a lock, and its reply is an outcome without bytes.
    Waits { unique: u64, lock: LockRequest },
}

impl Server {
    /// Serves `fs`. Threads that wait for locks are started with `threads`.
    pub fn new(fs: Arc<dyn FileSystem>, options: ServerOptions, threads: Threads) -> Self {
        Server {
            waiters: Waiters::new(Arc::clone(&fs), threads),
            fs,
            cache: options.cache,
            read_only: options.read_only,
            session: AtomicU64::new(0),
            warnings: Warnings::new(&options.tag),
        }
    }

    /// Ends the session, if there is one, and everything that the guest had open.
    pub(crate) fn reset(&self) {
        if self.session.swap(0, Ordering::AcqRel) != 0 {
            self.fs.reset();
        }
    }

    /// What the threads that serve with it may do to files of the host.
    pub(crate) fn access(&self) -> FileAccess {
        self.fs.access()
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Serves the request in `sent`. `room` is for the reply after its header;
    /// `None` when there is no room for the header itself.
    pub(crate) fn serve(&self, mut sent: Stream<'_>, room: Option<Stream<'_>>) -> Answer {
        let Some(header) = sent.take::<InHeader>() else {
            self.warnings.note("a request without a whole header");
            return Answer::Silent;
        };
        let unique = header.unique;
        let outcome = match self.check(&header, &mut sent, room) {
            Ok(opcode) => self.carry_out(opcode, &header, sent, room),
            Err(errno) => Err(errno),
        };
        match outcome {
            Ok(Done::Waits(lock)) => Answer::Waits { unique, lock },
            Ok(Done::Silent) => Answer::Silent,
            Ok(Done::Put(bytes)) if room.is_some() => Answer::Reply {
                unique,
                outcome: Ok(bytes),
            },
            Err(errno) if room.is_some() => Answer::Reply {
                unique,
                outcome: Err(errno),
            },
            Ok(Done::Put(_)) | Err(_) => Answer::Silent,
        }
    }

    /// What holds for every operation. Leaves the arguments of the request in `sent`.
    fn check(
        &self,
        header: &InHeader,
        sent: &mut Stream<'_>,
        room: Option<Stream<'_>>,
    ) -> Result<Opcode, Errno> {
        let rest = (header.len as usize)
            .checked_sub(size_of::<InHeader>())
            .filter(|rest| *rest <= sent.len());
        let Some(rest) = rest else {
            self.warnings.note(format_args!(
                "a request of {} bytes that has {}",
                header.len,
                sent.len() + size_of::<InHeader>()
            ));
            return Err(Errno::INVAL);
        };
        *sent = sent.split_off_front(rest);
        let opcode = Opcode::new(header.opcode).ok_or(Errno::NOSYS)?;
        match room {
            Some(room) if room.len() >= reply_size(opcode) => {}
            _ if is_silent(opcode) => {}
            _ => {
                self.warnings
                    .note(format_args!("{opcode:?} without room for its reply"));
                return Err(Errno::IO);
            }
        }
        if opcode != Opcode::Init && self.agreed().is_none() {
            self.warnings
                .note(format_args!("{opcode:?} before the handshake"));
            return Err(Errno::IO);
        }
        if self.read_only && is_change(opcode) {
            return Err(Errno::ROFS);
        }
        Ok(opcode)
    }

    fn carry_out(
        &self,
        opcode: Opcode,
        header: &InHeader,
        mut sent: Stream<'_>,
        room: Option<Stream<'_>>,
    ) -> Result<Done, Errno> {
        // The data of a WRITE stays where it is; all else is copied, once.
        let copied = match opcode {
            Opcode::Write => sent.split_off_front(files::WRITE_ARGUMENTS),
            _ => std::mem::take(&mut sent),
        };
        if copied.len() > MAX_ARGUMENTS {
            return Err(Errno::TOOBIG);
        }
        let copied = copied.copy();
        let extensions = usize::from(header.total_extlen) * 8;
        let (arguments, extensions) = copied
            .len()
            .checked_sub(extensions)
            .and_then(|at| copied.split_at_checked(at))
            .ok_or(Errno::INVAL)?;
        let call = Call {
            server: self,
            agreed: self.agreed().unwrap_or_default(),
            header,
            arguments: Arguments::new(arguments),
            extensions,
            room: room.unwrap_or_default(),
        };
        let data = Memory::new(sent.pieces().collect());
        call.dispatch(opcode, &data)
    }
}

/// What an operation did.
enum Done {
    /// No reply, even where there is room for one.
    Silent,
    /// So many bytes are in the room of the reply.
    Put(usize),
    /// Nothing yet: the lock is taken by another.
    Waits(LockRequest),
}

/// One request, on its way to the file system.
struct Call<'a> {
    server: &'a Server,
    /// Features of the session.
    agreed: Flags,
    header: &'a InHeader,
    arguments: Arguments<'a>,
    extensions: &'a [u8],
    room: Stream<'a>,
}

impl Call<'_> {
    fn dispatch(self, opcode: Opcode, data: &Memory<'_>) -> Result<Done, Errno> {
        let put = match opcode {
            Opcode::Init => self.init(),
            Opcode::Destroy => self.destroy(),
            Opcode::Lookup => self.lookup(),
            Opcode::Getattr => self.getattr(),
            Opcode::Statx => self.statx(),
            Opcode::Setattr => self.setattr(),
            Opcode::Statfs => self.statfs(),
            Opcode::Syncfs => self.syncfs(),
            Opcode::Readlink => self.readlink(),
            Opcode::Symlink => self.symlink(),
            Opcode::Mknod => self.mknod(),
            Opcode::Mkdir => self.mkdir(),
            Opcode::Unlink => self.unlink(),
            Opcode::Rmdir => self.rmdir(),
            Opcode::Rename => self.rename(),
            Opcode::Rename2 => self.rename2(),
            Opcode::Link => self.link(),
            Opcode::Open => self.open(),
            Opcode::Create => self.create(),
            Opcode::Tmpfile => self.tmpfile(),
            Opcode::Read => self.read(),
            Opcode::Write => self.write(data),
            Opcode::Flush => self.flush(),
            Opcode::Release => self.release(),
            Opcode::Fsync => self.fsync(),
            Opcode::Lseek => self.lseek(),
            Opcode::Fallocate => self.fallocate(),
            Opcode::CopyFileRange => self.copy_file_range(),
            Opcode::Opendir => self.opendir(),
            Opcode::Readdir => self.readdir(),
            Opcode::Readdirplus => self.readdirplus(),
            Opcode::Releasedir => self.releasedir(),
            Opcode::Fsyncdir => self.fsyncdir(),
            Opcode::Setxattr => self.setxattr(),
            Opcode::Getxattr => self.getxattr(),
            Opcode::Listxattr => self.listxattr(),
            Opcode::Removexattr => self.removexattr(),
            Opcode::Getlk => self.getlk(),
            Opcode::Setlk => self.setlk(),
            Opcode::Setlkw => return self.setlkw(),
            Opcode::Interrupt => return self.interrupt(),
            Opcode::Forget => return self.forget(),
            Opcode::BatchForget => return self.batch_forget(),
        };
        put.map(Done::Put)
    }

    fn fs(&self) -> &dyn FileSystem {
        &*self.server.fs
    }

    fn node(&self) -> Node {
        Node(self.header.nodeid)
    }

    /// For whom an entry is made.
    fn caller(&self) -> Result<Caller, Errno> {
        let group = if self.agreed.has(Flags::CREATE_SUPP_GROUP) {
            arguments::supplementary_group(self.extensions)?
        } else {
            None
        };
        Ok(Caller {
            uid: self.header.uid,
            gid: self.header.gid,
            group,
        })
    }

    /// Puts the reply. Its room has been checked for most operations; where
    /// its length depends on the file system, `EIO` says that it was too small.
    fn put(&self, reply: &[u8]) -> Result<usize, Errno> {
        if reply.len() > self.room.len() {
            return Err(Errno::IO);
        }
        self.room.fill(reply);
        Ok(reply.len())
    }
}

/// Bytes after the header that every reply of the operation has at least.
fn reply_size(opcode: Opcode) -> usize {
    match opcode {
        Opcode::Init => size_of::<InitOut>(),
        Opcode::Lookup | Opcode::Symlink | Opcode::Mknod | Opcode::Mkdir | Opcode::Link => {
            size_of::<EntryOut>()
        }
        Opcode::Create | Opcode::Tmpfile => size_of::<EntryOut>() + size_of::<OpenOut>(),
        Opcode::Getattr | Opcode::Setattr => size_of::<AttrOut>(),
        Opcode::Statx => size_of::<StatxOut>(),
        Opcode::Statfs => size_of::<StatfsOut>(),
        Opcode::Open | Opcode::Opendir => size_of::<OpenOut>(),
        Opcode::Write | Opcode::CopyFileRange => size_of::<WriteOut>(),
        Opcode::Lseek => size_of::<LseekOut>(),
        Opcode::Getlk => size_of::<LkOut>(),
        _ => 0,
    }
}

/// Whether the operation has no reply.
fn is_silent(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt
    )
}

/// Whether the operation always changes something. An OPEN may, too: see there.
fn is_change(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Setattr
            | Opcode::Symlink
            | Opcode::Mknod
            | Opcode::Mkdir
            | Opcode::Unlink
            | Opcode::Rmdir
            | Opcode::Rename
            | Opcode::Rename2
            | Opcode::Link
            | Opcode::Create
            | Opcode::Tmpfile
            | Opcode::Write
            | Opcode::Fallocate
            | Opcode::CopyFileRange
            | Opcode::Setxattr
            | Opcode::Removexattr
    )
}
