//! The kernel's TAP descriptors: `Documentation/networking/tuntap.rst` and
//! `linux/if_tun.h`.

// UNSAFETY: ioctls.
#![expect(unsafe_code, reason = "ioctls of TAP descriptors and of interfaces")]

use std::ffi::{CStr, c_int, c_short};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use plugin_sdk::{Error, Result, abi};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::HEADER;

/// Where TAP descriptors come from.
const DEVICE: &str = "/dev/net/tun";

/// Does `request`, which takes an interface by name.
fn with_interface(fd: BorrowedFd<'_>, request: libc::Ioctl, ask: &mut libc::ifreq) -> Result<()> {
    // SAFETY: the requests that this is called for read and write an `ifreq`.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut *ask) };
    done(answer)
}

/// Does `request`, which takes the address of a number.
fn with_number(fd: BorrowedFd<'_>, request: libc::Ioctl, number: c_int) -> Result<()> {
    // SAFETY: the requests that this is called for read an `int`.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const number) };
    done(answer)
}

fn done(answer: c_int) -> Result<()> {
    if answer < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// An interface of the name `name`.
fn interface(name: &[u8], flags: c_int) -> Result<libc::ifreq> {
    let mut ask = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags as c_short,
        },
    };
    // One stays zero.
    if name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        return Err(Error::new("no interface has such a name: 1 to 15 bytes"));
    }
    for (to, from) in ask.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    Ok(ask)
}

/// Opens one queue of interface `name`, which is made if it is not there.
pub fn open(name: &str, is_multi: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tap = rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(Error::from);
    let tap = tap.map_err(|error| error.context(DEVICE))?;
    let multi = if is_multi { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | multi;
    let mut ask = interface(name.as_bytes(), flags)?;
    match with_interface(tap.as_fd(), libc::TUNSETIFF, &mut ask) {
        Ok(()) => Ok(tap),
        Err(error) => Err(match error.errno() {
            libc::EPERM => error.context(
                "it has to be made first, for this user: ip tuntap add NAME mode tap user USER",
            ),
            libc::EBUSY => error.context("another process uses it"),
            libc::EINVAL => error.context(
                "it is no TAP interface, or made with another number of queues (multi_queue)",
            ),
            _ => error,
        }),
    }
}

/// Makes a descriptor, which somebody else may have opened, as this plugin needs it.
pub fn prepare(tap: BorrowedFd<'_>) -> Result<()> {
    let mut ask = interface(&[], 0)?;
    with_interface(tap, libc::TUNGETIFF, &mut ask)
        .map_err(|error| error.context("it is no descriptor of a TAP interface"))?;
    // SAFETY: the kernel has filled this field in.
    let flags = c_int::from(unsafe { ask.ifr_ifru.ifru_flags });
    let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if flags & wanted != wanted {
        return Err(Error::new(
            "the interface must be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
        ));
    }
    fcntl_setfl(tap, fcntl_getfl(tap)? | OFlags::NONBLOCK)?;
    with_number(tap, libc::TUNSETVNETHDRSZ, HEADER as c_int)
}

/// Its interface's name.
pub fn name(tap: BorrowedFd<'_>) -> Result<String> {
    let mut ask = interface(&[], 0)?;
    with_interface(tap, libc::TUNGETIFF, &mut ask)?;
    let name = ask.ifr_name.map(i8::cast_unsigned);
    let name = CStr::from_bytes_until_nul(&name)?;
    Ok(name.to_string_lossy().into_owned())
}

/// The longest packet of interface `name`.
pub fn mtu(name: &str) -> Result<u16> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let mut ask = interface(name.as_bytes(), 0)?;
    with_interface(socket.as_fd(), libc::SIOCGIFMTU as libc::Ioctl, &mut ask)?;
    // SAFETY: the kernel has filled this field in.
    let mtu = unsafe { ask.ifr_ifru.ifru_mtu };
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// What a guest that accepted `offloads` may be sent, as the kernel spells it.
pub fn offload_flags(offloads: u32) -> u32 {
    let flags = [
        (abi::NET_RECEIVE_CHECKSUM, libc::TUN_F_CSUM),
        (abi::NET_RECEIVE_TSO4, libc::TUN_F_TSO4),
        (abi::NET_RECEIVE_TSO6, libc::TUN_F_TSO6),
        (abi::NET_RECEIVE_USO, libc::TUN_F_USO4 | libc::TUN_F_USO6),
    ];
    let taken = flags.iter().filter(|(offload, _)| offloads & offload != 0);
    taken.fold(0, |all, (_, flag)| all | flag)
}

/// Lets frames come as [`offload_flags`] says.
pub fn set_offload(tap: BorrowedFd<'_>, flags: u32) -> Result<()> {
    // SAFETY: the request takes a number in place of a pointer.
    done(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, flags as libc::c_ulong) })
}

/// The kernel knows long UDP packets, as Linux does from 6.2 on.
pub fn has_uso(tap: BorrowedFd<'_>) -> bool {
    let flags = libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6;
    set_offload(tap, flags).is_ok()
}

/// Lets a queue of a multi-queue interface have frames, or none.
pub fn set_attached(tap: BorrowedFd<'_>, is_attached: bool) -> Result<()> {
    let flag = if is_attached {
        libc::IFF_ATTACH_QUEUE
    } else {
        libc::IFF_DETACH_QUEUE
    };
    with_interface(tap, libc::TUNSETQUEUE, &mut interface(&[], flag)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_hears_of_what_the_guest_takes_alone() {
        assert_eq!(offload_flags(0), 0);
        let sends = abi::NET_SEND_CHECKSUM | abi::NET_SEND_TSO4 | abi::NET_SEND_USO;
        assert_eq!(offload_flags(sends), 0);
        let all = sends | abi::NET_RECEIVE_CHECKSUM | abi::NET_RECEIVE_USO;
        let flags = libc::TUN_F_CSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6;
        assert_eq!(offload_flags(all), flags);
    }

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for name in ["a-name-of-16-byt", "nul\0"] {
            let error = interface(name.as_bytes(), 0).err().unwrap();
            assert!(error.to_string().contains("such a name"), "{error}");
        }
    }
}
