//! One device of a plugin and the way into it: one call at a time, each measured,
//! each answer checked, none after the first failure.

// UNSAFETY: calls functions of the plugin and owns what it has made.
#![expect(unsafe_code, reason = "calls into plugins")]

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use device_model::GuestMemory;
use device_model::net::NetNews;
use plugin_abi as abi;
use plugin_abi::{SizeError, Str, Versioned, read_sized};

use crate::active::{Active, Breaks};
use crate::events::{Due, WaitSet};
use crate::failure::{DeviceFailure, FailureKind};
use crate::guest::{GuestAdditions, GuestFacts};
use crate::host_api;

/// A callback that takes longer holds up a vCPU or the event loop, and is named in
/// the log.
const SLOW: Duration = Duration::from_millis(10);
/// The same on the owner's thread, which nobody waits for.
const SLOW_FOR_OWNER: Duration = Duration::from_secs(2);

/// Time that a device's callbacks took.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallStats {
    /// How many there were.
    pub calls: u64,
    /// All together.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
    /// Those that took too long, of which the log names the 1st, 2nd, 4th, 8th ….
    pub slow: u64,
}

/// What the functions of the host work on; `host_data` points here.
pub(crate) struct HostState {
    pub id: String,
    pub plugin: String,
    /// Target of its lines in the log.
    pub target: String,
    pub facts: GuestFacts,
    pub waits: WaitSet,
    pub active: Mutex<Option<Active>>,
    /// Of all activations.
    pub breaks: Arc<Breaks>,
    /// Of the first activation: pointers into it are valid until `destroy`.
    pub memory: OnceLock<GuestMemory>,
    pub additions: Mutex<GuestAdditions>,
    /// Additions are still used.
    pub additions_open: AtomicBool,
    pub news: Mutex<NetNews>,
    /// [`Instance::process`] is under way, after which the news are taken.
    processing: AtomicBool,
    pub queue_pairs: OnceLock<u16>,
    error: Mutex<Option<String>>,
    misuse: Mutex<Option<FailureKind>>,
    first_misuse: OnceLock<FailureKind>,
}

thread_local! {
    /// Whose callback this thread is in.
    static IN_CALL: Cell<*const HostState> = const { Cell::new(ptr::null()) };
}

impl HostState {
    /// This thread is in a callback of this device.
    pub(crate) fn in_call(&self) -> bool {
        IN_CALL.get() == ptr::from_ref(self)
    }

    /// There are news, from a callback.
    pub(crate) fn has_news(&self) {
        if !self.processing.load(Ordering::Relaxed) {
            self.waits.wake();
        }
    }

    pub(crate) fn set_error(&self, text: String) {
        *lock(&self.error) = Some(text);
    }

    /// The device called `function` where that is not allowed. In debug builds it
    /// fails, with its next callback at the latest.
    pub(crate) fn misused(&self, function: &'static str, allowed: &'static str) {
        log::warn!(target: &self.target, "device {:?} called {function}, which is allowed {allowed}", self.id);
        let kind = FailureKind::Misuse { function, allowed };
        if cfg!(debug_assertions) {
            *lock(&self.misuse) = Some(kind.clone());
        }
        // The first one counts.
        let _ = self.first_misuse.set(kind);
    }
}

pub(crate) struct Instance {
    state: Arc<HostState>,
    /// What the plugin got; it may keep the pointer until `destroy`.
    _host: Box<abi::Host>,
    device: *mut abi::Device,
    destroy: unsafe extern "C" fn(*mut abi::Device),
    pub virtio: Option<abi::VirtioDevice>,
    pub net: Option<abi::NetBackend>,
    events: Option<abi::DeviceEvents>,
    lifecycle: Option<abi::Lifecycle>,
    calls: Mutex<CallStats>,
    failure: OnceLock<DeviceFailure>,
}

// SAFETY: the raw pointers are the plugin's, whose functions may be called on any
// thread, one at a time, which the lock in `calls` sees to.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// Whose thread a callback is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Owner,
    /// A vCPU, or the event loop.
    Machine,
}

/// What [`Instance::make`] needs.
pub(crate) struct Making<'a> {
    pub plugin: &'a str,
    pub id: &'a str,
    pub config: &'a str,
    pub facts: GuestFacts,
    pub create: crate::load::Create,
}

impl Instance {
    /// Calls `create`, and reads what it made.
    pub(crate) fn make(making: Making<'_>) -> Result<Self, DeviceFailure> {
        let failed = |callback, kind| DeviceFailure {
            id: making.id.to_owned(),
            plugin: making.plugin.to_owned(),
            callback,
            kind,
        };
        let waits = WaitSet::new().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let text = Some("make its epoll descriptor".to_owned());
            failed("create", FailureKind::Error { errno, text })
        })?;
        let state = Arc::new(HostState {
            id: making.id.to_owned(),
            plugin: making.plugin.to_owned(),
            target: format!("plugin::{}", making.plugin),
            facts: making.facts,
            waits,
            active: Mutex::default(),
            breaks: Arc::default(),
            memory: OnceLock::new(),
            additions: Mutex::default(),
            additions_open: AtomicBool::new(true),
            news: Mutex::default(),
            processing: AtomicBool::new(false),
            queue_pairs: OnceLock::new(),
            error: Mutex::default(),
            misuse: Mutex::default(),
            first_misuse: OnceLock::new(),
        });
        let host = Box::new(host_api::host(&state));
        let mut stats = CallStats::default();
        let mut device = ptr::null_mut();
        let outcome = watched(&state, &mut stats, "create", On::Owner, || {
            // SAFETY: `create` of a loaded plugin, with what the header says.
            unsafe {
                (making.create)(
                    &raw const *host,
                    Str::new(making.id),
                    Str::new(making.config),
                    &raw mut device,
                )
            }
        });
        match outcome {
            Ok(0) => {}
            Ok(value) => return Err(failed("create", garbage(value, "0 or a negative errno"))),
            Err(kind) => return Err(failed("create", kind)),
        }
        // SAFETY: made by the plugin just now, which vouches for it.
        let table = unsafe { read_sized(device.cast_const()) }
            .map_err(|error| failed("create", struct_garbage("device", error)))?;
        let Some(destroy) = table.destroy else {
            return Err(failed("create", missing("destroy")));
        };
        let mut instance = Instance {
            state,
            _host: host,
            device,
            destroy,
            virtio: None,
            net: None,
            events: None,
            lifecycle: None,
            calls: Mutex::new(stats),
            failure: OnceLock::new(),
        };
        // From here on dropping it calls `destroy`.
        if let Some(get) = table.get_extension {
            instance
                .read_extensions(get)
                .map_err(|kind| failed("get_extension", kind))?;
        }
        Ok(instance)
    }

    fn read_extensions(
        &mut self,
        get: unsafe extern "C" fn(*mut abi::Device, Str) -> *const c_void,
    ) -> Result<(), FailureKind> {
        self.virtio = self.extension(get, abi::EXT_VIRTIO_DEVICE)?;
        self.net = self.extension(get, abi::EXT_NET_BACKEND)?;
        self.events = self.extension(get, abi::EXT_EVENTS)?;
        self.lifecycle = self.extension(get, abi::EXT_LIFECYCLE)?;
        if let Some(events) = &self.events {
            required(events.on_event.is_some(), "on_event")?;
        }
        if self.virtio.is_some() && self.net.is_some() {
            return Err(FailureKind::Garbage {
                found: "both a virtio device and a net backend".into(),
                allowed: "one of them",
            });
        }
        Ok(())
    }

    fn extension<T: Versioned>(
        &self,
        get: unsafe extern "C" fn(*mut abi::Device, Str) -> *const c_void,
        id: &'static str,
    ) -> Result<Option<T>, FailureKind> {
        let mut stats = lock(&self.calls);
        let mut found = ptr::null();
        watched(&self.state, &mut stats, "get_extension", On::Owner, || {
            // SAFETY: a device that is not destroyed, and no other call under way.
            found = unsafe { get(self.device, Str::new(id)) };
            0
        })?;
        if found.is_null() {
            return Ok(None);
        }
        // SAFETY: the plugin vouches for a struct of the type of that extension,
        // valid until `destroy`.
        let table = unsafe { read_sized(found.cast::<T>()) };
        table.map(Some).map_err(|error| struct_garbage(id, error))
    }

    pub(crate) fn state(&self) -> &Arc<HostState> {
        &self.state
    }

    pub(crate) fn failure(&self) -> Option<&DeviceFailure> {
        self.failure.get()
    }

    pub(crate) fn misuse(&self) -> Option<&FailureKind> {
        self.state.first_misuse.get()
    }

    pub(crate) fn stats(&self) -> CallStats {
        *lock(&self.calls)
    }

    /// Ends the device because of what it did in `callback`. The first one counts.
    pub(crate) fn fail(&self, callback: &'static str, kind: FailureKind) -> DeviceFailure {
        let mut first = false;
        let failure = self.failure.get_or_init(|| {
            first = true;
            DeviceFailure {
                id: self.state.id.clone(),
                plugin: self.state.plugin.clone(),
                callback,
                kind,
            }
        });
        if first {
            log::error!(target: &self.state.target, "{failure}");
            if let Some(active) = lock(&self.state.active).as_mut() {
                active.needs_reset();
            }
            // A backend's frontend learns by its next look.
            self.state.waits.wake();
        }
        failure.clone()
    }

    /// Calls `body`, a function of the plugin named `callback`. Its negative values
    /// come back as failures, of which the caller decides whether they are ones.
    ///
    /// The outer error is a device that has failed, by now or long before.
    pub(crate) fn call(
        &self,
        callback: &'static str,
        on: On,
        body: impl FnOnce(*mut abi::Device) -> i32,
    ) -> Result<Result<i32, FailureKind>, DeviceFailure> {
        let mut stats = lock(&self.calls);
        if let Some(failure) = self.failure() {
            return Err(failure.clone());
        }
        let outcome = watched(&self.state, &mut stats, callback, on, || body(self.device));
        drop(stats);
        if let Some(misuse) = lock(&self.state.misuse).take() {
            return Err(self.fail(callback, misuse));
        }
        match outcome {
            Err(kind @ FailureKind::Panicked { .. }) => Err(self.fail(callback, kind)),
            outcome => Ok(outcome),
        }
    }

    /// As [`Instance::call`] for a function whose only sound answer is 0 and whose
    /// errors end the device.
    pub(crate) fn call_or_fail(
        &self,
        callback: &'static str,
        on: On,
        body: impl FnOnce(*mut abi::Device) -> i32,
    ) -> Result<(), DeviceFailure> {
        // After a failure that has ended it already, that one stays.
        self.ask(callback, on, body)
            .map_err(|failure| self.fail(callback, failure.kind))
    }

    /// As [`Instance::call`] for a function whose only sound answer is 0 and whose
    /// errors are answers.
    pub(crate) fn ask(
        &self,
        callback: &'static str,
        on: On,
        body: impl FnOnce(*mut abi::Device) -> i32,
    ) -> Result<(), DeviceFailure> {
        match self.call(callback, on, body)? {
            Ok(0) => Ok(()),
            Ok(value) => Err(self.fail(callback, garbage(value, "0 or a negative errno"))),
            Err(kind) => Err(DeviceFailure {
                id: self.state.id.clone(),
                plugin: self.state.plugin.clone(),
                callback,
                kind,
            }),
        }
    }

    /// Does what has become due. An error is the device's failure.
    pub(crate) fn process(&self) -> Result<(), DeviceFailure> {
        if let Some(failure) = self.failure() {
            return Err(failure.clone());
        }
        let due = match self.state.waits.due() {
            Ok(due) => due,
            // Interrupted: it is as readable as before.
            Err(_) => return Ok(()),
        };
        self.state.processing.store(true, Ordering::Relaxed);
        let outcome = due
            .into_iter()
            .filter_map(|(number, events)| self.state.waits.take(number, events))
            .try_for_each(|due| {
                self.deal_with(due)?;
                if let Some(active) = lock(&self.state.active).as_mut() {
                    active.notify_all();
                }
                Ok(())
            });
        self.state.processing.store(false, Ordering::Relaxed);
        outcome
    }

    fn deal_with(&self, due: Due) -> Result<(), DeviceFailure> {
        match due {
            Due::Woken => Ok(()),
            Due::Descriptor { fd, events, token } => {
                let Some(on_event) = self.events.as_ref().and_then(|table| table.on_event) else {
                    return Err(self.fail("on_event", missing("on_event, of shem.events/1,")));
                };
                self.call_or_fail("on_event", On::Machine, |device| {
                    // SAFETY: `call` gives a device that is not destroyed, alone.
                    unsafe { on_event(device, fd, events, token) }
                })
            }
            Due::Timer { token } => {
                let Some(on_timer) = self.events.as_ref().and_then(|table| table.on_timer) else {
                    return Err(self.fail("on_timer", missing("on_timer, of shem.events/1,")));
                };
                self.call_or_fail("on_timer", On::Machine, |device| {
                    // SAFETY: as above.
                    unsafe { on_timer(device, token) }
                })
            }
            Due::Kick { queue } => {
                let serves = lock(&self.state.active)
                    .as_ref()
                    .is_some_and(|active| !active.broken());
                let Some(queue_ready) = self.virtio.as_ref().and_then(|table| table.queue_ready)
                else {
                    return Ok(());
                };
                if !serves {
                    return Ok(());
                }
                self.call_or_fail("queue_ready", On::Machine, |device| {
                    // SAFETY: as above.
                    unsafe { queue_ready(device, queue) }
                })
            }
        }
    }

    pub(crate) fn before_boot(&self) -> Result<(), DeviceFailure> {
        let function = self.lifecycle.as_ref().and_then(|table| table.before_boot);
        let outcome = match function {
            // SAFETY: as above.
            Some(function) => self.ask("before_boot", On::Owner, |device| unsafe {
                function(device)
            }),
            None => Ok(()),
        };
        self.state.additions_open.store(false, Ordering::Release);
        outcome
    }

    pub(crate) fn agent_ready(&self) -> Result<(), DeviceFailure> {
        match self.lifecycle.as_ref().and_then(|table| table.agent_ready) {
            // SAFETY: as above.
            Some(function) => self.ask("agent_ready", On::Owner, |device| unsafe {
                function(device)
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn join_network(&self, network: &str) -> Result<(), DeviceFailure> {
        match self.lifecycle.as_ref().and_then(|table| table.join_network) {
            // SAFETY: as above; the text lives through the call.
            Some(function) => self.ask("join_network", On::Owner, |device| unsafe {
                function(device, Str::new(network))
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn before_stop(&self) {
        if let Some(function) = self.lifecycle.as_ref().and_then(|table| table.before_stop) {
            // What it has done wrong is in the log, and the VM stops all the same.
            let _ = self.call_or_fail("before_stop", On::Owner, |device| {
                // SAFETY: as above.
                unsafe { function(device) };
                0
            });
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut stats = lock(&self.calls);
        let destroyed = watched(&self.state, &mut stats, "destroy", On::Owner, || {
            // SAFETY: made by `create`, not destroyed yet, and nobody else has it.
            unsafe { (self.destroy)(self.device) };
            0
        });
        if let Err(kind) = destroyed {
            log::error!(target: &self.state.target, "device {:?} failed in destroy: {kind}", self.state.id);
        }
    }
}

/// Calls `body`, measures it, and takes what it said by `set_error` into account.
fn watched(
    state: &Arc<HostState>,
    stats: &mut CallStats,
    callback: &'static str,
    on: On,
    body: impl FnOnce() -> i32,
) -> Result<i32, FailureKind> {
    *lock(&state.error) = None;
    let before = IN_CALL.replace(Arc::as_ptr(state));
    let start = Instant::now();
    let value = body();
    let took = start.elapsed();
    IN_CALL.set(before);
    stats.calls += 1;
    stats.total += took;
    stats.longest = stats.longest.max(took);
    let limit = match on {
        On::Owner => SLOW_FOR_OWNER,
        On::Machine => SLOW,
    };
    if took > limit {
        stats.slow += 1;
        if stats.slow.is_power_of_two() {
            log::warn!(
                target: &state.target,
                "device {:?} took {} ms in {callback}, {} calls have been slow: it holds up {}",
                state.id,
                took.as_millis(),
                stats.slow,
                match on {
                    On::Owner => "the VM's start and end",
                    On::Machine => "the guest",
                }
            );
        }
    }
    if value < 0 {
        let text = lock(&state.error).take();
        return Err(FailureKind::of(value, text));
    }
    Ok(value)
}

pub(crate) fn garbage(value: impl std::fmt::Display, allowed: &'static str) -> FailureKind {
    FailureKind::Garbage {
        found: value.to_string(),
        allowed,
    }
}

pub(crate) fn missing(function: &str) -> FailureKind {
    FailureKind::Garbage {
        found: format!("NULL for {function}"),
        allowed: "a function",
    }
}

pub(crate) fn required(there: bool, function: &str) -> Result<(), FailureKind> {
    if there {
        Ok(())
    } else {
        Err(missing(function))
    }
}

pub(crate) fn struct_garbage(what: &str, error: SizeError) -> FailureKind {
    let found = match error {
        SizeError::Null => format!("NULL for its {what}"),
        SizeError::Unaligned => format!("an unaligned pointer for its {what}"),
        SizeError::Short { found, .. } | SizeError::Huge { found } => {
            format!("struct_size {found} for its {what}")
        }
    };
    let allowed = "a struct of the ABI's headers";
    FailureKind::Garbage { found, allowed }
}

/// A panic while one of these was held left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
