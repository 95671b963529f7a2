//! What a plugin does wrong is its device's failure, typed and told once, and
//! never the end of the process.

mod support;

use device_model::NewDevice;
use plugin_host::{CreateError, FailureKind, Plugin};
use serde_json::{Value, json};
use support::{Driver, Loop, Told, create, devices};

fn failure_of_create(plugin: &Plugin, config: Value) -> String {
    match create(plugin, "c-virtio", config) {
        Err(error @ CreateError::Failed(_)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("made"),
    }
}

#[test]
fn create_that_refuses_or_lies_makes_no_device() {
    let (_library, plugin) = devices();
    for (word, said) in [
        ("create say", "the cable is unplugged"),
        ("create=-13", "Permission denied"),
        (
            "create=1",
            "it returned 1, allowed is 0 or a negative errno",
        ),
        ("create=-2147483648", "Invalid argument"),
        ("nothing", "NULL for its device"),
        ("headless", "NULL for destroy"),
        ("tiny", "struct_size 0 for its device"),
        ("short", "struct_size 8 for its shem.virtio-device/1"),
        ("huge", "struct_size 4294967295"),
    ] {
        let text = failure_of_create(&plugin, json!({ "do": word }));
        assert!(text.contains(said), "{word}: {text}");
        assert!(text.contains("\"dev0\" of plugin \"c-devices\""), "{text}");
    }
}

#[test]
fn a_virtio_device_against_the_rules_is_refused() {
    let (_library, plugin) = devices();
    for (word, said) in [("odd", "a queue of 63"), ("deaf", "NULL for queue_ready")] {
        let device = create(&plugin, "c-virtio", json!({ "do": word })).unwrap();
        let error = device.into_new_device().err().expect("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_failing_callback_ends_the_device_and_has_the_driver_reset() {
    let (_library, plugin) = devices();
    for (word, kind) in [
        (
            "queue_ready=-5",
            FailureKind::Error {
                errno: 5,
                text: None,
            },
        ),
        (
            "queue_ready say",
            FailureKind::Error {
                errno: 67,
                text: Some("the cable is unplugged".into()),
            },
        ),
        ("queue_ready=-131", FailureKind::Panicked { text: None }),
        (
            "queue_ready=77",
            FailureKind::Garbage {
                found: "77".into(),
                allowed: "0 or a negative errno",
            },
        ),
    ] {
        let device = create(&plugin, "c-virtio", json!({ "do": word })).unwrap();
        let NewDevice::Virtio(mut virtio) = device.clone().into_new_device().unwrap() else {
            panic!("not a virtio device");
        };
        let (event_loop, mut driver) = (Loop::start(), Driver::new());
        let (activation, interrupts) = driver.activation(&event_loop.events);
        virtio.activate(activation).unwrap();
        assert_eq!(interrupts.next(), Told::NeedsReset, "{word}");
        let failure = device.failure().expect("it failed");
        assert_eq!((failure.callback, &failure.kind), ("queue_ready", &kind));
        // Nothing of it is called any more, whatever the guest does.
        let calls = device.stats().calls;
        driver.offer(b"again");
        driver.kick();
        event_loop.turn();
        virtio.read_config(0, &mut [0; 4]);
        virtio.deactivate();
        let (activation, _) = driver.activation(&event_loop.events);
        virtio.activate(activation).unwrap_err();
        assert_eq!(device.stats().calls, calls, "{word}");
    }
}

#[test]
fn a_refused_activation_can_be_tried_again() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-virtio", json!({ "do": "activate=-16" })).unwrap();
    let NewDevice::Virtio(mut virtio) = device.clone().into_new_device().unwrap() else {
        panic!("not a virtio device");
    };
    let (event_loop, driver) = (Loop::start(), Driver::new());
    for _ in 0..2 {
        let (activation, _) = driver.activation(&event_loop.events);
        virtio.activate(activation).unwrap_err();
        virtio.deactivate();
    }
    assert!(device.failure().is_none());
}

#[test]
fn a_slow_callback_is_counted() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-virtio", json!({ "do": "queue_ready sleep" })).unwrap();
    let NewDevice::Virtio(mut virtio) = device.clone().into_new_device().unwrap() else {
        panic!("not a virtio device");
    };
    let (event_loop, mut driver) = (Loop::start(), Driver::new());
    driver.offer(b"x");
    let (activation, interrupts) = driver.activation(&event_loop.events);
    virtio.activate(activation).unwrap();
    assert_eq!(interrupts.next(), Told::Queue(0));
    let stats = device.stats();
    assert_eq!(stats.slow, 1);
    assert!(stats.longest.as_millis() >= 30 && stats.total >= stats.longest);
}

#[test]
fn a_host_function_on_the_wrong_thread_is_told_and_fails_the_device_in_debug_builds() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-plain", json!({ "do": "thread" })).unwrap();
    let failure = device.before_boot().err();
    let misuse = FailureKind::Misuse {
        function: "set_error",
        allowed: "inside of the device's callbacks only",
    };
    assert_eq!(device.misuse(), Some(&misuse));
    let expected = cfg!(debug_assertions).then_some(misuse);
    assert_eq!(failure.map(|failure| failure.kind), expected);
}

#[test]
fn a_lifecycle_that_refuses_leaves_the_device_whole() {
    let (_library, plugin) = devices();
    let device = create(&plugin, "c-plain", json!({ "do": "before_boot say" })).unwrap();
    let error = device.before_boot().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("before_boot: the cable is unplugged"),
        "{error}"
    );
    assert!(device.failure().is_none());
}

#[test]
fn a_configuration_that_does_not_fit_never_reaches_the_plugin() {
    let library = support::library("entry.c", &[]);
    let plugin = Plugin::load(&library.path).unwrap();
    for (config, path) in [(json!({ "a": 1 }), "/a"), (json!([]), "")] {
        let Err(CreateError::Config { source, id, driver }) = create(&plugin, "no-op", config)
        else {
            panic!("not refused");
        };
        assert_eq!((id.as_str(), driver.as_str()), ("dev0", "no-op"));
        assert_eq!(source.path, path);
    }
    create(&plugin, "no-op", json!({})).unwrap();
}
