//! The largest sizes that either side accepts; every length on the wire has one here.
//!
//! Limits that mirror one of the kernel say so. Sizes are in bytes unless the
//! name says otherwise.

/// Payload of one data frame: two default pipe buffers.
pub const MAX_DATA: usize = 128 * 1024;
/// Body of a message from the host: it holds a whole argument list and environment.
pub const MAX_REQUEST: usize = 1024 * 1024;
/// Body of a message from the agent, which the host does not trust.
pub const MAX_REPLY: usize = 16 * 1024;
/// Encoded boot configuration.
pub const MAX_BOOT_CONFIG: usize = 64 * 1024;

/// Number of arguments of a process.
pub const MAX_ARGS: usize = 16 * 1024;
/// Number of environment variables of a process.
pub const MAX_ENV: usize = 16 * 1024;
/// One argument or `NAME=value`; the kernel's `MAX_ARG_STRLEN` without the NUL.
pub const MAX_ARG: usize = 128 * 1024 - 1;
/// A path; the kernel's `PATH_MAX` without the NUL.
pub const MAX_PATH: usize = 4095;
/// One component of a path; the kernel's `NAME_MAX`.
pub const MAX_NAME: usize = 255;
/// A user specification such as `name:group`.
pub const MAX_USER: usize = 256;
/// A terminal type.
pub const MAX_TERM: usize = 64;
/// A host name; the kernel's `HOST_NAME_MAX`.
pub const MAX_HOSTNAME: usize = 64;
/// A name in the hosts file (RFC 1035).
pub const MAX_HOST_ENTRY_NAME: usize = 253;
/// Number of entries in one [`Hosts`](crate::RequestBody::Hosts) request.
pub const MAX_HOST_ENTRIES: usize = 4096;
/// Name of a network interface; the kernel's `IFNAMSIZ` without the NUL.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Smallest packet size of an interface; the kernel's `ETH_MIN_MTU`.
pub const MIN_MTU: u32 = 68;
/// Largest packet size of an interface; the kernel's `ETH_MAX_MTU`.
pub const MAX_MTU: u32 = 65_535;
/// Number of addresses in one [`Interface`](crate::RequestBody::Interface) request.
pub const MAX_ADDRESSES: usize = 256;
/// Number of routes in one [`Interface`](crate::RequestBody::Interface) request.
pub const MAX_ROUTES: usize = 256;
/// Number of name servers.
pub const MAX_NAMESERVERS: usize = 16;
/// Number of domains in which short names are looked for.
pub const MAX_SEARCH_DOMAINS: usize = 32;
/// Connections to ports of the guest ([`Open::Connect`](crate::Open::Connect))
/// at a time; the agent has more for everything else.
pub const MAX_FORWARDED: usize = 256;
/// Explanatory text, such as the reason of a failure.
pub const MAX_TEXT: usize = 1024;

/// Number of image layers.
pub const MAX_LAYERS: usize = 64;
/// Serial number of a block device (VIRTIO 1.2, section 5.2.6).
pub const MAX_SERIAL: usize = 20;
/// Number of mounts beside the root.
pub const MAX_MOUNTS: usize = 64;
/// Tag of a shared folder (VIRTIO 1.2, section 5.11.4).
pub const MAX_TAG: usize = 36;
/// Number of kernel modules.
pub const MAX_MODULES: usize = 512;
/// File name of a kernel module.
pub const MAX_MODULE_NAME: usize = 255;
