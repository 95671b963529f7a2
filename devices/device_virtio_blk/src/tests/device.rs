//! The device as a transport drives it, with its threads.

use device_model::{Activation, ActiveQueue, EventHandle, Subscriber, Threads, VirtioDevice};
use event_manager::EventManager;
use virtio_bindings::bindings::virtio_blk as spec;

use super::*;
use crate::device::BlockDevice;

fn device(read_only: bool, vcpus: u8) -> BlockDevice {
    let disk = Disk::new(Box::new(Store::new(read_only)), SERIAL);
    BlockDevice::new("disk", disk, vcpus)
}

fn features(device: &BlockDevice) -> Vec<u32> {
    (0..64)
        .filter(|bit| device.features() >> bit & 1 != 0)
        .collect()
}

fn config<const N: usize>(device: &BlockDevice, offset: u64) -> [u8; N] {
    let mut data = [0xaa; N];
    device.read_config(offset, &mut data);
    data
}

/// An activation with a queue for each of `drivers`, and the queues' kicks.
fn activation(
    memory: &GuestMemory,
    line: &Arc<Line>,
    drivers: &[Option<Driver>],
) -> (Activation, Vec<EventFd>) {
    let kicks: Vec<EventFd> = drivers
        .iter()
        .map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap())
        .collect();
    let queues = drivers
        .iter()
        .zip(&kicks)
        .map(|(driver, kick)| {
            let queue = driver.as_ref()?.queue();
            let kick = kick.try_clone().unwrap();
            Some(ActiveQueue { queue, kick })
        })
        .collect();
    let events = EventManager::<Subscriber>::new().unwrap();
    let activation = Activation {
        memory: memory.clone(),
        queues,
        interrupt: Arc::clone(line) as _,
        events: EventHandle::new(events.remote_endpoint()),
        threads: Threads::new(|_| Ok(())),
    };
    (activation, kicks)
}

#[test]
fn read_only_disk_offers_nothing_that_changes_it() {
    let device = device(true, 1);
    assert_eq!(
        features(&device),
        [
            spec::VIRTIO_BLK_F_SIZE_MAX,
            spec::VIRTIO_BLK_F_SEG_MAX,
            spec::VIRTIO_BLK_F_RO,
            spec::VIRTIO_BLK_F_BLK_SIZE,
            spec::VIRTIO_BLK_F_TOPOLOGY,
        ]
    );
}

#[test]
fn writable_disk_offers_what_it_can_do() {
    assert_eq!(
        features(&device(false, 2)),
        [
            spec::VIRTIO_BLK_F_SIZE_MAX,
            spec::VIRTIO_BLK_F_SEG_MAX,
            spec::VIRTIO_BLK_F_BLK_SIZE,
            spec::VIRTIO_BLK_F_FLUSH,
            spec::VIRTIO_BLK_F_TOPOLOGY,
            spec::VIRTIO_BLK_F_MQ,
            spec::VIRTIO_BLK_F_DISCARD,
            spec::VIRTIO_BLK_F_WRITE_ZEROES,
        ]
    );
}

#[test]
fn queues_follow_the_vcpus_up_to_four() {
    for (vcpus, queues) in [(0, 1), (1, 1), (2, 2), (4, 4), (32, 4)] {
        let device = device(false, vcpus);
        assert_eq!(device.queue_max_sizes(), vec![256; queues]);
        assert_eq!(config(&device, 34), (queues as u16).to_le_bytes());
    }
}

/// Offsets as in VIRTIO 1.2 section 5.2.4, not as the code has them.
#[test]
fn configuration_space_has_the_limits() {
    let device = device(false, 1);
    assert_eq!(config(&device, 0), SECTORS.to_le_bytes());
    for (offset, value) in [
        (8, 1 << 20),
        (12, 126),
        (20, 512),
        (36, 1 << 21),
        (40, 32),
        (44, 8),
        (48, 1 << 15),
        (52, 1),
    ] {
        assert_eq!(config(&device, offset), u32::to_le_bytes(value), "{offset}");
    }
    assert_eq!(config(&device, 24), [3], "physical block exponent");
    assert_eq!(config(&device, 56), [1], "write zeroes may unmap");
}

#[test]
fn configuration_space_ends_in_zeros() {
    let device = device(false, 1);
    assert_eq!(config(&device, 95), [0; 8]);
    for offset in [96, 4000, u64::MAX - 3, u64::MAX] {
        assert_eq!(config(&device, offset), [0; 4]);
    }
}

#[test]
fn every_queue_is_served_until_deactivation() {
    let memory = memory();
    let line = Line::new();
    let mut device = device(false, 3);
    for _ in 0..3 {
        let drivers = [0, 1, 2].map(|index| Some(Driver::new(&memory, index, true)));
        // Rings start over with each activation.
        memory
            .write_slice(&[0; 0x6000], GuestAddress(0x1000))
            .unwrap();
        let (activation, kicks) = activation(&memory, &line, &drivers);
        device.activate(activation).unwrap();
        for (index, (driver, kick)) in (0..).zip(drivers.into_iter().zip(&kicks)) {
            let mut driver = driver.unwrap();
            driver.header(spec::VIRTIO_BLK_T_IN, 0);
            driver.send(&[sent(HEADER, 16), wanted(DATA, 512), wanted(STATUS, 1)]);
            kick.write(1).unwrap();
            await_event(&line.queue);
            assert_eq!(driver.used().map(|used| used.1), Some(513));
            assert_eq!(line.last.load(Ordering::Relaxed), index);
        }
        device.deactivate();
    }
}

#[test]
fn kick_before_activation_is_not_lost() {
    let memory = memory();
    let line = Line::new();
    let mut driver = Driver::new(&memory, 0, true);
    driver.header(spec::VIRTIO_BLK_T_FLUSH, 0);
    driver.send(&[sent(HEADER, 16), wanted(STATUS, 1)]);
    let drivers = [Some(driver)];
    let (activation, _kicks) = activation(&memory, &line, &drivers);
    let mut device = device(false, 1);
    device.activate(activation).unwrap();
    await_event(&line.queue);
}

#[test]
fn driver_may_leave_all_queues_but_the_first() {
    let memory = memory();
    let line = Line::new();
    let driver = || Some(Driver::new(&memory, 0, true));
    let mut device = device(false, 2);
    let (activation_one, _kicks) = activation(&memory, &line, &[driver(), None]);
    device.activate(activation_one).unwrap();
    device.deactivate();
    let (activation_none, _kicks) = activation(&memory, &line, &[None, driver()]);
    let error = device.activate(activation_none).unwrap_err();
    assert_eq!(error.to_string(), "queue 0 is needed and not ready");
}

#[test]
fn thread_that_cannot_be_confined_refuses_activation() {
    let memory = memory();
    let line = Line::new();
    let drivers = [Some(Driver::new(&memory, 0, true))];
    let (mut activation, _kicks) = activation(&memory, &line, &drivers);
    activation.threads = Threads::new(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let error = device(false, 1).activate(activation).unwrap_err();
    assert_eq!(error.to_string(), "start the thread of queue 0");
}

#[test]
fn writes_go_through_unless_the_driver_can_flush() {
    for (acked, flushes) in [(0, 1), (1 << spec::VIRTIO_BLK_F_FLUSH, 0)] {
        let memory = memory();
        let line = Line::new();
        let store = Store::new(false);
        let disk = Disk::new(Box::new(Arc::clone(&store)), SERIAL);
        let mut device = BlockDevice::new("disk", disk, 1);
        let mut driver = Driver::new(&memory, 0, true);
        driver.header(spec::VIRTIO_BLK_T_OUT, 0);
        driver.send(&[sent(HEADER, 16), sent(DATA, 512), wanted(STATUS, 1)]);
        let (activation, _kicks) = activation(&memory, &line, &[Some(driver)]);
        device.ack_features(acked);
        device.activate(activation).unwrap();
        await_event(&line.queue);
        assert_eq!(store.flushes.load(Ordering::Relaxed), flushes);
    }
}
