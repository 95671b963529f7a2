//! Images in the format qcow2, as much of it as there is to know before a device
//! has them: what they are made like, and what their headers say.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use imago::FormatCreateBuilder;
use imago::qcow2::Qcow2;

/// The largest disk, in bytes, as the device takes it.
pub(super) const MAX_SIZE: u64 = 8 << 40;

/// The first bytes of an image.
const MAGIC: &[u8] = b"QFI\xfb";
/// Bytes of the header as far as the disk's size, which is its last eight.
const HEADER: usize = 32;

/// Makes `file`, which is empty, an image of a disk of `size` bytes, all zeros:
/// version 3, clusters of 64 KiB, all of it in this file.
pub(super) fn make(file: &File, size: u64) -> io::Result<()> {
    let file = imago::file::File::try_from(file.try_clone()?)?;
    Qcow2::<imago::file::File>::create_builder(file)
        .size(size)
        .create()
}

/// The size in bytes of the disk whose image is in `file`; `None` where there is
/// no image. That it can be used is not checked.
pub(super) fn size_of(file: &File) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let (_, size) = header.split_at(HEADER - 8);
    let size = size.first_chunk().map(|size| u64::from_be_bytes(*size));
    Ok(size.filter(|_| header.starts_with(MAGIC)))
}
