//! The control queue: how many queue pairs the driver uses. VIRTIO 1.2 section
//! 5.1.6.5.

use device_model::GuestMemory;
use virtio_bindings::bindings::virtio_net as spec;
use virtio_queue::DescriptorChain;
use vm_memory::VolatileSlice;

use crate::chain::{Side, walk};
use crate::queue::{DeviceQueue, QueueError};

/// Class, command, and the number of queue pairs.
const COMMAND: usize = 4;
const SET_PAIRS: [u8; 2] = [
    spec::VIRTIO_NET_CTRL_MQ as u8,
    spec::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET as u8,
];

pub(crate) struct Control {
    pub(crate) queue: DeviceQueue,
    /// It is worth a look.
    pub(crate) ready: bool,
}

/// What the driver wants.
pub(crate) struct Command<'m> {
    head: u16,
    /// Where the answer goes, if there is a place.
    answer: Option<VolatileSlice<'m>>,
    /// The queue pairs to use from now on; `None`: something that is not offered.
    pub(crate) pairs: Option<u16>,
}

impl Control {
    pub(crate) fn new(queue: DeviceQueue) -> Self {
        Control { queue, ready: true }
    }

    /// The next command.
    pub(crate) fn next<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Option<Command<'m>>, QueueError> {
        let chain = self.queue.pop(memory)?;
        Ok(chain.map(|chain| parse(memory, chain)))
    }

    /// Says whether it was done.
    pub(crate) fn answer(
        &mut self,
        memory: &GuestMemory,
        command: &Command<'_>,
        done: bool,
    ) -> Result<(), QueueError> {
        let status = if done {
            spec::VIRTIO_NET_OK
        } else {
            spec::VIRTIO_NET_ERR
        };
        let mut written = 0;
        if let Some(answer) = &command.answer {
            answer.copy_from(&[status as u8]);
            written = 1;
        }
        self.queue.complete(memory, command.head, written)
    }
}

fn parse<'m>(memory: &'m GuestMemory, chain: DescriptorChain<&'m GuestMemory>) -> Command<'m> {
    let head = chain.head_index();
    let mut bytes = [0; COMMAND];
    let mut rest = bytes.as_mut_slice();
    let read = walk(memory, chain.clone(), Side::Readable, |_, slice| {
        let copied = slice.copy_to(rest);
        rest = &mut std::mem::take(&mut rest)[copied..];
    });
    let mut answer = None;
    walk(memory, chain, Side::Writable, |_, slice| {
        answer.get_or_insert(slice);
    });
    let [class, command, pairs @ ..] = bytes;
    let known = [class, command] == SET_PAIRS && read.is_some_and(|len| len >= COMMAND);
    Command {
        head,
        answer,
        pairs: known.then_some(u16::from_le_bytes(pairs)),
    }
}
