//! Extended attributes, under the names that [`Ownership`] gives them. xattr(7).
//!
//! [`Ownership`]: super::Ownership

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::HostFs;
use super::ownership::Attribute;
use super::proc;
use crate::fs::Node;

pub(super) fn set(
    fs: &HostFs,
    node: Node,
    name: &CStr,
    value: &[u8],
    flags: u32,
) -> Result<(), Errno> {
    let flags = XattrFlags::from_bits_retain(flags);
    let both = XattrFlags::CREATE | XattrFlags::REPLACE;
    if !both.contains(flags) {
        return Err(Errno::INVAL);
    }
    match fs.ownership.attribute(name) {
        Attribute::Real(real) => {
            proc::set_xattr(fs.changeable(node)?.as_fd(), &real, value, flags)?;
            if name.to_bytes() == b"security.capability" {
                fs.capabilities.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
        Attribute::Hidden => Err(Errno::PERM),
        Attribute::Unsupported => Err(Errno::OPNOTSUPP),
    }
}

pub(super) fn get(fs: &HostFs, node: Node, name: &CStr) -> Result<Vec<u8>, Errno> {
    match fs.ownership.attribute(name) {
        Attribute::Real(name) => proc::get_xattr(fs.inodes.get(node)?.as_fd(), &name),
        Attribute::Hidden => Err(Errno::NODATA),
        Attribute::Unsupported => Err(Errno::OPNOTSUPP),
    }
}

pub(super) fn list(fs: &HostFs, node: Node) -> Result<Vec<u8>, Errno> {
    let host = proc::list_xattrs(fs.inodes.get(node)?.as_fd())?;
    let mut shown = Vec::with_capacity(host.len());
    for name in host
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if let Some(name) = fs.ownership.attribute_shown(name) {
            shown.extend_from_slice(name);
            shown.push(0);
        }
    }
    Ok(shown)
}

pub(super) fn remove(fs: &HostFs, node: Node, name: &CStr) -> Result<(), Errno> {
    match fs.ownership.attribute(name) {
        Attribute::Real(name) => proc::remove_xattr(fs.changeable(node)?.as_fd(), &name),
        Attribute::Hidden => Err(Errno::PERM),
        Attribute::Unsupported => Err(Errno::OPNOTSUPP),
    }
}
