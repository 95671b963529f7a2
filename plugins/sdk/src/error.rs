//! An error as it goes to the host: a number and a text.

use std::any::Any;
use std::fmt;
use std::io;

/// What callbacks return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a callback failed. Made from any error by `?`; its text has the causes.
pub struct Error {
    errno: i32,
    /// `None`: what the number says, which costs nothing where it is a mere answer.
    text: Option<String>,
}

impl Error {
    /// In lower case, without a final dot, naming the thing and the remedy.
    pub fn new(text: impl Into<String>) -> Self {
        Error {
            errno: libc::EIO,
            text: Some(text.into()),
        }
    }

    /// The answer with this number of `errno.h`, where a callback has such ones:
    /// `EAGAIN` and `EMSGSIZE` of a network backend.
    pub fn from_errno(errno: i32) -> Self {
        Error {
            // A host takes positive numbers and 0 for successes.
            errno: if errno > 0 { errno } else { libc::EIO },
            text: None,
        }
    }

    /// Its number, above 0.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What there is to say besides the number.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The same with what was being attempted before it.
    pub fn context(self, what: &str) -> Self {
        Error {
            errno: self.errno,
            text: Some(format!("{what}: {self}")),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => write!(f, "{}", io::Error::from_raw_os_error(self.errno)),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (errno {})", self.errno)
    }
}

/// Not an `Error` of the standard library itself, so that it can be made of all.
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let system = (&error as &dyn Any).downcast_ref::<io::Error>();
        let errno = system
            .and_then(io::Error::raw_os_error)
            .filter(|errno| *errno > 0);
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Error {
            errno: errno.unwrap_or(libc::EIO),
            text: Some(text),
        }
    }
}
