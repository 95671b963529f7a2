//! A shared folder of the host under any requests from several queues at once,
//! while the host moves and swaps what is in it.
//!
//! Holds: what lies outside of the folder is never read, changed, or looked
//! through; descriptors stay in their budget and all come back; replies are
//! well-formed (as `fs_requests` has it, here in less detail); nothing panics,
//! blocks for good, or grows without limit.

#![cfg_attr(fuzzing, no_main)]

use std::collections::hash_map::RandomState;
use std::fs::{self, File, FileTimes, Metadata};
use std::hash::BuildHasher;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use device_model::{GuestMemory, Interrupt, Threads};
use device_virtio_fs::{
    Cache, FileSystem, HostFs, HostFsOptions, MIN_DESCRIPTORS, Ownership, QueueServer, Server,
    ServerOptions,
};
use fuzz::Choices;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fuzz::target!(check);

/// How the host opens what may be a link or a pipe by now.
const SAFELY: i32 = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).bits();
/// Queues that are served at the same time.
const QUEUES: usize = 2;
const REQUESTS: usize = 40;
/// Longest file: an allocation must not fill the machine's disk.
const LONGEST_FILE: u64 = 1 << 20;
/// Descriptors beside those of the shared folder: its own, `/proc`, and those
/// that calls under way have open for a moment.
const DESCRIPTORS_BESIDE: usize = 16 * QUEUES;

/// Longest time, in milliseconds, for an interrupted wait to end.
const WAIT_LIMIT: i32 = 5000;

const QUEUE: u16 = 16;
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUEST: u64 = 0x1_0000;
const REPLY: u64 = 0x4_0000;
const ROOM: usize = 0x1_0000;
const RAM: usize = 0x8_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

const INIT: u32 = 26;
const SETLKW: u32 = 33;
const INTERRUPT: u32 = 36;

/// Each operation's number and fields: `u` any 32 bits, `0` 32 zero bits, `k`
/// small flags, `m` a mode, `o` 64 bits such as an offset, `h` a handle, `n` an
/// inode, `s` a name, `b` data with its length in 32 bits before, `l` a length.
const OPERATIONS: &[(u32, &str)] = &[
    (1, "s"),
    (1, "s"),
    (2, "o"),
    (3, "k0h"),
    (4, "k0hooooouuum0uu0"),
    (5, ""),
    (6, "ss"),
    (8, "mu00s"),
    (9, "m0s"),
    (10, "s"),
    (11, "s"),
    (12, "nss"),
    (13, "ns"),
    (14, "u0"),
    (14, "k0"),
    (15, "hol0o00"),
    (16, "hob0o00"),
    (17, ""),
    (18, "h00o"),
    (20, "hk0"),
    (21, "lk00sb"),
    (22, "l0s"),
    (23, "l0"),
    (24, "s"),
    (25, "h00o"),
    (27, "k0"),
    (28, "hol0o00"),
    (29, "h00o"),
    (30, "hk0"),
    (31, "hoookuk0"),
    (32, "hoookuk0"),
    (33, "hoookuk0"),
    (35, "km00s"),
    (35, "um00s"),
    (36, "o"),
    (38, ""),
    (42, "k0nono"),
    (43, "hook0"),
    (44, "hol0o00"),
    (45, "nk0ss"),
    (46, "hok0"),
    (47, "honhooo"),
    (50, "o"),
    (51, "um00s"),
    (52, "00hku"),
];

const NAMES: &[&[u8]] = &[
    b"f",
    b"d",
    b"g",
    b"e",
    b"file",
    b"folder",
    b"pipe",
    b"x",
    b"y",
    b"z",
    b"",
    b".",
    b"..",
    b"/",
    b"../outside",
    b"../outside/canary",
    b"d/g",
    b"/etc/passwd",
    b"user.x",
    b"user.shem.owner",
    b"trusted.x",
    b"security.capability",
    b"\xff\xfe",
    &[b'n'; 255],
    &[b'n'; 256],
];

const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    511,
    4095,
    4096,
    65_536,
    1 << 20,
    1 << 31,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

fn check(data: &[u8]) {
    let place = PLACE.get_or_init(Place::new);
    let before = descriptors();
    let mut choices = Choices::new(data);
    let switches = choices.byte();
    place.lay_out();
    let canary = place.canary();
    {
        let options = HostFsOptions {
            ownership: match switches & 3 {
                0 | 1 => Ownership::Mapped { default: (0, 0) },
                2 => Ownership::Squash { uid: 5, gid: 6 },
                _ if nix::unistd::geteuid().is_root() => Ownership::AsIs,
                _ => Ownership::Mapped { default: (7, 8) },
            },
            read_only: switches & 4 != 0,
            max_descriptors: Some(MIN_DESCRIPTORS),
        };
        let fs = HostFs::open(&place.share, &options).expect("the folder is there");
        let options = ServerOptions {
            tag: "fuzz".into(),
            cache: if switches & 8 != 0 {
                Cache::Exclusive
            } else {
                Cache::Coherent
            },
            read_only: options.read_only,
        };
        let fs: Arc<dyn FileSystem> = Arc::new(fs);
        let server = Arc::new(Server::new(fs, options, Threads::new(|_| Ok(()))));
        Guest::new(0, &server).handshake();
        let rest = choices.rest();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let host = (switches & 16 != 0).then(|| scope.spawn(|| place.disturb(&stop)));
            let (half, other) = rest.split_at(rest.len() / 2);
            let guests = [half, other];
            let guests: Vec<_> = (0..QUEUES)
                .map(|index| {
                    let (server, choices) = (&server, Choices::new(guests[index]));
                    scope.spawn(move || Guest::new(index, server).requests(choices))
                })
                .collect();
            let outcomes: Vec<_> = guests.into_iter().map(|guest| guest.join()).collect();
            stop.store(true, Ordering::Relaxed);
            if let Some(host) = host {
                host.join().expect("the host does not panic");
            }
            outcomes
                .into_iter()
                .for_each(|outcome| outcome.expect("no panic"));
        });
        assert!(descriptors() <= before + MIN_DESCRIPTORS + DESCRIPTORS_BESIDE);
    }
    assert_eq!(descriptors(), before);
    assert_eq!(place.canary(), canary);
}

/// Where the folders are, made once.
static PLACE: OnceLock<Place> = OnceLock::new();

struct Place {
    base: PathBuf,
    share: PathBuf,
    outside: PathBuf,
    secret: String,
}

/// What must not change: a new or lost entry shows in the folder's times, and a
/// read in the times of access.
#[derive(Debug, PartialEq)]
struct Canary {
    file: [i64; 9],
    folder: [i64; 9],
}

impl Place {
    fn new() -> Self {
        setrlimit(Resource::RLIMIT_FSIZE, LONGEST_FILE, LONGEST_FILE).expect("it is lowered");
        let mut set = SigSet::empty();
        set.add(Signal::SIGXFSZ);
        set.thread_block().expect("the signal exists");
        let base = std::env::temp_dir().join(format!("shem-fuzz-{}", std::process::id()));
        let place = Place {
            share: base.join("share"),
            outside: base.join("outside"),
            base,
            // Not to be guessed, so that only a read of the file can tell it.
            secret: format!("{:016x}", RandomState::new().hash_one(1)),
        };
        fs::create_dir_all(&place.outside).expect("there is room");
        fs::write(place.outside.join("canary"), &place.secret).expect("there is room");
        // So that a read would show even where times of access are lazy.
        let old = FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        for path in [place.outside.join("canary"), place.outside.clone()] {
            let file = File::open(path).expect("it was made");
            file.set_times(old).expect("it is ours");
        }
        SECRET.set(place.secret.clone()).expect("set once");
        place
    }

    fn lay_out(&self) {
        for gone in ["share", "moved"] {
            let path = self.base.join(gone);
            if path.exists() {
                make_removable(&path);
                fs::remove_dir_all(&path).expect("it is ours");
            }
        }
        fs::create_dir_all(self.share.join("d/e")).expect("there is room");
        fs::write(self.share.join("f"), "text").expect("there is room");
        fs::write(self.share.join("d/g"), "text").expect("there is room");
        for (target, link) in [
            ("../outside/canary", "file"),
            ("../outside", "folder"),
            ("../../outside", "d/folder"),
        ] {
            symlink(target, self.share.join(link)).expect("there is room");
        }
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&self.share.join("pipe"), mode).expect("there is room");
    }

    fn canary(&self) -> Canary {
        let file = fs::symlink_metadata(self.outside.join("canary")).expect("it stays");
        let folder = fs::symlink_metadata(&self.outside).expect("it stays");
        Canary {
            file: numbers(&file),
            folder: numbers(&folder),
        }
    }

    /// Does what the guest's owner may do at any time.
    fn disturb(&self, stop: &AtomicBool) {
        let (d, hidden, moved) = (
            self.share.join("d"),
            self.share.join("hidden"),
            self.base.join("moved"),
        );
        while !stop.load(Ordering::Relaxed) {
            // The guest may have removed or replaced any of these.
            if fs::rename(&d, &hidden).is_ok() {
                let _ = symlink(&self.outside, &d);
                let _ = fs::remove_file(&d);
                let _ = fs::rename(&hidden, &d);
            }
            if fs::rename(&d, &moved).is_ok() {
                let _ = fs::rename(&moved, &d);
            }
            // Not through a link that the guest put there.
            let mut options = File::options();
            options.write(true).truncate(true).custom_flags(SAFELY);
            if let Ok(mut file) = options.open(self.share.join("f")) {
                let _ = file.write_all(b"longer text");
            }
        }
    }
}

/// Secret of the canary, for those who look at replies.
static SECRET: OnceLock<String> = OnceLock::new();

fn numbers(of: &Metadata) -> [i64; 9] {
    [
        i64::from(of.mode()),
        of.uid().into(),
        of.gid().into(),
        of.nlink() as i64,
        of.size() as i64,
        of.mtime_nsec(),
        of.ctime(),
        of.ctime_nsec(),
        of.atime(),
    ]
}

/// The guest may have taken every permission from its folders.
fn make_removable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// One queue and what was learned over it.
struct Guest {
    queue: QueueServer,
    memory: GuestMemory,
    wake: Arc<EventFd>,
    index: usize,
    sent: u16,
    used: u16,
    unique: u64,
    nodes: Vec<u64>,
    handles: Vec<u64>,
    /// Requests that wait for a lock.
    waiting: Vec<u64>,
}

impl Guest {
    fn new(index: usize, server: &Arc<Server>) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).expect("little memory");
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK).expect("an event descriptor"));
        Guest {
            queue: QueueServer::new(
                index as u16 + 1,
                queue(),
                memory.clone(),
                Arc::new(Quiet),
                Arc::clone(server),
                Arc::clone(&wake),
            ),
            memory,
            wake,
            index,
            sent: 0,
            used: 0,
            unique: 1,
            nodes: vec![1],
            handles: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn handshake(mut self) {
        let words = [7_u32, 41, 0, u32::MAX, u32::MAX];
        let mut init: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        init.resize(64, 0);
        self.request(INIT, 1, [0; 2], &init);
    }

    fn requests(mut self, mut choices: Choices<'_>) {
        for _ in 0..REQUESTS {
            let (opcode, fields) = OPERATIONS[usize::from(choices.byte()) % OPERATIONS.len()];
            let node = self.node(&mut choices);
            let ids = [choices.byte(), choices.byte()].map(|id| u32::from(id) % 3);
            let mut arguments = Vec::new();
            for field in fields.bytes() {
                self.field(field, &mut choices, &mut arguments);
            }
            self.request(opcode, node, ids, &arguments);
        }
        // Waits must end when they are to.
        while let Some(unique) = self.waiting.pop() {
            self.request(INTERRUPT, 0, [0; 2], &unique.to_ne_bytes());
        }
        let events = Epoll::new().expect("a descriptor is free");
        let interest = EpollEvent::new(EventSet::IN, 0);
        let added = events.ctl(ControlOperation::Add, self.wake.as_raw_fd(), interest);
        added.expect("it can be waited for");
        while self.used_index() != self.sent {
            let ready = events.wait(WAIT_LIMIT, &mut [EpollEvent::default()]);
            let ready = ready.expect("it can be waited for");
            assert_eq!(ready, 1, "a wait for a lock does not end");
            let _ = self.wake.read();
            let served = self.queue.serve(&AtomicBool::new(false));
            served.expect("the rings are sound");
        }
    }

    fn used_index(&self) -> u16 {
        let index = self.memory.read_obj(GuestAddress(USED + 2));
        index.expect("it is in memory")
    }

    fn node(&self, choices: &mut Choices<'_>) -> u64 {
        pick(&self.nodes, choices)
    }

    fn field(&self, field: u8, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        match field {
            b'0' => out.extend([0; 4]),
            b'k' => out.extend(u32::from(choices.byte()).to_ne_bytes()),
            b'u' => {
                let mut bytes = choices.bytes(4).to_vec();
                bytes.resize(4, 0);
                out.extend(bytes);
            }
            b'm' => {
                let [kind, low, high] = [(); 3].map(|()| u32::from(choices.byte()));
                out.extend((kind << 12 | (high & 0xf) << 8 | low).to_ne_bytes());
            }
            b'o' => out.extend(NUMBERS[usize::from(choices.byte()) % NUMBERS.len()].to_ne_bytes()),
            b'h' => out.extend(pick(&self.handles, choices).to_ne_bytes()),
            b'n' => out.extend(self.node(choices).to_ne_bytes()),
            b's' => {
                out.extend(NAMES[usize::from(choices.byte()) % NAMES.len()]);
                out.push(0);
            }
            b'b' => {
                let length = usize::from(choices.byte()) * 17;
                out.extend((length as u32).to_ne_bytes());
                out.resize(out.len() + length, b'w');
            }
            b'l' => out.extend((u32::from(choices.byte()) * 257).to_ne_bytes()),
            other => unreachable!("no field {other}"),
        }
    }

    /// Sends a request, and learns from its reply.
    fn request(&mut self, opcode: u32, node: u64, ids: [u32; 2], arguments: &[u8]) {
        self.unique += QUEUES as u64;
        let unique = self.unique + self.index as u64;
        let mut request = Vec::new();
        request.extend(((40 + arguments.len()) as u32).to_ne_bytes());
        request.extend(opcode.to_ne_bytes());
        request.extend(unique.to_ne_bytes());
        request.extend(node.to_ne_bytes());
        for word in [ids[0], ids[1], 0, 0] {
            request.extend(word.to_ne_bytes());
        }
        request.extend(arguments);
        self.put(&request, REQUEST);
        // A wait for a lock keeps its descriptors and its reply for itself.
        let slot = self.sent % QUEUE;
        let reply = REPLY;
        self.descriptor(0, REQUEST, request.len(), NEXT, 1);
        self.descriptor(1, reply, ROOM, WRITE, 0);
        self.put(&0_u16.to_le_bytes(), AVAIL + 4 + 2 * u64::from(slot));
        self.sent = self.sent.wrapping_add(1);
        self.put(&self.sent.to_le_bytes(), AVAIL + 2);
        let served = self.queue.serve(&AtomicBool::new(false));
        served.expect("the rings are sound");

        let index = self.used_index();
        if index == self.used {
            assert_eq!(opcode, SETLKW);
            self.waiting.push(unique);
            return;
        }
        let at = USED + 4 + 8 * u64::from(self.used % QUEUE);
        self.used = index;
        let used: u32 = self.memory.read_obj(GuestAddress(at + 4)).expect("memory");
        let used = used as usize;
        assert!(used <= ROOM && (used == 0 || used >= 16));
        let mut bytes = vec![0; used];
        self.memory
            .read_slice(&mut bytes, GuestAddress(reply))
            .expect("it is in memory");
        let secret = SECRET.get().expect("there is a place").as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        if used > 16 {
            self.learn(opcode, &bytes[16..]);
        }
    }

    fn learn(&mut self, opcode: u32, reply: &[u8]) {
        let word = |at: usize| {
            let bytes = reply.get(at..at + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        match opcode {
            1 | 6 | 8 | 9 | 13 => self.nodes.extend(word(0)),
            14 | 27 => self.handles.extend(word(0)),
            // An entry of 128 bytes goes before.
            35 | 51 => {
                self.nodes.extend(word(0));
                self.handles.extend(word(128));
            }
            _ => {}
        }
    }

    fn put(&self, bytes: &[u8], at: u64) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("it is in memory");
    }

    fn descriptor(&self, index: u64, at: u64, len: usize, flags: u16, next: u16) {
        let descriptor = Descriptor::new(at, len as u32, flags, next);
        let place = GuestAddress(TABLE + 16 * index);
        self.memory
            .write_obj(RawDescriptor::from(descriptor), place)
            .expect("the table is in memory");
    }
}

/// One of what is known, or a number that was never given.
fn pick(known: &[u64], choices: &mut Choices<'_>) -> u64 {
    match usize::from(choices.byte()) {
        wild @ 240.. => NUMBERS[wild % NUMBERS.len()],
        _ if known.is_empty() => 0,
        index => known[known.len() - 1 - index % known.len()],
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
