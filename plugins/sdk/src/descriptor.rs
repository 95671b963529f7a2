//! Descriptors that a configuration names by number.

// UNSAFETY: looks at a number that may be no descriptor.
#![expect(unsafe_code, reason = "a number becomes a descriptor")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::error::{Error, Result};

/// The least number of a copy: those of the standard streams are left to them.
const LEAST: libc::c_int = 3;

/// A copy of the descriptor `number`, which the process's owner has opened or
/// inherited and named in a configuration. The original stays its owner's, who may
/// close it when the device is made. It is the same open file: what is set on the
/// copy holds for both.
pub fn descriptor(number: i32) -> Result<OwnedFd> {
    // SAFETY: takes no pointer; a number that is no descriptor is answered by EBADF.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, LEAST) };
    if copy < 0 {
        let error = Error::from(io::Error::last_os_error());
        return Err(error.context(&format!("descriptor {number}, which must be open")));
    }
    // SAFETY: made just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_outlives_its_original() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let copy = descriptor(writer.as_raw_fd()).unwrap();
        drop(writer);
        std::fs::File::from(copy).write_all(b"hello").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_named() {
        let error = descriptor(-1).unwrap_err();
        assert!(error.to_string().starts_with("descriptor -1"), "{error}");
    }
}
