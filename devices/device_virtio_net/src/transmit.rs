//! Frames of the guest: checked, and given to the backend where they lie. VIRTIO 1.2
//! section 5.1.6.2.

use device_model::GuestMemory;
use device_model::net::{Counter, MAX_FRAME_PIECES, NET_HEADER, NetCounters, NetError};
use virtio_queue::DescriptorChain;
use vm_memory::VolatileSlice;

use crate::chain::{Side, walk};
use crate::frontend::{Failure, Pause, Service};
use crate::header::Header;
use crate::queue::DeviceQueue;
use crate::{ETHERNET, FRAMES_PER_TURN};

/// The transmit queue of a pair.
pub(crate) struct Sender {
    pub(crate) queue: DeviceQueue,
    /// It is worth a try.
    pub(crate) ready: bool,
    /// The backend has taken a frame since it was flushed.
    unflushed: bool,
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy)]
enum Refusal {
    Chain,
    Length,
    Offload,
    Unused,
}

impl Refusal {
    fn counter(self, counters: &NetCounters) -> &Counter {
        match self {
            Refusal::Chain => &counters.sent_dropped_chain,
            Refusal::Length => &counters.sent_dropped_length,
            Refusal::Offload => &counters.sent_dropped_offload,
            Refusal::Unused => &counters.sent_dropped_unused,
        }
    }
}

/// A frame in its chain.
struct Frame {
    /// Where it begins among the pieces: with the header, which is the guest's no
    /// more.
    start: usize,
    header: Header,
    /// Bytes after the header.
    len: usize,
}

impl Sender {
    pub(crate) fn new(queue: DeviceQueue) -> Self {
        Sender {
            queue,
            ready: true,
            unflushed: false,
        }
    }

    /// Sends what the driver has on queue pair `pair`, or drops it when that is not
    /// in use.
    pub(crate) fn serve(
        &mut self,
        pair: u16,
        in_use: bool,
        service: &mut Service<'_>,
    ) -> Result<Pause, Failure> {
        let pause = self.send_frames(pair, in_use, service);
        // Also of a driver that has broken the queue since.
        if std::mem::take(&mut self.unflushed) {
            service.backend.flush(pair).map_err(Failure::Backend)?;
        }
        pause
    }

    fn send_frames(
        &mut self,
        pair: u16,
        in_use: bool,
        service: &mut Service<'_>,
    ) -> Result<Pause, Failure> {
        let mut header_bytes = [0; NET_HEADER];
        let header = VolatileSlice::from(header_bytes.as_mut_slice());
        let mut pieces = Vec::with_capacity(1 + MAX_FRAME_PIECES);
        for _ in 0..FRAMES_PER_TURN {
            if service.is_limited() {
                return Ok(service.wait_for_limit());
            }
            let Some(chain) = self.queue.pop(&service.guest.memory)? else {
                return Ok(Pause::Starved);
            };
            let head = chain.head_index();
            pieces.clear();
            pieces.push(header);
            let frame = if in_use {
                find_frame(chain, &mut pieces, service)
            } else {
                Err(Refusal::Unused)
            };
            let refusal = match frame {
                Err(refusal) => Some(refusal),
                Ok(frame) => {
                    header.copy_from(&frame.header.0);
                    let with_header = service.guest.card.info.header;
                    let start = frame.start + usize::from(!with_header);
                    let pieces = pieces.get(start..).unwrap_or_default();
                    match service.backend.send(pair, pieces) {
                        Ok(()) => {
                            self.unflushed = true;
                            service.passed(frame.len);
                            let counters = &service.guest.card.counters;
                            counters.sent_frames.add(1);
                            counters.sent_bytes.add(frame.len as u64);
                            None
                        }
                        Err(NetError::FrameSize) => Some(Refusal::Length),
                        Err(NetError::WouldBlock) => {
                            self.queue.unpop();
                            return Ok(Pause::Blocked);
                        }
                        Err(failed) => return Err(Failure::Backend(failed)),
                    }
                }
            };
            if let Some(refusal) = refusal {
                refusal.counter(&service.guest.card.counters).add(1);
            }
            self.queue.complete(&service.guest.memory, head, 0)?;
        }
        Ok(Pause::Budget)
    }
}

/// Adds the memory of `chain` to `pieces`, whose first is for the header, and finds
/// the frame in it.
fn find_frame<'m>(
    chain: DescriptorChain<&'m GuestMemory>,
    pieces: &mut Vec<VolatileSlice<'m>>,
    service: &Service<'m>,
) -> Result<Frame, Refusal> {
    let card = &service.guest.card;
    let total = walk(&service.guest.memory, chain, Side::Readable, |_, slice| {
        pieces.push(slice);
    });
    let total = total.ok_or(Refusal::Chain)?;
    let len = total.checked_sub(NET_HEADER).ok_or(Refusal::Length)?;
    if !(ETHERNET..=card.longest_frame()).contains(&len) {
        return Err(Refusal::Length);
    }
    let mut header = Header::default();
    let start = cut_header(pieces, &mut header);
    let sent = pieces.len() - start - usize::from(!card.info.header);
    if sent > MAX_FRAME_PIECES {
        return Err(Refusal::Chain);
    }
    if !header.may_be_sent(service.guest.agreed.send, len) {
        return Err(Refusal::Offload);
    }
    Ok(Frame {
        start,
        header: header.to_send(),
        len,
    })
}

/// Copies the header out of the pieces after the first, and puts the first right
/// before what follows it. Says where that is. There are enough bytes.
fn cut_header(pieces: &mut [VolatileSlice<'_>], header: &mut Header) -> usize {
    let own = pieces[0];
    let mut start = 0;
    let mut rest = header.0.as_mut_slice();
    for (index, piece) in pieces.iter_mut().enumerate().skip(1) {
        let copied = piece.copy_to(rest);
        rest = &mut rest[copied..];
        if copied < piece.len() {
            *piece = piece.offset(copied).expect("less than the piece is cut");
            break;
        }
        start = index;
    }
    pieces[start] = own;
    start
}
