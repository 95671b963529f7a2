//! The Unix sockets through which other programs reach the guest, in the form
//! that Firecracker's clients know:
//!
//! - a client connects to the socket at `path`, writes `CONNECT <port>\n` and
//!   reads `OK <host port>\n` once the guest has accepted;
//! - the guest's connection to host port P goes to a socket at `<path>_<P>`.
//!
//! Bytes after these lines are not looked at here.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, recv, socket};

/// Bytes of the longest CONNECT line that is read: more than any port needs.
const MAX_LINE: usize = 32;

/// Bytes of the longest path to listen at: `sockaddr_un` has room for 108 with
/// a final NUL, and 11 are for the longest `_<port>`.
const MAX_PATH: usize = 107 - 11;

/// Why the device could not listen for other programs.
#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    /// There is no room for it in a socket address, or none for `_<port>` after it.
    #[error("socket path {} has {} bytes, the most is {MAX_PATH}", .path.display(), .path.as_os_str().len())]
    PathTooLong {
        /// The path of option `uds`.
        path: PathBuf,
    },
    /// Something is there, which may be another VM's.
    #[error("socket path {} exists already: remove it if no other VM uses it", .path.display())]
    Exists {
        /// The path of option `uds`.
        path: PathBuf,
    },
    /// The system refused.
    #[error("listen on socket {}", .path.display())]
    Listen {
        /// The path of option `uds`.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// The listening socket; removed from the file system when dropped.
pub struct UnixSide {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixSide {
    /// Listens at `path`, where nothing may be yet.
    pub fn bind(path: PathBuf) -> Result<Self, UnixError> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(UnixError::PathTooLong { path });
        }
        let listener = match UnixListener::bind(&path) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(UnixError::Exists { path });
            }
            Err(source) => return Err(UnixError::Listen { path, source }),
        };
        let side = UnixSide { listener, path };
        match side.listener.set_nonblocking(true) {
            Ok(()) => Ok(side),
            Err(source) => Err(UnixError::Listen {
                path: side.path.clone(),
                source,
            }),
        }
    }

    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The next client. `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }

    /// Connects to the program that listens for guest connections to `port`.
    /// Does not wait for it: a full backlog is an error.
    pub fn connect(&self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{port}"));
        connect_now(Path::new(&path)).map_err(io::Error::from)
    }
}

impl Drop for UnixSide {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("remove socket {}: {error}", self.path.display());
        }
    }
}

fn connect_now(path: &Path) -> nix::Result<UnixStream> {
    let socket: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let address = UnixAddr::new(path.as_os_str().as_bytes())?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(UnixStream::from(socket))
}

/// What a client's first line says so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// More bytes may still come.
    Incomplete,
    /// `CONNECT` to this port.
    Connect(u32),
    /// No such line, and none to come.
    Bad,
}

/// Reads the first line from `stream`, and not a byte beyond it: what follows
/// is for the guest. Reads nothing as long as the line is incomplete.
pub fn read_line(stream: &UnixStream) -> Line {
    let mut bytes = [0; MAX_LINE];
    let peek = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    let seen = match receive(stream, &mut bytes, peek) {
        // The end, before the line's.
        Ok(0) => return Line::Bad,
        Ok(count) => bytes.get(..count).unwrap_or_default(),
        Err(Errno::EAGAIN) => return Line::Incomplete,
        Err(_) => return Line::Bad,
    };
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        return if seen.len() < MAX_LINE {
            Line::Incomplete
        } else {
            Line::Bad
        };
    };
    let Some(port) = seen.get(..end).and_then(parse) else {
        return Line::Bad;
    };
    let line = bytes.get_mut(..=end).unwrap_or_default();
    match receive(stream, line, MsgFlags::MSG_DONTWAIT) {
        Ok(count) if count == end + 1 => Line::Connect(port),
        _ => Line::Bad,
    }
}

fn receive(stream: &UnixStream, bytes: &mut [u8], flags: MsgFlags) -> nix::Result<usize> {
    loop {
        match recv(stream.as_raw_fd(), bytes, flags) {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// The port in a line without its end.
fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_connect_and_a_decimal_port() {
        assert_eq!(parse(b"CONNECT 0"), Some(0));
        assert_eq!(parse(b"CONNECT 4294967295"), Some(u32::MAX));
        for bad in [
            "",
            "CONNECT",
            "CONNECT ",
            "CONNECT 4294967296",
            "CONNECT -1",
            "CONNECT +1",
            "CONNECT 1 ",
            "CONNECT  1",
            "connect 1",
            "CONNECT 1\r",
            "GET / HTTP/1.1",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_after_the_line_stay_in_the_stream() {
        use std::io::{Read, Write};
        let (mut client, mut ours) = UnixStream::pair().unwrap();
        client.write_all(b"CONN").unwrap();
        assert_eq!(read_line(&ours), Line::Incomplete);
        client.write_all(b"ECT 7\nhello").unwrap();
        assert_eq!(read_line(&ours), Line::Connect(7));
        let mut rest = [0; 5];
        ours.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"hello");
    }

    #[test]
    fn overlong_line_is_bad_even_without_an_end() {
        use std::io::Write;
        let (mut client, ours) = UnixStream::pair().unwrap();
        client.write_all(&[b'C'; MAX_LINE - 1]).unwrap();
        assert_eq!(read_line(&ours), Line::Incomplete);
        client.write_all(b"C").unwrap();
        assert_eq!(read_line(&ours), Line::Bad);
    }

    #[test]
    fn path_without_room_for_a_port_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(92)));
        let error = UnixSide::bind(path).err().unwrap().to_string();
        assert!(error.contains("has 97 bytes, the most is 96"), "{error}");
    }

    #[test]
    fn existing_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock");
        std::fs::write(&path, b"mine").unwrap();
        let error = UnixSide::bind(path.clone()).err().unwrap().to_string();
        assert!(error.contains("v.sock exists already"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn socket_is_removed_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock");
        let side = UnixSide::bind(path.clone()).unwrap();
        assert!(path.exists());
        drop(side);
        assert!(!path.exists());
    }
}
