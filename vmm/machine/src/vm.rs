//! The KVM virtual machine: `/dev/kvm` opened and checked, the VM with its
//! interrupt controllers, and made known to it guest RAM and what the guest reads of
//! virtio devices.

// UNSAFETY: KVM gets host addresses of this memory here, which no type can check.
#![expect(
    unsafe_code,
    reason = "KVM_SET_USER_MEMORY_REGION takes a raw host address"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use device_model::GuestMemory;
use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use virtio_transport::Windows;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::layout::{self, KVM_TSS};

const KVM_PATH: &str = "/dev/kvm";

/// Why there is no usable KVM.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no device file: no KVM on this machine.
    #[error(
        "{KVM_PATH} does not exist: load the module kvm_intel or kvm_amd, and switch on virtualisation in the firmware (or nested virtualisation in the hypervisor around this machine)"
    )]
    Missing,
    /// The device file is there, but not for us.
    #[error(
        "no permission to open {KVM_PATH}: add this user to the group kvm (`sudo usermod -aG kvm $USER`, then log in again)"
    )]
    Permission,
    /// Opening failed otherwise.
    #[error("open {KVM_PATH}")]
    Open(#[source] io::Error),
    /// Something answers at the path, but it speaks another version of the API.
    #[error("{KVM_PATH} speaks KVM API version {0}, not {KVM_API_VERSION}")]
    Version(i32),
    /// A capability that Linux 5.10 and later have is absent.
    #[error("this KVM lacks {0}; Linux 5.10 or later is needed")]
    Capability(&'static str),
    /// There is no memory for what the guest reads of its devices.
    #[error("map the registers of devices")]
    Windows(#[source] MmapRegionError),
    /// A set-up step failed.
    #[error("KVM: {step}")]
    Setup {
        /// The ioctl, in words.
        step: &'static str,
        /// What the kernel said.
        source: kvm_ioctls::Error,
    },
}

impl KvmError {
    /// For `map_err`: names the step.
    pub fn at(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |source| KvmError::Setup { step, source }
    }
}

/// Opens `/dev/kvm` and checks its version.
pub fn open() -> Result<Kvm, KvmError> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(KVM_PATH)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KvmError::Missing,
            io::ErrorKind::PermissionDenied => KvmError::Permission,
            _ => KvmError::Open(error),
        })?;
    // SAFETY: the descriptor is open and owned by no one else; `Kvm` closes it.
    let kvm = unsafe { Kvm::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(OwnedFd::from(file))) };
    match kvm.get_api_version() {
        version if version == KVM_API_VERSION as i32 => Ok(kvm),
        version => Err(KvmError::Version(version)),
    }
}

/// A VM with in-kernel interrupt controllers and its RAM, without vCPUs.
pub struct Vm {
    /// The VM. Dropped before `memory` and `windows`, which it refers to.
    pub fd: VmFd,
    /// Kept mapped for as long as the VM lives.
    pub memory: GuestMemory,
    /// What its guest reads of virtio devices without an exit. Kept mapped as long, too.
    pub windows: Windows,
    /// What this host's KVM can show a guest, to be made each vCPU's own.
    pub cpuid: CpuId,
    /// Whether the local APIC timer can be programmed by TSC deadline, without calibration.
    pub tsc_deadline: bool,
}

impl Vm {
    /// Creates the VM and gives it `memory`, and windows for as many virtio `devices`.
    pub fn new(kvm: &Kvm, memory: GuestMemory, devices: usize) -> Result<Self, KvmError> {
        for (cap, name) in [
            (Cap::Irqchip, "an in-kernel interrupt controller"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::ImmediateExit, "immediate exit"),
            (Cap::ReadonlyMem, "memory that a guest only reads"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(KvmError::Capability(name));
            }
        }
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::at("ask for the supported CPUID"))?;
        let fd = create_vm(kvm)?;
        fd.set_tss_address(KVM_TSS)
            .map_err(KvmError::at("set the TSS address"))?;
        fd.create_irq_chip()
            .map_err(KvmError::at("create the interrupt controllers"))?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        let vm = Vm {
            fd,
            memory,
            windows: Windows::new(devices).map_err(KvmError::Windows)?,
            cpuid,
            tsc_deadline,
        };
        vm.register_memory()?;
        Ok(vm)
    }

    fn register_memory(&self) -> Result<(), KvmError> {
        let ram = self
            .memory
            .iter()
            .map(|region| kvm_userspace_memory_region {
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                ..Default::default()
            });
        let windows = (0..).zip(self.windows.pages());
        let windows = windows.map(|(index, page)| kvm_userspace_memory_region {
            flags: KVM_MEM_READONLY,
            guest_phys_addr: layout::virtio_mmio_page(index),
            memory_size: Windows::PAGE,
            userspace_addr: page as u64,
            ..Default::default()
        });
        for (slot, region) in (0..).zip(ram.chain(windows)) {
            let region = kvm_userspace_memory_region { slot, ..region };
            // SAFETY: the range is a mapping of this process that `self.memory` or
            // `self.windows` keeps for as long as `self.fd` exists. Regions do not
            // overlap: the windows lie in the hole of RAM.
            unsafe { self.fd.set_user_memory_region(region) }
                .map_err(KvmError::at("give the guest its memory"))?;
        }
        Ok(())
    }
}

/// `KVM_CREATE_VM`, which a signal may interrupt while it waits for the kernel.
fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(KvmError::at("create a VM")),
        }
    }
}
