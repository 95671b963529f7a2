//! A member of a hub: a link to every other member, and who is behind which.
//!
//! Nobody can hold up a member: a frame for one whose socket is full is lost, as on a
//! switch whose port is full.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use plugin_sdk::{Directions, Error, Events, Host, Level, Pieces, Result};
use rustix::net::{SocketFlags, accept_with};

use super::folder::{Joined, MAX_MEMBERS};
use super::table::{Address, Table};
use crate::datagram::{Datagram, Peer};
use crate::door::Door;
use crate::link::{Link, Stop};
use crate::lost::Lost;

/// Token of the listening socket. Members have theirs from 1 on.
const LISTENER: u64 = 0;

/// Another member.
struct Member {
    link: Datagram,
    watched: Events,
    /// It may have frames for us.
    is_readable: bool,
}

/// This member.
pub struct Mesh {
    host: Host,
    listener: OwnedFd,
    door: Door,
    path: PathBuf,
    /// By their tokens, of which none is used again.
    members: BTreeMap<u64, Member>,
    last_token: u64,
    table: Table,
    wants_frames: bool,
    /// Who was last asked for a frame.
    asked: u64,
    /// Frames until all are asked, while nobody tells who has some.
    until_all: usize,
    longest: usize,
    /// Frames that found a member's socket full.
    lost: Lost,
}

impl Mesh {
    /// Of a folder that was joined.
    pub fn new(host: Host, joined: Joined, longest: usize) -> Result<Self> {
        let door = Door::open(host, joined.listener.as_fd(), LISTENER)?;
        let mut mesh = Mesh {
            host,
            listener: joined.listener,
            door,
            path: joined.path,
            members: BTreeMap::new(),
            last_token: LISTENER,
            table: Table::default(),
            wants_frames: false,
            asked: 0,
            until_all: 0,
            longest,
            lost: Lost::default(),
        };
        for error in joined.passed_over {
            let text = format!("a member is passed over: {error}");
            host.log(Level::Warn, &text);
        }
        for socket in joined.members {
            mesh.add(socket)?;
        }
        let text = format!(
            "joined as {}, {} members are there",
            mesh.path.display(),
            mesh.members.len()
        );
        host.log(Level::Info, &text);
        Ok(mesh)
    }

    /// The VM ends: others need not try our socket any more.
    pub fn leave(&self) {
        // If it cannot be removed now, the next one who joins does it.
        let _ = std::fs::remove_file(&self.path);
    }

    fn add(&mut self, socket: OwnedFd) -> Result<()> {
        let link = Datagram::new(socket, Peer::Pair, self.longest)?;
        let watched = self.events();
        self.last_token += 1;
        let token = self.last_token;
        self.host
            .add_fd(link.descriptor().as_raw_fd(), watched, token)?;
        let member = Member {
            link,
            watched,
            is_readable: false,
        };
        self.members.insert(token, member);
        Ok(())
    }

    fn remove(&mut self, token: u64) -> Result<()> {
        let Some(member) = self.members.remove(&token) else {
            return Ok(());
        };
        self.table.forget(token);
        self.host.remove_fd(member.link.descriptor().as_raw_fd())
    }

    fn events(&self) -> Events {
        if self.wants_frames {
            Events::READ
        } else {
            Events::NONE
        }
    }

    /// Takes one who joins.
    fn accept(&mut self) -> Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(self.listener.as_fd(), flags) {
            // One by one: the loop tells of the next.
            Ok(socket) if self.members.len() < MAX_MEMBERS => self.add(socket),
            // Each of a full hub has one less, so this is nobody of it.
            Ok(_) => Ok(()),
            Err(error) => self.door.failed(&error.into()),
        }
    }

    /// [`plugin_sdk::Device::on_timer`].
    pub fn listen_again(&self) -> Result<()> {
        self.door.watch(true)
    }

    /// [`plugin_sdk::Device::on_event`].
    pub fn on_event(&mut self, events: Events, token: u64) -> Result<()> {
        if token == LISTENER {
            return self.accept();
        }
        let Some(member) = self.members.get_mut(&token) else {
            return Ok(());
        };
        if events.hang_up {
            return self.remove(token);
        }
        if !events.read || !self.wants_frames {
            return Ok(());
        }
        member.is_readable = true;
        self.host.net_ready(
            0,
            Directions {
                receive: true,
                send: false,
            },
        )
    }

    /// [`plugin_sdk::NetBackend::set_interest`].
    pub fn set_interest(&mut self, directions: Directions) -> Result<()> {
        self.wants_frames = directions.receive;
        self.until_all = 0;
        let events = self.events();
        for (token, member) in &mut self.members {
            if member.watched != events {
                let fd = member.link.descriptor().as_raw_fd();
                self.host.modify_fd(fd, events, *token)?;
                member.watched = events;
            }
        }
        if !directions.send {
            return Ok(());
        }
        // It never has to wait.
        self.host.net_ready(
            0,
            Directions {
                receive: false,
                send: true,
            },
        )
    }

    /// [`plugin_sdk::NetBackend::send`].
    pub fn send(&mut self, frame: Pieces<'_>) -> Result<()> {
        let mut destination = Address::default();
        frame.copy_to(0, &mut destination);
        if let Some(token) = self.table.member_of(destination) {
            return self.send_to(token, frame);
        }
        let mut next = self.members.range(..).next().map(|(token, _)| *token);
        while let Some(token) = next {
            self.send_to(token, frame)?;
            next = self
                .members
                .range(token + 1..)
                .next()
                .map(|(token, _)| *token);
        }
        Ok(())
    }

    fn send_to(&mut self, token: u64, frame: Pieces<'_>) -> Result<()> {
        let Some(member) = self.members.get_mut(&token) else {
            return Ok(());
        };
        match member.link.send(frame) {
            Ok(()) => Ok(()),
            Err(Stop::FrameSize) => Err(Error::from_errno(libc::EMSGSIZE)),
            Err(Stop::WouldBlock | Stop::Lost(_)) => {
                self.lost.add();
                Ok(())
            }
            Err(Stop::Ended(_)) => self.remove(token),
        }
    }

    /// [`plugin_sdk::NetBackend::receive`].
    pub fn receive(&mut self, room: Pieces<'_>) -> Result<usize> {
        // Frames are taken without interest as well, and then only those are known to
        // have some who had. To ask all costs a call each, so it is not done for each.
        if !self.wants_frames && self.until_all == 0 {
            for member in self.members.values_mut() {
                member.is_readable = true;
            }
            self.until_all = self.members.len();
        }
        // After the one who was asked last, so that each has its turn.
        while let Some(token) = self.next_readable() {
            self.asked = token;
            let Some(member) = self.members.get_mut(&token) else {
                break;
            };
            match member.link.receive(room) {
                Ok(len) => {
                    let mut source = Address::default();
                    room.copy_to(Address::default().len(), &mut source);
                    self.table.learn(source, token);
                    self.until_all = self.until_all.saturating_sub(1);
                    return Ok(len);
                }
                Err(Stop::FrameSize) => return Err(Error::from_errno(libc::EMSGSIZE)),
                Err(Stop::WouldBlock | Stop::Lost(_)) => member.is_readable = false,
                Err(Stop::Ended(_)) => self.remove(token)?,
            }
        }
        Err(Error::from_errno(libc::EAGAIN))
    }

    fn next_readable(&self) -> Option<u64> {
        let after = self.members.range(self.asked + 1..);
        let before = self.members.range(..=self.asked);
        let mut members = after.chain(before);
        let found = members.find(|(_, member)| member.is_readable);
        found.map(|(token, _)| *token)
    }

    /// What came of frames that went nowhere, if there were any.
    pub fn report_lost(&mut self) {
        self.lost.report(self.host, "found a member's socket full");
    }
}
