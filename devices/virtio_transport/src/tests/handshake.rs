//! One driver at a time, right and wrong.

use device_model::{BusDevice, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1};
use virtio_bindings::bindings::virtio_mmio as reg;
use virtio_queue::QueueT;

use super::{Bench, CONFIG_BYTES, FEATURE, NEGOTIATED, QUEUE_SIZES, RAM, RUNNING, STARTED};
use crate::core::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};

fn running() -> Bench {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    assert_eq!(bench.status(), RUNNING);
    bench
}

/// A driver that has described queue 0 and changes one thing before DRIVER_OK.
fn refused_after(change: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.write(reg::VIRTIO_MMIO_QUEUE_READY, 0);
    change(&mut bench);
    bench.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    bench.set_status(RUNNING);
    assert_eq!(bench.status(), RUNNING | NEEDS_RESET);
    assert_eq!(bench.device.get().activations, 0);
    assert_eq!(
        bench.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS),
        reg::VIRTIO_MMIO_INT_CONFIG
    );
    assert_eq!(bench.irq.read().unwrap(), 1);
}

#[test]
fn identifies_as_a_version_2_device() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(reg::VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_DEVICE_ID), 42);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn offers_the_device_features_and_its_own() {
    let mut bench = Bench::new();
    let mut offered = [0; 3];
    for (word, bits) in (0..).zip(&mut offered) {
        bench.write(reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
        *bits = bench.read(reg::VIRTIO_MMIO_DEVICE_FEATURES);
    }
    let own = VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX | FEATURE;
    assert_eq!(offered, [own as u32, (own >> 32) as u32, 0]);
}

#[test]
fn driver_ok_hands_over_the_ready_queues() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX | FEATURE);
    bench.set_up_queue(1);
    bench.set_status(RUNNING);

    let record = bench.device.get();
    assert_eq!(
        record.acked,
        Some(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX | FEATURE)
    );
    let queues = record.queues.as_ref().unwrap();
    assert_eq!(queues.len(), QUEUE_SIZES.len());
    assert!(queues[0].is_none());
    let queue = &queues[1].as_ref().unwrap().queue;
    assert_eq!((queue.size(), queue.max_size()), (16, 16));
    assert_eq!(
        (queue.desc_table(), queue.avail_ring(), queue.used_ring()),
        (0x2000, 0x2400, 0x2800)
    );
    assert!(queue.event_idx_enabled());
}

#[test]
fn event_index_is_set_only_when_accepted() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    let record = bench.device.get();
    let queue = record.queues.as_ref().unwrap()[0].as_ref().unwrap();
    assert!(!queue.queue.event_idx_enabled());
}

#[test]
fn features_ok_is_refused_without_version_1() {
    let mut bench = Bench::new();
    bench.negotiate(FEATURE);
    assert_eq!(bench.status(), STARTED);
    assert_eq!(bench.device.get().acked, None);
}

#[test]
fn features_ok_is_refused_with_a_bit_not_offered() {
    for foreign in [FEATURE << 1, 1 << 34, 1 << 63] {
        let mut bench = Bench::new();
        bench.negotiate(VIRTIO_F_VERSION_1 | foreign);
        assert_eq!(bench.status(), STARTED);
    }
}

#[test]
fn features_ok_is_refused_with_a_bit_beyond_64() {
    let mut bench = Bench::new();
    bench.set_status(ACKNOWLEDGE);
    bench.set_status(STARTED);
    bench.accept(VIRTIO_F_VERSION_1);
    bench.write(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    bench.write(reg::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    bench.set_status(NEGOTIATED);
    assert_eq!(bench.status(), STARTED);
}

#[test]
fn features_stay_as_they_are_after_features_ok() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.accept(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    let record = bench.device.get();
    let queue = record.queues.as_ref().unwrap()[0].as_ref().unwrap();
    assert!(!queue.queue.event_idx_enabled());
}

#[test]
fn status_bits_are_refused_out_of_order() {
    for value in [DRIVER, FEATURES_OK, DRIVER_OK, NEEDS_RESET, 16, 0x100] {
        let mut bench = Bench::new();
        bench.set_status(value);
        assert_eq!(bench.status(), 0, "{value:#x}");
    }
    let mut bench = Bench::new();
    bench.set_status(STARTED);
    bench.accept(VIRTIO_F_VERSION_1);
    bench.set_status(RUNNING);
    assert_eq!(
        bench.status(),
        NEGOTIATED,
        "FEATURES_OK has to be read first"
    );
    assert_eq!(bench.device.get().activations, 0);
}

#[test]
fn status_bits_cannot_be_cleared_one_by_one() {
    let mut bench = running();
    bench.set_status(NEGOTIATED);
    bench.set_status(ACKNOWLEDGE);
    assert_eq!(bench.status(), RUNNING);

    bench.set_status(0);
    bench.set_status(STARTED);
    bench.accept(VIRTIO_F_VERSION_1);
    bench.set_status(FEATURES_OK);
    assert_eq!(
        bench.status(),
        STARTED,
        "a write without the earlier bits counts"
    );
}

#[test]
fn failed_ends_the_handshake_until_reset() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_status(NEGOTIATED | FAILED);
    bench.set_up_queue(0);
    bench.set_status(RUNNING | FAILED);
    assert_eq!(bench.status(), NEGOTIATED | FAILED);
    assert_eq!(bench.device.get().activations, 0);
}

#[test]
fn second_driver_ok_does_not_start_the_device_again() {
    let mut bench = running();
    bench.set_status(RUNNING);
    assert_eq!(bench.device.get().activations, 1);
}

#[test]
fn queue_registers_are_frozen_after_driver_ok() {
    let mut bench = running();
    let before = bench.transport.core().setups().to_vec();
    bench.write(reg::VIRTIO_MMIO_QUEUE_SEL, 0);
    bench.write(reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_QUEUE_READY), 1);
    bench.write(reg::VIRTIO_MMIO_QUEUE_NUM, 256);
    bench.write(reg::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x5000);
    bench.set_up_queue(1);
    assert_eq!(bench.transport.core().setups(), before);
}

#[test]
fn ready_queue_keeps_its_description() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    let before = bench.transport.core().setups().to_vec();
    bench.write(reg::VIRTIO_MMIO_QUEUE_NUM, 256);
    bench.write(reg::VIRTIO_MMIO_QUEUE_USED_HIGH, 1);
    assert_eq!(bench.transport.core().setups(), before);
}

#[test]
fn queue_select_beyond_the_last_queue_reads_as_no_queue() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    let before = bench.transport.core().setups().to_vec();
    for index in [QUEUE_SIZES.len() as u32, 0x1_0000, u32::MAX] {
        bench.set_up_queue(index);
        assert_eq!(bench.read(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        assert_eq!(bench.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
        bench.write(reg::VIRTIO_MMIO_QUEUE_NOTIFY, index);
    }
    assert_eq!(bench.transport.core().setups(), before);
}

#[test]
fn queue_with_an_impossible_size_needs_reset() {
    for size in [0, 3, 17, 512, 0x8000, 0x1_0010, u32::MAX] {
        refused_after(|bench| bench.write(reg::VIRTIO_MMIO_QUEUE_NUM, size));
    }
}

#[test]
fn queue_outside_memory_needs_reset() {
    for (register, value) in [
        (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, RAM as u32 - 0xf0),
        (reg::VIRTIO_MMIO_QUEUE_DESC_HIGH, u32::MAX),
        (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, RAM as u32 - 36),
        (reg::VIRTIO_MMIO_QUEUE_USED_LOW, RAM as u32 - 132),
        (reg::VIRTIO_MMIO_QUEUE_USED_HIGH, 1),
    ] {
        refused_after(|bench| bench.write(register, value));
    }
}

#[test]
fn misaligned_queue_needs_reset() {
    for (register, value) in [
        (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1008),
        (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1401),
        (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0),
        (reg::VIRTIO_MMIO_QUEUE_USED_LOW, 0x1802),
    ] {
        refused_after(|bench| bench.write(register, value));
    }
}

#[test]
fn queue_that_just_fits_is_accepted() {
    let mut bench = Bench::new();
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.write(reg::VIRTIO_MMIO_QUEUE_READY, 0);
    bench.write(reg::VIRTIO_MMIO_QUEUE_USED_LOW, RAM as u32 - 136);
    bench.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    bench.set_status(RUNNING);
    assert_eq!(bench.status(), RUNNING);
}

#[test]
fn device_that_refuses_to_start_needs_reset() {
    let mut bench = Bench::new();
    bench.device.get().refuse_activation = true;
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    assert_eq!(bench.status(), RUNNING | NEEDS_RESET);
    bench.write(reg::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    let (_, kick) = bench.transport.queue_kicks().next().unwrap();
    assert!(kick.read().is_err(), "no one would take the kick");
}

#[test]
fn reset_brings_everything_back_to_the_start() {
    let mut bench = running();
    let interrupt = bench.device.get().interrupt.clone().unwrap();
    interrupt.notify_queue(0);
    interrupt.needs_reset();
    assert_eq!(bench.status(), RUNNING | NEEDS_RESET);

    bench.set_status(0);
    assert!(bench.device.get().queues.is_none(), "not deactivated");
    assert_eq!(bench.status(), 0);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_QUEUE_READY), 0);
    assert_eq!(
        bench.transport.core().setups(),
        Bench::new().transport.core().setups()
    );

    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    assert_eq!(bench.status(), RUNNING);
    assert_eq!(bench.device.get().activations, 2);
}

#[test]
fn kick_reaches_the_device_through_either_end() {
    let mut bench = running();
    bench.write(reg::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    let (index, ours) = bench.transport.queue_kicks().next().unwrap();
    ours.write(1).unwrap();
    assert_eq!(index, 0);
    let record = bench.device.get();
    let queue = record.queues.as_ref().unwrap()[0].as_ref().unwrap();
    assert_eq!(queue.kick.read().unwrap(), 2);
    assert!(queue.kick.read().is_err(), "the kick blocks");
}

#[test]
fn interrupt_bits_stay_until_acknowledged() {
    let mut bench = running();
    let interrupt = bench.device.get().interrupt.clone().unwrap();
    let generation = bench.read(reg::VIRTIO_MMIO_CONFIG_GENERATION);
    interrupt.notify_queue(0);
    interrupt.notify_config();
    assert_eq!(bench.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    assert_eq!(bench.irq.read().unwrap(), 2);
    assert_ne!(bench.read(reg::VIRTIO_MMIO_CONFIG_GENERATION), generation);
    bench.write(reg::VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    bench.write(reg::VIRTIO_MMIO_INTERRUPT_ACK, u32::MAX);
    assert_eq!(bench.read(reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

#[test]
fn registers_answer_only_to_aligned_words_or_lie_in_memory() {
    let mut bench = running();
    for (offset, expected) in [
        (0, &b"v"[..]),
        (2, b"rt"),
        (0, b"virt\x02\0\0\0"),
        // One that ends where memory does.
        (0x60, &[0; 8]),
    ] {
        let mut data = [0xaa; 8];
        bench.transport.read(offset, &mut data[..expected.len()]);
        assert_eq!(&data[..expected.len()], expected);
    }
    for (offset, length) in [
        (0x70, 1),
        (0x70, 2),
        (0x70, 8),
        (0x71, 4),
        (0x72, 4),
        (0x70, 0),
    ] {
        let mut data = [0xaa; 8];
        bench.transport.read(offset, &mut data[..length]);
        assert!(data[..length].iter().all(|byte| *byte == 0));
    }
    for length in [0, 1, 2, 8] {
        bench.transport.write(0x70, &[0; 8][..length]);
        assert_eq!(bench.status(), RUNNING, "reset by {length} bytes");
    }
}

#[test]
fn config_space_takes_every_width() {
    let mut bench = Bench::new();
    for length in [1, 2, 4, 8] {
        let mut data = [0xaa; 8];
        bench.transport.read(0x100, &mut data[..length]);
        let expected = [CONFIG_BYTES, [0; 4]].concat();
        assert_eq!(data[..length], expected[..length]);
    }
    bench.transport.write(0x102, &[7]);
    assert!(bench.device.get().config_writes.is_empty(), "before DRIVER");
    bench.set_status(STARTED);
    bench.transport.write(0x102, &[7]);
    assert_eq!(bench.device.get().config_writes, [(2, vec![7])]);
}

#[test]
fn shutdown_stops_the_device_for_good() {
    let mut bench = running();
    bench.transport.shutdown();
    assert!(bench.device.get().queues.is_none());
    bench.negotiate(VIRTIO_F_VERSION_1);
    bench.set_up_queue(0);
    bench.set_status(RUNNING);
    assert!(bench.device.get().queues.is_none());
}

#[test]
fn dropped_transport_stops_the_device() {
    let Bench {
        transport, device, ..
    } = running();
    drop(transport);
    assert!(device.get().queues.is_none());
}
