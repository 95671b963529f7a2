//! The part of a request after its header, copied out of guest memory, and the
//! checks of names and strings in it.

use std::ffi::CStr;

use zerocopy::FromBytes;

use crate::fs::{Errno, NAME_MAX, Name};
use crate::wire::{EXT_GROUPS, ExtHeader, SuppGroups};

/// Most bytes of a symbolic link's target (`PATH_MAX` without the final zero).
const MAX_TARGET: usize = 4095;

/// Takes structures and strings off the front of a request. What a newer guest
/// adds at the end is not looked at.
pub(super) struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Arguments(bytes)
    }

    /// The next structure; `EINVAL` when it is not all there.
    pub(super) fn take<T: FromBytes>(&mut self) -> Result<T, Errno> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next `count` bytes; `EINVAL` when there are not so many.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next string; `EINVAL` when it does not end.
    pub(super) fn string(&mut self) -> Result<&'a CStr, Errno> {
        let string = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.bytes(string.count_bytes() + 1)?;
        Ok(string)
    }

    /// The next string as the name of an entry.
    pub(super) fn name(&mut self) -> Result<Name<'a>, Errno> {
        Name::new(self.string()?)
    }

    /// The next string as the target of a symbolic link, with the errors of `symlink(2)`.
    pub(super) fn target(&mut self) -> Result<&'a CStr, Errno> {
        let target = self.string()?;
        match target.count_bytes() {
            0 => Err(Errno::NOENT),
            1..=MAX_TARGET => Ok(target),
            _ => Err(Errno::NAMETOOLONG),
        }
    }

    /// The next string as the name of an extended attribute, with the errors of
    /// `setxattr(2)`.
    pub(super) fn xattr_name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.string()?;
        match name.count_bytes() {
            1..=NAME_MAX => Ok(name),
            _ => Err(Errno::RANGE),
        }
    }
}

/// The one supplementary group among the extensions of a request
/// (`FUSE_EXT_GROUPS`), if there is one. `EINVAL` for extensions that are not
/// whole, and for more groups than the kernel sends.
pub(super) fn supplementary_group(extensions: &[u8]) -> Result<Option<u32>, Errno> {
    let mut rest = extensions;
    let mut group = None;
    while !rest.is_empty() {
        let (header, _) = ExtHeader::read_from_prefix(rest).map_err(|_| Errno::INVAL)?;
        let size = header.size as usize;
        let (this, next) = size
            .checked_next_multiple_of(8)
            .and_then(|size| rest.split_at_checked(size))
            .ok_or(Errno::INVAL)?;
        let body = this.get(size_of::<ExtHeader>()..size).ok_or(Errno::INVAL)?;
        if header.kind == EXT_GROUPS {
            group = match SuppGroups::read_from_prefix(body) {
                Ok((
                    SuppGroups {
                        nr_groups: 1,
                        group,
                    },
                    _,
                )) => Some(group),
                _ => return Err(Errno::INVAL),
            };
        }
        rest = next;
    }
    Ok(group)
}
