//! Virtual machines for Golem images, as a library: boot one, run commands in
//! it, stream their output, learn why it stopped.
//!
//! A [`Vm`] lives in this process: its threads are joined when it is dropped,
//! and it installs no signal handlers, keeps no globals and never exits the
//! process, so many of them can run side by side.
//!
//! ```no_run
//! use shem::{Command, Event, Image, Store, Vm};
//!
//! fn main() -> anyhow::Result<()> {
//!     let store = Store::discover();
//!     let vm = Vm::builder(store.kernel(None)?, store.guest_init()?)
//!         .layer(Image::open("image.gvmi")?)
//!         .memory(512 << 20)
//!         .boot()?;
//!     let mut process = vm.exec(&Command::new(["uname", "-r"]))?;
//!     loop {
//!         match process.next_event()? {
//!             Event::Stdout(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
//!             Event::Stderr(bytes) => eprint!("{}", String::from_utf8_lossy(&bytes)),
//!             Event::Exit(exit) => break println!("ended: {:?}", exit.status),
//!         }
//!     }
//!     println!("{}", vm.stop(shem::STOP_GRACE).reason);
//!     Ok(())
//! }
//! ```
//!
//! Every thread of a VM runs under `no_new_privs`, without capabilities and
//! under a seccomp filter of its kind ([`SeccompMode`]). A filter's violation
//! raises SIGSYS, which ends the process unless it has a handler for it: a
//! program that runs one VM can install `confine::report_violations`.
#![forbid(unsafe_code)]

mod builder;
mod command;
mod descriptors;
mod devices;
mod forward;
mod initramfs;
mod store;
mod vm;
mod volumes;

pub use builder::{
    BootError, DEFAULT_BOOT_TIMEOUT, DEFAULT_HOSTNAME, DEFAULT_MEMORY, KERNEL_CMDLINE, VmBuilder,
};
pub use command::{Command, Tty, WindowSize};
pub use confine::{Policy, SeccompMode};
pub use descriptors::raise_descriptor_limit;
pub use devices::{DeviceError, DeviceOptions, Devices};
pub use forward::{ForwardError, Forwarder, PortForward};
pub use guest_client::{
    AgentPort, ArchiveReader, ArchiveWriter, ClientError, Event, ExecError, Output, Process, Stdin,
};
pub use guest_protocol::{
    ArchiveRead, ExecFailureKind, Exit, ExitStatus, Failure, FileKind, FileStat, FileWrite,
    HostEntry, Interface, IpPrefix, Resolver, Route, VERSION as PROTOCOL_VERSION,
};
pub use gvmi::{ContainerConfig, Image};
pub use machine::probe::{ProbeError, run as probe_kvm};
pub use machine::{
    MAX_VCPUS, MIN_MEMORY, MachineError, MachineHandle as VmHandle, Stage, StopReason, StopReport,
    Timeline,
};
pub use store::{KernelPack, Store, StoreError};
pub use vm::{STOP_GRACE, Traffic, Vm};
pub use volumes::{
    Cache, Disk, DiskFormat, Fill, Found, MIN_DISK, Memory, NamedKind, NamedVolume, NamedVolumes,
    OnError, Ownership, SharedFolder, Volume, VolumeError, VolumeSource, VolumeStoreError, target,
};
