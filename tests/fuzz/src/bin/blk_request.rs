//! The block device's queue on any descriptors, rings and request headers.
//!
//! Holds: every chain that is taken comes back, but the one that ends the
//! queue; the storage is never asked for anything outside of the disk, nor to
//! change when it is read-only.

#![cfg_attr(fuzzing, no_main)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use device_model::{GuestMemory, Interrupt};
use device_virtio_blk::{BlockBackend, Disk, QueueServer, Slice};
use fuzz::Choices;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

fuzz::target!(check);

const QUEUE: u16 = 16;
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
/// The rest of the input lies here: headers, ranges, indirect tables.
const DATA: u64 = 0x3000;
const RAM: usize = 0x1_4000;
/// Not a whole number of sectors.
const DISK: u64 = 0x8000 + 100;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let switches = choices.byte();
    let heads: Vec<u16> = (0..=switches & 7)
        .map(|_| u16::from(choices.byte()) % (QUEUE + 1))
        .collect();
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).expect("little memory");
    let put = |bytes: &[u8], at| {
        memory
            .write_slice(bytes, GuestAddress(at))
            .expect("it is in memory");
    };
    for index in 0..u64::from(QUEUE) {
        let descriptor = RawDescriptor::from(descriptor(&mut choices));
        memory
            .write_obj(descriptor, GuestAddress(TABLE + 16 * index))
            .expect("the table is in memory");
    }
    for (head, slot) in heads.iter().zip(0..) {
        put(&head.to_le_bytes(), AVAIL + 4 + 2 * slot);
    }
    put(&(heads.len() as u16).to_le_bytes(), AVAIL + 2);
    let rest = choices.rest();
    put(&rest[..rest.len().min(RAM - DATA as usize)], DATA);

    let storage = Storage {
        read_only: switches & 8 != 0,
        failing: switches & 16 != 0,
    };
    let mut server = QueueServer {
        index: 0,
        queue: queue(switches & 32 != 0),
        memory: memory.clone(),
        interrupt: Arc::new(Quiet),
        disk: Arc::new(Disk::new(Box::new(storage), [b'x'; 20])),
        write_through: switches & 64 != 0,
    };
    let outcome = server.serve(&AtomicBool::new(false));

    // Requests may fill any memory, the rings included, so how many chains there
    // were in the end is not known.
    let kept = server
        .queue
        .next_avail()
        .wrapping_sub(server.queue.next_used());
    assert!(kept <= u16::from(outcome.is_err()));
}

/// Mostly something in memory that goes on to another of the table.
fn descriptor(choices: &mut Choices) -> Descriptor {
    let [place, length, more] = [(); 3].map(|()| u16::from(choices.byte()));
    let flags = choices.byte();
    let address = DATA + 16 * u64::from(place);
    let address = if flags & 8 == 0 {
        address
    } else {
        address.rotate_right(u32::from(more))
    };
    let length = match flags >> 4 & 3 {
        0 => 16,
        1 => length,
        2 => length * 16,
        _ => length << 8 | more,
    };
    Descriptor::new(
        address,
        length.into(),
        u16::from(flags & 7),
        more % (QUEUE + 1),
    )
}

fn queue(event_idx: bool) -> Queue {
    let mut queue = Queue::new(QUEUE).expect("a power of two");
    queue.set_desc_table_address(Some(TABLE as u32), None);
    queue.set_avail_ring_address(Some(AVAIL as u32), None);
    queue.set_used_ring_address(Some(USED as u32), None);
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

struct Quiet;

impl Interrupt for Quiet {
    fn notify_queue(&self, _index: u16) {}

    fn notify_config(&self) {}

    fn needs_reset(&self) {}
}

/// Checks what is asked of it.
struct Storage {
    read_only: bool,
    failing: bool,
}

impl Storage {
    fn asked(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).expect("no overflow");
        assert!(end <= DISK / 512 * 512);
        assert!(offset.is_multiple_of(512) && length.is_multiple_of(512));
        if self.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn length(slices: &[Slice<'_>]) -> u64 {
    slices.iter().map(|slice| slice.len() as u64).sum()
}

impl BlockBackend for Storage {
    fn size(&self) -> u64 {
        DISK
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.asked(offset, length(to))?;
        for slice in to {
            slice.copy_from(&vec![0x5a; slice.len()]);
        }
        Ok(())
    }

    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()> {
        assert!(!self.read_only);
        self.asked(offset, length(from))
    }

    fn flush(&self) -> io::Result<()> {
        self.asked(0, 0)
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        assert!(!self.read_only);
        self.asked(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, _unmap: bool) -> io::Result<()> {
        assert!(!self.read_only);
        self.asked(offset, length)
    }
}
