//! The host's functions.

// UNSAFETY: calls the host through the tables that it gives.
#![expect(unsafe_code, reason = "calls into the host")]

use std::time::Duration;

use plugin_abi as abi;
use plugin_abi::{Str, Versioned, read_sized};

use crate::error::{Error, Result};

/// The host of one device. Valid as long as the device: do not let a copy outlive
/// it in another thread or a static.
#[derive(Clone, Copy)]
pub struct Host(*const abi::Host);

// SAFETY: functions of the host may be called on any thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What was asked for did not happen.
    Error = abi::LOG_ERROR as isize,
    /// Odd but harmless.
    Warn = abi::LOG_WARN as isize,
    /// Rare, for operators.
    Info = abi::LOG_INFO as isize,
    /// For the plugin's developers.
    Debug = abi::LOG_DEBUG as isize,
    /// All there is.
    Trace = abi::LOG_TRACE as isize,
}

/// What a descriptor is waited for, and what has come of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Readable, or its peer has ended.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Error or end: told without asking.
    pub hang_up: bool,
}

impl Events {
    /// Readable alone.
    pub const READ: Events = Events {
        read: true,
        write: false,
        hang_up: false,
    };
    /// Nothing but the end.
    pub const NONE: Events = Events {
        read: false,
        write: false,
        hang_up: false,
    };

    pub(crate) fn of(bits: u32) -> Self {
        Events {
            read: bits & abi::EVENT_READ != 0,
            write: bits & abi::EVENT_WRITE != 0,
            hang_up: bits & abi::EVENT_HANG_UP != 0,
        }
    }

    fn bits(self) -> u32 {
        let read = if self.read { abi::EVENT_READ } else { 0 };
        let write = if self.write { abi::EVENT_WRITE } else { 0 };
        read | write
    }
}

/// The guest as it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// How many.
    pub vcpus: u32,
    /// RAM in bytes.
    pub memory: u64,
}

impl Host {
    /// # Safety
    ///
    /// `host` is a host's, and valid as long as the device.
    pub(crate) unsafe fn new(host: *const abi::Host) -> Self {
        Host(host)
    }

    pub(crate) fn as_ptr(self) -> *const abi::Host {
        self.0
    }

    /// The host's side of an extension.
    pub(crate) fn extension<T: Versioned>(self, id: &str) -> Result<T> {
        // SAFETY: valid as long as the device.
        let table = unsafe { read_sized(self.0) }.ok();
        let found = table.and_then(|table| table.get_extension).map(|get| {
            // SAFETY: a function of the host, with its own pointer.
            unsafe { get(self.0, Str::new(id)) }
        });
        let missing = || Error::new(format!("this host has no {id}: a later one is needed"));
        let found = found.ok_or_else(missing)?;
        // SAFETY: null, or the struct of that extension, valid as long as the host.
        unsafe { read_sized(found.cast::<T>()) }.map_err(|_| missing())
    }

    /// Calls `function` of a table; a negative answer is an error.
    pub(crate) fn ask<F>(self, function: Option<F>, call: impl FnOnce(F) -> i32) -> Result<i32> {
        let function = function.ok_or_else(|| Error::from_errno(libc::ENOSYS))?;
        match call(function) {
            answer if answer < 0 => Err(Error::from_errno(answer.saturating_neg())),
            answer => Ok(answer),
        }
    }

    /// Writes a line to the VMM's log. What a guest can cause at will has to be
    /// limited by the plugin.
    pub fn log(self, level: Level, text: &str) {
        let Ok(table) = self.extension::<abi::HostLog>(abi::EXT_LOG) else {
            return;
        };
        if let Some(write) = table.write {
            // SAFETY: a function of the host, with its own pointer.
            unsafe { write(self.0, level as u32, Str::new(text)) };
        }
    }

    pub(crate) fn set_error(self, text: &str) {
        // SAFETY: valid as long as the device.
        let table = unsafe { read_sized(self.0) }.ok();
        if let Some(set_error) = table.and_then(|table| table.set_error) {
            // SAFETY: as above.
            unsafe { set_error(self.0, Str::new(text)) };
        }
    }

    fn events(self) -> Result<abi::HostEvents> {
        self.extension(abi::EXT_EVENTS)
    }

    /// Has [`Device::on_event`](crate::Device::on_event) called as long as one of
    /// `events` holds for `fd`. Remove it before it is closed.
    pub fn add_fd(self, fd: i32, events: Events, token: u64) -> Result<()> {
        // SAFETY: as above.
        let call = |add: unsafe extern "C" fn(_, _, _, _) -> _| unsafe {
            add(self.0, fd, events.bits(), token)
        };
        self.ask(self.events()?.add, call).map(drop)
    }

    /// Replaces what `fd` is waited for.
    pub fn modify_fd(self, fd: i32, events: Events, token: u64) -> Result<()> {
        // SAFETY: as above.
        let call = |modify: unsafe extern "C" fn(_, _, _, _) -> _| unsafe {
            modify(self.0, fd, events.bits(), token)
        };
        self.ask(self.events()?.modify, call).map(drop)
    }

    /// Ends the wait for `fd`.
    pub fn remove_fd(self, fd: i32) -> Result<()> {
        // SAFETY: as above.
        let call = |remove: unsafe extern "C" fn(_, _) -> _| unsafe { remove(self.0, fd) };
        self.ask(self.events()?.remove, call).map(drop)
    }

    /// Has [`Device::on_timer`](crate::Device::on_timer) called once `after` has
    /// passed, and then each `period` unless that is zero. `after` zero ends it.
    pub fn set_timer(self, token: u64, after: Duration, period: Duration) -> Result<()> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: as above.
        let call = |set: unsafe extern "C" fn(_, _, _, _) -> _| unsafe {
            set(self.0, token, nanos(after), nanos(period))
        };
        self.ask(self.events()?.set_timer, call).map(drop)
    }

    fn guest_config(self) -> Result<abi::HostGuestConfig> {
        self.extension(abi::EXT_GUEST_CONFIG)
    }

    /// The guest as it will be.
    pub fn guest(self) -> Result<Guest> {
        let mut guest = abi::Guest {
            struct_size: size_of::<abi::Guest>() as u32,
            vcpus: 0,
            memory: 0,
        };
        // SAFETY: as above; the struct is ours to fill.
        let call =
            |describe: unsafe extern "C" fn(_, _) -> _| unsafe { describe(self.0, &raw mut guest) };
        self.ask(self.guest_config()?.describe, call)?;
        Ok(Guest {
            vcpus: guest.vcpus,
            memory: guest.memory,
        })
    }

    /// A variable of every process in the guest.
    pub fn add_env(self, name: &str, value: &str) -> Result<()> {
        // SAFETY: as above.
        let call = |add: unsafe extern "C" fn(_, _, _) -> _| unsafe {
            add(self.0, Str::new(name), Str::new(value))
        };
        self.ask(self.guest_config()?.add_env, call).map(drop)
    }

    /// A kernel module of the guest.
    pub fn add_module(self, name: &str) -> Result<()> {
        // SAFETY: as above.
        let call = |add: unsafe extern "C" fn(_, _) -> _| unsafe { add(self.0, Str::new(name)) };
        self.ask(self.guest_config()?.add_module, call).map(drop)
    }

    /// A Golem image at an absolute path, below the image's own files.
    pub fn add_layer(self, path: &str) -> Result<()> {
        // SAFETY: as above.
        let call = |add: unsafe extern "C" fn(_, _) -> _| unsafe { add(self.0, Str::new(path)) };
        self.ask(self.guest_config()?.add_layer, call).map(drop)
    }

    /// A folder of the host at a path of the guest, read-only.
    pub fn add_mount(self, source: &str, target: &str) -> Result<()> {
        // SAFETY: as above.
        let call = |add: unsafe extern "C" fn(_, _, _) -> _| unsafe {
            add(self.0, Str::new(source), Str::new(target))
        };
        self.ask(self.guest_config()?.add_mount, call).map(drop)
    }

    fn interrupts(self) -> Result<abi::HostInterrupts> {
        self.extension(abi::EXT_INTERRUPTS)
    }

    /// A virtio device's configuration space has changed.
    pub fn config_changed(self) -> Result<()> {
        // SAFETY: as above.
        let call = |tell: unsafe extern "C" fn(_) -> _| unsafe { tell(self.0) };
        self.ask(self.interrupts()?.config_changed, call).map(drop)
    }

    /// The driver broke the protocol of a virtio device and has to reset it.
    pub fn needs_reset(self) -> Result<()> {
        // SAFETY: as above.
        let call = |tell: unsafe extern "C" fn(_) -> _| unsafe { tell(self.0) };
        self.ask(self.interrupts()?.needs_reset, call).map(drop)
    }

    fn net(self) -> Result<abi::HostNet> {
        self.extension(abi::EXT_NET_BACKEND)
    }

    /// Directions of a network backend's queue pair are worth another try.
    pub fn net_ready(self, queue: u16, directions: crate::Directions) -> Result<()> {
        // SAFETY: as above.
        let call = |ready: unsafe extern "C" fn(_, _, _) -> _| unsafe {
            ready(self.0, queue, directions.bits())
        };
        self.ask(self.net()?.ready, call).map(drop)
    }

    /// A network backend's link is there or not.
    pub fn net_link(self, up: bool) -> Result<()> {
        // SAFETY: as above.
        let call = |link: unsafe extern "C" fn(_, _) -> _| unsafe { link(self.0, up.into()) };
        self.ask(self.net()?.link, call).map(drop)
    }
}
