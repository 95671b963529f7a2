//! Listening sockets, which a process that is short of descriptors leaves alone for a
//! while.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use plugin_sdk::{Events, Host, Level, Result};

use crate::lost::Often;

/// How long nobody is let in when there is no descriptor for it, or no memory.
const SHORTAGE: Duration = Duration::from_millis(100);

/// The watch over a listening socket. Its timer has the token of its descriptor.
pub struct Door {
    host: Host,
    fd: i32,
    token: u64,
    shortages: Often,
}

impl Door {
    /// Watches `socket`, which has to be there as long as this.
    pub fn open(host: Host, socket: BorrowedFd<'_>, token: u64) -> Result<Self> {
        let fd = socket.as_raw_fd();
        host.add_fd(fd, Events::READ, token)?;
        // Made now, because it takes a descriptor. That it rings is of no consequence.
        host.set_timer(token, SHORTAGE, Duration::ZERO)?;
        Ok(Door {
            host,
            fd,
            token,
            shortages: Often::default(),
        })
    }

    /// Whether those who come are told of.
    pub fn watch(&self, is_watched: bool) -> Result<()> {
        let events = if is_watched {
            Events::READ
        } else {
            Events::NONE
        };
        self.host.modify_fd(self.fd, events, self.token)
    }

    /// accept(2) said `error`. Unless that is about one who came, the watch ends until
    /// the timer has rung, by which the owner watches again.
    pub fn failed(&mut self, error: &io::Error) -> Result<()> {
        if is_about_one(error) {
            return Ok(());
        }
        self.shortages.add();
        if let Some(count) = self.shortages.news() {
            let text = format!(
                "nobody can be let in for now: {error} ({count} times so far); \
                 close descriptors, or raise their limit"
            );
            self.host.log(Level::Warn, &text);
        }
        self.watch(false)?;
        self.host.set_timer(self.token, SHORTAGE, Duration::ZERO)
    }
}

/// Nobody came, or has gone, or is out of reach: see accept(2) on errors of the network.
fn is_about_one(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::EINTR
                | libc::ECONNABORTED
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::EOPNOTSUPP
        )
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use plugin_sdk::testing::MockHost;

    use super::*;

    #[test]
    fn a_shortage_ends_the_watch_for_a_while_and_an_error_of_the_network_does_not() {
        let mock = MockHost::new();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut door = Door::open(mock.host(), socket.as_fd(), 7).unwrap();
        let fd = socket.as_raw_fd();
        let error = io::Error::from_raw_os_error;
        door.failed(&error(libc::EHOSTUNREACH)).unwrap();
        assert_eq!(mock.asked().fds, [(fd, Events::READ, 7)]);
        mock.asked().timers.clear();
        for _ in 0..8 {
            door.failed(&error(libc::EMFILE)).unwrap();
        }
        assert_eq!(mock.asked().fds, [(fd, Events::NONE, 7)]);
        assert_eq!(mock.asked().timers, [(7, SHORTAGE, Duration::ZERO)]);
        assert_eq!(mock.asked().log.len(), 4);
        door.watch(true).unwrap();
        assert_eq!(mock.asked().fds, [(fd, Events::READ, 7)]);
    }
}
