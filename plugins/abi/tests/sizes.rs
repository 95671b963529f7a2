//! Structs of other versions are read as far as both sides know them.

// UNSAFETY: reads structs by pointer, as the crate's users do.
#![expect(unsafe_code, reason = "the function under test takes a raw pointer")]

use plugin_abi::{Guest, MAX_STRUCT_SIZE, SizeError, read_sized};

/// A struct of a later minor version.
#[repr(C)]
struct Later {
    now: Guest,
    appended: u64,
}

fn guest(struct_size: u32) -> Guest {
    Guest {
        struct_size,
        vcpus: 3,
        memory: 7,
    }
}

fn read(guest: &Guest) -> Result<(u32, u64), SizeError> {
    // SAFETY: sizes that are believed are those of the struct.
    unsafe { read_sized(guest) }.map(|guest| (guest.vcpus, guest.memory))
}

#[test]
fn a_larger_struct_is_read_as_far_as_it_is_known() {
    let later = Later {
        now: guest(size_of::<Later>() as u32),
        appended: u64::MAX,
    };
    assert_eq!(read(&later.now), Ok((3, 7)));
    assert_eq!(later.appended, u64::MAX);
}

#[test]
fn sizes_that_never_were_are_refused() {
    assert_eq!(read(&guest(16)), Ok((3, 7)));
    assert_eq!(
        read(&guest(0)),
        Err(SizeError::Short {
            found: 0,
            least: 16
        })
    );
    assert_eq!(
        read(&guest(15)),
        Err(SizeError::Short {
            found: 15,
            least: 16
        })
    );
    for found in [MAX_STRUCT_SIZE + 1, u32::MAX] {
        assert_eq!(read(&guest(found)), Err(SizeError::Huge { found }));
    }
    // SAFETY: null is allowed.
    let null = unsafe { read_sized::<Guest>(std::ptr::null()) };
    assert!(matches!(null, Err(SizeError::Null)));
}
