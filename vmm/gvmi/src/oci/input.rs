//! An archive as the user gives it: a file, or standard input. A file is read
//! where it is; what is compressed, or comes through a pipe, is copied into a
//! temporary file without a name, because it is read more than once and not
//! in order.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::OciFault;
use crate::blob::Blob;
use crate::decode::{Decoder, PIECE};

/// Most bytes of an archive that are copied, unless told otherwise: 64 GiB.
pub const DEFAULT_UNPACKED_LIMIT: u64 = 64 << 30;

/// Where temporary files are, without `TMPDIR`: `/tmp` is memory on many
/// machines, and archives are large.
const SPOOL_DIR: &str = "/var/tmp";

/// A file, or standard input. As text: the path, or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input, from where it stands.
    Stdin,
    /// The file with this path.
    File(PathBuf),
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Input {
    /// Its bytes as they are. Those that come through a pipe are copied, at
    /// most `limit` of them.
    pub fn open(&self, limit: u64) -> Result<Blob, OciFault> {
        match self.raw()? {
            Raw::InPlace(blob) => Ok(blob),
            Raw::Piped(file) => spool(file, limit),
        }
    }

    /// Its bytes, unpacked if they are compressed with gzip or zstd; then, and
    /// when they come through a pipe, they are copied, at most `limit` of them.
    pub(crate) fn open_unpacked(&self, limit: u64) -> Result<Blob, OciFault> {
        match self.raw()? {
            Raw::InPlace(blob) => match unpacked(blob.reader())? {
                Decoder::Plain(_) => Ok(blob),
                packed => spool(packed, limit),
            },
            Raw::Piped(file) => spool(unpacked(file)?, limit),
        }
    }

    /// What errors call it.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn raw(&self) -> Result<Raw, OciFault> {
        let file = match self {
            Self::Stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            Self::File(path) => File::open(path),
        };
        let raw = file.and_then(Raw::of).map_err(OciFault::Open)?;
        raw.ok_or(OciFault::Folder)
    }
}

/// An open input.
enum Raw {
    InPlace(Blob),
    Piped(File),
}

impl Raw {
    /// What is left of `file`; `None` for a folder.
    fn of(mut file: File) -> io::Result<Option<Self>> {
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Ok(None);
        }
        if !kind.is_file() {
            return Ok(Some(Self::Piped(file)));
        }
        let at = file.stream_position()?;
        let whole = Blob::whole(file)?;
        let rest = whole.slice(at, whole.len().saturating_sub(at));
        Ok(Some(Self::InPlace(rest.unwrap_or(whole))))
    }
}

/// Unpacks `source` if its first bytes say that it is compressed.
pub(crate) fn unpacked<R: Read>(source: R) -> Result<Decoder<R>, OciFault> {
    Decoder::new(source).map_err(read_error)
}

/// Copies all of `source`, at most `limit` bytes, into a temporary file.
pub(crate) fn spool(mut source: impl Read, limit: u64) -> Result<Blob, OciFault> {
    let dir = spool_dir();
    let cannot = |source| OciFault::Spool {
        dir: dir.display().to_string(),
        source,
    };
    let mut file = tempfile::tempfile_in(&dir).map_err(cannot)?;
    let mut buf = vec![0; PIECE];
    let mut left = limit;
    loop {
        let read = match source.read(&mut buf) {
            Ok(0) => return Blob::whole(file).map_err(cannot),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(read_error(source)),
        };
        left = left
            .checked_sub(read as u64)
            .ok_or(OciFault::TooLarge { limit })?;
        file.write_all(&buf[..read]).map_err(cannot)?;
    }
}

fn spool_dir() -> PathBuf {
    let set: Option<OsString> = env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    set.map_or_else(|| Path::new(SPOOL_DIR).to_path_buf(), PathBuf::from)
}

fn read_error(source: io::Error) -> OciFault {
    OciFault::Read {
        what: "the archive".to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_from_where_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"read, and left").unwrap();
        file.seek(io::SeekFrom::Start(6)).unwrap();
        let Some(Raw::InPlace(blob)) = Raw::of(file).unwrap() else {
            panic!("it is a file");
        };
        let mut text = String::new();
        blob.reader().read_to_string(&mut text).unwrap();
        assert_eq!(text, "and left");
    }
}
