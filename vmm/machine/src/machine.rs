//! A whole machine: the recipe that builds it, its threads, and its end.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use device_model::{
    DeviceEnv, DeviceSpec, EventHandle, NewDevice, Registration, Subscriber, ThreadKind, Threads,
};
use kvm_ioctls::{IoEventAddress, VmFd};
use virtio_transport::{MmioTransport, Windows};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::acpi::{self, VirtioMmio};
use crate::boot::{self, BootError, BootSource, InitramfsPart};
use crate::bus::SharedDevice;
use crate::console::Console;
use crate::event_loop::{EventLoop, HangupSubscriber};
use crate::irq::IrqLines;
use crate::memory::{self, MemoryError};
use crate::power::Power;
use crate::registry::{self, RegistryError};
use crate::stop::{StopReason, StopReport, StopRequest};
use crate::timeline::{Stage, Timeline};
use crate::vcpu::{Buses, Vcpu};
use crate::vm::{self, KvmError, Vm};
use crate::{kick, layout};

/// The most vCPUs of one machine.
pub const MAX_VCPUS: u8 = 32;

/// The most devices of one machine: a window each, and DSDT names of three digits.
pub const MAX_DEVICES: usize = 256;

/// What to build.
pub struct MachineConfig {
    /// When the owner began, for the timeline.
    pub start: Instant,
    /// 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// RAM in bytes, at least [`crate::MIN_MEMORY`].
    pub memory: u64,
    /// An uncompressed ELF `vmlinux`.
    pub kernel: PathBuf,
    /// What the initramfs consists of.
    pub initramfs: Vec<InitramfsPart>,
    /// The kernel command line.
    pub cmdline: String,
    /// What is on the bus, besides the console and the power registers.
    pub devices: Vec<DeviceSpec>,
    /// Devices that their owner has made, after those.
    pub made: Vec<NewDevice>,
    /// Gets a copy of the console as it comes. Called on vCPU threads, so it
    /// must not block; what it cannot take is lost to it.
    pub console: Option<Box<dyn Write + Send>>,
    /// Confines each thread of the machine.
    pub threads: Threads,
    /// Called on the caller's thread when everything is open, and before the
    /// guest's first instruction.
    pub before_guest: Option<BeforeGuest>,
}

/// What the owner does between the two: give up what it needed to open things.
pub type BeforeGuest = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A number of vCPUs that no machine has.
    #[error("{0} vCPUs: a VM has 1 to {MAX_VCPUS}")]
    Vcpus(u8),
    /// More devices than there is space for.
    #[error("{0} devices: a VM has at most {MAX_DEVICES}")]
    Devices(usize),
    /// No guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// KVM is absent or refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The kernel could not be put in place.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A device could not be made.
    #[error(transparent)]
    Device(#[from] RegistryError),
    /// A resource of the host ran out.
    #[error("{what}")]
    Host {
        /// What was being attempted.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A running machine. Dropping it kills the guest and waits for its threads.
pub struct Machine {
    handle: MachineHandle,
    events: EventHandle,
    event_loop: Option<JoinHandle<()>>,
}

/// Stops a machine and waits for its end, also when that is gone.
#[derive(Clone)]
pub struct MachineHandle {
    shared: Arc<Shared>,
}

/// While it lives, a socket's end stops the machine: [`Machine::stop_on_hangup`].
pub struct Watch(#[expect(dead_code, reason = "held for its drop")] Registration);

struct Shared {
    stop: Arc<StopRequest>,
    console: Console,
    timeline: Mutex<Timeline>,
    report: Mutex<Option<StopReport>>,
    ended: Condvar,
}

impl MachineHandle {
    /// Asks the machine to stop for `reason` and returns at once. Nothing
    /// happens when it is stopping already.
    pub fn stop(&self, reason: StopReason) {
        self.shared.stop.request(reason);
    }

    /// Waits until the machine has stopped and its devices are gone, or until
    /// `limit` has passed.
    pub fn wait(&self, limit: Option<Duration>) -> Option<StopReport> {
        let report = self
            .shared
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let running = |report: &mut Option<StopReport>| report.is_none();
        let report = match limit {
            None => self
                .shared
                .ended
                .wait_while(report, running)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.shared.ended.wait_timeout_while(report, limit, running);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        report.clone()
    }
}

impl Machine {
    /// Builds the machine and starts its guest.
    pub fn start(config: MachineConfig) -> Result<Self, MachineError> {
        if config.vcpus == 0 || config.vcpus > MAX_VCPUS {
            return Err(MachineError::Vcpus(config.vcpus));
        }
        let count = config.devices.len() + config.made.len();
        if count > MAX_DEVICES {
            return Err(MachineError::Devices(count));
        }
        let kvm = vm::open()?;
        let memory = memory::create(config.memory)?;
        let vm = Arc::new(Vm::new(&kvm, memory, count)?);
        let source = BootSource {
            kernel: &config.kernel,
            initramfs: config.initramfs,
            cmdline: &config.cmdline,
        };
        let entry = boot::load(&vm.memory, config.memory, source)?;

        let stop = Arc::new(StopRequest::new().map_err(host("make the stop event"))?);
        let mut event_loop =
            EventLoop::new(Arc::clone(&stop)).map_err(|error| MachineError::Host {
                what: "make the event loop",
                source: io::Error::other(error),
            })?;
        let console = Console::default();
        let mut devices = vec![DeviceSpec {
            id: "console".into(),
            driver: registry::CONSOLE.into(),
            options: serde_json::Value::Object(Default::default()),
            attachment: Some(Box::new(
                Box::new(console.writer(config.console)) as Box<dyn Write + Send>
            )),
        }];
        devices.extend(config.devices);
        let threads = with_signals_blocked(config.threads);
        let events = event_loop.handle();
        let mut board = Board::new(
            Arc::clone(&vm),
            config.vcpus,
            events.clone(),
            threads.clone(),
        );
        for spec in devices {
            board.add(spec)?;
        }
        for device in config.made {
            board.place(device)?;
        }
        let Board {
            mut buses,
            virtio,
            transports,
            off_bus,
            ..
        } = board;
        for subscriber in off_bus {
            event_loop.add(subscriber);
        }
        buses.pio.insert(
            layout::POWER_PORT,
            layout::POWER_PORT_LEN,
            Arc::new(Mutex::new(Power(Arc::clone(&stop)))),
        );
        acpi::write(&vm.memory, config.vcpus, &virtio).map_err(|source| BootError::Write {
            what: "ACPI tables",
            source,
        })?;
        let vcpus = (0..config.vcpus)
            .map(|id| Vcpu::new(&vm, id, config.vcpus, entry))
            .collect::<Result<Vec<_>, _>>()?;

        let mut timeline = Timeline::new(config.start);
        timeline.record(Stage::VcpuEntry, Instant::now());
        let shared = Arc::new(Shared {
            stop,
            console,
            timeline: Mutex::new(timeline),
            report: Mutex::new(None),
            ended: Condvar::new(),
        });
        let body = Body {
            vm,
            buses: Arc::new(buses),
            transports,
            vcpus,
            threads: threads.clone(),
        };
        if let Some(before_guest) = config.before_guest {
            before_guest().map_err(host("confine the machine's owner"))?;
        }
        let for_loop = Arc::clone(&shared);
        let event_loop = threads
            .spawn("event-loop".into(), ThreadKind::EventLoop, move || {
                body.live(event_loop, &for_loop)
            })
            .map_err(host("start the event loop's thread"))?;
        Ok(Machine {
            handle: MachineHandle { shared },
            events,
            event_loop: Some(event_loop),
        })
    }

    /// Stops it from other places, and waits for its end there.
    pub fn handle(&self) -> &MachineHandle {
        &self.handle
    }

    /// Stops the machine for `reason` when the other end of `socket` is gone and
    /// no better reason shows within two seconds, until the [`Watch`] is dropped.
    pub fn stop_on_hangup(&self, socket: OwnedFd, reason: StopReason) -> io::Result<Watch> {
        let stop = Arc::clone(&self.handle.shared.stop);
        let subscriber = HangupSubscriber::new(socket, reason, stop)?;
        self.events
            .add(Box::new(subscriber))
            .map(Watch)
            .map_err(io::Error::other)
    }

    /// The last lines on the guest's console, at most 16 KiB.
    pub fn console_tail(&self) -> String {
        self.handle.shared.console.tail()
    }

    /// When the machine reached which stage, so far.
    pub fn timeline(&self) -> Timeline {
        self.handle.shared.timeline()
    }

    /// Records a stage that only the owner can see.
    pub fn record(&self, stage: Stage, when: Instant) {
        self.handle
            .shared
            .timeline
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(stage, when);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.handle.stop(StopReason::Killed);
        if let Some(event_loop) = self.event_loop.take() {
            // Its panic, if any, is in the report.
            let _ = event_loop.join();
        }
    }
}

impl Shared {
    fn timeline(&self) -> Timeline {
        let mut timeline = self
            .timeline
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(first) = self.console.first_byte() {
            timeline.record(Stage::FirstOutput, first);
        }
        timeline
    }

    fn finish(&self) {
        let console_tail = self.console.tail();
        let reason = self.stop.reason(&console_tail);
        let report = StopReport {
            reason,
            console_tail,
            timeline: self.timeline(),
        };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        self.ended.notify_all();
    }
}

/// What the event loop's thread keeps alive while the guest runs and takes
/// down, in order, when it ends.
struct Body {
    vm: Arc<Vm>,
    buses: Arc<Buses>,
    transports: Vec<Arc<Mutex<MmioTransport>>>,
    vcpus: Vec<Vcpu>,
    threads: Threads,
}

impl Body {
    /// The machine's life: starts the vCPUs, serves the devices, and when the
    /// stop is asked for ends vCPUs, event loop and devices.
    fn live(self, event_loop: EventLoop, shared: &Shared) {
        let stop = &shared.stop;
        let mut running = Vec::new();
        for (id, vcpu) in self.vcpus.into_iter().enumerate() {
            match start_vcpu(&self.threads, id, vcpu, &self.buses, stop) {
                Ok(thread) => running.push(thread),
                Err(error) => stop.request(StopReason::Internal(format!(
                    "start the thread of vCPU {id}: {error}"
                ))),
            }
        }
        guarded(stop, "the event loop", || event_loop.run());
        for thread in &running {
            kick::kick(thread);
        }
        for thread in running {
            // Panics were caught inside and are the reason of the stop.
            let _ = thread.join();
        }
        // The event loop is gone, so this joins device threads and closes streams.
        for transport in &self.transports {
            guarded(stop, "a device", || {
                transport
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .shutdown();
            });
        }
        drop(self.transports);
        drop(self.buses);
        drop(self.vm);
        shared.finish();
    }
}

fn start_vcpu(
    threads: &Threads,
    id: usize,
    vcpu: Vcpu,
    buses: &Arc<Buses>,
    stop: &Arc<StopRequest>,
) -> io::Result<JoinHandle<()>> {
    let buses = Arc::clone(buses);
    let stop = Arc::clone(stop);
    threads.spawn(format!("vcpu{id}"), ThreadKind::Vcpu, move || {
        guarded(&stop, "a vCPU", || vcpu.run(&buses, &stop));
    })
}

/// Runs `body`; a panic in it stops the machine instead of one thread of it.
fn guarded(stop: &Arc<StopRequest>, what: &str, body: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        stop.request(StopReason::Internal(format!(
            "{what} panicked: {}",
            text.unwrap_or("no message")
        )));
    }
}

/// Threads of a machine take no signals: those of the process are its owner's.
fn with_signals_blocked(threads: Threads) -> Threads {
    Threads::new(move |kind| {
        kick::block_signals()?;
        threads.enter(kind)
    })
}

fn host(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host { what, source }
}

/// Where devices are put while the machine is built.
struct Board {
    vm: Arc<Vm>,
    vcpus: u8,
    events: EventHandle,
    threads: Threads,
    irqs: IrqLines,
    buses: Buses,
    virtio: Vec<VirtioMmio>,
    transports: Vec<Arc<Mutex<MmioTransport>>>,
    off_bus: Vec<Subscriber>,
}

impl Board {
    fn new(vm: Arc<Vm>, vcpus: u8, events: EventHandle, threads: Threads) -> Self {
        Board {
            irqs: IrqLines::new(Arc::clone(&vm)),
            vm,
            vcpus,
            events,
            threads,
            buses: Buses {
                mmio: Default::default(),
                pio: Default::default(),
            },
            virtio: Vec::new(),
            transports: Vec::new(),
            off_bus: Vec::new(),
        }
    }

    /// Makes the device and puts it in its place.
    fn add(&mut self, spec: DeviceSpec) -> Result<(), MachineError> {
        let env = DeviceEnv {
            vcpus: self.vcpus,
            line: self.irqs.line(layout::SERIAL_GSI),
            threads: self.threads.clone(),
        };
        self.place(registry::create(spec, &env)?)
    }

    /// Puts the device on the bus of its family.
    fn place(&mut self, device: NewDevice) -> Result<(), MachineError> {
        match device {
            NewDevice::OffBus(subscriber) => self.off_bus.push(subscriber),
            NewDevice::Serial(device) => {
                let device = Arc::new(Mutex::new(device));
                self.buses
                    .pio
                    .insert(layout::SERIAL_PORT, layout::SERIAL_PORT_LEN, device);
            }
            NewDevice::Virtio(device) => {
                let (gsi, irq) = self.irqs.allocate();
                let index = self.virtio.len();
                let address = layout::virtio_mmio(index);
                let transport = MmioTransport::new(
                    device,
                    self.vm.memory.clone(),
                    self.events.clone(),
                    self.threads.clone(),
                    irq,
                    (&self.vm.windows, index),
                )
                .map_err(host("make a virtio transport"))?;
                register_kicks(&self.vm.fd, address, &transport)?;
                take_acknowledgements(&self.vm.fd, address)?;
                let transport = Arc::new(Mutex::new(transport));
                self.buses.mmio.insert(
                    address,
                    Windows::SIZE,
                    Arc::clone(&transport) as SharedDevice,
                );
                self.virtio.push(VirtioMmio { address, gsi });
                self.transports.push(transport);
            }
        }
        Ok(())
    }
}

/// Has KVM take the driver's word that it has seen used buffers, which it gives
/// with every interrupt and which would else stop the vCPU. The device then
/// tells of used buffers with its other interrupts too, which a driver has to
/// expect anyway: it may have seen them before it was told.
fn take_acknowledgements(vm: &VmFd, address: u64) -> Result<(), MachineError> {
    // KVM keeps what it counts in for as long as it needs it.
    let nobody =
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host("make an event descriptor"))?;
    let acknowledge = IoEventAddress::Mmio(address + MmioTransport::ACKNOWLEDGE_OFFSET);
    vm.register_ioevent(&nobody, &acknowledge, MmioTransport::USED_BUFFERS)
        .map_err(KvmError::at("register the acknowledgement of interrupts"))?;
    Ok(())
}

/// Has KVM turn the driver's kicks into events without leaving the kernel.
fn register_kicks(vm: &VmFd, address: u64, transport: &MmioTransport) -> Result<(), KvmError> {
    for (index, kick) in transport.queue_kicks() {
        let notify = IoEventAddress::Mmio(address + MmioTransport::NOTIFY_OFFSET);
        vm.register_ioevent(kick, &notify, u32::from(index))
            .map_err(KvmError::at("register a queue's kick"))?;
    }
    Ok(())
}
