//! `shem/plugin.h`.

// UNSAFETY: strings of the other side are read by pointer and length.
#![expect(unsafe_code, reason = "reads strings by pointers of the other side")]

use core::ffi::{c_char, c_void};
use core::ptr;

use crate::layout::abi_structs;

/// [`Path::access`]: reads it.
pub const PATH_READ: u32 = 1;
/// [`Path::access`]: changes it.
pub const PATH_WRITE: u32 = 2;
/// [`Path::access`]: runs it.
pub const PATH_EXECUTE: u32 = 4;

/// Bytes of an error's text that the host keeps.
pub const MAX_ERROR_TEXT: usize = 4096;

abi_structs! {
    /// UTF-8 by pointer and length.
    pub struct Str as "shem_str_t", 16 fixed {
        /// Anything when `len` is 0.
        pub data: *const c_char,
        /// In bytes.
        pub len: usize,
    }

    /// A piece of memory.
    pub struct Iovec as "shem_iovec_t", 16 fixed {
        /// Its start.
        pub data: *mut c_void,
        /// In bytes.
        pub len: usize,
    }

    /// What the host gives to one device.
    pub struct Host as "shem_host_t", 32 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// The host's own.
        pub host_data: *mut c_void,
        /// Says in words why a callback returns an error.
        pub set_error: Option<unsafe extern "C" fn(*const Host, Str)>,
        /// The host's side of an extension.
        pub get_extension: Option<unsafe extern "C" fn(*const Host, Str) -> *const c_void>,
    }

    /// One device.
    pub struct Device as "shem_device_t", 32 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// The plugin's own.
        pub plugin_data: *mut c_void,
        /// The device's side of an extension.
        pub get_extension: Option<unsafe extern "C" fn(*mut Device, Str) -> *const c_void>,
        /// The last call.
        pub destroy: Option<unsafe extern "C" fn(*mut Device)>,
    }

    /// A kind of device.
    pub struct Driver as "shem_driver_t", 64 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// 0.
        pub reserved: u32,
        /// What a configuration asks for.
        pub name: Str,
        /// One line.
        pub summary: Str,
        /// JSON Schema of the configuration, or empty.
        pub config_schema: Str,
        /// Makes a device: host, id, configuration, out.
        pub create: Option<unsafe extern "C" fn(*const Host, Str, Str, *mut *mut Device) -> i32>,
    }

    /// A path that a plugin needs.
    pub struct Path as "shem_path_t", 24 fixed {
        /// Absolute.
        pub path: Str,
        /// `PATH_*`.
        pub access: u32,
        /// 0.
        pub reserved: u32,
    }

    /// A property of a Golem offer.
    pub struct Property as "shem_property_t", 32 fixed {
        /// Its name.
        pub name: Str,
        /// Its value as JSON.
        pub value: Str,
    }

    /// The one exported object.
    pub struct Entry as "shem_plugin_entry_t", 120 grows {
        /// As its maker knew it.
        pub struct_size: u32,
        /// [`crate::ABI_MAJOR`] of the build.
        pub abi_major: u16,
        /// [`crate::ABI_MINOR`] of the build.
        pub abi_minor: u16,
        /// Of the plugin.
        pub name: Str,
        /// Of the plugin.
        pub version: Str,
        /// One line.
        pub summary: Str,
        /// Names of system calls.
        pub syscalls: *const Str,
        /// How many.
        pub syscall_count: usize,
        /// Paths that it opens.
        pub paths: *const Path,
        /// How many.
        pub path_count: usize,
        /// What a provider offers with it.
        pub offer_properties: *const Property,
        /// How many.
        pub offer_property_count: usize,
        /// Its drivers.
        pub drivers: *const *const Driver,
        /// How many, at least one.
        pub driver_count: usize,
    }
}

// SAFETY: immutable statics of the plugin, all that they point at included.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Sync for Driver {}
// SAFETY: as above.
unsafe impl Sync for Path {}
// SAFETY: as above.
unsafe impl Sync for Property {}
// SAFETY: as above.
unsafe impl Sync for Str {}

impl Str {
    /// The empty string.
    pub const EMPTY: Str = Str::new("");

    /// For as long as `text` lives.
    pub const fn new(text: &str) -> Self {
        Str {
            data: text.as_ptr().cast(),
            len: text.len(),
        }
    }

    /// The bytes, if there can be so many.
    ///
    /// # Safety
    ///
    /// `data` points at `len` bytes that nobody changes while `'a` lasts, unless
    /// `len` is 0 or above `limit`.
    pub unsafe fn bytes<'a>(self, limit: usize) -> Option<&'a [u8]> {
        if self.len == 0 {
            return Some(&[]);
        }
        if self.len > limit || self.data.is_null() {
            return None;
        }
        // SAFETY: not null, and the caller vouches for the rest.
        Some(unsafe { core::slice::from_raw_parts(self.data.cast(), self.len) })
    }
}

impl Entry {
    /// Its first fields and nothing else, for `..` in a static.
    pub const EMPTY: Entry = Entry {
        struct_size: core::mem::size_of::<Entry>() as u32,
        abi_major: crate::ABI_MAJOR,
        abi_minor: crate::ABI_MINOR,
        name: Str::EMPTY,
        version: Str::EMPTY,
        summary: Str::EMPTY,
        syscalls: ptr::null(),
        syscall_count: 0,
        paths: ptr::null(),
        path_count: 0,
        offer_properties: ptr::null(),
        offer_property_count: 0,
        drivers: ptr::null(),
        driver_count: 0,
    };
}
