//! A virtio device under drivers that are sound, that are broken, and that go away.

use device_model::VirtioDevice;
use plugin_host::PluginDevice;

use crate::check::Subject;
use crate::event_loop::Loop;
use crate::finding::{Finding, sound};
use crate::guest::{Driver, MEMORY, QUEUE_SIZE};
use crate::life::{Effort, idle};

/// Offsets into configuration space that a guest may choose.
const OFFSETS: [u64; 6] = [0, 1, 60, 4096, u32::MAX as u64, u64::MAX];
/// Lengths of what it reads and writes there.
const LENS: [usize; 4] = [1, 2, 4, 8];
/// Where chains that overlap others lie.
const SHARED: u64 = 0x80000;
/// What a driver says that has lost count of its ring.
const BROKEN_INDEX: u16 = 1000;

/// Uses `virtio`, which is `device`, in as many activations, the last with broken
/// rings.
pub(crate) fn drive(
    subject: &Subject,
    device: &PluginDevice,
    virtio: &mut dyn VirtioDevice,
    effort: Effort,
) -> Result<(), Finding> {
    let event_loop = Loop::start();
    let sizes: Vec<u16> = virtio
        .queue_max_sizes()
        .iter()
        .map(|size| QUEUE_SIZE.min(*size))
        .collect();
    // One memory for the device's life, as a VM has.
    let mut driver = Driver::with_queues(&sizes);
    for round in 0..effort.rounds() {
        subject.stage("ack_features, read_config or write_config");
        virtio.ack_features(virtio.features());
        configuration_space(virtio);
        driver.reset();
        let _interrupts = start(subject, &event_loop, &driver, virtio)?;
        subject.stage("queue_ready");
        load(&mut driver, sizes.len());
        if round % 2 == 0 {
            // In the others it is deactivated while it works.
            event_loop.turn();
            sound(device)?;
        }
        if round == 0 && effort == Effort::Full {
            subject.stage("what it does with nothing to do");
            idle(device, &event_loop)?;
        }
        subject.stage("deactivate");
        virtio.deactivate();
        let before = used(&mut driver, sizes.len());
        subject.stage("what it does when it is not active");
        load(&mut driver, sizes.len());
        configuration_space(virtio);
        event_loop.turn();
        if used(&mut driver, sizes.len()) != before {
            return Err(Finding::new("it went on with its queues after deactivate"));
        }
        sound(device)?;
    }
    broken_rings(subject, device, virtio, &event_loop, &mut driver)
}

fn start(
    subject: &Subject,
    event_loop: &Loop,
    driver: &Driver,
    virtio: &mut dyn VirtioDevice,
) -> Result<crate::guest::Interrupts, Finding> {
    subject.stage("activate");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio
        .activate(activation)
        .map_err(|error| Finding::of(&error))?;
    Ok(interrupts)
}

/// Any offset and length are the guest's to choose.
fn configuration_space(virtio: &mut dyn VirtioDevice) {
    for offset in OFFSETS {
        for len in LENS {
            let mut data = [0xa5; 8];
            virtio.read_config(offset, &mut data[..len]);
            virtio.write_config(offset, &data[..len]);
        }
    }
}

/// Chains of each shape in each queue, as many as fit, each with a kick.
fn load(driver: &mut Driver, queues: usize) {
    for queue in 0..queues {
        let driver = driver.at(queue);
        let single = [
            (SHARED, 64),
            (SHARED, 4096),
            (0, 0),
            // Not memory, or not all of it.
            (u64::MAX, 1),
            (MEMORY, 16),
            (MEMORY - 1, 2),
            (0, u32::MAX),
        ];
        for (index, (address, len)) in single.into_iter().enumerate() {
            if driver.left() > 2 {
                driver.offer(&[index as u8; 100][..index * 16]);
            }
            if driver.left() > 0 && index % 2 == 0 {
                driver.offer_room(address, len);
            } else if driver.left() > 0 {
                driver.offer_text(address, len);
            }
            driver.kick();
        }
    }
}

fn used(driver: &mut Driver, queues: usize) -> Vec<u16> {
    let used = |queue| driver.at(queue).used().0;
    (0..queues).map(used).collect()
}

/// A driver that breaks its rings harms itself: after a reset the device works on.
fn broken_rings(
    subject: &Subject,
    device: &PluginDevice,
    virtio: &mut dyn VirtioDevice,
    event_loop: &Loop,
    driver: &mut Driver,
) -> Result<(), Finding> {
    driver.reset();
    let _interrupts = start(subject, event_loop, driver, virtio)?;
    subject.stage("queue_ready of a driver that broke the rings");
    // The host warns of such a driver, which nobody has here but this check.
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Error);
    for queue in 0..virtio.queue_max_sizes().len() {
        let driver = driver.at(queue);
        driver.set_avail(BROKEN_INDEX);
        driver.kick();
    }
    event_loop.turn();
    log::set_max_level(level);
    let unharmed = sound(device);
    unharmed.map_err(|finding| {
        Finding(format!(
            "a guest that breaks its rings ends the device for good: {}",
            finding.0
        ))
    })?;
    subject.stage("deactivate");
    virtio.deactivate();
    driver.reset();
    let _interrupts = start(subject, event_loop, driver, virtio)?;
    subject.stage("deactivate");
    virtio.deactivate();
    sound(device)
}
