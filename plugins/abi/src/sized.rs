//! Structs that begin with their size, as the other side knew it.

// UNSAFETY: reads memory that the other side of the ABI points at.
#![expect(unsafe_code, reason = "reads structs by pointers of the other side")]

/// The largest size that is believed: beyond it `struct_size` is garbage.
pub const MAX_STRUCT_SIZE: u32 = 64 << 10;

/// A struct of the ABI that may grow.
///
/// # Safety
///
/// `#[repr(C)]`, the first field is `struct_size: u32`, and zero bytes are a
/// value of every field.
pub unsafe trait Versioned: Copy {
    /// Its size in minor version 0: no smaller one was ever made.
    const FIRST_SIZE: usize;
}

/// A `struct_size` that no version of the struct ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// The pointer is null.
    Null,
    /// The pointer is not aligned, so that no compiler made it.
    Unaligned,
    /// Smaller than in minor version 0.
    Short {
        /// As found.
        found: u32,
        /// The least.
        least: usize,
    },
    /// Larger than [`MAX_STRUCT_SIZE`].
    Huge {
        /// As found.
        found: u32,
    },
}

/// Copies the struct at `from`: what both sides know of it, and zeros for what
/// only this side does.
///
/// # Safety
///
/// `from` is null, or points at memory of as many bytes as its first four say,
/// which nobody writes meanwhile.
pub unsafe fn read_sized<T: Versioned>(from: *const T) -> Result<T, SizeError> {
    if from.is_null() {
        return Err(SizeError::Null);
    }
    if !from.is_aligned() {
        return Err(SizeError::Unaligned);
    }
    // SAFETY: a non-null, aligned pointer to a struct that begins with its size.
    let found = unsafe { from.cast::<u32>().read() };
    if (found as usize) < T::FIRST_SIZE {
        return Err(SizeError::Short {
            found,
            least: T::FIRST_SIZE,
        });
    }
    if found > MAX_STRUCT_SIZE {
        return Err(SizeError::Huge { found });
    }
    let known = core::mem::size_of::<T>().min(found as usize);
    let mut copy = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the caller vouches for `found` bytes at `from`; `known` is not more
    // than those and not more than what `copy` holds, which is not `from`.
    unsafe {
        core::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
    }
    // SAFETY: zero bytes are a value of each field, and the others came from the
    // struct itself.
    Ok(unsafe { copy.assume_init() })
}
