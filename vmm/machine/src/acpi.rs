//! The ACPI tables of a hardware-reduced machine (ACPI 6.5 section 4.1): RSDP,
//! XSDT, FADT, MADT, and a DSDT that names every device on the bus.
//!
//! Stock kernels find virtio-mmio devices through ACPI only (`LNRO0005`), and
//! the FADT tells them which PC parts not to look for: probing for a keyboard
//! controller that is not there costs more than the rest of the boot.

use acpi_tables::Aml;
use acpi_tables::aml::{self, Path};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

use device_model::GuestMemory;
use virtio_transport::Windows;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::{layout, power};

const OEM: [u8; 6] = *b"SHEM  ";
const TABLE: [u8; 8] = *b"SHEMVM  ";
const REVISION: u32 = 1;

/// FADT boot architecture flags (ACPI 6.5 table 5.10): no VGA, no CMOS clock,
/// no 8042 (its bit is clear), no other legacy device (its bit is clear).
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

/// A virtio-mmio device for the DSDT.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    /// Start of its registers, [`Windows::SIZE`] bytes.
    pub address: u64,
    /// Its interrupt.
    pub gsi: u32,
}

/// Writes the tables to [`layout::ACPI`], where boot_params points the kernel.
pub fn write(
    memory: &GuestMemory,
    vcpus: u8,
    virtio: &[VirtioMmio],
) -> Result<(), GuestMemoryError> {
    let mut space = Space {
        memory,
        next: layout::ACPI + Rsdp::len().next_multiple_of(16) as u64,
    };
    let dsdt = space.place(&dsdt(virtio))?;
    let fadt = space.place(&fadt(dsdt).finalize())?;
    let madt = space.place(&madt(vcpus))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = space.place(&xsdt)?;
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    memory.write_slice(&rsdp, GuestAddress(layout::ACPI))
}

struct Space<'a> {
    memory: &'a GuestMemory,
    next: u64,
}

impl Space<'_> {
    /// Writes `table` at the next free place and returns its address.
    fn place(&mut self, table: &dyn Aml) -> Result<u64, GuestMemoryError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let address = self.next;
        self.next = (address + bytes.len() as u64).next_multiple_of(16);
        assert!(
            self.next <= layout::ACPI_END,
            "tables of {} devices fit in 128 KiB",
            crate::machine::MAX_DEVICES
        );
        self.memory.write_slice(&bytes, GuestAddress(address))?;
        Ok(address)
    }
}

fn fadt(dsdt: u64) -> FADTBuilder {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_CLOCK).into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt
}

fn port(register: u64) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        layout::POWER_PORT + register,
    )
}

fn madt(vcpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        TABLE,
        REVISION,
        LocalInterruptController::Address(layout::LOCAL_APIC),
    );
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

fn dsdt(virtio: &[VirtioMmio]) -> Sdt {
    let mut code = Vec::new();
    let s5 = power::S5_SLEEP_TYPE;
    aml::Name::new(Path::new("_S5_"), &aml::Package::new(vec![&s5])).to_aml_bytes(&mut code);
    serial().iter().for_each(|byte| code.push(*byte));
    for (index, device) in virtio.iter().enumerate() {
        virtio_device(index, device, &mut code);
    }
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&code);
    dsdt
}

/// The serial port under its PC name.
fn serial() -> Vec<u8> {
    let mut code = Vec::new();
    let port = u16::try_from(layout::SERIAL_PORT).expect("a port number");
    aml::Device::new(
        Path::new("_SB_.COM1"),
        vec![
            &aml::Name::new(Path::new("_HID"), &aml::EISAName::new("PNP0501")),
            &aml::Name::new(Path::new("_UID"), &aml::ZERO),
            &aml::Name::new(
                Path::new("_CRS"),
                &aml::ResourceTemplate::new(vec![
                    &aml::Interrupt::new(true, true, false, false, layout::SERIAL_GSI),
                    &aml::IO::new(port, port, 1, layout::SERIAL_PORT_LEN as u8),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut code);
    code
}

/// One virtio-mmio device. Edge-triggered; shared, because there can be more devices
/// than interrupts.
fn virtio_device(index: usize, device: &VirtioMmio, code: &mut Vec<u8>) {
    let base = u32::try_from(device.address).expect("windows lie below 4 GiB");
    aml::Device::new(
        Path::new(&format!("_SB_.V{index:03}")),
        vec![
            &aml::Name::new(Path::new("_HID"), &"LNRO0005"),
            &aml::Name::new(Path::new("_UID"), &(index as u32)),
            &aml::Name::new(Path::new("_CCA"), &aml::ONE),
            &aml::Name::new(
                Path::new("_CRS"),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, base, Windows::SIZE as u32),
                    &aml::Interrupt::new(true, true, false, true, device.gsi),
                ]),
            ),
        ],
    )
    .to_aml_bytes(code);
}
