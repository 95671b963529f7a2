//! A hub's folder, where its members find each other: a listening socket of each.
//!
//! Who joins has the folder to itself for that moment, by a lock that goes with its
//! process. It connects to every socket in it, and removes those that nobody listens at
//! any more. So every two members are connected, and once.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use plugin_sdk::{Error, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::left;

/// Most members of a hub.
pub const MAX_MEMBERS: usize = 32;
/// Connections that may wait for a member whose guest does not run yet: those of
/// members that came and went count as well.
const BACKLOG: i32 = 4096;
/// How long one who joins waits for others who do: each takes a moment.
const JOIN_LIMIT: Duration = Duration::from_secs(2);
/// The end of a socket's name.
const SUFFIX: &str = ".member";

/// A membership.
pub struct Joined {
    /// Later members connect to it.
    pub listener: OwnedFd,
    /// Its name.
    pub path: PathBuf,
    /// Connections to those who were there.
    pub members: Vec<OwnedFd>,
    /// Why there is none to some.
    pub passed_over: Vec<Error>,
}

/// Joins the hub in `folder`, which is made if it is not there, for this user alone.
pub fn join(folder: &Path) -> Result<Joined> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let _lock = lock(folder)?;
    let (mut members, mut passed_over) = (Vec::new(), Vec::new());
    for number in 0..MAX_MEMBERS {
        let socket = socket()?;
        match connect_to(&member(folder, number), &socket) {
            Ok(true) => members.push(socket),
            Ok(false) => {}
            // One such does not keep the others from meeting.
            Err(error) => passed_over.push(error),
        }
    }
    for number in 0..MAX_MEMBERS {
        let path = member(folder, number);
        let listener = socket()?;
        match bind(&listener, &SocketAddrUnix::new(&path)?) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => continue,
            Err(error) => return Err(error.into()),
        }
        listen(&listener, BACKLOG)?;
        return Ok(Joined {
            listener,
            path,
            members,
            passed_over,
        });
    }
    let text = format!("the hub is full: it has {MAX_MEMBERS} members");
    Err(Error::new(text))
}

/// Has the folder to itself as long as it is kept.
fn lock(folder: &Path) -> Result<File> {
    let flags = OFlags::DIRECTORY.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(folder)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {}
        locked => return Ok(locked.map(|()| file)?),
    }
    // The wait for a lock has no limit, so another thread waits. Given up, it unlocks
    // when it has its turn.
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let locked = flock(&file, FlockOperation::LockExclusive);
        let _ = sender.send(locked.map(|()| file));
    })?;
    match receiver.recv_timeout(JOIN_LIMIT) {
        Ok(locked) => Ok(locked?),
        Err(_) => {
            let text = format!(
                "somebody has been joining for {} s: end the process that has the folder locked",
                JOIN_LIMIT.as_secs()
            );
            Err(Error::new(text))
        }
    }
}

fn member(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}{SUFFIX}"))
}

/// Connects `socket` to the member at `path`, if there is one.
fn connect_to(path: &Path, socket: &OwnedFd) -> Result<bool> {
    match connect(socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        // Its member was killed: one that ends removes it.
        Err(Errno::CONNREFUSED) => left::remove(path).map(|()| false),
        Err(error) => {
            let error = Error::from(error);
            Err(error.context(&format!("connect to {}", path.display())))
        }
    }
}

/// Keeps the bounds of frames, and tells of the other side's end.
fn socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(family, kind, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_connects_to_those_before() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("hub");
        let joined: Vec<_> = (0..4).map(|_| join(&folder).unwrap()).collect();
        let counts: Vec<_> = joined.iter().map(|joined| joined.members.len()).collect();
        assert_eq!(counts, [0, 1, 2, 3]);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_a_killed_member_left_makes_room_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let first = join(folder.path()).unwrap();
        let second = join(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["0.member", "1.member"]);
        // As at a SIGKILL: the socket closes, the file stays.
        drop(first);
        let third = join(folder.path()).unwrap();
        assert_eq!(third.members.len(), 1);
        assert_eq!(third.path, folder.path().join("0.member"));
        drop((second, third));
        assert_eq!(join(folder.path()).unwrap().members.len(), 0);
        assert_eq!(names(folder.path()), ["0.member"]);
    }

    #[test]
    fn what_is_no_members_socket_is_passed_over_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = join(folder.path()).unwrap();
        let letter = folder.path().join("1.member");
        fs::write(&letter, "dear").unwrap();
        let stream = folder.path().join("2.member");
        let _stream = std::os::unix::net::UnixListener::bind(&stream).unwrap();
        let next = join(folder.path()).unwrap();
        assert_eq!(next.members.len(), 1);
        assert_eq!(next.path, folder.path().join("3.member"));
        let said: Vec<_> = next.passed_over.iter().map(Error::to_string).collect();
        assert!(said[0].contains("1.member is no socket"), "{said:?}");
        assert!(said[1].contains("2.member: Protocol wrong"), "{said:?}");
        assert_eq!(fs::read(&letter).unwrap(), b"dear");
        drop(first);
    }

    #[test]
    fn members_who_join_at_the_same_time_are_all_connected_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let joined: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| join(path).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let connections: usize = joined.iter().map(|joined| joined.members.len()).sum();
        assert_eq!(connections, 16 * 15 / 2);
    }

    #[test]
    fn one_who_never_ends_to_join_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let stuck = lock(folder.path()).unwrap();
        let error = join(folder.path()).err().unwrap().to_string();
        assert!(error.starts_with("somebody has been joining"), "{error}");
        drop(stuck);
        join(folder.path()).unwrap();
    }

    #[test]
    fn a_full_hub_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let _members: Vec<_> = (0..MAX_MEMBERS)
            .map(|_| join(folder.path()).unwrap())
            .collect();
        let error = join(folder.path()).err().unwrap().to_string();
        assert_eq!(error, "the hub is full: it has 32 members");
    }
}
