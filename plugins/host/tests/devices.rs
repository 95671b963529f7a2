//! Devices of a C plugin as the machine sees them.

mod support;

use device_model::{NewDevice, VirtioDevice};
use plugin_host::{GuestAdditions, Plugin};
use serde_json::{Value, json};
use support::{Driver, Loop, Told, create, devices};
use vm_memory::{Bytes, GuestAddress};

fn virtio(plugin: &Plugin, config: Value) -> (plugin_host::PluginDevice, Box<dyn VirtioDevice>) {
    let device = create(plugin, "c-virtio", config).unwrap();
    match device.clone().into_new_device().unwrap() {
        NewDevice::Virtio(virtio) => (device, virtio),
        _ => panic!("not a virtio device"),
    }
}

#[test]
fn chains_go_through_the_plugin_and_back() {
    let (_library, plugin) = devices();
    let (_, mut device) = virtio(&plugin, json!({}));
    assert_eq!((device.device_type(), device.features()), (42, 5));
    assert_eq!(device.queue_max_sizes(), [64, 16]);
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    // There before anybody listens: no kick is needed.
    let first = driver.offer(b"HAL");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
    assert_eq!(driver.read(first, 3), b"IBM");
    let second = driver.offer(b"abc");
    driver.kick();
    assert_eq!(interrupts.next(), Told::Queue(0));
    assert_eq!(driver.read(second, 3), b"bcd");
    assert_eq!(driver.used(), (2, 3));
    device.deactivate();
}

#[test]
fn a_device_starts_again_after_a_reset_and_touches_nothing_between() {
    let (_library, plugin) = devices();
    let (_, mut device) = virtio(&plugin, json!({}));
    let event_loop = Loop::start();
    for _ in 0..3 {
        let mut driver = Driver::new();
        let (activation, interrupts) = driver.activation(&event_loop.events);
        device.activate(activation).unwrap();
        driver.offer(b"x");
        driver.kick();
        assert_eq!(interrupts.next(), Told::Queue(0));
        device.deactivate();
        driver.offer(b"y");
        driver.kick();
        event_loop.turn();
        assert_eq!(driver.used().0, 1);
    }
}

#[test]
fn configuration_space_is_the_plugins_and_zero_beyond() {
    let (_library, plugin) = devices();
    let (_, mut device) = virtio(&plugin, json!({}));
    device.write_config(1, &[7, 8, 9, 10, 11]);
    let mut data = [0xff; 8];
    device.read_config(0, &mut data);
    assert_eq!(data, [0, 7, 8, 9, 0, 0, 0, 0]);
    device.read_config(u64::MAX, &mut data);
    assert_eq!(data, [0; 8]);
}

#[test]
fn chains_that_are_no_memory_come_back_empty() {
    let (_library, plugin) = devices();
    let (device, mut virtio) = virtio(&plugin, json!({}));
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    for (address, len) in [
        (u64::MAX, 1),
        (1 << 20, 16),
        ((1 << 20) - 1, 2),
        (0, u32::MAX),
    ] {
        driver.offer_room(address, len);
        driver.kick();
        assert_eq!(interrupts.next(), Told::Queue(0));
        assert_eq!(driver.used().1, 0);
    }
    assert!(device.failure().is_none());
}

#[test]
fn a_driver_that_breaks_the_rings_has_to_reset_and_may_go_on() {
    let (_library, plugin) = devices();
    let (device, mut virtio) = virtio(&plugin, json!({}));
    let (event_loop, driver) = (Loop::start(), Driver::new());
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    driver.set_avail(1000);
    driver.kick();
    assert_eq!(interrupts.next(), Told::NeedsReset);
    assert!(device.failure().is_none());
    virtio.deactivate();
    let mut driver_again = Driver::new();
    let (activation, interrupts) = driver_again.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    driver_again.offer(b"z");
    driver_again.kick();
    assert_eq!(interrupts.next(), Told::Queue(0));
}

#[test]
fn wrong_completions_are_refused() {
    let (_library, plugin) = devices();
    let (device, mut virtio) = virtio(&plugin, json!({ "do": "too-much" }));
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    let room = driver.offer(b"a");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
    assert_eq!(driver.read(room, 1), b"b");
    assert!(device.failure().is_none(), "{:?}", device.failure());
}

#[test]
fn a_timer_set_at_the_making_rings_when_the_device_is_served() {
    let (_library, plugin) = devices();
    let (_, mut device) = virtio(&plugin, json!({ "do": "timer" }));
    let (event_loop, driver) = (Loop::start(), Driver::new());
    let (activation, interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Config);
}

#[test]
fn guest_memory_can_be_reached_by_address() {
    let (_library, plugin) = devices();
    let (_, mut device) = virtio(&plugin, json!({}));
    let (event_loop, driver) = (Loop::start(), Driver::new());
    let (activation, _interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    // What the fixture wrote to the last bytes while it was activated.
    let value: u32 = driver.memory.read_obj(GuestAddress((1 << 20) - 4)).unwrap();
    assert_eq!(value, 0x1234_5678);
}

#[test]
fn the_lifecycle_adds_to_the_guest_before_boot_and_not_later() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-plain", json!({})).unwrap();
    let expected = GuestAdditions {
        env: vec![("A".into(), "b".into())],
        modules: vec!["virtio_rng".into()],
        layers: vec!["/images/driver.gvmi".into()],
        mounts: vec![("/usr/lib".into(), "/driver".into())],
    };
    assert_eq!(device.before_boot().unwrap(), expected);
    device.agent_ready().unwrap();
    device.join_network(&json!({ "id": "n" })).unwrap();
    device.join_network(&json!({ "id": "other" })).unwrap_err();
    device.join_network(&json!({ "id": "n" })).unwrap();
    device.before_stop();
}

#[test]
fn a_device_on_no_bus_is_served_by_the_event_loop() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-plain", json!({ "do": "timer on_timer say" })).unwrap();
    let NewDevice::OffBus(subscriber) = device.clone().into_new_device().unwrap() else {
        panic!("on a bus");
    };
    let event_loop = Loop::start();
    let registration = event_loop.events.add(subscriber).unwrap();
    event_loop.turn();
    let failure = device.failure().expect("the timer has rung");
    assert!(
        failure.to_string().contains("the cable is unplugged"),
        "{failure}"
    );
    drop(registration);
}
