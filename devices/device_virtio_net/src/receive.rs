//! Frames to the guest: the driver's buffers of one queue, and what the backend
//! puts into them. VIRTIO 1.2 section 5.1.6.3 and 5.1.6.4.
//!
//! A backend is given room for its longest frame, which is mostly more than it needs.
//! The buffers for it are taken from the ring once and kept for as many frames as
//! they hold. Of them only as many are laid out as the next frame is likely to fill,
//! and host memory makes up what is missing. What a longer frame leaves there is
//! copied into the buffers after them. Where all of these are too small, the frame is
//! dropped, and they are used for the next one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use device_model::GuestMemory;
use device_model::net::{MAX_FRAME_PIECES, NET_HEADER, NetError};
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::chain::{Side, walk};
use crate::frontend::{Failure, Pause, Service};
use crate::header::Header;
use crate::queue::{DeviceQueue, QueueError};
use crate::{ETHERNET, FRAMES_PER_TURN, VLAN_TAG};

/// Chains taken from the ring in one turn, so that a driver that offers one useless
/// buffer after the other does not hold the event loop.
const CHAINS_PER_TURN: usize = 128;

/// The most pieces of guest memory for one frame: the header before it and the host
/// memory after it are pieces as well.
const MAX_GUEST_PIECES: usize = MAX_FRAME_PIECES - 2;

/// By what part of it the length that a frame is likely to have shrinks with each
/// frame that is shorter: by half in five.
const SHRINKAGE: usize = 8;

/// How long a frame waits for a driver that has had the room and does not make it
/// again.
const PATIENCE: Duration = Duration::from_secs(1);

/// The receive queue of a pair.
pub(crate) struct Receiver {
    pub(crate) queue: DeviceQueue,
    /// It is worth a try.
    pub(crate) ready: bool,
    /// Chains taken from the ring for the next frames, and their memory.
    chains: VecDeque<Chain>,
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The length of a frame that the next one is likely not to exceed.
    likely: usize,
    /// The driver has had room for the longest frame, so it will again: then the
    /// frame waits. A driver that never had is given what fits its buffers.
    roomy: bool,
    /// Until when it waits, if it does.
    patience: Option<Instant>,
}

/// A buffer as the driver made it available.
struct Chain {
    head: u16,
    bytes: usize,
    pieces: usize,
}

/// Guest memory in one run.
#[derive(Clone, Copy)]
struct Piece {
    address: GuestAddress,
    len: usize,
}

impl Piece {
    /// It without the first `skipped` bytes, of which there are no more than it has.
    fn after(self, skipped: usize, memory: &GuestMemory) -> VolatileSlice<'_> {
        GuestMemoryBackend::get_slice(memory, self.address, self.len)
            .expect("guest memory stays where it was when the chain was taken")
            .offset(skipped)
            .expect("no more than the piece is skipped")
    }
}

/// What the backend wrote.
struct Came<'a> {
    /// Bytes with its own header.
    len: usize,
    header: Header,
    /// Bytes of guest memory that were laid out for the frame.
    laid: usize,
    /// What it wrote after these, and older bytes.
    spill: VolatileSlice<'a>,
}

/// What there is room for a frame in.
enum Room {
    Enough,
    /// The driver has to offer more.
    TooLittle,
    /// The driver has to offer more until this time is up.
    NotYet(Duration),
    /// More may be there, after others have had their turn.
    Unknown,
}

impl Receiver {
    pub(crate) fn new(queue: DeviceQueue) -> Self {
        Receiver {
            queue,
            ready: true,
            chains: VecDeque::new(),
            pieces: VecDeque::new(),
            bytes: 0,
            likely: ETHERNET,
            roomy: false,
            patience: None,
        }
    }

    /// Passes on what the backend has for queue pair `pair`. `spill` is room for its
    /// longest frame.
    pub(crate) fn serve(
        &mut self,
        pair: u16,
        spill: &mut [u8],
        service: &mut Service<'_>,
    ) -> Result<Pause, Failure> {
        let memory = &service.guest.memory;
        let mut header_bytes = [0; NET_HEADER];
        let header = VolatileSlice::from(header_bytes.as_mut_slice());
        let spill = VolatileSlice::from(spill);
        let mut room = Vec::with_capacity(MAX_FRAME_PIECES);
        let mut takes = CHAINS_PER_TURN;
        for _ in 0..FRAMES_PER_TURN {
            if service.is_limited() {
                return Ok(service.wait_for_limit());
            }
            match self.stock_up(&mut takes, service)? {
                Room::Enough => {}
                Room::TooLittle => return Ok(Pause::Starved),
                Room::NotYet(wait) => return Ok(Pause::Wait(wait)),
                Room::Unknown => return Ok(Pause::Budget),
            }
            room.clear();
            if service.guest.card.info.header {
                room.push(header);
            }
            let laid = self.lay_out(memory, &mut room);
            let longest = service.guest.card.longest_frame();
            if laid < longest {
                let missing = spill.subslice(0, longest - laid);
                room.push(missing.expect("it has room for the longest frame"));
            }
            let len = match service.backend.receive(pair, &room) {
                Ok(len) => len,
                Err(NetError::WouldBlock) => return Ok(Pause::Blocked),
                Err(NetError::FrameSize) => {
                    service.guest.card.counters.received_dropped_length.add(1);
                    continue;
                }
                Err(failed) => return Err(Failure::Backend(failed)),
            };
            let mut copy = Header::default();
            if service.guest.card.info.header {
                header.copy_to(&mut copy.0);
            }
            let came = Came {
                len,
                header: copy,
                laid,
                spill,
            };
            self.deliver(&came, service)?;
        }
        Ok(Pause::Budget)
    }

    /// Takes chains from the ring until there is room for the longest frame.
    fn stock_up(&mut self, takes: &mut usize, service: &Service<'_>) -> Result<Room, QueueError> {
        let longest = NET_HEADER + service.guest.card.longest_frame();
        loop {
            if self.bytes >= longest {
                self.roomy = true;
                self.patience = None;
                return Ok(Room::Enough);
            }
            let full = self.pieces.len() >= MAX_GUEST_PIECES;
            if full || (!service.guest.agreed.mergeable && !self.chains.is_empty()) {
                return Ok(Room::Enough);
            }
            if *takes == 0 {
                return Ok(Room::Unknown);
            }
            *takes -= 1;
            if !self.take(service)? {
                return Ok(self.make_do(service.now));
            }
        }
    }

    /// What to do with less room than for the longest frame.
    fn make_do(&mut self, now: Instant) -> Room {
        if self.chains.is_empty() {
            return Room::TooLittle;
        }
        if self.roomy {
            let end = *self.patience.get_or_insert(now + PATIENCE);
            if now < end {
                return Room::NotYet(end - now);
            }
            self.roomy = false;
            self.patience = None;
        }
        Room::Enough
    }

    /// Takes a chain from the ring, or gives it back at once when it is of no use.
    /// False when there is none.
    fn take(&mut self, service: &Service<'_>) -> Result<bool, QueueError> {
        let memory = &service.guest.memory;
        let Some(chain) = self.queue.pop(memory)? else {
            return Ok(false);
        };
        let (head, before) = (chain.head_index(), self.pieces.len());
        let bytes = walk(memory, chain, Side::Writable, |address, slice| {
            let len = slice.len();
            self.pieces.push_back(Piece { address, len });
        });
        let pieces = self.pieces.len() - before;
        match bytes {
            Some(bytes) if bytes > NET_HEADER && pieces <= MAX_GUEST_PIECES => {
                self.bytes += bytes;
                self.chains.push_back(Chain {
                    head,
                    bytes,
                    pieces,
                });
            }
            _ => {
                self.pieces.truncate(before);
                service.guest.card.counters.refused_buffers.add(1);
                self.queue.complete(memory, head, 0)?;
            }
        }
        Ok(true)
    }

    /// Adds memory of the chains after the header to `room`, as much as a frame is
    /// likely to fill, and says how many bytes that is.
    fn lay_out<'m>(&self, memory: &'m GuestMemory, room: &mut Vec<VolatileSlice<'m>>) -> usize {
        let mut skip = NET_HEADER;
        let mut laid = 0;
        for piece in self.pieces.iter().take(MAX_GUEST_PIECES) {
            if laid >= self.likely {
                break;
            }
            let skipped = skip.min(piece.len);
            skip -= skipped;
            if skipped < piece.len {
                let slice = piece.after(skipped, memory);
                laid += slice.len();
                room.push(slice);
            }
        }
        laid
    }

    /// Gives the guest what the backend wrote.
    fn deliver(&mut self, came: &Came<'_>, service: &mut Service<'_>) -> Result<(), QueueError> {
        let header = came.header;
        let memory = &service.guest.memory;
        let card = &service.guest.card;
        let counters = &card.counters;
        let frame = came.len.checked_sub(card.own_header());
        let longest = match card.mtu {
            Some(mtu) if service.guest.agreed.mtu && header.is_whole() => card
                .longest_frame()
                .min(usize::from(mtu) + ETHERNET + VLAN_TAG),
            _ => card.longest_frame(),
        };
        let Some(frame) = frame.filter(|frame| (ETHERNET..=longest).contains(frame)) else {
            counters.received_dropped_length.add(1);
            return Ok(());
        };
        self.likely = frame.max(self.likely - self.likely / SHRINKAGE);
        let accepted = service.guest.agreed.receive;
        if !header.may_be_received(accepted) {
            counters.received_dropped_offload.add(1);
            return Ok(());
        }
        if NET_HEADER + frame > self.bytes {
            counters.received_dropped_room.add(1);
            return Ok(());
        }
        let mut left = NET_HEADER + frame;
        let fitting = self.chains.iter().take_while(|chain| {
            let needed = left > 0;
            left = left.saturating_sub(chain.bytes);
            needed
        });
        let count = fitting.count();
        let mut header = header.to_receive(accepted);
        header.set_buffers(count as u16);
        self.write(0, VolatileSlice::from(header.0.as_mut_slice()), memory);
        if let Some(rest) = frame.checked_sub(came.laid) {
            let rest = came.spill.subslice(0, rest);
            let rest = rest.expect("it has room for the longest frame");
            self.write(NET_HEADER + came.laid, rest, memory);
        }

        let mut left = NET_HEADER + frame;
        for chain in self.chains.drain(..count) {
            let used = left.min(chain.bytes);
            left -= used;
            self.bytes -= chain.bytes;
            self.pieces.drain(..chain.pieces);
            // At most the longest frame and its header.
            self.queue.complete(memory, chain.head, used as u32)?;
        }
        self.queue.publish(memory)?;
        service.passed(frame);
        counters.received_frames.add(1);
        counters.received_bytes.add(frame as u64);
        Ok(())
    }

    /// Writes `bytes` to the memory of the chains, from its byte `at` on.
    fn write(&self, mut at: usize, mut bytes: VolatileSlice<'_>, memory: &GuestMemory) {
        for piece in &self.pieces {
            if bytes.is_empty() {
                break;
            }
            let skipped = at.min(piece.len);
            at -= skipped;
            if skipped < piece.len {
                let slice = piece.after(skipped, memory);
                bytes.copy_to_volatile_slice(slice);
                let copied = slice.len().min(bytes.len());
                bytes = bytes.offset(copied).expect("no more than all is copied");
            }
        }
    }
}
