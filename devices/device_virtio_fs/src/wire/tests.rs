//! Sizes as the C structures have them on every 64-bit machine.

use std::mem::size_of;

use super::*;

#[test]
fn structures_are_as_long_as_the_kernels() {
    let sizes = [
        (size_of::<InHeader>(), 40),
        (size_of::<OutHeader>(), 16),
        (size_of::<InitIn>(), 16),
        (size_of::<InitIn>() + size_of::<InitMore>(), 64),
        (size_of::<InitOut>(), 64),
        (size_of::<AttrFields>(), 88),
        (size_of::<AttrOut>(), 104),
        (size_of::<EntryOut>(), 128),
        (size_of::<GetattrIn>(), 16),
        (size_of::<SetattrIn>(), 88),
        (size_of::<StatxIn>(), 24),
        (size_of::<Statx>(), 256),
        (size_of::<StatxOut>(), 288),
        (size_of::<StatfsOut>(), 80),
        (size_of::<MknodIn>(), 16),
        (size_of::<MkdirIn>(), 8),
        (size_of::<Rename2In>(), 16),
        (size_of::<CreateIn>(), 16),
        (size_of::<OpenOut>(), 16),
        (size_of::<ReadIn>(), 40),
        (size_of::<WriteIn>(), 40),
        (size_of::<FlushIn>(), 24),
        (size_of::<ReleaseIn>(), 24),
        (size_of::<FsyncIn>(), 16),
        (size_of::<LseekIn>(), 24),
        (size_of::<FallocateIn>(), 32),
        (size_of::<CopyFileRangeIn>(), 56),
        (size_of::<LkIn>(), 48),
        (size_of::<LkOut>(), 24),
        (size_of::<SetxattrIn>() + size_of::<SetxattrMore>(), 16),
        (size_of::<DirentHead>(), 24),
    ];
    for (index, (actual, kernels)) in sizes.into_iter().enumerate() {
        assert_eq!(actual, kernels, "structure {index} of this list");
    }
}

#[test]
fn opcodes_are_known_by_number_and_others_are_not() {
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::new(*opcode as u32), Some(*opcode));
    }
    for number in [0, 7, 19, 34, 37, 39, 40, 41, 48, 49, 53, 4096, u32::MAX] {
        assert_eq!(Opcode::new(number), None, "{number}");
    }
}
