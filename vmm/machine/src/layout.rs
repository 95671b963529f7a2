//! Where things are in the guest's physical address and port space.
//!
//! ```text
//! 0x0000_0500  GDT, IDT                 0x0009_fc00  end of low RAM
//! 0x0000_7000  boot_params              0x000e_0000  ACPI tables
//! 0x0000_9000  page tables for boot     0x0010_0000  kernel, initramfs, RAM
//! 0x0002_0000  kernel command line      0xc000_0000  MMIO hole to 4 GiB
//!                                       0x1_0000_0000  RAM above the hole
//! ```

use virtio_transport::Windows;

/// Boot-time global descriptor table.
pub const GDT: u64 = 0x500;
/// Boot-time interrupt descriptor table, empty.
pub const IDT: u64 = 0x520;
/// `struct boot_params` of the Linux boot protocol.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Boot-time stack pointer; grows down from just below the page tables.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Boot-time page tables: one PML4, one PDPT and one page directory.
pub const PML4: u64 = 0x9000;
/// See [`PML4`].
pub const PDPT: u64 = 0xa000;
/// See [`PML4`].
pub const PAGE_DIRECTORY: u64 = 0xb000;
/// Kernel command line, NUL-terminated.
pub const CMDLINE: u64 = 0x2_0000;
/// Largest kernel command line that x86 Linux keeps (`COMMAND_LINE_SIZE`), NUL included.
pub const CMDLINE_MAX: usize = 2048;
/// End of conventional memory; from here to 1 MiB is not RAM for the guest.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// ACPI tables, RSDP first.
pub const ACPI: u64 = 0xe_0000;
/// End of the space for ACPI tables.
pub const ACPI_END: u64 = 0x10_0000;
/// Start of extended memory.
pub const HIGH_RAM: u64 = 0x10_0000;

/// Start of the hole in RAM that device registers live in.
pub const MMIO_HOLE: u64 = 0xc000_0000;
/// End of the hole: RAM goes on at 4 GiB.
pub const MMIO_HOLE_END: u64 = 1 << 32;
/// Where virtio devices begin; there is one every [`Windows::STRIDE`].
const VIRTIO_MMIO: u64 = 0xd000_0000;
/// The I/O APIC's registers, as on every PC.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The local APICs' registers, as on every PC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM on Intel needs for itself (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: usize = 0xfffb_d000;

/// First serial port, as on every PC: 8 ports.
pub const SERIAL_PORT: u64 = 0x3f8;
/// Number of ports of a serial port.
pub const SERIAL_PORT_LEN: u64 = 8;
/// Interrupt of the first serial port, as on every PC.
pub const SERIAL_GSI: u32 = 4;
/// ACPI sleep control, sleep status and reset registers: one port each.
pub const POWER_PORT: u64 = 0x600;
/// Number of ports of the power registers.
pub const POWER_PORT_LEN: u64 = 3;
/// First interrupt for virtio devices; the I/O APIC ends at [`LAST_GSI`].
pub const FIRST_GSI: u32 = 5;
/// Last pin of KVM's I/O APIC.
pub const LAST_GSI: u32 = 23;

/// The page of virtio device `index` that its driver reads as memory.
pub fn virtio_mmio_page(index: usize) -> u64 {
    VIRTIO_MMIO + index as u64 * Windows::STRIDE
}

/// Where the registers of virtio device `index` begin, for [`Windows::SIZE`] bytes.
pub fn virtio_mmio(index: usize) -> u64 {
    virtio_mmio_page(index) + Windows::OFFSET
}

#[cfg(test)]
mod tests {
    use virtio_transport::MmioTransport;

    use super::*;

    #[test]
    fn what_a_driver_reads_as_memory_ends_with_its_page() {
        for index in [0, 1, 255] {
            let end = virtio_mmio_page(index) + Windows::PAGE;
            let acknowledge = virtio_mmio(index) + MmioTransport::ACKNOWLEDGE_OFFSET;
            assert_eq!(acknowledge, end);
            let beyond = virtio_mmio(index) + Windows::SIZE;
            assert!(beyond <= virtio_mmio_page(index + 1));
            assert!(beyond <= u64::from(IOAPIC));
        }
    }
}
