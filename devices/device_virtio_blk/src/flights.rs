//! Requests under way in an io_uring: from the first submission to the outcome.
//!
//! Knows no rings of the guest. A request is known by a number of ours, never
//! by the head of its chain: a driver may offer one chain twice, and then there
//! are two requests. There are at most as many as the queue has descriptors.

// UNSAFETY: the kernel reads and writes guest memory on its own, until it says
// that it is done.
#![expect(unsafe_code, reason = "submissions point at guest memory")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use device_model::GuestMemory;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{cqueue, opcode, squeue};
use vmm_sys_util::eventfd::EventFd;

use crate::backend::Slice;
use crate::disk::{Disk, Outcome, Range, Task};
use crate::request::Request;
use crate::ring::Ring;
use device_model::guest_io::Pieces;

/// Numbers of what is no request; those are below the size of a queue.
const WATCH: u64 = u64::MAX;
const UNWATCH: u64 = u64::MAX - 1;

/// A request of the driver and how far it is.
struct Flight<'m> {
    head: u16,
    status: Slice<'m>,
    stage: Stage,
}

/// What the kernel is doing for a request.
enum Stage {
    Transfer(Transfer),
    /// The last range is under way.
    Ranges {
        change: Change,
        left: Vec<Range>,
    },
    Flush,
}

struct Transfer {
    write: bool,
    pieces: Pieces,
    offset: u64,
    /// What the driver is told when it was a read.
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Discard,
    WriteZeroes,
}

/// What becomes of a request after a completion.
enum Next {
    Submit(Stage),
    End(Outcome),
}

/// A request that is over.
pub(crate) struct Landed<'m> {
    pub(crate) head: u16,
    pub(crate) status: Slice<'m>,
    pub(crate) outcome: Outcome,
}

/// All requests under way for one queue. Dropping it waits for them.
pub(crate) struct Flights<'m> {
    ring: &'m mut Ring,
    memory: &'m GuestMemory,
    disk: &'m Disk,
    write_through: bool,
    slots: Vec<Option<Flight<'m>>>,
    free: Vec<usize>,
    /// The descriptor that is watched, and whether the kernel still does.
    watched: Option<&'m EventFd>,
    watching: bool,
    unwatching: bool,
}

impl<'m> Flights<'m> {
    /// Room for `size` requests to `disk`, whose buffers are in `memory`.
    pub(crate) fn new(
        ring: &'m mut Ring,
        memory: &'m GuestMemory,
        disk: &'m Disk,
        write_through: bool,
        size: u16,
    ) -> Self {
        Flights {
            ring,
            memory,
            disk,
            write_through,
            slots: (0..size).map(|_| None).collect(),
            free: (0..usize::from(size)).collect(),
            watched: None,
            watching: false,
            unwatching: false,
        }
    }

    /// Whether another request can start.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Lets [`Flights::wait`] return whenever `event` is written.
    pub(crate) fn watch(&mut self, event: &'m EventFd) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(event.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(WATCH);
        // SAFETY: a poll points at no memory.
        unsafe { self.push(&entry) }?;
        self.watched = Some(event);
        self.watching = true;
        Ok(())
    }

    /// Starts a task of the chain with this head, if that may take time, and
    /// then gives nothing; or gives it back. There has to be room.
    pub(crate) fn start(
        &mut self,
        head: u16,
        status: Slice<'m>,
        task: Task,
        request: &Request<'_, 'm>,
    ) -> io::Result<Option<Task>> {
        let slices = match task {
            Task::Read { .. } => request.wanted,
            Task::Write { .. } => request.sent,
            _ => &[],
        };
        let Some(file) = self.disk.backend().file_for(slices) else {
            return Ok(Some(task));
        };
        let stage = match task {
            Task::Ended(_) => return Ok(Some(task)),
            Task::Read { offset, length } => Stage::Transfer(Transfer {
                write: false,
                pieces: Pieces::of(slices),
                offset,
                length,
            }),
            Task::Write { offset } => Stage::Transfer(Transfer {
                write: true,
                pieces: Pieces::of(slices),
                offset,
                length: 0,
            }),
            Task::Flush => Stage::Flush,
            Task::Discard(ranges) => changes(Change::Discard, ranges),
            Task::WriteZeroes(ranges) => changes(Change::WriteZeroes, ranges),
        };
        if stage.is_over() {
            // Of nothing: no call would make sense of it.
            return Ok(Some(Task::Ended(Outcome::Done(0))));
        }
        let slot = self.free.pop().ok_or(io::ErrorKind::ResourceBusy)?;
        let flight = Flight {
            head,
            status,
            stage,
        };
        if let Err(error) = self.submit(slot, file, flight) {
            self.free.push(slot);
            return Err(error);
        }
        Ok(None)
    }

    /// Waits until a request ends a stage or the watched event is written.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self.ring.0.submit_and_wait(1) {
            Ok(_) => Ok(()),
            // The kernel is short of something that completions give back, or
            // a signal came. What is not submitted yet is so the next time.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes what the kernel has completed; requests that are over by it are
    /// added to `landed`.
    pub(crate) fn reap(&mut self, landed: &mut Vec<Landed<'m>>) -> io::Result<()> {
        while let Some(completion) = self.take_completion() {
            match completion.user_data() {
                WATCH => {
                    // The kernel stops watching when it is short of memory.
                    if !self.watching
                        && !self.unwatching
                        && let Some(event) = self.watched
                    {
                        self.watch(event)?;
                    }
                }
                UNWATCH => {}
                slot => self.advance(slot as usize, completion.result(), landed)?,
            }
        }
        Ok(())
    }

    fn take_completion(&mut self) -> Option<cqueue::Entry> {
        let completion = self.ring.0.completion().next()?;
        match completion.user_data() {
            WATCH => self.watching = cqueue::more(completion.flags()),
            UNWATCH => self.unwatching = false,
            _ => {}
        }
        Some(completion)
    }

    /// Takes the request in `slot` to its next stage or its end.
    fn advance(
        &mut self,
        slot: usize,
        result: i32,
        landed: &mut Vec<Landed<'m>>,
    ) -> io::Result<()> {
        // The kernel completes what was submitted, once.
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::take) else {
            return Ok(());
        };
        let Flight {
            head,
            status,
            stage,
        } = flight;
        let outcome = match self.next(stage, result) {
            Next::End(outcome) => outcome,
            Next::Submit(stage) => match self.disk.backend().file_for(&[]) {
                Some(file) => {
                    let flight = Flight {
                        head,
                        status,
                        stage,
                    };
                    return self.submit(slot, file, flight);
                }
                None => Outcome::Failed,
            },
        };
        self.free.push(slot);
        landed.push(Landed {
            head,
            status,
            outcome,
        });
        Ok(())
    }

    /// What follows on a stage that ended with `result`, as the call it stands
    /// for returns it, errors being negative.
    fn next(&self, stage: Stage, result: i32) -> Next {
        if result == -libc::EINTR {
            return Next::Submit(stage);
        }
        let end = |what, written, outcome| Next::End(self.disk.finish(what, written, outcome));
        let error = || Err(io::Error::from_raw_os_error(-result));
        match stage {
            Stage::Transfer(mut transfer) => {
                let what = if transfer.write { "write" } else { "read" };
                match usize::try_from(result) {
                    Err(_) => return end(what, 0, error()),
                    Ok(0) => return end(what, 0, Err(io::ErrorKind::UnexpectedEof.into())),
                    Ok(moved) => {
                        transfer.pieces.advance(moved);
                        transfer.offset += moved as u64;
                    }
                }
                let length = transfer.length;
                let stage = Stage::Transfer(transfer);
                if stage.is_over() {
                    end(what, length, Ok(()))
                } else {
                    Next::Submit(stage)
                }
            }
            Stage::Ranges { change, mut left } => {
                let range = left.pop();
                let outcome = match (result, change, range) {
                    (0.., ..) => Ok(()),
                    // This storage cannot. It was only a hint, or can be written.
                    (REFUSED | UNKNOWN, Change::Discard, _) => Ok(()),
                    (REFUSED | UNKNOWN, Change::WriteZeroes, Some(range)) => {
                        let backend = self.disk.backend();
                        backend.write_zeroes(range.offset, range.length, range.unmap)
                    }
                    _ => error(),
                };
                let stage = Stage::Ranges { change, left };
                match outcome {
                    Ok(()) if !stage.is_over() => Next::Submit(stage),
                    Ok(()) if self.write_through => Next::Submit(Stage::Flush),
                    outcome => end("change of a range", 0, outcome),
                }
            }
            Stage::Flush => end("flush", 0, if result < 0 { error() } else { Ok(()) }),
        }
    }

    /// Hands a stage to the kernel, which from then on uses its memory.
    fn submit(&mut self, slot: usize, file: BorrowedFd<'_>, flight: Flight<'m>) -> io::Result<()> {
        let file = Fd(file.as_raw_fd());
        let entry = match &flight.stage {
            Stage::Transfer(transfer) => {
                let left = transfer.pieces.left();
                let (pieces, count) = (left.as_ptr(), left.len() as u32);
                if transfer.write {
                    let flags = if self.write_through {
                        libc::RWF_DSYNC
                    } else {
                        0
                    };
                    opcode::Writev::new(file, pieces, count)
                        .offset(transfer.offset)
                        .rw_flags(flags)
                        .build()
                } else {
                    opcode::Readv::new(file, pieces, count)
                        .offset(transfer.offset)
                        .build()
                }
            }
            Stage::Ranges { change, left } => {
                let (offset, length, unmap) = left.last().map_or((0, 0, false), |range| {
                    (range.offset, range.length, range.unmap)
                });
                let how = if unmap || *change == Change::Discard {
                    libc::FALLOC_FL_PUNCH_HOLE
                } else {
                    libc::FALLOC_FL_ZERO_RANGE
                };
                opcode::Fallocate::new(file, length)
                    .offset(offset)
                    .mode(how | libc::FALLOC_FL_KEEP_SIZE)
                    .build()
            }
            Stage::Flush => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the pieces are mapped guest memory, to which no reference
        // exists, and `drop` keeps it mapped until all requests have ended; the
        // list of pieces stays in the slot for as long.
        unsafe { self.push(&entry) }?;
        self.slots[slot] = Some(flight);
        Ok(())
    }

    /// # Safety
    /// What `entry` points at has to stay until its completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.0.submission().is_full() {
            self.ring.0.submit()?;
        }
        let mut submission = self.ring.0.submission();
        // SAFETY: as the caller promises.
        let pushed = unsafe { submission.push(entry) };
        pushed.map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// Whether the kernel has something of ours.
    fn is_busy(&self) -> bool {
        self.watching || self.unwatching || self.free.len() < self.slots.len()
    }

    /// Waits until the kernel has nothing of ours any more. Says whether the
    /// ring is as it was at first.
    pub(crate) fn land(mut self) -> bool {
        self.drain().is_ok()
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.is_busy() {
            // More than once when the event is written at the same moment: then
            // the kernel cannot let go of it.
            if self.watching && !self.unwatching {
                let entry = opcode::PollRemove::new(WATCH).build().user_data(UNWATCH);
                // SAFETY: it points at no memory.
                unsafe { self.push(&entry) }?;
                self.unwatching = true;
            }
            self.wait()?;
            while let Some(completion) = self.take_completion() {
                let slot = completion.user_data() as usize;
                if self.slots.get_mut(slot).and_then(Option::take).is_some() {
                    self.free.push(slot);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Flights<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.drain() {
            log::error!("a disk's io_uring failed: {error}");
            // The kernel may write to it at any time, so it has to stay for good.
            std::mem::forget(self.memory.clone());
        }
    }
}

const REFUSED: i32 = -libc::EOPNOTSUPP;
const UNKNOWN: i32 = -libc::EINVAL;

/// The ranges of a request, without empty ones, which no call takes; the last
/// one first, as they are taken off the end.
fn changes(change: Change, ranges: Vec<Range>) -> Stage {
    let mut left = ranges;
    left.retain(|range| range.length > 0);
    left.reverse();
    Stage::Ranges { change, left }
}

impl Stage {
    /// Nothing of it is left to do.
    fn is_over(&self) -> bool {
        match self {
            Stage::Transfer(transfer) => transfer.pieces.left().is_empty(),
            Stage::Ranges { left, .. } => left.is_empty(),
            Stage::Flush => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
