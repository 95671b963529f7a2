//! Extended attributes.

use zerocopy::IntoBytes;

use super::Call;
use crate::fs::Errno;
use crate::wire::{Flags, GetxattrIn, GetxattrOut, SetxattrIn, SetxattrMore};

/// Most bytes of a value (`XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 64 << 10;

impl Call<'_> {
    pub(super) fn setxattr(mut self) -> Result<usize, Errno> {
        let asked: SetxattrIn = self.arguments.take()?;
        if self.agreed.has(Flags::SETXATTR_EXT) {
            let _: SetxattrMore = self.arguments.take()?;
        }
        let name = self.arguments.xattr_name()?;
        let size = asked.size as usize;
        if size > MAX_VALUE {
            return Err(Errno::TOOBIG);
        }
        let value = self.arguments.bytes(size)?;
        self.fs().setxattr(self.node(), name, value, asked.flags)?;
        Ok(0)
    }

    pub(super) fn getxattr(mut self) -> Result<usize, Errno> {
        let asked: GetxattrIn = self.arguments.take()?;
        let name = self.arguments.xattr_name()?;
        let value = self.fs().getxattr(self.node(), name)?;
        self.put_up_to(asked.size, &value)
    }

    pub(super) fn listxattr(mut self) -> Result<usize, Errno> {
        let asked: GetxattrIn = self.arguments.take()?;
        let names = self.fs().listxattr(self.node())?;
        self.put_up_to(asked.size, &names)
    }

    pub(super) fn removexattr(mut self) -> Result<usize, Errno> {
        let name = self.arguments.xattr_name()?;
        self.fs().removexattr(self.node(), name)?;
        Ok(0)
    }

    /// `ERANGE` for more bytes than asked for; a size of 0 asks for their number.
    fn put_up_to(&self, size: u32, bytes: &[u8]) -> Result<usize, Errno> {
        if size == 0 {
            let size = u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)?;
            return self.put(GetxattrOut { size, padding: 0 }.as_bytes());
        }
        if bytes.len() > size as usize {
            return Err(Errno::RANGE);
        }
        self.put(bytes)
    }
}
