//! The file system device on any sequence of FUSE requests, in any pieces.
//!
//! Holds: every chain comes back, but one that waits for a lock; a reply says
//! its own length, answers the request that was sent, and has the room that it
//! was given and not a byte more; the file system is only asked after a
//! handshake, with names, targets, values and transfers inside of their limits,
//! and never to change a volume that is read-only.

#![cfg_attr(fuzzing, no_main)]

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use device_model::{GuestMemory, Interrupt, Threads};
use device_virtio_fs::{
    Attr, Cache, Caller, Dirent, DirentSink, Entry, Errno, FileSystem, Handle, Lock, LockKind,
    Memory, Name, Node, OpenFlags, OpenedFolder, Owner, QueueServer, Server, ServerOptions,
    SetAttr, StatFs, Time, WriteHow,
};
use fuzz::Choices;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fuzz::target!(check);

const QUEUE: u16 = 16;
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUEST: u64 = 0x1_0000;
const REPLY: u64 = 0x8_0000;
const RAM: usize = 0x10_0000;

const REQUESTS: u16 = 32;
const HEADER: usize = 40;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const SETLKW: u32 = 33;
const INIT: u32 = 26;
/// What the guest's memory has where no reply was written.
const UNTOUCHED: u8 = 0xe7;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let switches = choices.byte();
    let fs = Arc::new(Answers {
        read_only: switches & 1 != 0,
        asked: AtomicBool::new(false),
        failing: switches & 2 != 0,
    });
    let handshake = switches & 4 == 0;
    let options = ServerOptions {
        tag: "fuzz".into(),
        cache: if switches & 8 != 0 {
            Cache::Exclusive
        } else {
            Cache::Coherent
        },
        read_only: fs.read_only,
    };
    let initialised = requests(Arc::clone(&fs) as _, options, handshake, choices);
    assert!(initialised || !fs.asked.load(Ordering::Relaxed));
}

/// Sends requests to `fs`, after a handshake if there is to be one, and checks
/// what comes back. Says whether a handshake was tried.
fn requests(
    fs: Arc<dyn FileSystem>,
    options: ServerOptions,
    handshake: bool,
    mut choices: Choices<'_>,
) -> bool {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).expect("little memory");
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK).expect("an event descriptor"));
    let server = Arc::new(Server::new(fs, options, Threads::new(|_| Ok(()))));
    let mut guest = Guest {
        queue: QueueServer::new(1, queue(), memory.clone(), Arc::new(Quiet), server, wake),
        memory,
        sent: 0,
        used: 0,
    };
    let mut initialised = handshake;
    if handshake {
        let words = [7_u32, 41, 0, u32::MAX, u32::MAX];
        let mut init: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        init.resize(64, 0);
        guest.request(INIT, 1, 1, &init, 4096, [0; 3]);
    }
    for unique in 2..2 + u64::from(REQUESTS) {
        let [opcode, node, length, scale, room] = [(); 5].map(|()| choices.byte());
        let length = usize::from(length) << (scale & 7);
        let mut arguments = choices.bytes(length).to_vec();
        if scale & 8 != 0 {
            // What no input has: much data.
            arguments.resize(length, 0x61);
        }
        let room = usize::from(room) << (scale >> 4);
        let pieces = [(); 3].map(|()| choices.byte());
        initialised |= u32::from(opcode) == INIT;
        guest.request(opcode.into(), unique, node.into(), &arguments, room, pieces);
    }
    initialised
}

struct Guest {
    queue: QueueServer,
    memory: GuestMemory,
    sent: u16,
    used: u16,
}

impl Guest {
    fn put(&self, bytes: &[u8], at: u64) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("it is in memory");
    }

    fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("it is in memory");
        bytes
    }

    fn word(&self, at: u64) -> u32 {
        self.memory
            .read_obj(GuestAddress(at))
            .expect("it is in memory")
    }

    /// One request from its bytes to the checks of its reply. `pieces` say
    /// where it is cut, and how its header is wrong.
    fn request(
        &mut self,
        opcode: u32,
        unique: u64,
        node: u64,
        arguments: &[u8],
        room: usize,
        pieces: [u8; 3],
    ) {
        let room = room.min(RAM - REPLY as usize - 8);
        let [first, second, wrong] = pieces.map(usize::from);
        let length = HEADER + arguments.len();
        let told = length.wrapping_add_signed(if wrong & 0x80 == 0 {
            0
        } else {
            wrong as isize - 0xc0
        });
        let mut request = Vec::with_capacity(length);
        request.extend((told as u32).to_ne_bytes());
        request.extend(opcode.to_ne_bytes());
        request.extend(unique.to_ne_bytes());
        request.extend(node.to_ne_bytes());
        request.extend([0; 12]);
        request.extend((wrong as u16 & 7).to_ne_bytes());
        request.extend([0; 2]);
        request.extend(arguments);
        self.put(&request, REQUEST);
        self.put(&vec![UNTOUCHED; room + 8], REPLY);

        let mut buffers = Vec::new();
        for (at, len, cut, flags) in [(REQUEST, length, first, 0), (REPLY, room, second, WRITE)] {
            let cut = cut.min(len);
            buffers.push((at, cut, flags));
            buffers.push((at + cut as u64, len - cut, flags));
        }
        self.send(&buffers);
        let outcome = self.queue.serve(&AtomicBool::new(false));
        outcome.expect("the rings are sound");

        let index: u16 = self
            .memory
            .read_obj(GuestAddress(USED + 2))
            .expect("the ring is in memory");
        if index == self.used {
            assert_eq!(opcode, SETLKW);
            return;
        }
        let slot = u64::from(self.used % QUEUE);
        let used = self.word(USED + 8 + 8 * slot) as usize;
        self.used = index;
        assert!(used <= room);
        assert_eq!(self.get(REPLY + room as u64, 8), [UNTOUCHED; 8]);
        if used == 0 {
            return;
        }
        assert!(used >= 16);
        assert_eq!(self.word(REPLY) as usize, used);
        let error = self.word(REPLY + 4) as i32;
        assert!((-4095..=0).contains(&error) && (error == 0 || used == 16));
        assert_eq!(self.get(REPLY + 8, 8), unique.to_ne_bytes());
    }

    fn send(&mut self, buffers: &[(u64, usize, u16)]) {
        for (index, (at, len, flags)) in (0_u16..).zip(buffers) {
            let more = usize::from(index) + 1 < buffers.len();
            let flags = flags | if more { NEXT } else { 0 };
            let descriptor = Descriptor::new(*at, *len as u32, flags, index + 1);
            self.memory
                .write_obj(
                    RawDescriptor::from(descriptor),
                    GuestAddress(TABLE + 16 * u64::from(index)),
                )
                .expect("the table is in memory");
        }
        let slot = u64::from(self.sent % QUEUE);
        self.put(&0_u16.to_le_bytes(), AVAIL + 4 + 2 * slot);
        self.sent = self.sent.wrapping_add(1);
        self.put(&self.sent.to_le_bytes(), AVAIL + 2);
    }
}

fn queue() -> Queue {
    let mut queue = Queue::new(QUEUE).expect("a power of two");
    queue.set_desc_table_address(Some(TABLE as u32), None);
    queue.set_avail_ring_address(Some(AVAIL as u32), None);
    queue.set_used_ring_address(Some(USED as u32), None);
    queue.set_ready(true);
    queue
}

struct Quiet;

impl Interrupt for Quiet {
    fn notify_queue(&self, _index: u16) {}

    fn notify_config(&self) {}

    fn needs_reset(&self) {}
}

/// Answers everything, and checks what is asked.
struct Answers {
    read_only: bool,
    failing: bool,
    asked: AtomicBool,
}

impl Answers {
    fn look(&self) -> Result<(), Errno> {
        self.asked.store(true, Ordering::Relaxed);
        if self.failing {
            Err(Errno::NOENT)
        } else {
            Ok(())
        }
    }

    fn change(&self) -> Result<(), Errno> {
        assert!(!self.read_only);
        self.look()
    }

    fn list(&self, sink: &mut dyn DirentSink, entry: Option<&Entry>) -> Result<(), Errno> {
        self.look()?;
        for next in 1..2000 {
            let dirent = Dirent {
                ino: next,
                next,
                kind: 4,
                name: b"an entry",
            };
            if !sink.add(dirent, entry) {
                break;
            }
        }
        Ok(())
    }
}

fn is_one_component(name: Name<'_>) {
    let bytes = name.as_c_str().to_bytes();
    assert!((1..=255).contains(&bytes.len()));
    assert!(!bytes.contains(&b'/') && bytes != b"." && bytes != b"..");
}

fn is_attribute(name: &CStr) {
    assert!((1..=255).contains(&name.count_bytes()));
}

fn attr() -> Attr {
    Attr {
        ino: 1,
        size: 2,
        blocks: 3,
        blksize: 4096,
        atime: Time::default(),
        mtime: Time::default(),
        ctime: Time::default(),
        btime: None,
        mode: 0o100644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
    }
}

fn entry() -> Entry {
    Entry {
        node: Node(2),
        generation: 0,
        attr: attr(),
    }
}

#[rustfmt::skip]
impl FileSystem for Answers {
    fn lookup(&self, _: Node, name: Name<'_>) -> Result<Entry, Errno> { is_one_component(name); self.look().map(|()| entry()) }
    fn forget(&self, _: Node, _: u64) { self.asked.store(true, Ordering::Relaxed); }
    fn reset(&self) {}
    fn getattr(&self, _: Node, _: Option<Handle>) -> Result<Attr, Errno> { self.look().map(|()| attr()) }
    fn setattr(&self, _: Node, _: Option<Handle>, set: &SetAttr) -> Result<Attr, Errno> {
        assert!(set.mode.is_none_or(|mode| mode <= 0o7777));
        self.change().map(|()| attr())
    }
    fn readlink(&self, _: Node) -> Result<Vec<u8>, Errno> { self.look().map(|()| vec![b'l'; 300]) }
    fn symlink(&self, _: Caller, _: Node, name: Name<'_>, target: &CStr) -> Result<Entry, Errno> {
        is_one_component(name);
        assert!((1..=4095).contains(&target.count_bytes()));
        self.change().map(|()| entry())
    }
    fn mknod(&self, _: Caller, _: Node, name: Name<'_>, _: u32, _: u32) -> Result<Entry, Errno> { is_one_component(name); self.change().map(|()| entry()) }
    fn mkdir(&self, _: Caller, _: Node, name: Name<'_>, _: u32) -> Result<Entry, Errno> { is_one_component(name); self.change().map(|()| entry()) }
    fn unlink(&self, _: Node, name: Name<'_>) -> Result<(), Errno> { is_one_component(name); self.change() }
    fn rmdir(&self, _: Node, name: Name<'_>) -> Result<(), Errno> { is_one_component(name); self.change() }
    fn rename(&self, from: (Node, Name<'_>), to: (Node, Name<'_>), _: u32) -> Result<(), Errno> { is_one_component(from.1); is_one_component(to.1); self.change() }
    fn link(&self, _: Node, _: Node, name: Name<'_>) -> Result<Entry, Errno> { is_one_component(name); self.change().map(|()| entry()) }
    fn open(&self, _: Node, how: OpenFlags) -> Result<Handle, Errno> {
        // O_ACCMODE and O_TRUNC.
        assert!(!self.read_only || how.flags & (0o3 | 0o1000) == 0);
        self.look().map(|()| Handle(1))
    }
    fn create(&self, _: Caller, _: Node, name: Name<'_>, _: u32, _: OpenFlags) -> Result<(Entry, Handle), Errno> { is_one_component(name); self.change().map(|()| (entry(), Handle(1))) }
    fn tmpfile(&self, _: Caller, _: Node, _: u32, _: OpenFlags) -> Result<(Entry, Handle), Errno> { self.change().map(|()| (entry(), Handle(1))) }
    fn read(&self, _: Node, _: Handle, _: u64, into: &Memory<'_>) -> Result<usize, Errno> {
        assert!(into.len() <= (1 << 20) + 4096);
        self.look()?;
        Ok(into.fill_from(&vec![b'r'; into.len()]))
    }
    fn write(&self, _: Node, _: Handle, _: u64, from: &Memory<'_>, _: WriteHow) -> Result<usize, Errno> {
        assert!(from.len() <= (1 << 20) + 4096);
        self.change().map(|()| from.to_vec().len())
    }
    fn flush(&self, _: Node, _: Handle, _: Owner) -> Result<(), Errno> { self.look() }
    fn release(&self, _: Node, _: Handle) -> Result<(), Errno> { self.look() }
    fn fsync(&self, _: Node, _: Handle, _: bool) -> Result<(), Errno> { self.look() }
    fn lseek(&self, _: Node, _: Handle, offset: u64, _: u32) -> Result<u64, Errno> { self.look().map(|()| offset) }
    fn fallocate(&self, _: Node, _: Handle, _: u32, _: u64, _: u64) -> Result<(), Errno> { self.change() }
    fn copy_file_range(&self, _: (Node, Handle, u64), _: (Node, Handle, u64), len: u64) -> Result<usize, Errno> { self.change().map(|()| len as usize) }
    fn opendir(&self, _: Node) -> Result<OpenedFolder, Errno> { self.look().map(|()| OpenedFolder { handle: Handle(2), listed: true }) }
    fn readdir(&self, _: Node, _: Handle, _: u64, sink: &mut dyn DirentSink) -> Result<(), Errno> { self.list(sink, None) }
    fn readdirplus(&self, _: Node, _: Handle, _: u64, sink: &mut dyn DirentSink) -> Result<(), Errno> { self.list(sink, Some(&entry())) }
    fn releasedir(&self, _: Node, _: Handle) -> Result<(), Errno> { self.look() }
    fn fsyncdir(&self, _: Node, _: Handle, _: bool) -> Result<(), Errno> { self.look() }
    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        self.look()?;
        Ok(StatFs { blocks: 1, bfree: 1, bavail: 1, files: 1, ffree: 1, bsize: 1, namelen: 255, frsize: 1 })
    }
    fn syncfs(&self, _: Node) -> Result<(), Errno> { self.look() }
    fn setxattr(&self, _: Node, name: &CStr, value: &[u8], _: u32) -> Result<(), Errno> { is_attribute(name); assert!(value.len() <= 64 << 10); self.change() }
    fn getxattr(&self, _: Node, name: &CStr) -> Result<Vec<u8>, Errno> { is_attribute(name); self.look().map(|()| vec![b'x'; 100]) }
    fn listxattr(&self, _: Node) -> Result<Vec<u8>, Errno> { self.look().map(|()| b"user.a\0".to_vec()) }
    fn removexattr(&self, _: Node, name: &CStr) -> Result<(), Errno> { is_attribute(name); self.change() }
    fn getlk(&self, _: Node, _: Handle, _: Owner, lock: Lock) -> Result<Lock, Errno> { assert!(lock.start <= lock.end); self.look().map(|()| lock) }
    fn setlk(&self, _: Node, _: Handle, _: Owner, lock: Lock, _: bool) -> Result<(), Errno> { assert!(lock.start <= lock.end); self.look() }
    fn flock(&self, _: Node, _: Handle, _: LockKind, _: bool) -> Result<(), Errno> { self.look() }
}
