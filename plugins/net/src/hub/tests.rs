//! Members of a hub, and pairs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::net::{AddressFamily, SocketFlags, socketpair};

use super::*;
use crate::testing::{BOTH, NONE, RECEIVE, Rig, SEND};

/// A frame with a number in it.
fn frame(to: u8, from: u8, number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..6].copy_from_slice(&address(to));
    frame[6..12].copy_from_slice(&address(from));
    frame
}

const EVERYBODY: u8 = 0xff;

fn address(of: u8) -> [u8; 6] {
    if of == EVERYBODY {
        [0xff; 6]
    } else {
        [2, 0, 0, 0, 0, of]
    }
}

fn join(folder: &Path, more: &str) -> Rig<Hub> {
    let path = folder.join("hub");
    Rig::new(&format!(r#"{{ "path": "{}"{more} }}"#, path.display())).unwrap()
}

/// As many members, who know of each other.
fn members(folder: &Path, count: usize, more: &str) -> Vec<Rig<Hub>> {
    let mut members: Vec<_> = (0..count).map(|_| join(folder, more)).collect();
    for member in &mut members {
        member.until("all to join", |rig| rig.mock.asked().fds.len() == count);
    }
    members
}

#[test]
fn a_frame_for_everybody_comes_to_everybody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 4, "");
    for from in 0..4u8 {
        let sent = frame(EVERYBODY, from, 7, 60);
        members[usize::from(from)].send(&sent).unwrap();
        for (index, member) in (0..).zip(&mut members) {
            if index != from {
                assert_eq!(member.frame(), sent);
            }
            assert_eq!(member.try_frame(), None);
        }
    }
}

#[test]
fn a_frame_for_one_comes_to_that_one_alone_once_it_has_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 3, "");
    let question = frame(EVERYBODY, 0, 1, 60);
    members[0].send(&question).unwrap();
    assert_eq!(members[1].frame(), question);
    assert_eq!(members[2].frame(), question);
    let answer = frame(0, 1, 2, 60);
    members[1].send(&answer).unwrap();
    assert_eq!(members[0].frame(), answer);
    let talk = frame(1, 0, 3, 1514);
    members[0].send(&talk).unwrap();
    assert_eq!(members[1].frame(), talk);
    let last = frame(EVERYBODY, 1, 4, 60);
    members[1].send(&last).unwrap();
    // Nothing came before.
    assert_eq!(members[2].frame(), last);
}

#[test]
fn members_leave_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = members(folder.path(), 3, "");
    let mut gone = all.remove(1);
    gone.send(&frame(EVERYBODY, 1, 1, 60)).unwrap();
    for member in &mut all {
        assert_eq!(member.frame(), frame(EVERYBODY, 1, 1, 60));
    }
    gone.device.before_stop();
    drop(gone);
    for member in &mut all {
        member.until("the end of one", |rig| rig.mock.asked().fds.len() == 2);
    }
    // Its address is anybody's again.
    let sent = frame(1, 0, 2, 60);
    all[0].send(&sent).unwrap();
    assert_eq!(all[1].frame(), sent);
    // As one that was killed: its socket is left.
    drop(all.remove(0));
    let mut next = join(folder.path(), "");
    all[0].until("the next one", |rig| rig.mock.asked().fds.len() == 2);
    next.send(&frame(EVERYBODY, 3, 3, 60)).unwrap();
    assert_eq!(all[0].frame(), frame(EVERYBODY, 3, 3, 60));
    let left = std::fs::read_dir(folder.path().join("hub")).unwrap();
    assert_eq!(left.count(), 2);
}

#[test]
fn frames_may_be_as_long_as_packets_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 2, r#", "mtu": 65521"#);
    let sent = frame(EVERYBODY, 0, 9, 65_535);
    members[0].send(&sent).unwrap();
    assert_eq!(members[1].frame(), sent);
    let error = members[0].send(&vec![0; 65_540]).unwrap_err();
    assert_eq!(error.errno(), libc::EMSGSIZE);
}

#[test]
fn a_member_that_takes_nothing_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 3, "");
    members[0].device.set_interest(0, SEND).unwrap();
    assert!(members[0].told().send);
    for number in 0..10_000u32 {
        let sent = frame(EVERYBODY, 0, number as u8, 1514);
        members[0].send(&sent).unwrap();
        assert_eq!(members[1].frame(), sent);
    }
    members[0].device.stop();
    assert!(members[0].logged("found a member's socket full"));
}

#[test]
fn everybody_has_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 3, "");
    for _ in 0..10 {
        for from in 1..3u8 {
            let sent = frame(EVERYBODY, from, 0, 60);
            members[usize::from(from)].send(&sent).unwrap();
        }
    }
    let mut from = Vec::new();
    members[0].device.set_interest(0, RECEIVE).unwrap();
    // Both are known to have frames from the first event on.
    members[0].until("frames", |rig| rig.told().receive);
    for _ in 0..20 {
        from.push(members[0].frame()[11]);
    }
    assert!(from[..6].contains(&1) && from[..6].contains(&2), "{from:?}");
}

#[test]
fn one_with_many_frames_does_not_silence_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = members(folder.path(), 3, "");
    for _ in 0..50 {
        members[1].send(&frame(EVERYBODY, 1, 0, 60)).unwrap();
    }
    members[0].device.set_interest(0, RECEIVE).unwrap();
    members[0].until("frames", |rig| rig.told().receive);
    // The guest's ring is empty, and later filled anew.
    members[0].device.set_interest(0, NONE).unwrap();
    for _ in 0..10 {
        assert_eq!(members[0].try_frame().unwrap()[11], 1);
    }
    members[2].send(&frame(EVERYBODY, 2, 0, 60)).unwrap();
    let from: Vec<_> = (0..4)
        .map(|_| members[0].try_frame().unwrap()[11])
        .collect();
    assert!(from.contains(&2), "{from:?}");
}

fn over(socket: OwnedFd, more: &str) -> Rig<Hub> {
    let number = socket.as_raw_fd();
    Rig::new(&format!(r#"{{ "fd": {number}{more} }}"#)).unwrap()
}

#[test]
fn two_meet_by_a_pair_of_either_kind() {
    for kind in [SocketType::SEQPACKET, SocketType::DGRAM] {
        let flags = SocketFlags::CLOEXEC;
        let (left, right) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let (mut left, mut right) = (over(left, ""), over(right, ""));
        left.send(&[1; 60]).unwrap();
        right.send(&[2; 61]).unwrap();
        assert_eq!((left.frame(), right.frame()), (vec![2; 61], vec![1; 60]));
        // Here the other side's pace counts.
        let mut sent = 0;
        while left.send(&[3; 1514]).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "a socket without end");
        }
        left.device.set_interest(0, SEND).unwrap();
        for _ in 0..sent {
            assert_eq!(right.frame(), [3; 1514]);
        }
        left.until("room", |rig| rig.told().send);
        left.send(&[4; 60]).unwrap();
        assert_eq!(right.frame(), [4; 60]);
        drop(right);
        left.device.set_interest(0, BOTH).unwrap();
        left.until("the end of the link", |rig| {
            rig.try_frame();
            rig.send(&[5; 60]).unwrap();
            rig.mock.asked().link == Some(false)
        });
    }
}

#[test]
fn what_is_no_hub_is_named() {
    let (stream, _other) = UnixStream::pair().unwrap();
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    for (config, said) in [
        ("{}".into(), "it needs path or fd"),
        (
            format!(r#"{{ "path": "/tmp", "fd": {} }}"#, datagram.as_raw_fd()),
            "it needs path or fd",
        ),
        (
            format!(r#"{{ "fd": {} }}"#, stream.as_raw_fd()),
            "must be a SOCK_SEQPACKET or SOCK_DGRAM socket",
        ),
        (
            r#"{ "path": "/nowhere/hub" }"#.into(),
            "hub \"/nowhere/hub\": No such file",
        ),
    ] {
        let error = Rig::<Hub>::refusal(&config);
        assert!(error.contains(said), "{config}: {error}");
    }
}
