//! What the tests of this crate share: libraries built from the fixtures in
//! `tests/plugins`, a driver's side of a queue, an event loop.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use device_model::{
    Activation, ActiveQueue, EventHandle, GuestMemory, Interrupt, Subscriber, Threads,
};
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber};
use plugin_host::{GuestFacts, Plugin, PluginDevice};
use serde_json::Value;
use tempfile::TempDir;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const FACTS: GuestFacts = GuestFacts {
    vcpus: 2,
    memory: 64 << 20,
};

/// A library in a folder that goes with it.
pub struct Library {
    pub path: PathBuf,
    pub folder: TempDir,
}

/// Builds a plugin of this workspace in the profile of this test.
pub fn package(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--offline",
        "--message-format=json",
        "-p",
        name,
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let messages = String::from_utf8(output.stdout).unwrap();
    let library = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        let files = message["filenames"].as_array()?;
        let files = files.iter().filter_map(Value::as_str);
        files
            .map(PathBuf::from)
            .find(|file| file.extension().is_some_and(|end| end == "so"))
    });
    library.expect("a shared library was built")
}

/// Builds `tests/plugins/SOURCE` with the given definitions.
pub fn library(source: &str, definitions: &[&str]) -> Library {
    library_at(&format!("tests/plugins/{source}"), definitions)
}

/// Builds the file of the workspace with the given definitions.
pub fn library_at(source: &str, definitions: &[&str]) -> Library {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libshem_fixture.so");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-Wno-unused-const-variable",
        ])
        .args(["-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-I"])
        .arg(root.join("plugins/abi/include"))
        .args(
            definitions
                .iter()
                .map(|definition| format!("-D{definition}")),
        )
        .arg(root.join(source))
        .arg("-o")
        .arg(&path)
        .output()
        .expect("cc runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Library { path, folder }
}

/// The plugin with a device of each kind.
pub fn devices() -> (Library, Plugin) {
    let library = library("device.c", &[]);
    let plugin = Plugin::load(&library.path).unwrap();
    (library, plugin)
}

pub fn create(
    plugin: &Plugin,
    driver: &str,
    config: Value,
) -> Result<PluginDevice, plugin_host::CreateError> {
    let driver = plugin
        .drivers
        .iter()
        .find(|found| found.name == driver)
        .unwrap();
    PluginDevice::create(plugin, driver, "dev0", &config, FACTS)
}

/// Interrupts as they come.
pub struct Interrupts(pub mpsc::Receiver<Told>);

#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Queue(u16),
    Config,
    NeedsReset,
}

impl Interrupts {
    pub fn next(&self) -> Told {
        self.0.recv_timeout(PATIENCE).expect("an interrupt in time")
    }
}

struct Line(Mutex<mpsc::Sender<Told>>);

impl Line {
    fn tell(&self, told: Told) {
        let _ = self.0.lock().unwrap().send(told);
    }
}

impl Interrupt for Line {
    fn notify_queue(&self, index: u16) {
        self.tell(Told::Queue(index));
    }

    fn notify_config(&self) {
        self.tell(Told::Config);
    }

    fn needs_reset(&self) {
        self.tell(Told::NeedsReset);
    }
}

const QUEUE_SIZE: u16 = 16;
const DATA: u64 = 0x10000;
const STRIDE: u64 = 0x1000;

/// The driver of a device with one queue that is used.
pub struct Driver {
    pub memory: GuestMemory,
    pub kick: EventFd,
    descriptors: u16,
    avail: u16,
}

impl Driver {
    pub fn new() -> Self {
        Driver {
            memory: GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap(),
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            descriptors: 0,
            avail: 0,
        }
    }

    /// What the device gets: queue 0, and the second one left unused.
    pub fn activation(&self, events: &EventHandle) -> (Activation, Interrupts) {
        let mut queue = Queue::new(QUEUE_SIZE).unwrap();
        queue.set_desc_table_address(Some(0x1000), None);
        queue.set_avail_ring_address(Some(0x2000), None);
        queue.set_used_ring_address(Some(0x3000), None);
        queue.set_ready(true);
        let (line, told) = mpsc::channel();
        let kick = self.kick.try_clone().unwrap();
        let activation = Activation {
            memory: self.memory.clone(),
            queues: vec![Some(ActiveQueue { queue, kick }), None],
            interrupt: Arc::new(Line(Mutex::new(line))),
            events: events.clone(),
            threads: Threads::new(|_| Ok(())),
        };
        (activation, Interrupts(told))
    }

    /// Offers a chain: one readable piece with `text` and one writable of as many
    /// bytes, whose address is returned.
    pub fn offer(&mut self, text: &[u8]) -> u64 {
        let at = DATA + u64::from(self.descriptors) * STRIDE;
        self.memory.write_slice(text, GuestAddress(at)).unwrap();
        let len = text.len() as u32;
        let head = self.descriptors;
        self.describe(at, len, VRING_DESC_F_NEXT as u16);
        self.describe(at + STRIDE, len, VRING_DESC_F_WRITE as u16);
        self.publish(head);
        at + STRIDE
    }

    /// Offers a chain of one writable descriptor.
    pub fn offer_room(&mut self, address: u64, len: u32) {
        let head = self.descriptors;
        self.describe(address, len, VRING_DESC_F_WRITE as u16);
        self.publish(head);
    }

    fn describe(&mut self, address: u64, len: u32, flags: u16) {
        let this = self.descriptors;
        self.descriptors = (this + 1) % QUEUE_SIZE;
        let descriptor = Descriptor::new(address, len, flags, self.descriptors);
        let place = GuestAddress(0x1000 + u64::from(this) * 16);
        self.memory.write_obj(descriptor, place).unwrap();
    }

    /// Makes the chain at `head` available, without a kick.
    pub fn publish(&mut self, head: u16) {
        let slot = 0x2004 + u64::from(self.avail % QUEUE_SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.avail = self.avail.wrapping_add(1);
        self.set_avail(self.avail);
    }

    pub fn set_avail(&self, index: u16) {
        self.memory
            .store(index, GuestAddress(0x2002), Ordering::Release)
            .unwrap();
    }

    pub fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Number of chains that came back, and the length of the last one.
    pub fn used(&self) -> (u16, u32) {
        let index: u16 = self
            .memory
            .load(GuestAddress(0x3002), Ordering::Acquire)
            .unwrap();
        let last = 0x3004 + u64::from(index.wrapping_sub(1) % QUEUE_SIZE) * 8;
        (index, self.memory.read_obj(GuestAddress(last + 4)).unwrap())
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }
}

/// An event loop on a thread of its own, ended and joined when dropped.
pub struct Loop {
    pub events: EventHandle,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Nobody;

impl MutEventSubscriber for Nobody {
    fn process(&mut self, _: Events, _: &mut EventOps) {}
    fn init(&mut self, _: &mut EventOps) {}
}

impl Loop {
    pub fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let (handles, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut manager = EventManager::<Subscriber>::new().unwrap();
            handles
                .send(EventHandle::new(manager.remote_endpoint()))
                .unwrap();
            while !ended.load(Ordering::Acquire) {
                manager.run().unwrap();
            }
        });
        Loop {
            events: handle.recv().unwrap(),
            end,
            thread: Some(thread),
        }
    }

    /// Returns when what was due before has been dealt with: the loop has gone
    /// round twice since.
    pub fn turn(&self) {
        let wake = EventFd::new(EFD_NONBLOCK).unwrap();
        wake.write(1).unwrap();
        let (rung, rings) = mpsc::channel();
        let _bell = self.events.add(Box::new(Bell(wake, rung))).unwrap();
        for _ in 0..2 {
            rings.recv_timeout(PATIENCE).expect("the loop goes round");
        }
    }
}

/// Rings in each round of its loop.
struct Bell(EventFd, mpsc::Sender<()>);

impl MutEventSubscriber for Bell {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        let _ = self.1.send(());
    }

    fn init(&mut self, ops: &mut EventOps) {
        ops.add(Events::new(&self.0, EventSet::IN)).unwrap();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        // Wakes it; an error says that it has ended already.
        let _ = self.events.add(Box::new(Nobody));
        self.thread.take().unwrap().join().unwrap();
    }
}
