//! The file system device that a transport presents: configuration space, and
//! the start and stop of the queues. VIRTIO 1.2 sections 5.11.2 to 5.11.5.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::sync::Arc;

use device_model::{ActivateError, Activation, ActiveQueue, Threads, VirtioDevice};

use crate::fs::FileSystem;
use crate::queue::QueueServer;
use crate::server::{MAX_PAGES, Server, ServerOptions};
use crate::worker::Worker;

/// VIRTIO 1.2 section 5.
const FILE_SYSTEM_DEVICE: u32 = 26;

/// Queue 0 is for FORGET and INTERRUPT, which must not wait behind other
/// requests. Each has one descriptor.
const HIGH_PRIORITY_QUEUE_SIZE: u16 = 128;

/// Descriptors of a request queue: three of the longest requests at a time.
pub(crate) const REQUEST_QUEUE_SIZE: u16 = 1024;

// Each has a descriptor for every page and, in Linux, up to four for headers
// and arguments. Linux makes requests shorter when a queue cannot hold one.
const _: () = assert!(REQUEST_QUEUE_SIZE >= 3 * (MAX_PAGES + 4));

/// More request queues than this would be threads without work: their requests
/// end up at one storage.
const MAX_REQUEST_QUEUES: u8 = 4;

/// Bytes of the tag in configuration space.
const TAG_SIZE: usize = 36;

/// The name by which the guest mounts the file system: 1 to 36 bytes of UTF-8
/// without a zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

/// The text cannot be a [`Tag`].
#[derive(Debug, thiserror::Error)]
#[error("tag {0:?} is not 1 to {TAG_SIZE} bytes without a zero")]
pub struct TagError(String);

impl Tag {
    /// Checks the text.
    pub fn new(text: impl Into<String>) -> Result<Self, TagError> {
        let text = text.into();
        if text.is_empty() || text.len() > TAG_SIZE || text.contains('\0') {
            return Err(TagError(text));
        }
        Ok(Tag(text))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file system behind a virtio transport.
pub struct FileSystemDevice {
    queue_sizes: Vec<u16>,
    config: [u8; TAG_SIZE + size_of::<u32>()],
    server: Arc<Server>,
    workers: Vec<Worker>,
    active: bool,
}

impl FileSystemDevice {
    /// A device that shares `fs` as `tag` in a machine with `vcpus` vCPUs, each
    /// of which gets a request queue of its own, up to four. Starts a thread
    /// for each queue; `id` names them.
    pub fn new(
        id: &str,
        tag: &Tag,
        fs: Arc<dyn FileSystem>,
        options: ServerOptions,
        vcpus: u8,
        threads: &Threads,
    ) -> io::Result<Self> {
        let request_queues = vcpus.clamp(1, MAX_REQUEST_QUEUES);
        let mut queue_sizes = vec![HIGH_PRIORITY_QUEUE_SIZE];
        queue_sizes.resize(1 + usize::from(request_queues), REQUEST_QUEUE_SIZE);
        let server = Arc::new(Server::new(fs, options, threads.clone()));
        let workers = (0..queue_sizes.len())
            .map(|index| Worker::start(format!("fs{index}-{id}"), threads, Arc::clone(&server)))
            .collect::<io::Result<_>>()?;
        let mut config = [0; TAG_SIZE + size_of::<u32>()];
        let (name, number) = config.split_at_mut(TAG_SIZE);
        name[..tag.0.len()].copy_from_slice(tag.0.as_bytes());
        number.copy_from_slice(&u32::from(request_queues).to_le_bytes());
        Ok(FileSystemDevice {
            queue_sizes,
            config,
            server,
            workers,
            active: false,
        })
    }
}

impl VirtioDevice for FileSystemDevice {
    fn device_type(&self) -> u32 {
        FILE_SYSTEM_DEVICE
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        device_model::read_config(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            interrupt,
            ..
        } = activation;
        // A driver may use fewer request queues than there are, but always one.
        for index in 0..2 {
            if !matches!(queues.get(index), Some(Some(_))) {
                return Err(ActivateError::missing_queue(index));
            }
        }
        self.active = true;
        for (index, (worker, active)) in (0..).zip(self.workers.iter_mut().zip(queues)) {
            let Some(ActiveQueue { queue, kick }) = active else {
                continue;
            };
            let queue = QueueServer::new(
                index,
                queue,
                memory.clone(),
                Arc::clone(&interrupt),
                Arc::clone(&self.server),
                Arc::clone(worker.wake()),
            );
            if let Err(error) = worker.serve(queue, &kick) {
                self.deactivate();
                let what = format!("watch the kicks of queue {index}");
                return Err(ActivateError::new(what, error));
            }
        }
        Ok(())
    }

    /// Waits for the requests at hand, at most one for each queue, and for the
    /// file system to close everything; ends waits for locks.
    fn deactivate(&mut self) {
        if !std::mem::take(&mut self.active) {
            return;
        }
        self.workers.iter().for_each(Worker::stop);
        self.workers.iter_mut().for_each(Worker::wait);
        // On a thread that may do what the file system does to close files.
        if let Some(first) = self.workers.first_mut() {
            first.reset();
            first.wait();
        }
    }
}
