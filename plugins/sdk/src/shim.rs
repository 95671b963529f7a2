//! The C side of a device: functions that the host calls, one set for each type.
//! For [`export_plugin!`](crate::export_plugin) alone.
//!
//! No panic leaves a function: the device is dropped, the panic's message becomes
//! the error's text, and the answer is `-ENOTRECOVERABLE`, after which the host
//! calls nothing but `destroy`.

// UNSAFETY: the other side of a C interface.
#![expect(unsafe_code, reason = "functions that the host calls")]

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use plugin_abi as abi;
use plugin_abi::{Iovec, Str};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::host::{Events, Host};
use crate::net::{Directions, NetBackend, NetSetup, Pieces};
use crate::virtio::{Queue, VirtioDevice};

/// Longest text that is taken from the host.
const MAX_TEXT: usize = 16 << 20;

/// Which extensions a type of device has, beside those that all have.
pub trait Kind<D: Device> {
    /// The table of `id`, or null.
    fn extension(id: &str) -> *const c_void;
}

/// Neither a virtio device nor a network backend.
pub struct Plain;
/// A [`VirtioDevice`].
pub struct Virtio;
/// A [`NetBackend`].
pub struct Net;

impl<D: Device> Kind<D> for Plain {
    fn extension(_: &str) -> *const c_void {
        std::ptr::null()
    }
}

impl<D: VirtioDevice> Kind<D> for Virtio {
    fn extension(id: &str) -> *const c_void {
        if id != abi::EXT_VIRTIO_DEVICE {
            return std::ptr::null();
        }
        const { &virtio_table::<D>() as *const abi::VirtioDevice }.cast()
    }
}

impl<D: NetBackend> Kind<D> for Net {
    fn extension(id: &str) -> *const c_void {
        if id != abi::EXT_NET_BACKEND {
            return std::ptr::null();
        }
        const { &net_table::<D>() as *const abi::NetBackend }.cast()
    }
}

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

const fn virtio_table<D: VirtioDevice>() -> abi::VirtioDevice {
    abi::VirtioDevice {
        struct_size: size::<abi::VirtioDevice>(),
        device_type: D::DEVICE_TYPE,
        features: D::FEATURES,
        queue_sizes: D::QUEUE_SIZES.as_ptr(),
        queue_count: D::QUEUE_SIZES.len(),
        ack_features: Some(ack_features::<D>),
        read_config: Some(read_config::<D>),
        write_config: Some(write_config::<D>),
        activate: Some(activate::<D>),
        queue_ready: Some(queue_ready::<D>),
        deactivate: Some(deactivate::<D>),
    }
}

const fn net_table<D: NetBackend>() -> abi::NetBackend {
    abi::NetBackend {
        struct_size: size::<abi::NetBackend>(),
        reserved: 0,
        describe: Some(describe::<D>),
        start: Some(start::<D>),
        stop: Some(stop::<D>),
        set_interest: Some(set_interest::<D>),
        send: Some(send::<D>),
        receive: Some(receive::<D>),
        flush: Some(flush::<D>),
    }
}

const fn events_table<D: Device>() -> abi::DeviceEvents {
    abi::DeviceEvents {
        struct_size: size::<abi::DeviceEvents>(),
        reserved: 0,
        on_event: Some(on_event::<D>),
        on_timer: Some(on_timer::<D>),
    }
}

const fn lifecycle_table<D: Device>() -> abi::Lifecycle {
    abi::Lifecycle {
        struct_size: size::<abi::Lifecycle>(),
        reserved: 0,
        before_boot: Some(before_boot::<D>),
        agent_ready: Some(agent_ready::<D>),
        join_network: Some(join_network::<D>),
        before_stop: Some(before_stop::<D>),
    }
}

/// The driver named `name` of type `D`.
pub const fn driver<D: Device, K: Kind<D>>(
    name: &'static str,
    summary: &'static str,
) -> abi::Driver {
    abi::Driver {
        struct_size: size::<abi::Driver>(),
        reserved: 0,
        name: Str::new(name),
        summary: Str::new(if D::SUMMARY.is_empty() {
            summary
        } else {
            D::SUMMARY
        }),
        config_schema: Str::new(D::CONFIG_SCHEMA),
        create: Some(create::<D, K>),
    }
}

/// What `plugin_data` points at.
struct Boxed<D> {
    device: abi::Device,
    host: Host,
    /// `None` after a panic.
    inner: Option<D>,
}

unsafe extern "C" fn create<D: Device, K: Kind<D>>(
    host: *const abi::Host,
    id: Str,
    config: Str,
    device: *mut *mut abi::Device,
) -> i32 {
    // SAFETY: the host's, valid as long as the device.
    let host = unsafe { Host::new(host) };
    let made = guarded(host, || {
        // SAFETY: valid through this call.
        let id = unsafe { text(id) }?;
        // SAFETY: as above.
        let config = unsafe { text(config) }?;
        let config = serde_json::from_str(config)
            .map_err(|error| Error::from(error).context("configuration"))?;
        D::create(host, id, config)
    });
    match made {
        Ok(inner) => {
            let boxed = Box::into_raw(Box::new(Boxed {
                device: abi::Device {
                    struct_size: size::<abi::Device>(),
                    reserved: 0,
                    plugin_data: std::ptr::null_mut(),
                    get_extension: Some(get_extension::<D, K>),
                    destroy: Some(destroy::<D>),
                },
                host,
                inner: Some(inner),
            }));
            // SAFETY: made just now, and nobody else has it.
            let table = unsafe { &raw mut (*boxed).device };
            // SAFETY: as above.
            unsafe { (*table).plugin_data = boxed.cast() };
            // SAFETY: the host's to write to.
            unsafe { device.write(table) };
            0
        }
        Err(errno) => -errno,
    }
}

/// Runs `body`; an error or panic is told to the host and becomes a number.
fn guarded<T>(host: Host, body: impl FnOnce() -> Result<T>) -> std::result::Result<T, i32> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            if let Some(text) = error.text() {
                host.set_error(text);
            }
            Err(error.errno())
        }
        Err(panic) => {
            host.set_error(message(&*panic));
            Err(libc::ENOTRECOVERABLE)
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Calls `body` with the device; its answer, or a negative errno.
///
/// # Safety
///
/// `device` was made by [`create`] for `D`, is not destroyed, and no other call of
/// it is under way.
unsafe fn with<D: Device>(
    device: *mut abi::Device,
    body: impl FnOnce(Host, &mut D) -> Result<i32>,
) -> i32 {
    // SAFETY: made by `create`.
    let data = unsafe { (*device).plugin_data };
    // SAFETY: the `Boxed` of this device, which no other call uses.
    let boxed = unsafe { &mut *data.cast::<Boxed<D>>() };
    let host = boxed.host;
    let Some(inner) = &mut boxed.inner else {
        return -libc::ENOTRECOVERABLE;
    };
    match guarded(host, || body(host, inner)) {
        Ok(value) => value,
        Err(errno) => {
            if errno == libc::ENOTRECOVERABLE {
                let broken = boxed.inner.take();
                // What is half done may panic once more.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
            }
            -errno
        }
    }
}

/// # Safety
///
/// The text is valid for `'a`.
unsafe fn text<'a>(str: Str) -> Result<&'a str> {
    // SAFETY: the caller's.
    let bytes = unsafe { str.bytes(MAX_TEXT) };
    let bytes = bytes.ok_or_else(|| Error::new("the host passed no text"))?;
    Ok(std::str::from_utf8(bytes)?)
}

unsafe extern "C" fn get_extension<D: Device, K: Kind<D>>(
    _: *mut abi::Device,
    id: Str,
) -> *const c_void {
    // SAFETY: valid through this call.
    let Ok(id) = (unsafe { text(id) }) else {
        return std::ptr::null();
    };
    match id {
        abi::EXT_EVENTS => const { &events_table::<D>() as *const abi::DeviceEvents }.cast(),
        abi::EXT_LIFECYCLE => const { &lifecycle_table::<D>() as *const abi::Lifecycle }.cast(),
        id => K::extension(id),
    }
}

unsafe extern "C" fn destroy<D: Device>(device: *mut abi::Device) {
    // SAFETY: made by `create`, and this is the last call.
    let data = unsafe { (*device).plugin_data };
    // SAFETY: as above.
    let boxed = unsafe { Box::from_raw(data.cast::<Boxed<D>>()) };
    let host = boxed.host;
    // Told to nobody: there is no device any more that could fail.
    let _ = guarded(host, move || {
        drop(boxed);
        Ok(())
    });
}

unsafe extern "C" fn on_event<D: Device>(
    device: *mut abi::Device,
    fd: i32,
    events: u32,
    token: u64,
) -> i32 {
    let call = |_: Host, device: &mut D| device.on_event(fd, Events::of(events), token).map(|()| 0);
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

unsafe extern "C" fn on_timer<D: Device>(device: *mut abi::Device, token: u64) -> i32 {
    // SAFETY: what the header says.
    unsafe {
        with(device, |_, device: &mut D| {
            device.on_timer(token).map(|()| 0)
        })
    }
}

unsafe extern "C" fn before_boot<D: Device>(device: *mut abi::Device) -> i32 {
    // SAFETY: what the header says.
    unsafe { with(device, |_, device: &mut D| device.before_boot().map(|()| 0)) }
}

unsafe extern "C" fn agent_ready<D: Device>(device: *mut abi::Device) -> i32 {
    // SAFETY: what the header says.
    unsafe { with(device, |_, device: &mut D| device.agent_ready().map(|()| 0)) }
}

unsafe extern "C" fn join_network<D: Device>(device: *mut abi::Device, network: Str) -> i32 {
    let call = |_: Host, device: &mut D| {
        // SAFETY: valid through this call.
        device.join_network(unsafe { text(network) }?).map(|()| 0)
    };
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

/// For functions without an answer, whose panic the host learns with the next call.
///
/// # Safety
///
/// As [`with`].
unsafe fn tell<D: Device>(device: *mut abi::Device, body: impl FnOnce(&mut D)) {
    let call = |_: Host, device: &mut D| {
        body(device);
        Ok(0)
    };
    // SAFETY: the caller's.
    unsafe { with(device, call) };
}

unsafe extern "C" fn before_stop<D: Device>(device: *mut abi::Device) {
    // SAFETY: what the header says.
    unsafe { tell(device, D::before_stop) };
}

unsafe extern "C" fn ack_features<D: VirtioDevice>(device: *mut abi::Device, features: u64) {
    // SAFETY: what the header says.
    unsafe { tell(device, |device: &mut D| device.ack_features(features)) };
}

unsafe extern "C" fn read_config<D: VirtioDevice>(
    device: *mut abi::Device,
    offset: u64,
    data: *mut c_void,
    len: usize,
) {
    if len == 0 {
        return;
    }
    // SAFETY: `len` bytes of the host's, for this call.
    let data = unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), len) };
    // SAFETY: what the header says.
    unsafe { tell(device, |device: &mut D| device.read_config(offset, data)) };
}

unsafe extern "C" fn write_config<D: VirtioDevice>(
    device: *mut abi::Device,
    offset: u64,
    data: *const c_void,
    len: usize,
) {
    if len == 0 {
        return;
    }
    // SAFETY: `len` bytes of the host's, for this call.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    // SAFETY: what the header says.
    unsafe { tell(device, |device: &mut D| device.write_config(offset, data)) };
}

unsafe extern "C" fn activate<D: VirtioDevice>(device: *mut abi::Device) -> i32 {
    // SAFETY: what the header says.
    unsafe { with(device, |_, device: &mut D| device.activate().map(|()| 0)) }
}

unsafe extern "C" fn queue_ready<D: VirtioDevice>(device: *mut abi::Device, queue: u16) -> i32 {
    let call = |host: Host, device: &mut D| device.queue_ready(Queue::new(host, queue)).map(|()| 0);
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

unsafe extern "C" fn deactivate<D: VirtioDevice>(device: *mut abi::Device) {
    // SAFETY: what the header says.
    unsafe { tell(device, D::deactivate) };
}

unsafe extern "C" fn describe<D: NetBackend>(
    device: *mut abi::Device,
    info: *mut abi::NetInfo,
) -> i32 {
    let call = |_: Host, device: &mut D| {
        let found = device.describe()?;
        // SAFETY: the host's to fill, and no smaller than in the first version.
        let struct_size = unsafe { (*info).struct_size };
        let filled = abi::NetInfo {
            struct_size,
            offloads: found.offloads,
            queue_pairs: found.queue_pairs,
            mtu: found.mtu.unwrap_or(0),
            mac: found.mac.unwrap_or([0; 6]),
            header: found.header.into(),
            link_down: (!found.link_up).into(),
            max_frame: found.max_frame,
        };
        // SAFETY: as above.
        unsafe { info.write(filled) };
        Ok(0)
    };
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

unsafe extern "C" fn start<D: NetBackend>(
    device: *mut abi::Device,
    setup: *const abi::NetSetup,
) -> i32 {
    let call = |_: Host, device: &mut D| {
        // SAFETY: the host's, for this call.
        let setup = unsafe { abi::read_sized(setup) };
        let setup = setup.map_err(|_| Error::from_errno(libc::EINVAL))?;
        let setup = NetSetup {
            offloads: setup.offloads,
            queue_pairs: setup.queue_pairs,
            flushes: setup.flushes != 0,
        };
        device.start(setup).map(|()| 0)
    };
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

unsafe extern "C" fn stop<D: NetBackend>(device: *mut abi::Device) {
    // SAFETY: what the header says.
    unsafe { tell(device, D::stop) };
}

unsafe extern "C" fn set_interest<D: NetBackend>(
    device: *mut abi::Device,
    queue: u16,
    directions: u32,
) -> i32 {
    let call = |_: Host, device: &mut D| {
        device
            .set_interest(queue, Directions::of(directions))
            .map(|()| 0)
    };
    // SAFETY: what the header says.
    unsafe { with(device, call) }
}

/// # Safety
///
/// `count` pieces of guest memory for this call.
unsafe fn frame<'a>(pieces: *const Iovec, count: usize) -> Pieces<'a> {
    let list: &[Iovec] = if count == 0 {
        &[]
    } else {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts(pieces, count) }
    };
    // SAFETY: the caller's.
    unsafe { Pieces::new(list) }
}

unsafe extern "C" fn send<D: NetBackend>(
    device: *mut abi::Device,
    queue: u16,
    pieces: *const Iovec,
    count: usize,
) -> i32 {
    // SAFETY: what the header says.
    let frame = unsafe { frame(pieces, count) };
    // SAFETY: as above.
    unsafe {
        with(device, |_, device: &mut D| {
            device.send(queue, frame).map(|()| 0)
        })
    }
}

unsafe extern "C" fn flush<D: NetBackend>(device: *mut abi::Device, queue: u16) -> i32 {
    // SAFETY: as above.
    unsafe { with(device, |_, device: &mut D| device.flush(queue).map(|()| 0)) }
}

unsafe extern "C" fn receive<D: NetBackend>(
    device: *mut abi::Device,
    queue: u16,
    pieces: *const Iovec,
    count: usize,
) -> i32 {
    // SAFETY: what the header says.
    let room = unsafe { frame(pieces, count) };
    let call = |_: Host, device: &mut D| {
        let len = device.receive(queue, room)?;
        i32::try_from(len).map_err(Error::from)
    };
    // SAFETY: as above.
    unsafe { with(device, call) }
}
