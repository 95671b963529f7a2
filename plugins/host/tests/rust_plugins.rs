//! Plugins that are written with the SDK, and the examples.

mod support;

use device_model::net::{Directions, NetError, NetSetup, Offloads};
use device_model::{NewDevice, VirtioDevice};
use plugin_host::{FailureKind, Plugin, PluginDevice};
use serde_json::{Value, json};
use support::{Driver, Loop, Told, create, package};
use vm_memory::VolatileSlice;

fn devices() -> Plugin {
    Plugin::load(&package("rust-devices")).unwrap()
}

fn virtio(plugin: &Plugin, config: Value) -> (PluginDevice, Box<dyn VirtioDevice>) {
    let device = create(plugin, "rust-virtio", config).unwrap();
    match device.clone().into_new_device().unwrap() {
        NewDevice::Virtio(virtio) => (device, virtio),
        _ => panic!("not a virtio device"),
    }
}

#[test]
fn the_entry_has_what_the_macro_was_told() {
    let plugin = devices();
    assert_eq!(plugin.name, "rust-devices");
    assert_eq!(plugin.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(plugin.syscalls, ["readv", "writev"]);
    assert_eq!(plugin.offer_properties[0].name, "golem.inf.test");
    assert!(plugin.paths[0].read && !plugin.paths[0].write);
    let drivers: Vec<_> = plugin.drivers.iter().map(|driver| &*driver.name).collect();
    assert_eq!(drivers, ["rust-virtio", "rust-net", "rust-plain"]);
}

#[test]
fn hello_loads_in_both_languages() {
    let rust = Plugin::load(&package("hello")).unwrap();
    create(&rust, "hello", json!({})).unwrap();
    let error = create(&rust, "hello", json!({ "name": 1 })).err().unwrap();
    assert!(
        error.to_string().contains("unknown field `name`"),
        "{error}"
    );
    let library = support::library_at("plugins/examples/hello-c/hello.c", &[]);
    let c = Plugin::load(&library.path).unwrap();
    create(&c, "hello-c", json!({})).unwrap();
}

#[test]
fn the_entropy_device_fills_what_it_is_offered() {
    let plugin = Plugin::load(&package("entropy")).unwrap();
    let device = create(&plugin, "entropy", json!({})).unwrap();
    let NewDevice::Virtio(mut device) = device.into_new_device().unwrap() else {
        panic!("not a virtio device");
    };
    assert_eq!(
        (device.device_type(), device.queue_max_sizes()),
        (4, &[64][..])
    );
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    driver.offer_room(0x20000, 64);
    let (activation, interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
    assert_eq!(driver.used(), (1, 64));
    assert_ne!(driver.read(0x20000, 64), [0; 64]);
    let error = create(&plugin, "entropy", json!({ "source": 3 }))
        .err()
        .unwrap();
    let path = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(path, "/source: expected string, found integer 3");
}

#[test]
fn chains_go_through_the_plugin_and_back() {
    let plugin = devices();
    let (_, mut device) = virtio(&plugin, json!({}));
    assert_eq!((device.device_type(), device.features()), (42, 5));
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    let room = driver.offer(b"HAL 9000");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
    assert_eq!(driver.read(room, 8), b"IBM!:111");
    let mut data = [0; 4];
    device.read_config(0, &mut data);
    assert_eq!(data, [7, 0, 0, 0]);
}

#[test]
fn a_driver_that_breaks_the_rings_has_to_reset_and_may_go_on() {
    let plugin = devices();
    let (device, mut virtio) = virtio(&plugin, json!({}));
    let (event_loop, broken) = (Loop::start(), Driver::new());
    let (activation, interrupts) = broken.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    broken.set_avail(1000);
    broken.kick();
    assert_eq!(interrupts.next(), Told::NeedsReset);
    event_loop.turn();
    assert!(device.failure().is_none(), "{:?}", device.failure());
    virtio.deactivate();
    let mut driver = Driver::new();
    driver.offer(b"x");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
}

#[test]
fn the_guest_is_described_and_added_to() {
    let plugin = devices();
    let device = create(&plugin, "rust-plain", json!({})).unwrap();
    let added = device.before_boot().unwrap();
    assert_eq!(added.env, [("VCPUS".into(), "2".into())]);
    assert_eq!(added.modules, ["virtio_rng"]);
    device.join_network(&json!({})).unwrap();
    let error = device.join_network(&json!([])).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("join_network: unknown network []"),
        "{error}"
    );
}

#[test]
fn a_panic_in_create_is_an_error_of_the_device() {
    let plugin = devices();
    let error = create(&plugin, "rust-virtio", json!({ "panic": "create" }))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("create: it panicked: broken in create"),
        "{error}"
    );
}

#[test]
fn a_panic_in_a_callback_fails_the_device_and_nothing_else() {
    let plugin = devices();
    for (callback, worse) in [
        ("queue_ready", false),
        ("on_timer", false),
        ("queue_ready", true),
    ] {
        let config = json!({ "panic": callback, "worse": worse });
        let (device, mut virtio) = virtio(&plugin, config);
        let (event_loop, driver) = (Loop::start(), Driver::new());
        let (activation, interrupts) = driver.activation(&event_loop.events);
        virtio.activate(activation).unwrap();
        assert_eq!(interrupts.next(), Told::NeedsReset);
        let failure = device.failure().unwrap();
        let text = Some(format!("broken in {callback}"));
        assert_eq!(failure.kind, FailureKind::Panicked { text });
        virtio.deactivate();
    }
    // Others of the same plugin go on.
    let (_, mut device) = virtio(&plugin, json!({}));
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    driver.offer(b"x");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    device.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
}

#[test]
fn a_panic_where_there_is_no_answer_shows_with_the_next_call() {
    let plugin = devices();
    let (device, mut virtio) = virtio(&plugin, json!({ "panic": "read_config" }));
    virtio.read_config(0, &mut [0; 4]);
    let (event_loop, driver) = (Loop::start(), Driver::new());
    let (activation, _interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap_err();
    assert!(matches!(
        device.failure().unwrap().kind,
        FailureKind::Panicked { .. }
    ));
}

#[test]
fn a_panic_at_the_end_is_held() {
    let plugin = devices();
    drop(create(&plugin, "rust-plain", json!({ "worse": true })).unwrap());
}

#[test]
fn an_error_has_its_text() {
    let plugin = devices();
    let device = create(&plugin, "rust-plain", json!({ "fail": "before_boot" })).unwrap();
    let error = device.before_boot().unwrap_err().to_string();
    assert!(
        error.ends_with("before_boot: before_boot: the cable is unplugged"),
        "{error}"
    );
}

#[test]
fn frames_go_and_come() {
    let plugin = devices();
    let device = create(&plugin, "rust-net", json!({})).unwrap();
    let mut backend = device.net_backend().unwrap().unwrap();
    assert_eq!((backend.info().mac, backend.info().mtu), (None, None));
    let none = Offloads::default();
    backend
        .start(&NetSetup {
            queue_pairs: 1,
            send: none,
            receive: none,
        })
        .unwrap();
    let (mut head, mut tail) = (*b"fra", *b"me");
    let frame = [
        VolatileSlice::from(&mut head[..]),
        VolatileSlice::from(&mut tail[..]),
    ];
    backend.send(0, &frame).unwrap();
    let mut room = [0; 1514];
    let error = backend
        .receive(0, &[VolatileSlice::from(&mut room[..])])
        .unwrap_err();
    assert!(matches!(error, NetError::WouldBlock));
    let receive = Directions {
        receive: true,
        send: false,
    };
    backend.set_interest(0, receive).unwrap();
    assert_eq!(backend.process().unwrap().ready, [(0, receive)]);
    let len = backend
        .receive(0, &[VolatileSlice::from(&mut room[..])])
        .unwrap();
    assert_eq!(&room[..len], b"frame");
    let mut long = [0; 1515];
    let error = backend
        .send(0, &[VolatileSlice::from(&mut long[..])])
        .unwrap_err();
    assert!(matches!(error, NetError::FrameSize));
}

#[test]
fn a_panicking_backend_fails_with_its_message() {
    let plugin = devices();
    let device = create(&plugin, "rust-net", json!({ "panic": "send" })).unwrap();
    let mut backend = device.net_backend().unwrap().unwrap();
    let mut frame = [0; 60];
    let error = backend
        .send(0, &[VolatileSlice::from(&mut frame[..])])
        .unwrap_err();
    assert!(matches!(error, NetError::Failed(_)));
    assert!(
        device
            .failure()
            .unwrap()
            .to_string()
            .ends_with("it panicked: broken in send")
    );
}
