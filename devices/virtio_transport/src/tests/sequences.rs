//! Drivers that do anything in any order, and what must hold all the same.

use device_model::{BusDevice, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1};
use proptest::prelude::*;
use virtio_bindings::bindings::virtio_mmio as reg;
use virtio_queue::{QueueState, QueueT};

use super::{Bench, FEATURE, RUNNING};
use crate::core::{DRIVER_OK, FEATURES_OK, NEEDS_RESET};
use crate::queue_setup::QueueSetup;

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Register(u32, u32),
    /// The right steps of a handshake, so that sequences get far.
    Negotiate(u64),
    SetUpQueue(u32),
    DriverOk,
    Reset,
    DeviceInterrupts,
    DeviceNeedsReset,
}

fn register() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => (0_u32..0x40).prop_map(|word| word * 4),
        2 => prop::sample::select(vec![
            reg::VIRTIO_MMIO_STATUS,
            reg::VIRTIO_MMIO_QUEUE_SEL,
            reg::VIRTIO_MMIO_QUEUE_NUM,
            reg::VIRTIO_MMIO_QUEUE_READY,
            reg::VIRTIO_MMIO_QUEUE_NOTIFY,
            reg::VIRTIO_MMIO_DRIVER_FEATURES,
        ]),
    ]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0_u32..4,
        2 => prop::sample::select(vec![3, 7, 11, 15, 16, 64, 128, 143, 256, 0x1000, 0x1400]),
        1 => any::<u32>(),
    ]
}

fn features() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX),
        1 => Just(VIRTIO_F_VERSION_1 | FEATURE),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let width = || prop::sample::select(vec![1_usize, 2, 4, 8]);
    prop_oneof![
        2 => (0_u64..0x1000, width()).prop_map(|(at, len)| Step::Read(at, len)),
        2 => (0_u64..0x1000, width().prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)))
            .prop_map(|(at, data)| Step::Write(at, data)),
        6 => (register(), value()).prop_map(|(at, value)| Step::Register(at, value)),
        3 => features().prop_map(Step::Negotiate),
        4 => (0_u32..3).prop_map(Step::SetUpQueue),
        4 => Just(Step::DriverOk),
        1 => Just(Step::Reset),
        1 => Just(Step::DeviceInterrupts),
        1 => Just(Step::DeviceNeedsReset),
    ]
}

fn take(bench: &mut Bench, step: &Step) {
    match step {
        Step::Read(at, len) => bench.transport.read(*at, &mut vec![0; *len]),
        Step::Write(at, data) => bench.transport.write(*at, data),
        Step::Register(at, value) => bench.write(*at, *value),
        Step::Negotiate(features) => bench.negotiate(*features),
        Step::SetUpQueue(index) => bench.set_up_queue(*index),
        Step::DriverOk => bench.set_status(RUNNING),
        Step::Reset => bench.set_status(0),
        Step::DeviceInterrupts => {
            if let Some(interrupt) = &bench.device.get().interrupt {
                interrupt.notify_queue(0);
                interrupt.notify_config();
            }
        }
        Step::DeviceNeedsReset => {
            if let Some(interrupt) = &bench.device.get().interrupt {
                interrupt.needs_reset();
            }
        }
    }
}

/// Whether the step writes 0 to the status register.
fn resets(step: &Step) -> bool {
    match step {
        Step::Reset | Step::Negotiate(_) => true,
        Step::Register(at, value) => *at == reg::VIRTIO_MMIO_STATUS && *value == 0,
        Step::Write(at, data) => *at == 0x70 && **data == [0; 4],
        _ => false,
    }
}

/// The device's queues and the registers that describe them.
#[derive(Clone, Debug, PartialEq)]
struct Frozen {
    queues: Vec<Option<QueueState>>,
    setups: Vec<QueueSetup>,
}

fn frozen(bench: &Bench) -> Option<Frozen> {
    let record = bench.device.get();
    let queues = record.queues.as_ref()?;
    Some(Frozen {
        queues: queues
            .iter()
            .map(|queue| queue.as_ref().map(|queue| queue.queue.state()))
            .collect(),
        setups: bench.transport.core().setups().to_vec(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_sequence_breaks_the_status_machine(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        let mut before = (bench.status(), frozen(&bench));
        for step in &steps {
            // The recording device panics when it is activated while active.
            take(&mut bench, step);

            let status = bench.status();
            let now = frozen(&bench);
            if !resets(step) {
                prop_assert_eq!(before.0 & !status, 0, "{:?} cleared status bits", step);
                if before.1.is_some() {
                    prop_assert_eq!(&now, &before.1, "{:?} changed an active queue", step);
                }
            }
            if status & FEATURES_OK != 0 {
                let accepted = bench.transport.core().accepted();
                let offered = VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX | FEATURE;
                prop_assert_eq!(accepted & !offered, 0);
                prop_assert_ne!(accepted & VIRTIO_F_VERSION_1, 0);
                prop_assert_eq!(bench.device.get().acked, Some(accepted));
            }
            // Active exactly when DRIVER_OK was accepted, with sound queues.
            let started = status & DRIVER_OK != 0;
            prop_assert!(now.is_none() || started);
            prop_assert!(now.is_some() || !started || status & NEEDS_RESET != 0);
            if let Some(queues) = &bench.device.get().queues {
                for queue in queues.iter().flatten() {
                    prop_assert!(queue.queue.is_valid(bench.transport.core().memory()));
                }
            }
            before = (status, now);
        }
    }
}
