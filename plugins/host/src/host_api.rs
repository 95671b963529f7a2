//! The functions that a plugin calls. Each takes what the plugin passes by pointer
//! as the headers allow it, finds the device by its host pointer, and answers with
//! 0 or a negative errno. None calls the plugin.

// UNSAFETY: the other side of a C interface.
#![expect(unsafe_code, reason = "functions that plugins call")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use device_model::net::Directions;
use nix::errno::Errno;
use plugin_abi as abi;
use plugin_abi::{Host, Str};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::guest;
use crate::instance::{HostState, lock};

/// Longest line of a log, in bytes.
const MAX_LINE: usize = 4096;
/// Longest name, value or path that is added to a guest, in bytes.
const MAX_TEXT: usize = 4096;
/// Longest text that is looked at: what is beyond is nobody's.
const MAX_STR: usize = 1 << 20;

/// What a device is given. Valid as long as `state`.
pub(crate) fn host(state: &Arc<HostState>) -> Host {
    Host {
        struct_size: size::<Host>(),
        reserved: 0,
        host_data: Arc::as_ptr(state).cast_mut().cast(),
        set_error: Some(set_error),
        get_extension: Some(get_extension),
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
    add: Some(events_add),
    modify: Some(events_modify),
    remove: Some(events_remove),
    set_timer: Some(events_set_timer),
};

static GUEST_MEMORY: abi::HostGuestMemory = abi::HostGuestMemory {
    struct_size: size::<abi::HostGuestMemory>(),
    reserved: 0,
    region: Some(memory_region),
    read: Some(memory_read),
    write: Some(memory_write),
};

static INTERRUPTS: abi::HostInterrupts = abi::HostInterrupts {
    struct_size: size::<abi::HostInterrupts>(),
    reserved: 0,
    config_changed: Some(config_changed),
    needs_reset: Some(needs_reset),
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

/// The device that `host` was made for.
///
/// # Safety
///
/// `host` is null or was made by [`host`], and its device is not destroyed.
unsafe fn state<'a>(host: *const Host) -> Option<&'a HostState> {
    if host.is_null() {
        return None;
    }
    // SAFETY: not null, and so made by `host`.
    let data = unsafe { (*host).host_data };
    // SAFETY: the `HostState` that the instance keeps until `destroy` has returned.
    Some(unsafe { &*data.cast_const().cast() })
}

/// Runs `body` for the device of `host`; 0 or a negative errno.
///
/// # Safety
///
/// As [`state`].
unsafe fn answer(host: *const Host, body: impl FnOnce(&HostState) -> Result<(), Errno>) -> i32 {
    // SAFETY: the caller's.
    let Some(state) = (unsafe { state(host) }) else {
        return -libc::EINVAL;
    };
    match body(state) {
        Ok(()) => 0,
        Err(errno) => -(errno as i32),
    }
}

/// At most the first `most` bytes of a text of the plugin.
///
/// # Safety
///
/// The text is valid, as the headers say of every argument.
unsafe fn text(str: Str, most: usize) -> Option<String> {
    // SAFETY: the caller's.
    let bytes = unsafe { str.bytes(MAX_STR) }?;
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned())
}

unsafe extern "C" fn set_error(host: *const Host, error: Str) {
    // SAFETY: what the plugin vouches for.
    let state = unsafe { state(host) };
    // SAFETY: as above.
    let error = unsafe { text(error, abi::MAX_ERROR_TEXT) };
    let (Some(state), Some(error)) = (state, error) else {
        return;
    };
    if state.in_call() {
        state.set_error(error);
    } else {
        state.misused("set_error", IN_CALLBACKS);
    }
}

const IN_CALLBACKS: &str = "inside of the device's callbacks only";

unsafe extern "C" fn get_extension(host: *const Host, id: Str) -> *const c_void {
    if host.is_null() {
        return ptr::null();
    }
    // SAFETY: what the plugin vouches for.
    let Some(id) = (unsafe { text(id, MAX_TEXT) }) else {
        return ptr::null();
    };
    match id.as_str() {
        abi::EXT_LOG => (&raw const LOG).cast(),
        abi::EXT_EVENTS => (&raw const EVENTS).cast(),
        abi::EXT_GUEST_MEMORY => (&raw const GUEST_MEMORY).cast(),
        abi::EXT_INTERRUPTS => (&raw const INTERRUPTS).cast(),
        abi::EXT_GUEST_CONFIG => (&raw const GUEST_CONFIG).cast(),
        abi::EXT_VIRTIO_DEVICE => (&raw const VIRTIO).cast(),
        abi::EXT_NET_BACKEND => (&raw const NET).cast(),
        _ => ptr::null(),
    }
}

fn level(level: u32) -> log::Level {
    match level {
        abi::LOG_WARN => log::Level::Warn,
        abi::LOG_INFO => log::Level::Info,
        abi::LOG_DEBUG => log::Level::Debug,
        abi::LOG_TRACE => log::Level::Trace,
        _ => log::Level::Error,
    }
}

unsafe extern "C" fn log_enabled(host: *const Host, of: u32) -> i32 {
    // SAFETY: what the plugin vouches for.
    let state = unsafe { state(host) };
    state
        .is_some_and(|state| log::log_enabled!(target: &state.target, level(of)))
        .into()
}

unsafe extern "C" fn log_write(host: *const Host, of: u32, line: Str) {
    // SAFETY: what the plugin vouches for.
    let state = unsafe { state(host) };
    // SAFETY: as above.
    let line = unsafe { text(line, MAX_LINE) };
    if let (Some(state), Some(line)) = (state, line) {
        log::log!(target: &state.target, level(of), "device {:?}: {line}", state.id);
    }
}

unsafe extern "C" fn events_add(host: *const Host, fd: i32, events: u32, token: u64) -> i32 {
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, |state| state.waits.add(fd, events, token)) }
}

unsafe extern "C" fn events_modify(host: *const Host, fd: i32, events: u32, token: u64) -> i32 {
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, |state| state.waits.modify(fd, events, token)) }
}

unsafe extern "C" fn events_remove(host: *const Host, fd: i32) -> i32 {
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, |state| state.waits.remove(fd)) }
}

unsafe extern "C" fn events_set_timer(
    host: *const Host,
    token: u64,
    after_ns: u64,
    period_ns: u64,
) -> i32 {
    let (after, period) = (
        Duration::from_nanos(after_ns),
        Duration::from_nanos(period_ns),
    );
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, |state| state.waits.set_timer(token, after, period)) }
}

/// Runs `body` with the memory of the active device.
fn memory(
    state: &HostState,
    body: impl FnOnce(&device_model::GuestMemory) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let memory = match lock(&state.active).as_ref() {
        Some(active) => active.memory.clone(),
        None => return Err(Errno::ENXIO),
    };
    body(&memory)
}

unsafe extern "C" fn memory_region(
    host: *const Host,
    index: usize,
    region: *mut abi::MemoryRegion,
) -> i32 {
    let find = |state: &HostState| {
        memory(state, |memory| {
            let found = memory.iter().nth(index).ok_or(Errno::ENOENT)?;
            let start = GuestAddress(found.start_addr().raw_value());
            let data = memory.get_host_address(start).map_err(|_| Errno::ENOENT)?;
            if region.is_null() {
                return Err(Errno::EINVAL);
            }
            // SAFETY: not null, and the plugin's own to write.
            unsafe {
                region.write(abi::MemoryRegion {
                    address: start.0,
                    len: found.len(),
                    data: data.cast(),
                });
            }
            Ok(())
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, find) }
}

unsafe extern "C" fn memory_read(
    host: *const Host,
    address: u64,
    to: *mut c_void,
    len: usize,
) -> i32 {
    let read = |state: &HostState| {
        memory(state, |memory| {
            if len == 0 {
                return Ok(());
            }
            if to.is_null() {
                return Err(Errno::EINVAL);
            }
            if !memory.check_range(GuestAddress(address), len) {
                return Err(Errno::EFAULT);
            }
            // SAFETY: not null, and `len` bytes of the plugin's own to write.
            let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), len) };
            memory
                .read_slice(to, GuestAddress(address))
                .map_err(|_| Errno::EFAULT)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, read) }
}

unsafe extern "C" fn memory_write(
    host: *const Host,
    address: u64,
    from: *const c_void,
    len: usize,
) -> i32 {
    let write = |state: &HostState| {
        memory(state, |memory| {
            if len == 0 {
                return Ok(());
            }
            if from.is_null() {
                return Err(Errno::EINVAL);
            }
            if !memory.check_range(GuestAddress(address), len) {
                return Err(Errno::EFAULT);
            }
            // SAFETY: not null, and `len` bytes that the plugin may read.
            let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) };
            memory
                .write_slice(from, GuestAddress(address))
                .map_err(|_| Errno::EFAULT)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, write) }
}

unsafe extern "C" fn config_changed(host: *const Host) -> i32 {
    let tell = |state: &HostState| {
        let active = lock(&state.active);
        active
            .as_ref()
            .ok_or(Errno::ENXIO)?
            .interrupt
            .notify_config();
        Ok(())
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, tell) }
}

unsafe extern "C" fn needs_reset(host: *const Host) -> i32 {
    let tell = |state: &HostState| {
        lock(&state.active)
            .as_mut()
            .ok_or(Errno::ENXIO)?
            .needs_reset();
        Ok(())
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, tell) }
}

unsafe extern "C" fn describe(host: *const Host, guest: *mut abi::Guest) -> i32 {
    let fill = |state: &HostState| {
        // SAFETY: the plugin vouches for as many bytes as it says.
        let asked = unsafe { abi::read_sized(guest.cast_const()) }.map_err(|_| Errno::EINVAL)?;
        // SAFETY: it has said that the struct is not smaller than this one.
        unsafe {
            guest.write(abi::Guest {
                struct_size: asked.struct_size,
                vcpus: state.facts.vcpus.into(),
                memory: state.facts.memory,
            });
        }
        Ok(())
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, fill) }
}

/// Adds to the guest's configuration while that is allowed.
fn add(
    state: &HostState,
    function: &'static str,
    add: impl FnOnce(&mut guest::GuestAdditions) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if !state.in_call() {
        state.misused(function, IN_CALLBACKS);
        return Err(Errno::EPERM);
    }
    if !state.additions_open.load(Ordering::Acquire) {
        return Err(Errno::EBUSY);
    }
    add(&mut lock(&state.additions))
}

/// A text of the plugin that may go into a guest's configuration.
///
/// # Safety
///
/// As [`text`].
unsafe fn plain(str: Str) -> Result<String, Errno> {
    // SAFETY: the caller's.
    let bytes = unsafe { str.bytes(MAX_TEXT) }.ok_or(Errno::EINVAL)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    if text.contains('\0') {
        return Err(Errno::EINVAL);
    }
    Ok(text.to_owned())
}

/// An absolute path.
///
/// # Safety
///
/// As [`text`].
unsafe fn absolute(str: Str) -> Result<String, Errno> {
    // SAFETY: the caller's.
    let path = unsafe { plain(str) }?;
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(Errno::EINVAL)
    }
}

unsafe extern "C" fn add_env(host: *const Host, name: Str, value: Str) -> i32 {
    let add = |state: &HostState| {
        add(state, "add_env", |additions| {
            // SAFETY: what the plugin vouches for.
            let name = unsafe { plain(name) }?;
            // SAFETY: as above.
            let value = unsafe { plain(value) }?;
            if name.is_empty() || name.contains('=') {
                return Err(Errno::EINVAL);
            }
            guest::add(&mut additions.env, (name, value)).map_err(Errno::from_raw)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, add) }
}

unsafe extern "C" fn add_module(host: *const Host, name: Str) -> i32 {
    let add = |state: &HostState| {
        add(state, "add_module", |additions| {
            // SAFETY: what the plugin vouches for.
            let name = unsafe { plain(name) }?;
            let sound = |letter: u8| letter.is_ascii_alphanumeric() || b"_-".contains(&letter);
            if name.is_empty() || !name.bytes().all(sound) {
                return Err(Errno::EINVAL);
            }
            guest::add(&mut additions.modules, name).map_err(Errno::from_raw)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, add) }
}

unsafe extern "C" fn add_layer(host: *const Host, path: Str) -> i32 {
    let add = |state: &HostState| {
        add(state, "add_layer", |additions| {
            // SAFETY: what the plugin vouches for.
            let path = unsafe { absolute(path) }?;
            guest::add(&mut additions.layers, path.into()).map_err(Errno::from_raw)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, add) }
}

unsafe extern "C" fn add_mount(host: *const Host, source: Str, target: Str) -> i32 {
    let add = |state: &HostState| {
        add(state, "add_mount", |additions| {
            // SAFETY: what the plugin vouches for.
            let source = unsafe { absolute(source) }?;
            // SAFETY: as above.
            let target = unsafe { absolute(target) }?;
            guest::add(&mut additions.mounts, (source.into(), target)).map_err(Errno::from_raw)
        })
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, add) }
}

unsafe extern "C" fn pop(host: *const Host, queue: u16, chain: *mut abi::Chain) -> i32 {
    // SAFETY: what the plugin vouches for.
    let Some(state) = (unsafe { state(host) }) else {
        return -libc::EINVAL;
    };
    // SAFETY: the plugin vouches for as many bytes as it says.
    let Ok(asked) = (unsafe { abi::read_sized(chain.cast_const()) }) else {
        return -libc::EINVAL;
    };
    let mut active = lock(&state.active);
    let Some(active) = active.as_mut() else {
        return -libc::ENXIO;
    };
    match active.pop(queue) {
        Ok(None) => 0,
        Ok(Some((head, out))) => {
            // SAFETY: it has said that the struct is not smaller than this one. The
            // pieces stay where they are until the chain is completed.
            unsafe {
                chain.write(abi::Chain {
                    struct_size: asked.struct_size,
                    head,
                    reserved: 0,
                    readable: out.readable.as_ptr(),
                    readable_count: out.readable.len(),
                    writable: out.writable.as_ptr(),
                    writable_count: out.writable.len(),
                });
            }
            1
        }
        Err(errno) => -(errno as i32),
    }
}

unsafe extern "C" fn complete(host: *const Host, queue: u16, head: u16, written: u32) -> i32 {
    let complete = |state: &HostState| {
        let mut active = lock(&state.active);
        active
            .as_mut()
            .ok_or(Errno::ENXIO)?
            .complete(queue, head, written)
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, complete) }
}

unsafe extern "C" fn notify(host: *const Host, queue: u16) -> i32 {
    let notify = |state: &HostState| {
        let mut active = lock(&state.active);
        active.as_mut().ok_or(Errno::ENXIO)?.notify(queue)
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, notify) }
}

unsafe extern "C" fn net_ready(host: *const Host, queue: u16, directions: u32) -> i32 {
    let ready = |state: &HostState| {
        if !state.in_call() {
            state.misused("ready", IN_CALLBACKS);
            return Err(Errno::EPERM);
        }
        let known = abi::NET_RECEIVE | abi::NET_SEND;
        let pairs = *state.queue_pairs.get().unwrap_or(&0);
        if queue >= pairs || directions & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let mut news = lock(&state.news);
        let told = Directions {
            receive: directions & abi::NET_RECEIVE != 0,
            send: directions & abi::NET_SEND != 0,
        };
        match news.ready.iter_mut().find(|(known, _)| *known == queue) {
            Some((_, known)) => {
                known.receive |= told.receive;
                known.send |= told.send;
            }
            None => news.ready.push((queue, told)),
        }
        drop(news);
        state.has_news();
        Ok(())
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, ready) }
}

unsafe extern "C" fn net_link(host: *const Host, up: u32) -> i32 {
    let link = |state: &HostState| {
        if !state.in_call() {
            state.misused("link", IN_CALLBACKS);
            return Err(Errno::EPERM);
        }
        lock(&state.news).link = Some(up != 0);
        state.has_news();
        Ok(())
    };
    // SAFETY: what the plugin vouches for.
    unsafe { answer(host, link) }
}
