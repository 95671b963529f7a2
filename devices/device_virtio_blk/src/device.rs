//! The block device that a transport presents: features, configuration space,
//! and the start and stop of the queues. VIRTIO 1.2 sections 5.2.3 to 5.2.5.

use std::mem::{offset_of, size_of};
use std::sync::Arc;

use device_model::{ActivateError, Activation, VirtioDevice};
use virtio_bindings::bindings::virtio_blk::{self as spec, virtio_blk_config};

use crate::disk::{
    Disk, MAX_DISCARD_RANGES, MAX_DISCARD_SECTORS, MAX_SEGMENT, MAX_SEGMENTS, MAX_ZERO_RANGES,
    MAX_ZERO_SECTORS, SECTOR,
};
use crate::queue::{QueueServer, Worker};
use crate::ring::{Ring, RingError, RingPlace};

/// VIRTIO 1.2 section 5.
const BLOCK_DEVICE: u32 = 2;

/// Descriptors of a queue: two of the longest requests at a time.
pub(crate) const QUEUE_SIZE: u16 = 256;

/// More queues than this would be threads without work: their requests end up
/// at one file.
const MAX_QUEUES: u8 = 4;

/// Physical blocks are 2^3 logical ones: what file systems align to, 4 KiB.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// A disk behind a virtio transport.
pub struct BlockDevice {
    id: String,
    disk: Arc<Disk>,
    queue_sizes: Vec<u16>,
    config: [u8; size_of::<virtio_blk_config>()],
    write_through: bool,
    /// One for each queue, or none at all.
    rings: Vec<RingPlace>,
    workers: Vec<Worker>,
}

impl BlockDevice {
    /// A device for `disk` in a machine with `vcpus` vCPUs, each of which gets
    /// a queue of its own, up to four. `id` names its threads.
    pub fn new(id: impl Into<String>, disk: Disk, vcpus: u8) -> Self {
        let queues = vcpus.clamp(1, MAX_QUEUES);
        BlockDevice {
            id: id.into(),
            config: config(&disk, queues),
            disk: Arc::new(disk),
            queue_sizes: vec![QUEUE_SIZE; usize::from(queues)],
            write_through: true,
            rings: Vec::new(),
            workers: Vec::new(),
        }
    }

    /// From here on, has the requests of a queue under way in an io_uring, all
    /// at the same time and not one after the other. A backend that does not
    /// give its file away is served as before.
    ///
    /// # Errors
    /// This host does not offer or permit it; then nothing has changed.
    pub fn use_rings(&mut self) -> Result<(), RingError> {
        self.rings = (0..self.queue_sizes.len())
            .map(|_| Ring::new().map(RingPlace::of))
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Configuration space; it never changes.
fn config(disk: &Disk, queues: u8) -> [u8; size_of::<virtio_blk_config>()] {
    let mut config = [0; size_of::<virtio_blk_config>()];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(
        offset_of!(virtio_blk_config, capacity),
        &disk.sectors().to_le_bytes(),
    );
    for (at, value) in [
        (offset_of!(virtio_blk_config, size_max), MAX_SEGMENT),
        (offset_of!(virtio_blk_config, seg_max), MAX_SEGMENTS),
        (offset_of!(virtio_blk_config, blk_size), SECTOR as u32),
        (
            offset_of!(virtio_blk_config, max_discard_sectors),
            MAX_DISCARD_SECTORS,
        ),
        (
            offset_of!(virtio_blk_config, max_discard_seg),
            MAX_DISCARD_RANGES,
        ),
        (
            offset_of!(virtio_blk_config, discard_sector_alignment),
            1 << PHYSICAL_BLOCK_EXPONENT,
        ),
        (
            offset_of!(virtio_blk_config, max_write_zeroes_sectors),
            MAX_ZERO_SECTORS,
        ),
        (
            offset_of!(virtio_blk_config, max_write_zeroes_seg),
            MAX_ZERO_RANGES,
        ),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(
        offset_of!(virtio_blk_config, num_queues),
        &u16::from(queues).to_le_bytes(),
    );
    put(
        offset_of!(virtio_blk_config, physical_block_exp),
        &[PHYSICAL_BLOCK_EXPONENT],
    );
    put(offset_of!(virtio_blk_config, write_zeroes_may_unmap), &[1]);
    config
}

impl VirtioDevice for BlockDevice {
    fn device_type(&self) -> u32 {
        BLOCK_DEVICE
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// The cache mode cannot be changed (no CONFIG_WCE): it is write-back when
    /// the driver accepts FLUSH and so knows how to make it stable, and
    /// write-through when it does not.
    fn features(&self) -> u64 {
        let mut bits = vec![
            spec::VIRTIO_BLK_F_SIZE_MAX,
            spec::VIRTIO_BLK_F_SEG_MAX,
            spec::VIRTIO_BLK_F_BLK_SIZE,
            spec::VIRTIO_BLK_F_TOPOLOGY,
        ];
        if self.queue_sizes.len() > 1 {
            bits.push(spec::VIRTIO_BLK_F_MQ);
        }
        if self.disk.read_only() {
            bits.push(spec::VIRTIO_BLK_F_RO);
        } else {
            bits.extend([
                spec::VIRTIO_BLK_F_FLUSH,
                spec::VIRTIO_BLK_F_DISCARD,
                spec::VIRTIO_BLK_F_WRITE_ZEROES,
            ]);
        }
        bits.into_iter().fold(0, |all, bit| all | 1 << bit)
    }

    fn ack_features(&mut self, acked: u64) {
        self.write_through = acked & 1 << spec::VIRTIO_BLK_F_FLUSH == 0;
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        device_model::read_config(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            interrupt,
            threads,
            ..
        } = activation;
        // A driver may use fewer queues than there are, but the first is always one.
        if !matches!(queues.first(), Some(Some(_))) {
            return Err(ActivateError::missing_queue(0));
        }
        for (index, active) in (0..).zip(queues) {
            let Some(active) = active else { continue };
            let name = format!("blk{index}-{}", self.id);
            let ring = self.rings.get(usize::from(index)).cloned();
            let ring = ring.unwrap_or_default();
            let worker = Worker::start(name, &threads, active, ring, |queue| QueueServer {
                index,
                queue,
                memory: memory.clone(),
                interrupt: Arc::clone(&interrupt),
                disk: Arc::clone(&self.disk),
                write_through: self.write_through,
            });
            match worker {
                Ok(worker) => self.workers.push(worker),
                Err(error) => {
                    self.deactivate();
                    let what = format!("start the thread of queue {index}");
                    return Err(ActivateError::new(what, error));
                }
            }
        }
        Ok(())
    }

    /// Waits for the requests at hand: one for each queue, or what its ring has.
    fn deactivate(&mut self) {
        for worker in &self.workers {
            worker.stop();
        }
        self.workers.clear();
    }
}
