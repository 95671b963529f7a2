//! Loads a kernel and puts in guest memory what it finds there at its 64-bit
//! entry (Linux `Documentation/arch/x86/boot.rst`, "64-bit boot protocol"):
//! boot_params, command line, initramfs, page tables and descriptor tables.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use device_model::GuestMemory;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Address, ByteValued, Bytes, GuestAddress, GuestMemoryError};

use crate::layout;
use crate::memory;

/// Room for what a kernel allocates before it frees its own start-up parts, in bytes.
const KERNEL_HEADROOM: u64 = 24 << 20;
/// `initrd_addr_max` of every 64-bit kernel.
const INITRD_END_MAX: u64 = 0x8000_0000;
const PAGE: u64 = 4096;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448; // "HdrS"
const LOADER_UNKNOWN: u8 = 0xff;

/// Why a kernel could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel file cannot be opened or sized.
    #[error("open the kernel {}", path.display())]
    Open {
        /// The kernel file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel file is not what a machine of ours can start.
    #[error("{} is not an uncompressed x86_64 ELF kernel (vmlinux): make the kernel pack again", path.display())]
    NotElf {
        /// The kernel file.
        path: PathBuf,
        /// The loader's word for it.
        source: linux_loader::loader::Error,
    },
    /// Kernel and initramfs would leave nothing to run in.
    #[error("{} MiB of memory is too little for this kernel and its initramfs: give the VM at least {} MiB", have >> 20, needed.div_ceil(1 << 20))]
    TooLittleMemory {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// Longer than Linux reads.
    #[error("the kernel command line has {0} bytes, of which Linux reads {max}", max = layout::CMDLINE_MAX - 1)]
    CmdlineTooLong(usize),
    /// Writing to guest memory failed.
    #[error("write {what} to guest memory")]
    Write {
        /// What was written.
        what: &'static str,
        /// Why not.
        source: GuestMemoryError,
    },
}

/// A part of an initramfs.
pub enum InitramfsPart {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The next bytes of a file, which go into guest memory without a stop on the way.
    File {
        /// Where to read.
        file: File,
        /// How much.
        len: usize,
    },
}

impl InitramfsPart {
    fn len(&self) -> usize {
        match self {
            InitramfsPart::Bytes(bytes) => bytes.len(),
            InitramfsPart::File { len, .. } => *len,
        }
    }
}

/// What to start.
pub struct BootSource<'a> {
    /// An uncompressed ELF `vmlinux`.
    pub kernel: &'a Path,
    /// What the initramfs consists of, laid end to end.
    pub initramfs: Vec<InitramfsPart>,
    /// Without NUL.
    pub cmdline: &'a str,
}

/// Puts everything in place. Returns the kernel's 64-bit entry point.
pub fn load(memory: &GuestMemory, bytes: u64, source: BootSource<'_>) -> Result<u64, BootError> {
    let mut kernel = File::open(source.kernel).map_err(|error| BootError::Open {
        path: source.kernel.into(),
        source: error,
    })?;
    let kernel_len = kernel
        .metadata()
        .map_err(|error| BootError::Open {
            path: source.kernel.into(),
            source: error,
        })?
        .len();
    let initramfs_len: u64 = source.initramfs.iter().map(|part| part.len() as u64).sum();
    let low = bytes.min(layout::MMIO_HOLE);
    // The kernel unpacks the initramfs before it frees it: it takes its size twice.
    let needed = layout::HIGH_RAM + kernel_len + 2 * initramfs_len + KERNEL_HEADROOM;
    if needed > low {
        return Err(BootError::TooLittleMemory {
            needed,
            have: bytes,
        });
    }

    let loaded = Elf::load(
        memory,
        None,
        &mut kernel,
        Some(GuestAddress(layout::HIGH_RAM)),
    )
    .map_err(|error| BootError::NotElf {
        path: source.kernel.into(),
        source: error,
    })?;
    let initramfs_start = (low.min(INITRD_END_MAX) - initramfs_len) & !(PAGE - 1);
    write_initramfs(memory, initramfs_start, source.initramfs)?;
    write_cmdline(memory, source.cmdline)?;
    write_boot_params(
        memory,
        bytes,
        source.cmdline.len(),
        initramfs_start,
        initramfs_len,
    )?;
    write_tables(memory)?;
    Ok(loaded.kernel_load.raw_value())
}

fn write_initramfs(
    memory: &GuestMemory,
    start: u64,
    parts: Vec<InitramfsPart>,
) -> Result<(), BootError> {
    let mut at = GuestAddress(start);
    for part in parts {
        let end = at.unchecked_add(part.len() as u64);
        match part {
            InitramfsPart::Bytes(bytes) => memory.write_slice(&bytes, at),
            InitramfsPart::File { mut file, len } => {
                memory.read_exact_volatile_from(at, &mut file, len)
            }
        }
        .map_err(writing("the initramfs"))?;
        at = end;
    }
    Ok(())
}

fn write_cmdline(memory: &GuestMemory, cmdline: &str) -> Result<(), BootError> {
    if cmdline.len() >= layout::CMDLINE_MAX {
        return Err(BootError::CmdlineTooLong(cmdline.len()));
    }
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    memory
        .write_slice(&bytes, GuestAddress(layout::CMDLINE))
        .map_err(writing("the command line"))
}

/// `struct boot_params` and its header. It is packed and larger than a page is
/// worth copying, so only the fields that matter to a 64-bit entry are set.
fn write_boot_params(
    memory: &GuestMemory,
    bytes: u64,
    cmdline_len: usize,
    initramfs_start: u64,
    initramfs_len: u64,
) -> Result<(), BootError> {
    let low32 = |value: u64| u32::try_from(value).expect("laid out below 2 GiB");
    let mut params = boot_params::default();
    params.hdr.type_of_loader = LOADER_UNKNOWN;
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.cmd_line_ptr = low32(layout::CMDLINE);
    params.hdr.cmdline_size = cmdline_len as u32;
    params.hdr.ramdisk_image = low32(initramfs_start);
    params.hdr.ramdisk_size = low32(initramfs_len);
    params.acpi_rsdp_addr = layout::ACPI;
    let map = memory_map(bytes);
    params.e820_entries = map.len() as u8;
    params.e820_table[..map.len()].copy_from_slice(&map);
    memory
        .write_slice(params.as_slice(), GuestAddress(layout::BOOT_PARAMS))
        .map_err(writing("boot_params"))
}

/// The E820 map: what is RAM and what is not.
fn memory_map(bytes: u64) -> Vec<boot_e820_entry> {
    let entry = |addr, end: u64, kind| boot_e820_entry {
        addr,
        size: end - addr,
        r#type: kind,
    };
    let mut map = vec![
        entry(0, layout::LOW_RAM_END, E820_RAM),
        entry(layout::LOW_RAM_END, layout::HIGH_RAM, E820_RESERVED),
    ];
    for (start, len) in memory::ranges(bytes) {
        map.push(entry(start.max(layout::HIGH_RAM), start + len, E820_RAM));
    }
    map
}

/// An identity map of the first GiB in 2 MiB pages, and a flat GDT.
pub fn write_tables(memory: &GuestMemory) -> Result<(), BootError> {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE_PAGE: u64 = 0x80;
    let write = |value: u64, address: u64| {
        memory
            .write_obj(value, GuestAddress(address))
            .map_err(writing("page tables"))
    };
    write(layout::PDPT | PRESENT_WRITABLE, layout::PML4)?;
    write(layout::PAGE_DIRECTORY | PRESENT_WRITABLE, layout::PDPT)?;
    for index in 0..512 {
        write(
            (index << 21) | PRESENT_WRITABLE | LARGE_PAGE,
            layout::PAGE_DIRECTORY + index * 8,
        )?;
    }
    for (index, entry) in GDT.into_iter().enumerate() {
        memory
            .write_obj(entry, GuestAddress(layout::GDT + index as u64 * 8))
            .map_err(writing("the GDT"))?;
    }
    memory
        .write_obj(0u64, GuestAddress(layout::IDT))
        .map_err(writing("the IDT"))
}

/// The selectors that the boot protocol asks for: `__BOOT_CS` is 0x10,
/// `__BOOT_DS` 0x18; the task segment follows. Flat, present, ring 0.
pub const GDT: [u64; 5] = [
    0,
    0,
    0x00af_9b00_0000_ffff, // 64-bit code
    0x00cf_9300_0000_ffff, // data
    0x008f_8b00_0000_ffff, // busy TSS
];

fn writing(what: &'static str) -> impl Fn(GuestMemoryError) -> BootError {
    move |source| BootError::Write { what, source }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn source<'a>(kernel: &'a Path, cmdline: &'a str) -> BootSource<'a> {
        BootSource {
            kernel,
            initramfs: Vec::new(),
            cmdline,
        }
    }

    #[test]
    fn the_memory_map_leaves_out_the_hole() {
        let map = memory_map(4 << 30);
        let ram: Vec<_> = map
            .iter()
            .filter(|entry| { entry.r#type } == E820_RAM)
            .map(|entry| (entry.addr, entry.size))
            .collect();
        assert_eq!(
            ram,
            [
                (0, 0x9_fc00),
                (1 << 20, (3 << 30) - (1 << 20)),
                (4 << 30, 1 << 30)
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        let error = load(
            &memory,
            64 << 20,
            source(Path::new("/proc/self/cmdline"), ""),
        )
        .unwrap_err();
        assert!(matches!(error, BootError::NotElf { .. }), "{error}");
        assert!(error.to_string().starts_with("/proc/self/cmdline is not"));
    }

    #[test]
    fn a_missing_kernel_is_named() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        let error = load(
            &memory,
            64 << 20,
            source(Path::new("/nonexistent/vmlinux"), ""),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "open the kernel /nonexistent/vmlinux");
    }

    #[test]
    fn an_initramfs_that_does_not_fit_asks_for_more_memory() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        let kernel = std::env::current_exe().unwrap();
        let source = BootSource {
            kernel: &kernel,
            initramfs: vec![InitramfsPart::Bytes(vec![0; 24 << 20])],
            cmdline: "",
        };
        assert!(matches!(
            load(&memory, 64 << 20, source),
            Err(BootError::TooLittleMemory { .. })
        ));
    }

    #[test]
    fn parts_of_an_initramfs_are_laid_end_to_end() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a file, of which the end").unwrap();
        file.seek(SeekFrom::Start(8)).unwrap();
        let parts = vec![
            InitramfsPart::Bytes(b"before ".to_vec()),
            InitramfsPart::File { file, len: 8 },
            InitramfsPart::Bytes(b" after".to_vec()),
        ];
        write_initramfs(&memory, 16, parts).unwrap();
        let mut written = [0; 22];
        memory.read_slice(&mut written, GuestAddress(16)).unwrap();
        assert_eq!(&written[..21], b"before of which after");
        assert_eq!(written[21], 0);
    }

    #[test]
    fn a_file_that_became_shorter_is_no_part_of_an_initramfs() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let file = tempfile::tempfile().unwrap();
        let parts = vec![InitramfsPart::File { file, len: 1 }];
        assert!(matches!(
            write_initramfs(&memory, 0, parts),
            Err(BootError::Write { .. })
        ));
    }

    #[test]
    fn a_command_line_longer_than_linux_reads_is_refused() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        let long = "x".repeat(layout::CMDLINE_MAX);
        assert!(matches!(
            write_cmdline(&memory, &long),
            Err(BootError::CmdlineTooLong(2048))
        ));
        assert!(write_cmdline(&memory, &long[1..]).is_ok());
    }
}
