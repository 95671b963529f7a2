//! A vCPU: its registers before the first instruction, and the loop that runs it.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, Msrs, kvm_dtable, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::bus::Bus;
use crate::stop::{StopReason, StopRequest};
use crate::vm::{KvmError, Vm};
use crate::{boot, cpuid, kick, layout};

/// The address spaces that a vCPU's accesses go to.
pub struct Buses {
    pub mmio: Bus,
    pub pio: Bus,
}

/// A vCPU that has not run yet.
pub struct Vcpu {
    fd: VcpuFd,
    id: u8,
}

impl Vcpu {
    /// Creates vCPU `id` of `vcpus`. The first one will begin at `entry`; the
    /// others wait for the kernel to wake them (INIT and SIPI, in KVM).
    pub fn new(vm: &Vm, id: u8, vcpus: u8, entry: u64) -> Result<Self, KvmError> {
        let fd = vm
            .fd
            .create_vcpu(u64::from(id))
            .map_err(KvmError::at("create a vCPU"))?;
        let cpuid = cpuid::for_vcpu(&vm.cpuid, id, vcpus, vm.tsc_deadline);
        fd.set_cpuid2(&cpuid)
            .map_err(KvmError::at("set the CPUID"))?;
        set_msrs(&fd)?;
        set_extended_states(&fd, &cpuid)?;
        if id == 0 {
            set_registers(&fd, entry)?;
        }
        Ok(Vcpu { fd, id })
    }

    /// For the probe, which runs its guest by hand.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// See [`Vcpu::fd`].
    pub fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// Runs the guest until the machine is asked to stop, which a guest's
    /// doing may cause here. Called on the vCPU's own thread.
    pub fn run(mut self, buses: &Buses, stop: &Arc<StopRequest>) {
        if let Err(error) = kick::prepare(&self.fd) {
            stop.request(StopReason::VcpuError(format!(
                "set the signal mask of vCPU {}: {error}",
                self.id
            )));
        }
        while !stop.requested() {
            if let Err(reason) = self.step(buses) {
                stop.request(reason);
            }
        }
    }

    /// Runs up to the next exit and serves it.
    fn step(&mut self, buses: &Buses) -> Result<(), StopReason> {
        match self.fd.run() {
            Ok(VcpuExit::MmioRead(address, data)) => buses.mmio.read(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => buses.mmio.write(address, data),
            Ok(VcpuExit::IoIn(port, data)) => buses.pio.read(port.into(), data),
            Ok(VcpuExit::IoOut(port, data)) => buses.pio.write(port.into(), data),
            Ok(VcpuExit::Intr) => kick::consume(),
            Ok(VcpuExit::Shutdown) => return Err(StopReason::TripleFault),
            Ok(exit) => {
                let exit = format!("{exit:?}");
                return Err(self.fault(&exit));
            }
            Err(error) if error.errno() == libc::EINTR => kick::consume(),
            // KVM asks to be called again, for instance after a page fault of its own.
            Err(error) if error.errno() == libc::EAGAIN => {}
            Err(error) => return Err(self.fault(&error.to_string())),
        }
        Ok(())
    }

    /// An exit that Linux guests never cause.
    fn fault(&self, exit: &str) -> StopReason {
        let rip = self.fd.get_regs().map_or(0, |registers| registers.rip);
        StopReason::VcpuError(format!("vCPU {} at {rip:#x}: {exit}", self.id))
    }
}

/// Model-specific registers as firmware would leave them (Intel SDM volume 4).
fn set_msrs(fd: &VcpuFd) -> Result<(), KvmError> {
    const IA32_TSC: u32 = 0x10;
    const IA32_MISC_ENABLE: u32 = 0x1a0;
    const FAST_STRINGS: u64 = 1;
    const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
    /// MTRRs on, everything write-back where no MTRR says otherwise.
    const MTRR_ON_WRITE_BACK: u64 = 1 << 11 | 6;
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let entries = [
        entry(IA32_TSC, 0),
        entry(IA32_MISC_ENABLE, FAST_STRINGS),
        entry(IA32_MTRR_DEF_TYPE, MTRR_ON_WRITE_BACK),
    ];
    let msrs = Msrs::from_entries(&entries).expect("three entries are below the limit");
    let set = fd
        .set_msrs(&msrs)
        .map_err(KvmError::at("set model-specific registers"))?;
    if set != entries.len() {
        // KVM stops at the first one that it does not know.
        return Err(KvmError::at("set model-specific registers")(
            kvm_ioctls::Error::new(libc::EINVAL),
        ));
    }
    Ok(())
}

/// Switches on every extended state (SSE, AVX and so on) that the vCPU has, as
/// its kernel is going to do. KVM tells the size of what is on through CPUID,
/// and kernels complain when it is not what they switched on. That is so where
/// SVM is emulated and no XSETBV of a guest is shown to KVM.
fn set_extended_states(fd: &VcpuFd, cpuid: &CpuId) -> Result<(), KvmError> {
    let states = cpuid::extended_states(cpuid);
    if states == 0 {
        return Ok(());
    }
    let mut registers = kvm_xcrs {
        nr_xcrs: 1,
        ..Default::default()
    };
    registers.xcrs[0] = kvm_xcr {
        xcr: 0,
        value: states,
        ..Default::default()
    };
    fd.set_xcrs(&registers)
        .map_err(KvmError::at("set the extended control register"))
}

/// Long mode with the page tables and descriptors that `boot` wrote.
fn set_registers(fd: &VcpuFd, entry: u64) -> Result<(), KvmError> {
    let registers = kvm_regs {
        rip: entry,
        rsi: layout::BOOT_PARAMS,
        rsp: layout::BOOT_STACK,
        rflags: 0x2,
        ..Default::default()
    };
    fd.set_regs(&registers)
        .map_err(KvmError::at("set registers"))?;

    // The values that a reset leaves in the floating-point control registers.
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    fd.set_fpu(&fpu)
        .map_err(KvmError::at("set floating-point registers"))?;

    const CR0_PROTECTED_PAGED: u64 = 1 << 31 | 1 << 4 | 1;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LONG_MODE: u64 = 1 << 10 | 1 << 8;
    let mut special = fd
        .get_sregs()
        .map_err(KvmError::at("get special registers"))?;
    special.cr0 = CR0_PROTECTED_PAGED;
    special.cr3 = layout::PML4;
    special.cr4 = CR4_PAE;
    special.efer = EFER_LONG_MODE;
    let gdt_limit = (boot::GDT.len() * 8 - 1) as u16;
    special.gdt = kvm_dtable {
        base: layout::GDT,
        limit: gdt_limit,
        ..Default::default()
    };
    special.idt = kvm_dtable {
        base: layout::IDT,
        limit: 7,
        ..Default::default()
    };
    special.cs = segment(2);
    let data = segment(3);
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = segment(4);
    fd.set_sregs(&special)
        .map_err(KvmError::at("set special registers"))
}

/// Entry `index` of the boot GDT in the form that KVM takes it in: all of them
/// are flat, from 0 with a limit of 4 GiB.
fn segment(index: u16) -> kvm_segment {
    let entry = boot::GDT[usize::from(index)];
    let bits = |shift: u32, count: u32| (entry >> shift & ((1 << count) - 1)) as u8;
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: index * 8,
        type_: bits(40, 4),
        s: bits(44, 1),
        dpl: bits(45, 2),
        present: bits(47, 1),
        avl: bits(52, 1),
        l: bits(53, 1),
        db: bits(54, 1),
        g: bits(55, 1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_segment_is_64_bit_and_present() {
        let code = segment(2);
        assert_eq!(
            (
                code.selector,
                code.type_,
                code.s,
                code.present,
                code.l,
                code.db,
                code.g
            ),
            (0x10, 0xb, 1, 1, 1, 0, 1)
        );
    }

    #[test]
    fn the_task_segment_is_a_busy_tss() {
        let task = segment(4);
        assert_eq!((task.type_, task.s, task.present), (0xb, 0, 1));
    }
}
