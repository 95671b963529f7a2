//! A virtual machine on KVM: memory, vCPUs, boot, ACPI, interrupts, buses, the
//! event loop and the registry of devices. The only crate that knows KVM.
//!
//! It does not know what runs in the guest: images, the agent and volumes are
//! the business of the crate `shem`, which asks for devices by driver name.
//!
//! [`Machine::start`] is the recipe; everything else is an ingredient.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("shem runs on x86_64 Linux");

mod acpi;
mod boot;
mod bus;
mod console;
mod cpuid;
mod event_loop;
mod irq;
mod kick;
mod layout;
mod machine;
mod memory;
mod power;
pub mod probe;
mod registry;
mod stop;
mod timeline;
mod vcpu;
mod vm;

pub use boot::{BootError, InitramfsPart};
pub use device_model::{DeviceSpec, ThreadKind, Threads};
pub use machine::{
    BeforeGuest, MAX_VCPUS, Machine, MachineConfig, MachineError, MachineHandle, Watch,
};
pub use memory::{MIN_MEMORY, MemoryError};
pub use registry::{RegistryError, drivers};
pub use stop::{StopReason, StopReport};
pub use timeline::{Stage, Timeline};
pub use vm::KvmError;
