//! `shem/ext/*.h`, in the order of their names; last the drafts.

// UNSAFETY: the structs are declared as ones that may be read by their size.
#![expect(unsafe_code, reason = "marks structs of the ABI")]

use core::ffi::c_void;

use crate::core_abi::{Device, Host, Iovec, Str};
use crate::layout::abi_structs;

/// Descriptors and timers, both sides.
pub const EXT_EVENTS: &str = "shem.events/1";
/// The guest's configuration, host.
pub const EXT_GUEST_CONFIG: &str = "shem.guest-config/1";
/// The guest's RAM, host.
pub const EXT_GUEST_MEMORY: &str = "shem.guest-memory/1";
/// Configuration changes and resets, host.
pub const EXT_INTERRUPTS: &str = "shem.interrupts/1";
/// The VM's life, plugin.
pub const EXT_LIFECYCLE: &str = "shem.lifecycle/1";
/// Lines in the log, host.
pub const EXT_LOG: &str = "shem.log/1";
/// Ethernet frames, both sides.
pub const EXT_NET_BACKEND: &str = "shem.net-backend/1";
/// A virtio device, both sides.
pub const EXT_VIRTIO_DEVICE: &str = "shem.virtio-device/1";
/// A PCI function, both sides; a draft.
pub const EXT_PCI_DEVICE: &str = "shem.pci-device/1";
/// Guest RAM for DMA, plugin; a draft.
pub const EXT_DMA_MAP: &str = "shem.dma-map/1";

/// Readable, or the peer ended its side.
pub const EVENT_READ: u32 = 1;
/// Writable.
pub const EVENT_WRITE: u32 = 2;
/// Error or end; only as an answer.
pub const EVENT_HANG_UP: u32 = 4;
/// The most descriptors and timers of one device.
pub const EVENT_LIMIT: usize = 1024;

/// The most additions of a kind to the guest's configuration.
pub const GUEST_CONFIG_LIMIT: usize = 256;

/// What was asked for did not happen.
pub const LOG_ERROR: u32 = 1;
/// Odd but harmless.
pub const LOG_WARN: u32 = 2;
/// Rare, for operators.
pub const LOG_INFO: u32 = 3;
/// For the plugin's developers.
pub const LOG_DEBUG: u32 = 4;
/// All there is.
pub const LOG_TRACE: u32 = 5;

/// The guest may leave checksums to the backend.
pub const NET_SEND_CHECKSUM: u32 = 0x01;
/// The guest may send TCP over IPv4 to be cut.
pub const NET_SEND_TSO4: u32 = 0x02;
/// The guest may send TCP over IPv6 to be cut.
pub const NET_SEND_TSO6: u32 = 0x04;
/// The guest may send UDP to be cut.
pub const NET_SEND_USO: u32 = 0x08;
/// The guest takes frames without a checksum.
pub const NET_RECEIVE_CHECKSUM: u32 = 0x100;
/// The guest takes uncut TCP over IPv4.
pub const NET_RECEIVE_TSO4: u32 = 0x200;
/// The guest takes uncut TCP over IPv6.
pub const NET_RECEIVE_TSO6: u32 = 0x400;
/// The guest takes uncut UDP.
pub const NET_RECEIVE_USO: u32 = 0x800;
/// A frame for the guest has come.
pub const NET_RECEIVE: u32 = 1;
/// A frame of the guest's can go.
pub const NET_SEND: u32 = 2;
/// The most queue pairs.
pub const NET_QUEUE_PAIRS: u16 = 8;
/// Bytes of a frame's header.
pub const NET_HEADER: usize = 12;

/// BARs of a PCI function.
pub const PCI_BARS: usize = 6;
/// Prefetchable.
pub const PCI_BAR_PREFETCHABLE: u32 = 1;
/// Takes two places.
pub const PCI_BAR_64_BIT: u32 = 2;

/// The most queues of a virtio device.
pub const VIRTIO_QUEUES: usize = 64;
/// The most descriptors of one.
pub const VIRTIO_QUEUE_SIZE: u16 = 1024;

abi_structs! {
    /// [`EXT_EVENTS`], host.
    pub struct HostEvents as "shem_host_events_t", 40 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Descriptor, events, token.
        pub add: Option<unsafe extern "C" fn(*const Host, i32, u32, u64) -> i32>,
        /// Descriptor, events, token.
        pub modify: Option<unsafe extern "C" fn(*const Host, i32, u32, u64) -> i32>,
        /// Descriptor.
        pub remove: Option<unsafe extern "C" fn(*const Host, i32) -> i32>,
        /// Token, first ring and period in nanoseconds.
        pub set_timer: Option<unsafe extern "C" fn(*const Host, u64, u64, u64) -> i32>,
    }

    /// [`EXT_EVENTS`], plugin.
    pub struct DeviceEvents as "shem_device_events_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Descriptor, events, token.
        pub on_event: Option<unsafe extern "C" fn(*mut Device, i32, u32, u64) -> i32>,
        /// Token.
        pub on_timer: Option<unsafe extern "C" fn(*mut Device, u64) -> i32>,
    }

    /// The guest as it will be.
    pub struct Guest as "shem_guest_t", 16 grows {
        /// As the caller knows it.
        pub struct_size: u32,
        /// How many.
        pub vcpus: u32,
        /// RAM in bytes.
        pub memory: u64,
    }

    /// [`EXT_GUEST_CONFIG`], host.
    pub struct HostGuestConfig as "shem_host_guest_config_t", 48 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Fills it.
        pub describe: Option<unsafe extern "C" fn(*const Host, *mut Guest) -> i32>,
        /// Name, value.
        pub add_env: Option<unsafe extern "C" fn(*const Host, Str, Str) -> i32>,
        /// Name.
        pub add_module: Option<unsafe extern "C" fn(*const Host, Str) -> i32>,
        /// Path of the host.
        pub add_layer: Option<unsafe extern "C" fn(*const Host, Str) -> i32>,
        /// Path of the host, path of the guest.
        pub add_mount: Option<unsafe extern "C" fn(*const Host, Str, Str) -> i32>,
    }

    /// Contiguous RAM.
    pub struct MemoryRegion as "shem_memory_region_t", 24 fixed {
        /// Guest-physical.
        pub address: u64,
        /// In bytes.
        pub len: u64,
        /// In this process.
        pub data: *mut c_void,
    }

    /// [`EXT_GUEST_MEMORY`], host.
    pub struct HostGuestMemory as "shem_host_guest_memory_t", 32 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Index, out.
        pub region: Option<unsafe extern "C" fn(*const Host, usize, *mut MemoryRegion) -> i32>,
        /// Address, to, length.
        pub read: Option<unsafe extern "C" fn(*const Host, u64, *mut c_void, usize) -> i32>,
        /// Address, from, length.
        pub write: Option<unsafe extern "C" fn(*const Host, u64, *const c_void, usize) -> i32>,
    }

    /// [`EXT_INTERRUPTS`], host.
    pub struct HostInterrupts as "shem_host_interrupts_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Configuration space changed.
        pub config_changed: Option<unsafe extern "C" fn(*const Host) -> i32>,
        /// The driver has to reset the device.
        pub needs_reset: Option<unsafe extern "C" fn(*const Host) -> i32>,
    }

    /// [`EXT_LIFECYCLE`], plugin.
    pub struct Lifecycle as "shem_lifecycle_t", 40 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Every device is made, nothing runs.
        pub before_boot: Option<unsafe extern "C" fn(*mut Device) -> i32>,
        /// The agent answers.
        pub agent_ready: Option<unsafe extern "C" fn(*mut Device) -> i32>,
        /// Network as JSON.
        pub join_network: Option<unsafe extern "C" fn(*mut Device, Str) -> i32>,
        /// The VM is about to stop.
        pub before_stop: Option<unsafe extern "C" fn(*mut Device)>,
    }

    /// [`EXT_LOG`], host.
    pub struct HostLog as "shem_host_log_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Whether a level goes anywhere.
        pub enabled: Option<unsafe extern "C" fn(*const Host, u32) -> i32>,
        /// Level, text.
        pub write: Option<unsafe extern "C" fn(*const Host, u32, Str)>,
    }

    /// What a net backend can do.
    pub struct NetInfo as "shem_net_info_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// `NET_SEND_*`, `NET_RECEIVE_*`.
        pub offloads: u32,
        /// 1 to [`NET_QUEUE_PAIRS`].
        pub queue_pairs: u16,
        /// 0: say nothing.
        pub mtu: u16,
        /// All 0: the host makes one.
        pub mac: [u8; 6],
        /// 1: frames begin with [`NET_HEADER`] bytes.
        pub header: u8,
        /// 1: no link yet.
        pub link_down: u8,
        /// Header included.
        pub max_frame: u32,
    }

    /// What the driver accepted of it.
    pub struct NetSetup as "shem_net_setup_t", 16 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// Of those offered.
        pub offloads: u32,
        /// Of those offered.
        pub queue_pairs: u16,
        /// 1: `flush` follows the last frame. Since 1.1; 0 before.
        pub flushes: u16,
        /// 0.
        pub reserved: [u16; 2],
    }

    /// [`EXT_NET_BACKEND`], host.
    pub struct HostNet as "shem_host_net_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Queue pair, directions.
        pub ready: Option<unsafe extern "C" fn(*const Host, u16, u32) -> i32>,
        /// Up or not.
        pub link: Option<unsafe extern "C" fn(*const Host, u32) -> i32>,
    }

    /// [`EXT_NET_BACKEND`], plugin.
    pub struct NetBackend as "shem_net_backend_t", 64 (from 56) {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Fills it.
        pub describe: Option<unsafe extern "C" fn(*mut Device, *mut NetInfo) -> i32>,
        /// The driver is ready.
        pub start: Option<unsafe extern "C" fn(*mut Device, *const NetSetup) -> i32>,
        /// The driver reset the device.
        pub stop: Option<unsafe extern "C" fn(*mut Device)>,
        /// Queue pair, directions.
        pub set_interest: Option<unsafe extern "C" fn(*mut Device, u16, u32) -> i32>,
        /// Queue pair, pieces of one frame.
        pub send: Option<unsafe extern "C" fn(*mut Device, u16, *const Iovec, usize) -> i32>,
        /// Queue pair, room for one frame.
        pub receive: Option<unsafe extern "C" fn(*mut Device, u16, *const Iovec, usize) -> i32>,
        /// Queue pair. Since 1.1.
        pub flush: Option<unsafe extern "C" fn(*mut Device, u16) -> i32>,
    }

    /// A descriptor chain.
    pub struct Chain as "shem_chain_t", 40 grows {
        /// As the caller knows it.
        pub struct_size: u32,
        /// Names the chain.
        pub head: u16,
        /// 0.
        pub reserved: u16,
        /// What the driver wrote.
        pub readable: *const Iovec,
        /// How many pieces.
        pub readable_count: usize,
        /// Where the device is to write.
        pub writable: *const Iovec,
        /// How many pieces.
        pub writable_count: usize,
    }

    /// [`EXT_VIRTIO_DEVICE`], host.
    pub struct HostVirtio as "shem_host_virtio_t", 32 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Queue, out.
        pub pop: Option<unsafe extern "C" fn(*const Host, u16, *mut Chain) -> i32>,
        /// Queue, head, bytes written.
        pub complete: Option<unsafe extern "C" fn(*const Host, u16, u16, u32) -> i32>,
        /// Queue.
        pub notify: Option<unsafe extern "C" fn(*const Host, u16) -> i32>,
    }

    /// [`EXT_VIRTIO_DEVICE`], plugin.
    pub struct VirtioDevice as "shem_virtio_device_t", 80 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// VIRTIO 1.2 section 5.
        pub device_type: u32,
        /// Of the device type.
        pub features: u64,
        /// Powers of two.
        pub queue_sizes: *const u16,
        /// How many queues.
        pub queue_count: usize,
        /// Accepted features.
        pub ack_features: Option<unsafe extern "C" fn(*mut Device, u64)>,
        /// Offset, to, length.
        pub read_config: Option<unsafe extern "C" fn(*mut Device, u64, *mut c_void, usize)>,
        /// Offset, from, length.
        pub write_config: Option<unsafe extern "C" fn(*mut Device, u64, *const c_void, usize)>,
        /// The driver is ready.
        pub activate: Option<unsafe extern "C" fn(*mut Device) -> i32>,
        /// A queue may have chains.
        pub queue_ready: Option<unsafe extern "C" fn(*mut Device, u16) -> i32>,
        /// The driver reset the device.
        pub deactivate: Option<unsafe extern "C" fn(*mut Device)>,
    }

    /// A part of a BAR.
    pub struct PciMapping as "shem_pci_mapping_t", 24 fixed {
        /// In the BAR.
        pub offset: u64,
        /// In bytes.
        pub len: u64,
        /// In this process.
        pub data: *mut c_void,
    }

    /// A BAR.
    pub struct PciBar as "shem_pci_bar_t", 32 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// `PCI_BAR_*`.
        pub flags: u32,
        /// A power of two; 0: none.
        pub size: u64,
        /// What needs no exit.
        pub mappings: *const PciMapping,
        /// How many.
        pub mapping_count: usize,
    }

    /// [`EXT_PCI_DEVICE`], host.
    pub struct HostPci as "shem_host_pci_t", 16 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Vector.
        pub vector_fd: Option<unsafe extern "C" fn(*const Host, u32) -> i32>,
    }

    /// [`EXT_PCI_DEVICE`], plugin.
    pub struct PciDevice as "shem_pci_device_t", 64 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// MSI-X vectors.
        pub vectors: u32,
        /// [`PCI_BARS`] of them.
        pub bars: *const *const PciBar,
        /// Offset, to, length.
        pub read_config: Option<unsafe extern "C" fn(*mut Device, u32, *mut c_void, usize) -> i32>,
        /// Offset, from, length.
        pub write_config: Option<unsafe extern "C" fn(*mut Device, u32, *const c_void, usize) -> i32>,
        /// BAR, offset, to, length.
        pub read_bar: Option<unsafe extern "C" fn(*mut Device, u32, u64, *mut c_void, usize) -> i32>,
        /// BAR, offset, from, length.
        pub write_bar: Option<unsafe extern "C" fn(*mut Device, u32, u64, *const c_void, usize) -> i32>,
        /// How many are unmasked.
        pub set_vectors: Option<unsafe extern "C" fn(*mut Device, u32) -> i32>,
        /// As at the start.
        pub reset: Option<unsafe extern "C" fn(*mut Device) -> i32>,
    }

    /// [`EXT_DMA_MAP`], plugin.
    pub struct DmaMap as "shem_dma_map_t", 24 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// Guest-physical address, length, where it is here.
        pub map: Option<unsafe extern "C" fn(*mut Device, u64, u64, *mut c_void) -> i32>,
        /// Guest-physical address, length.
        pub unmap: Option<unsafe extern "C" fn(*mut Device, u64, u64) -> i32>,
    }
}

// SAFETY: a table of the plugin, which it does not change until `destroy`.
unsafe impl Send for VirtioDevice {}
// SAFETY: as above.
unsafe impl Sync for VirtioDevice {}
