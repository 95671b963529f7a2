//! Why a tree was not packed, or an archive not unpacked.

use std::io;

use thiserror::Error;

/// Why a tree was not packed, or an archive not unpacked.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Where the archive comes from fails.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// Where the archive goes to fails.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// It ends before its end mark.
    #[error("the archive is cut short at byte {offset}")]
    Truncated {
        /// Bytes in it.
        offset: u64,
    },
    /// Something else, or damaged.
    #[error("no tar archive, or a damaged one: no valid header at byte {offset}")]
    Damaged {
        /// Where the header was looked for.
        offset: u64,
    },
    /// An entry that is not let in, or a file that an archive cannot hold.
    #[error("{name} is refused: {why}")]
    Refused {
        /// The entry's name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// The file system refuses.
    #[error("{name}")]
    File {
        /// The entry's name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    /// The system's error, if it was one.
    pub fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Read(source) | Self::Write(source) | Self::File { source, .. } => Some(source),
            Self::Truncated { .. } | Self::Damaged { .. } | Self::Refused { .. } => None,
        }
    }

    pub(crate) fn refused(name: &[u8], why: &'static str) -> Self {
        let name = show(name);
        Self::Refused { name, why }
    }
}

/// A name for a message of one line: what is no text or would reach a terminal
/// as a command is escaped.
pub(crate) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.is_empty() {
        true => ".".into(),
        false => text.escape_debug().to_string(),
    }
}

/// Names the file that a system call was about.
pub(crate) trait About<T> {
    fn about(self, name: &[u8]) -> Result<T, ArchiveError>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, name: &[u8]) -> Result<T, ArchiveError> {
        self.map_err(|error| ArchiveError::File {
            name: show(name),
            source: error.into(),
        })
    }
}
