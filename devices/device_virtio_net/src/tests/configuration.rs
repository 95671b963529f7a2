//! Options, attachments, configuration space.

use device_model::net::{CountedBackend, NetBackend};
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, Threads};
use serde_json::{Value, json};
use std::any::Any;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::Factory;

fn create_with(
    options: Value,
    attachment: Option<Box<dyn Any + Send>>,
) -> anyhow::Result<Box<dyn VirtioDevice>> {
    let spec = DeviceSpec {
        id: "net0".into(),
        driver: "virtio-net".into(),
        options,
        attachment,
    };
    let env = DeviceEnv {
        vcpus: 4,
        line: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        threads: Threads::new(|_| Ok(())),
    };
    match Factory.create(spec, &env)? {
        NewDevice::Virtio(device) => Ok(device),
        _ => panic!("not a virtio device"),
    }
}

fn attachment(info: NetInfo) -> Option<Box<dyn Any + Send>> {
    let backend: Box<dyn NetBackend> = Box::new(MockBackend::new(info).0);
    Some(Box::new(backend))
}

fn create(options: Value, info: NetInfo) -> anyhow::Result<Box<dyn VirtioDevice>> {
    create_with(options, attachment(info))
}

fn refused(options: Value) -> String {
    format!("{:#}", create(options, info()).err().unwrap())
}

fn config(device: &dyn VirtioDevice) -> [u8; 12] {
    let mut config = [0; 12];
    device.read_config(0, &mut config);
    config
}

#[test]
fn configuration_space_tells_of_the_card() {
    let wide = NetInfo {
        mtu: Some(0x0500),
        queue_pairs: 2,
        link_up: false,
        ..info()
    };
    let device = create(json!({}), wide).unwrap();
    let expected = [2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 5];
    assert_eq!(config(&*device), expected);
    let mut beyond = [0xff; 4];
    device.read_config(10, &mut beyond);
    assert_eq!(beyond, [0, 5, 0, 0]);
    device.read_config(u64::MAX, &mut beyond);
    assert_eq!(beyond, [0; 4]);
    assert_eq!(device.device_type(), 1);
    assert_eq!(device.queue_max_sizes(), [256, 256, 256, 256, 16]);
}

#[test]
fn options_come_before_what_the_backend_says() {
    let options = json!({"mac": "52:54:00:aB:cd:0f", "mtu": 1400});
    let device = create(options, info()).unwrap();
    let expected = [0x52, 0x54, 0, 0xab, 0xcd, 0x0f, 1, 0, 1, 0, 0x78, 5];
    assert_eq!(config(&*device), expected);
    assert_ne!(device.features() & 1 << 3, 0);
    assert_eq!(device.queue_max_sizes(), [256, 256]);
}

#[test]
fn card_that_nobody_named_gets_a_local_address_of_its_own() {
    let unnamed = NetInfo {
        mac: None,
        ..info()
    };
    let mac = |options| {
        let device = create(options, unnamed.clone()).unwrap();
        config(&*device)[..6].to_vec()
    };
    let (first, second) = (mac(json!({})), mac(Value::Null));
    assert_eq!(first[0] & 3, 2);
    assert_eq!(second[0] & 3, 2);
    assert_ne!(first, second);
}

#[test]
fn queue_pairs_are_no_more_than_vcpus() {
    let wide = NetInfo {
        queue_pairs: 8,
        ..info()
    };
    let device = create(json!({}), wide).unwrap();
    assert_eq!(device.queue_max_sizes().len(), 9);
    assert_eq!(config(&*device)[8], 4);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let unknown = refused(json!({"macs": 3}));
    assert!(unknown.contains("unknown field `macs`"), "{unknown}");
    let all = "`mac`, `mtu`, `rate_limit`";
    assert!(unknown.contains(all), "{unknown}");
    let rate = refused(json!({"rate_limit": {"both": 3}}));
    assert!(rate.contains("`receive`, `send`, `burst`"), "{rate}");
    let zero = refused(json!({"rate_limit": {"send": 0}}));
    assert!(zero.contains("nonzero"), "{zero}");
    for mac in [
        "",
        "02",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "0200:00:00:00:1",
        "+2:00:00:00:00:01",
    ] {
        let text = refused(json!({ "mac": mac }));
        assert!(
            text.contains("option mac") && text.contains("six bytes"),
            "{text}"
        );
    }
    assert!(refused(json!({"mac": "01:00:5e:00:00:01"})).contains("a group's"));
    assert!(refused(json!({"mac": "00:00:00:00:00:00"})).contains("no address"));
    for mtu in [0, 67, 1501, 65_535] {
        let text = refused(json!({ "mtu": mtu }));
        assert!(text.contains("must be from 68 to 1500"), "{text}");
    }
}

#[test]
fn mtu_leaves_room_for_the_header_of_the_backend() {
    let headed = NetInfo {
        header: true,
        ..info()
    };
    assert!(create(json!({"mtu": 1488}), headed.clone()).is_ok());
    assert!(create(json!({"mtu": 1489}), headed).is_err());
}

#[test]
fn attachment_is_a_backend_and_needed() {
    let missing = create_with(json!({}), None).err().unwrap().to_string();
    assert!(missing.contains("needs a network backend"), "{missing}");
    let other = create_with(json!({}), Some(Box::new(5))).err().unwrap();
    assert!(other.to_string().contains("not a network backend"));
}

#[test]
fn owner_sees_the_counters_of_a_counted_backend() {
    let counters = Arc::new(NetCounters::default());
    let counted = CountedBackend {
        backend: Box::new(MockBackend::new(info()).0),
        counters: Arc::clone(&counters),
    };
    let device = create_with(json!({}), Some(Box::new(counted))).unwrap();
    assert_eq!(Arc::strong_count(&counters), 2);
    drop(device);
    assert_eq!(Arc::strong_count(&counters), 1);
}
