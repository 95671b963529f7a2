//! The files of a folder that somebody else filled: nothing outside of it is
//! opened, whatever links are in it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::error::OciFault;
use crate::blob::Blob;
use crate::display::shown;

/// An open folder.
pub(crate) struct Folder(OwnedFd);

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, OciFault> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(errno) => Err(OciFault::Open(errno.into())),
        }
    }

    /// The file `name` in it; `None` where there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>, OciFault> {
        // A pipe must not make us wait for who writes into it.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let cannot = |source: io::Error| OciFault::Read {
            what: name.to_owned(),
            source,
        };
        let file = match openat2(&self.0, name, how) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::EXDEV | Errno::ELOOP) => {
                return Err(OciFault::Link { name: shown(name) });
            }
            Err(errno) => return Err(cannot(errno.into())),
        };
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(OciFault::NotAFile { name: shown(name) });
        }
        Blob::whole(file).map(Some).map_err(cannot)
    }
}
