//! A queue in memory that the test writes itself.

use std::sync::atomic::AtomicUsize;

use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

const SIZE: u16 = 8;
const DESCRIPTORS: u32 = 0x1000;
const AVAIL: u32 = 0x2002;
const USED: u32 = 0x3000;

#[derive(Default)]
struct Interrupts(AtomicUsize);

impl Interrupt for Interrupts {
    fn notify_queue(&self, _index: u16) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn notify_config(&self) {}

    fn needs_reset(&self) {}
}

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
}

fn queue(used: u32, next_avail: u16, event_idx: bool) -> DeviceQueue {
    let mut queue = Queue::new(SIZE).unwrap();
    queue.set_desc_table_address(Some(DESCRIPTORS), None);
    queue.set_avail_ring_address(Some(AVAIL), None);
    queue.set_used_ring_address(Some(used), None);
    queue.set_next_avail(next_avail);
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    DeviceQueue::new(0, ActiveQueue { queue, kick })
}

fn word(memory: &GuestMemory, address: u32) -> u16 {
    memory.read_obj(GuestAddress(address.into())).unwrap()
}

#[test]
fn chain_that_comes_between_the_look_and_the_wish_for_a_kick_is_found() {
    let memory = memory();
    let last = u16::MAX;
    let index = AVAIL + 2;
    memory.write_obj(last, GuestAddress(index.into())).unwrap();
    // The used ring begins where the index is that says what is available: the flags
    // by which the device asks for kicks change it from the last number to the next,
    // at that very moment.
    let mut queue = queue(index, last, false);
    assert!(queue.pop(&memory).unwrap().is_some());
}

#[test]
fn chains_go_back_together() {
    let memory = memory();
    let mut queue = queue(USED, 0, true);
    for head in 0..3 {
        queue.complete(&memory, head, 100).unwrap();
        assert_eq!(word(&memory, USED + 2), 0);
    }
    queue.publish(&memory).unwrap();
    assert_eq!(word(&memory, USED + 2), 3);
    let heads = [0, 8, 16].map(|entry| word(&memory, USED + 4 + entry));
    assert_eq!(heads, [0, 1, 2]);
}

#[test]
fn driver_is_interrupted_when_the_buffer_that_it_named_is_used() {
    let memory = memory();
    let interrupts = Interrupts::default();
    let mut queue = queue(USED, 0, true);
    // Of the buffers to come it names the fourth: number 3.
    let event = AVAIL + 4 + 2 * u32::from(SIZE);
    memory.write_obj(3_u16, GuestAddress(event.into())).unwrap();
    let counts = [2, 1, 1, 2].map(|count| {
        for head in 0..count {
            queue.complete(&memory, head, 0).unwrap();
        }
        queue.notify(&memory, &interrupts).unwrap();
        interrupts.0.load(Ordering::Relaxed)
    });
    assert_eq!(counts, [0, 0, 1, 1]);
}
