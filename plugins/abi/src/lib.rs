//! The C headers in `include/` as Rust types, field for field, without a
//! dependency. What each function promises is said in the headers and not here.
//!
//! The types are checked where they are declared, in both languages: the sizes here
//! and in the headers are constants of the build. That every field has the place
//! that the C compiler gives it is a test.
//!
//! Pointers are raw and functions optional, because the other side writes them:
//! [`read_sized`] copies what both sides know of a struct.

#![no_std]

mod core_abi;
mod ext;
mod headers;
mod layout;
mod sized;

pub use crate::core_abi::*;
pub use crate::ext::*;
pub use crate::headers::HEADERS;
pub use crate::layout::{Field, LAYOUTS, Layout};
pub use crate::sized::{MAX_STRUCT_SIZE, SizeError, Versioned, read_sized};

/// The version of the ABI that this crate mirrors.
pub const ABI_MAJOR: u16 = 1;
/// Grows when something is appended.
pub const ABI_MINOR: u16 = 1;

/// Name of a plugin's one exported object, an [`Entry`].
pub const ENTRY_SYMBOL: &core::ffi::CStr = c"shem_plugin_entry";
