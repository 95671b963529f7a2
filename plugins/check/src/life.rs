//! A device's life: once, often, twice at the same time, and used as what it is.

use std::io;

use device_model::net::NetBackend;
use device_model::{NewDevice, Subscriber, VirtioDevice};
use plugin_host::{CreateError, PluginDevice};

use crate::check::Subject;
use crate::event_loop::Loop;
use crate::finding::{Finding, in_words, sound};
use crate::{net, virtio};

/// Devices that are made and destroyed to see what they leave behind.
const REPEATS: usize = 100;
/// Devices before the count, for what is made once.
const WARM_UP: usize = 3;
/// Attempts to be in time: a loaded machine spoils some.
const ATTEMPTS: usize = 5;
/// One slow callback in more than so many is the loaded machine's fault.
const SPOILED: u64 = 100;
/// Rounds of the event loop in which a device with nothing to do does nothing.
const IDLE_TURNS: u64 = 50;

/// How long a device is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As long as it takes to find what is rare, and then left alone.
    Full,
    /// Once round, where time is measured or is short.
    Short,
}

impl Effort {
    /// How often the driver resets the device and starts it again.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Effort::Full => 10,
            Effort::Short => 2,
        }
    }
}

/// What a device is to the machine.
pub(crate) enum Role {
    Virtio(Box<dyn VirtioDevice>),
    Net(Box<dyn NetBackend>),
    OffBus(Subscriber),
}

impl Role {
    fn name(&self) -> String {
        match self {
            Role::Virtio(device) => format!("a virtio device of type {}", device.device_type()),
            Role::Net(_) => "a network backend".into(),
            Role::OffBus(_) => "a device that the guest does not see".into(),
        }
    }
}

fn role(subject: &Subject, device: &PluginDevice) -> Result<Role, Finding> {
    subject.stage("describe");
    if let Some(backend) = device.net_backend() {
        return Ok(Role::Net(backend?));
    }
    match device.clone().into_new_device()? {
        NewDevice::Virtio(virtio) => Ok(Role::Virtio(virtio)),
        NewDevice::OffBus(subscriber) => Ok(Role::OffBus(subscriber)),
        NewDevice::Serial(_) => Err(Finding::new("it is a serial port, which none can be")),
    }
}

/// Through all that a VM that comes and goes asks for.
pub(crate) fn lifecycle(subject: &Subject) -> Result<String, Finding> {
    let device = subject.create("dev0")?;
    let role = role(subject, &device)?;
    let name = role.name();
    subject.stage("before_boot");
    device.before_boot()?;
    subject.stage("agent_ready");
    device.agent_ready()?;
    subject.stage("before_stop");
    device.before_stop();
    sound(&device)?;
    subject.stage("destroy");
    drop(role);
    drop(device);
    Ok(name)
}

/// Many devices, one after the other, and what they leave.
pub(crate) fn repeat(subject: &Subject) -> Result<String, Finding> {
    for _ in 0..WARM_UP {
        drop(subject.create("dev0")?);
    }
    let before = [entries("fd")?, entries("task")?];
    for _ in 0..REPEATS {
        drop(subject.create("dev0")?);
    }
    let after = [entries("fd")?, entries("task")?];
    for (index, what) in ["descriptors", "threads"].into_iter().enumerate() {
        let left = after[index].saturating_sub(before[index]);
        // Fewer are not the devices': a thread that was joined is listed a moment
        // longer.
        if left >= REPEATS / 2 {
            return Err(Finding(format!(
                "{REPEATS} devices that were destroyed left {left} {what}: close or join them in destroy"
            )));
        }
    }
    Ok(format!("{REPEATS} devices left nothing behind"))
}

/// How many there are of this process.
fn entries(what: &str) -> Result<usize, Finding> {
    let count = || io::Result::Ok(std::fs::read_dir(format!("/proc/self/{what}"))?.count());
    count().map_err(|error| Finding(format!("count {what}s of this process: {error}")))
}

/// Two devices, used at the same time on threads of their own.
pub(crate) fn pair(subject: &Subject) -> Result<String, Finding> {
    let first = subject.create("dev0")?;
    subject.stage("create of a second device");
    let second = match subject.create_of("dev1", &subject.config) {
        Ok(device) => device,
        Err(CreateError::Failed(failure)) => {
            in_words("create of a second device", &failure.kind)?;
            return Ok(format!(
                "a second one of this configuration is refused: {}",
                failure.kind
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let roles = [role(subject, &first)?, role(subject, &second)?];
    let [one, other] = roles;
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(|| exercise(subject, &second, other, Effort::Short));
        [exercise(subject, &first, one, Effort::Short), joined(other)]
    });
    outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    subject.stage("destroy of two devices");
    drop(first);
    // The one that is left works on.
    let third = subject.create("dev0");
    drop(second);
    drop(third?);
    Ok("two devices worked at the same time".into())
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<(), Finding>>) -> Result<(), Finding> {
    let panicked = |_| Err(Finding::new("a thread that used the device panicked"));
    thread.join().unwrap_or_else(panicked)
}

/// One device, used.
pub(crate) fn used(subject: &Subject, effort: Effort) -> Result<String, Finding> {
    let device = subject.create("dev0")?;
    let role = role(subject, &device)?;
    let name = role.name();
    exercise(subject, &device, role, effort)?;
    subject.stage("destroy");
    drop(device);
    Ok(format!("worked as {name}"))
}

/// Uses a device as what it is; what it does wrong is found then or after.
fn exercise(
    subject: &Subject,
    device: &PluginDevice,
    role: Role,
    effort: Effort,
) -> Result<(), Finding> {
    match role {
        Role::Virtio(mut virtio) => virtio::drive(subject, device, &mut *virtio, effort)?,
        Role::Net(mut backend) => net::carry(subject, device, &mut *backend, effort)?,
        Role::OffBus(subscriber) => {
            subject.stage("on_event or on_timer");
            let event_loop = Loop::start();
            let registration = event_loop.events.add(subscriber);
            let registration = registration.map_err(|error| Finding::of(&error))?;
            event_loop.turn();
            if effort == Effort::Full {
                idle(device, &event_loop)?;
            }
            drop(registration);
        }
    }
    sound(device)
}

/// That a device with nothing to do is not called in each round of the loop.
pub(crate) fn idle(device: &PluginDevice, event_loop: &Loop) -> Result<(), Finding> {
    let before = device.stats().calls;
    for _ in 0..IDLE_TURNS {
        event_loop.turn();
    }
    let calls = device.stats().calls - before;
    if calls >= IDLE_TURNS {
        return Err(Finding(format!(
            "it was called {calls} times in {IDLE_TURNS} rounds of the event loop with nothing to do: \
             a descriptor stays ready or a timer has no time"
        )));
    }
    Ok(())
}

/// That callbacks are not slow each time.
pub(crate) fn speed(subject: &Subject) -> Result<String, Finding> {
    let mut longest = Vec::new();
    for _ in 0..ATTEMPTS {
        let device = subject.create("dev0")?;
        let role = role(subject, &device)?;
        exercise(subject, &device, role, Effort::Short)?;
        let stats = device.stats();
        if stats.slow * SPOILED <= stats.calls {
            let took = (stats.total / stats.calls.max(1) as u32).as_nanos();
            return Ok(format!("{} callbacks took {took} ns each", stats.calls));
        }
        longest.push(stats.longest.as_millis().to_string());
    }
    Err(Finding(format!(
        "callbacks were slow in each of {ATTEMPTS} attempts, with up to {} ms: the guest and all devices wait for them",
        longest.join(", ")
    )))
}

/// The shortest that touches everything, for a process in which all is slow. What is
/// found here has been found before: valgrind's verdict is what counts.
pub(crate) fn under_valgrind(subject: &Subject) -> Result<String, Finding> {
    for _ in 0..WARM_UP {
        let _ = lifecycle(subject);
    }
    let _ = used(subject, Effort::Short);
    Ok("valgrind found nothing".into())
}
