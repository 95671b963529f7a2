//! A host for a plugin's own tests: no VM, no library, no event loop. It remembers
//! what the device asks for, and has queues whose chains the test offers.

// UNSAFETY: stands in for the host's side of the C interface.
#![expect(unsafe_code, reason = "functions that the device calls")]

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plugin_abi as abi;
use plugin_abi::{Iovec, Str};

use crate::host::{Events, Host};
use crate::net::{Directions, Pieces};
use crate::virtio::Queue;

/// The host of one device under test. Keep it longer than the device.
pub struct MockHost {
    host: Box<abi::Host>,
    state: Box<Mutex<Asked>>,
}

/// What the device has asked for so far.
#[derive(Default)]
pub struct Asked {
    /// Lines of the log: level and text.
    pub log: Vec<(u32, String)>,
    /// Descriptors and what they are waited for, with their tokens.
    pub fds: Vec<(i32, Events, u64)>,
    /// Timers: token, first ring and period.
    pub timers: Vec<(u64, Duration, Duration)>,
    /// Additions to the guest: kind, and what.
    pub additions: Vec<(&'static str, String)>,
    /// Directions that are worth a try.
    pub ready: Vec<(u16, Directions)>,
    /// State of the link.
    pub link: Option<bool>,
    /// The driver was told to reset the device.
    pub needs_reset: bool,
    /// The driver was told of changes in configuration space.
    pub config_changes: usize,
    offered: VecDeque<Offered>,
    out: Vec<Offered>,
    done: Vec<Vec<u8>>,
    next_head: u16,
}

struct Offered {
    head: u16,
    _readable: Vec<u8>,
    writable: Vec<u8>,
    /// In a box, where the device reads them.
    pieces: Box<[Iovec; 2]>,
}

// SAFETY: the pieces point into the vectors beside them.
unsafe impl Send for Offered {}

impl Default for MockHost {
    fn default() -> Self {
        Self::new()
    }
}

impl MockHost {
    /// A host that nothing was asked of.
    pub fn new() -> Self {
        let state = Box::new(Mutex::new(Asked::default()));
        let host = Box::new(abi::Host {
            struct_size: size_of::<abi::Host>() as u32,
            reserved: 0,
            host_data: (&raw const *state).cast_mut().cast(),
            set_error: Some(set_error),
            get_extension: Some(get_extension),
        });
        MockHost { host, state }
    }

    /// For [`Device::create`](crate::Device::create).
    pub fn host(&self) -> Host {
        // SAFETY: as long as `self`, which outlives the device.
        unsafe { Host::new(&raw const *self.host) }
    }

    /// What was asked so far.
    pub fn asked(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For [`VirtioDevice::queue_ready`](crate::VirtioDevice::queue_ready): a queue
    /// with the chains that were offered.
    pub fn queue(&self) -> Queue {
        Queue::new(self.host(), 0)
    }

    /// Offers a chain with the bytes `readable` and room for `room` more.
    pub fn offer(&self, readable: &[u8], room: usize) {
        let (mut readable, mut writable) = (readable.to_vec(), vec![0; room]);
        let piece = |bytes: &mut Vec<u8>| Iovec {
            data: bytes.as_mut_ptr().cast(),
            len: bytes.len(),
        };
        let pieces = Box::new([piece(&mut readable), piece(&mut writable)]);
        let mut asked = self.asked();
        let head = asked.next_head;
        asked.next_head = head.wrapping_add(1);
        asked.offered.push_back(Offered {
            head,
            _readable: readable,
            writable,
            pieces,
        });
    }

    /// What was written to the chains that came back, in order of their coming.
    pub fn completed(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.asked().done)
    }

    /// Waits until something holds of what the device waits for, `limit` at most,
    /// and says what: for [`Device::on_event`](crate::Device::on_event).
    pub fn due(&self, limit: Duration) -> Vec<(i32, Events, u64)> {
        let waits = self.asked().fds.clone();
        let mut polled: Vec<libc::pollfd> = waits.iter().map(polled).collect();
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: as many structs as it is told, for this call.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit) };
        let due = waits.iter().zip(&polled);
        due.filter(|(_, polled)| polled.revents != 0)
            .map(|((fd, _, token), polled)| (*fd, told(polled.revents), *token))
            .collect()
    }
}

fn polled((fd, events, _): &(i32, Events, u64)) -> libc::pollfd {
    let mut wanted = 0;
    if events.read {
        wanted |= libc::POLLIN | libc::POLLRDHUP;
    }
    if events.write {
        wanted |= libc::POLLOUT;
    }
    libc::pollfd {
        fd: *fd,
        events: wanted,
        revents: 0,
    }
}

fn told(events: libc::c_short) -> Events {
    Events {
        read: events & (libc::POLLIN | libc::POLLRDHUP) != 0,
        write: events & libc::POLLOUT != 0,
        hang_up: events & (libc::POLLHUP | libc::POLLERR) != 0,
    }
}

/// A frame of a guest, or room for one, as a [`NetBackend`](crate::NetBackend) is
/// given it.
pub struct Frame {
    bytes: Vec<u8>,
    cuts: Vec<usize>,
    pieces: Vec<Iovec>,
}

impl Frame {
    /// `bytes` in pieces of the lengths `cuts` and one with what is left.
    pub fn cut(bytes: &[u8], cuts: &[usize]) -> Self {
        Frame {
            bytes: bytes.to_vec(),
            cuts: cuts.to_vec(),
            pieces: Vec::new(),
        }
    }

    /// Room for `len` bytes in one piece.
    pub fn room(len: usize) -> Self {
        Frame::cut(&vec![0; len], &[])
    }

    /// For a backend.
    pub fn pieces(&mut self) -> Pieces<'_> {
        let mut rest = self.bytes.as_mut_slice();
        self.pieces.clear();
        for cut in self.cuts.iter().copied().chain([usize::MAX]) {
            let (piece, later) = rest.split_at_mut(cut.min(rest.len()));
            self.pieces.push(Iovec {
                data: piece.as_mut_ptr().cast(),
                len: piece.len(),
            });
            rest = later;
        }
        // SAFETY: they are of `bytes`, which is borrowed as long as they are.
        unsafe { Pieces::new(&self.pieces) }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// # Safety
///
/// `host` is a [`MockHost`]'s.
unsafe fn asked<'a>(host: *const abi::Host) -> MutexGuard<'a, Asked> {
    // SAFETY: the caller's.
    let state = unsafe { (*host).host_data }.cast::<Mutex<Asked>>();
    // SAFETY: as above.
    let state = unsafe { &*state };
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
///
/// The text is valid.
unsafe fn text(str: Str) -> String {
    // SAFETY: the caller's.
    let bytes = unsafe { str.bytes(1 << 20) }.unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

unsafe extern "C" fn set_error(_: *const abi::Host, _: Str) {}

unsafe extern "C" fn get_extension(_: *const abi::Host, id: Str) -> *const c_void {
    // SAFETY: the device's, for this call.
    match unsafe { text(id) }.as_str() {
        abi::EXT_LOG => (&raw const LOG).cast(),
        abi::EXT_EVENTS => (&raw const EVENTS).cast(),
        abi::EXT_GUEST_CONFIG => (&raw const GUEST_CONFIG).cast(),
        abi::EXT_INTERRUPTS => (&raw const INTERRUPTS).cast(),
        abi::EXT_VIRTIO_DEVICE => (&raw const VIRTIO).cast(),
        abi::EXT_NET_BACKEND => (&raw const NET).cast(),
        _ => std::ptr::null(),
    }
}

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

static LOG: abi::HostLog = abi::HostLog {
    struct_size: size::<abi::HostLog>(),
    reserved: 0,
    enabled: Some(log_enabled),
    write: Some(log_write),
};
static EVENTS: abi::HostEvents = abi::HostEvents {
    struct_size: size::<abi::HostEvents>(),
    reserved: 0,
    add: Some(add_fd),
    modify: Some(modify_fd),
    remove: Some(remove_fd),
    set_timer: Some(set_timer),
};
static GUEST_CONFIG: abi::HostGuestConfig = abi::HostGuestConfig {
    struct_size: size::<abi::HostGuestConfig>(),
    reserved: 0,
    describe: Some(describe),
    add_env: Some(add_env),
    add_module: Some(add_module),
    add_layer: Some(add_layer),
    add_mount: Some(add_mount),
};
static INTERRUPTS: abi::HostInterrupts = abi::HostInterrupts {
    struct_size: size::<abi::HostInterrupts>(),
    reserved: 0,
    config_changed: Some(config_changed),
    needs_reset: Some(needs_reset),
};
static VIRTIO: abi::HostVirtio = abi::HostVirtio {
    struct_size: size::<abi::HostVirtio>(),
    reserved: 0,
    pop: Some(pop),
    complete: Some(complete),
    notify: Some(notify),
};
static NET: abi::HostNet = abi::HostNet {
    struct_size: size::<abi::HostNet>(),
    reserved: 0,
    ready: Some(net_ready),
    link: Some(net_link),
};

// In all of these the host pointer is a `MockHost`'s, because only that has the
// tables, and texts are valid for the call.

unsafe extern "C" fn log_enabled(_: *const abi::Host, _: u32) -> i32 {
    1
}

unsafe extern "C" fn log_write(host: *const abi::Host, level: u32, line: Str) {
    // SAFETY: see above.
    let line = unsafe { text(line) };
    // SAFETY: see above.
    unsafe { asked(host) }.log.push((level, line));
}

unsafe extern "C" fn add_fd(host: *const abi::Host, fd: i32, events: u32, token: u64) -> i32 {
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    if asked.fds.iter().any(|(known, ..)| *known == fd) {
        return -libc::EEXIST;
    }
    asked.fds.push((fd, Events::of(events), token));
    0
}

unsafe extern "C" fn modify_fd(host: *const abi::Host, fd: i32, events: u32, token: u64) -> i32 {
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    match asked.fds.iter_mut().find(|(known, ..)| *known == fd) {
        Some(found) => *found = (fd, Events::of(events), token),
        None => return -libc::ENOENT,
    }
    0
}

unsafe extern "C" fn remove_fd(host: *const abi::Host, fd: i32) -> i32 {
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    let before = asked.fds.len();
    asked.fds.retain(|(known, ..)| *known != fd);
    if asked.fds.len() == before {
        -libc::ENOENT
    } else {
        0
    }
}

unsafe extern "C" fn set_timer(host: *const abi::Host, token: u64, after: u64, period: u64) -> i32 {
    let (after, period) = (Duration::from_nanos(after), Duration::from_nanos(period));
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    asked.timers.retain(|(known, ..)| *known != token);
    if !after.is_zero() {
        asked.timers.push((token, after, period));
    }
    0
}

unsafe extern "C" fn describe(_: *const abi::Host, guest: *mut abi::Guest) -> i32 {
    // SAFETY: the SDK's struct.
    unsafe { (*guest).vcpus = 1 };
    // SAFETY: as above.
    unsafe { (*guest).memory = 512 << 20 };
    0
}

/// # Safety
///
/// See above.
unsafe fn added(host: *const abi::Host, kind: &'static str, what: &[Str]) -> i32 {
    // SAFETY: the caller's.
    let what: Vec<_> = what.iter().map(|part| unsafe { text(*part) }).collect();
    // SAFETY: the caller's.
    unsafe { asked(host) }
        .additions
        .push((kind, what.join("=")));
    0
}

unsafe extern "C" fn add_env(host: *const abi::Host, name: Str, value: Str) -> i32 {
    // SAFETY: see above.
    unsafe { added(host, "env", &[name, value]) }
}

unsafe extern "C" fn add_module(host: *const abi::Host, name: Str) -> i32 {
    // SAFETY: see above.
    unsafe { added(host, "module", &[name]) }
}

unsafe extern "C" fn add_layer(host: *const abi::Host, path: Str) -> i32 {
    // SAFETY: see above.
    unsafe { added(host, "layer", &[path]) }
}

unsafe extern "C" fn add_mount(host: *const abi::Host, source: Str, target: Str) -> i32 {
    // SAFETY: see above.
    unsafe { added(host, "mount", &[source, target]) }
}

unsafe extern "C" fn config_changed(host: *const abi::Host) -> i32 {
    // SAFETY: see above.
    unsafe { asked(host) }.config_changes += 1;
    0
}

unsafe extern "C" fn needs_reset(host: *const abi::Host) -> i32 {
    // SAFETY: see above.
    unsafe { asked(host) }.needs_reset = true;
    0
}

unsafe extern "C" fn pop(host: *const abi::Host, _: u16, chain: *mut abi::Chain) -> i32 {
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    let Some(offered) = asked.offered.pop_front() else {
        return 0;
    };
    asked.out.push(offered);
    let offered = &asked.out[asked.out.len() - 1];
    let pieces = &offered.pieces;
    let filled = abi::Chain {
        struct_size: size::<abi::Chain>(),
        head: offered.head,
        reserved: 0,
        readable: &raw const pieces[0],
        readable_count: usize::from(pieces[0].len > 0),
        writable: &raw const pieces[1],
        writable_count: usize::from(pieces[1].len > 0),
    };
    // SAFETY: the SDK's struct.
    unsafe { chain.write(filled) };
    1
}

unsafe extern "C" fn complete(host: *const abi::Host, _: u16, head: u16, written: u32) -> i32 {
    // SAFETY: see above.
    let mut asked = unsafe { asked(host) };
    let Some(at) = asked.out.iter().position(|out| out.head == head) else {
        return -libc::ENOENT;
    };
    let mut out = asked.out.remove(at);
    out.writable.truncate(written as usize);
    asked.done.push(out.writable);
    0
}

unsafe extern "C" fn notify(_: *const abi::Host, _: u16) -> i32 {
    0
}

unsafe extern "C" fn net_ready(host: *const abi::Host, queue: u16, directions: u32) -> i32 {
    // SAFETY: see above.
    unsafe { asked(host) }
        .ready
        .push((queue, Directions::of(directions)));
    0
}

unsafe extern "C" fn net_link(host: *const abi::Host, up: u32) -> i32 {
    // SAFETY: see above.
    unsafe { asked(host) }.link = Some(up != 0);
    0
}
