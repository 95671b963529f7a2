//! A card with one queue pair whose cable is a [`Link`], or is pulled out.
//!
//! A link that ends takes the frames with it that it had not sent yet: the guest sees
//! its cable pulled, and what it sends is dropped until there is another link.

use std::os::fd::AsRawFd;

use plugin_sdk::{Directions, Error, Events, Host, Level, NetSetup, Pieces, Result};

use crate::link::{Ended, Link, Stop};
use crate::lost::{Lost, Often};

/// Token of the link's descriptor. A driver has its own from 1 on.
pub const LINK: u64 = 0;

/// The card's end.
pub struct Cable {
    host: Host,
    link: Option<Box<dyn Link>>,
    /// What the frontend waits for.
    wanted: Directions,
    /// What the descriptor is waited for.
    watched: Events,
    /// The frontend says when there are no more frames to send.
    flushes: bool,
    lost: Lost,
    /// Nobody took a frame lately.
    refused: bool,
    refusals: Often,
    ends: Often,
}

impl Cable {
    /// One that is pulled out.
    pub fn new(host: Host) -> Self {
        Cable {
            host,
            link: None,
            wanted: Directions::default(),
            watched: Events::NONE,
            flushes: false,
            lost: Lost::default(),
            refused: false,
            refusals: Often::default(),
            ends: Often::default(),
        }
    }

    /// There is a link.
    pub fn is_plugged(&self) -> bool {
        self.link.is_some()
    }

    /// Puts a link in, of which the guest is not told here: in `create` there is no
    /// guest yet.
    pub fn plug(&mut self, link: Box<dyn Link>) -> Result<()> {
        self.watched = self.events(&*link);
        let fd = link.descriptor().as_raw_fd();
        self.host.add_fd(fd, self.watched, LINK)?;
        self.link = Some(link);
        Ok(())
    }

    /// Pulls the link out, says why, and tells the guest.
    pub fn unplug(&mut self, why: &str) -> Result<()> {
        let Some(link) = self.link.take() else {
            return Ok(());
        };
        self.host.remove_fd(link.descriptor().as_raw_fd())?;
        self.ends.add();
        if let Some(count) = self.ends.news() {
            let text = format!("the link is down: {why} ({count} times so far)");
            self.host.log(Level::Warn, &text);
        }
        self.host.net_link(false)?;
        // What waits to be sent is to be dropped.
        self.tell(Directions {
            receive: false,
            send: self.wanted.send,
        })
    }

    /// What came of frames that went nowhere, if there were any.
    pub fn report_lost(&mut self) {
        self.lost.report(self.host, "went nowhere");
    }

    /// [`plugin_sdk::Device::on_event`] for [`LINK`].
    pub fn on_event(&mut self, events: Events) -> Result<()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if events.hang_up {
            match link.trouble() {
                Stop::Ended(ended) => return self.end(&ended),
                Stop::Lost(error) => self.note_lost(&error),
                Stop::WouldBlock | Stop::FrameSize => {}
            }
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if events.write
            && let Err(Stop::Ended(ended)) = link.send_rest()
        {
            return self.end(&ended);
        }
        let ready = Directions {
            receive: events.read && self.wanted.receive,
            send: events.write && self.wanted.send && !link.has_rest(),
        };
        self.watch()?;
        self.tell(ready)
    }

    /// [`plugin_sdk::NetBackend::start`].
    pub fn start(&mut self, setup: NetSetup) -> Result<()> {
        self.flushes = setup.flushes;
        self.set_interest(Directions::default())
    }

    /// [`plugin_sdk::NetBackend::set_interest`].
    pub fn set_interest(&mut self, wanted: Directions) -> Result<()> {
        self.wanted = wanted;
        self.watch()?;
        // Of the rest the descriptor tells.
        let now = match &self.link {
            Some(link) => Directions {
                receive: wanted.receive && link.has_more(),
                send: false,
            },
            None => Directions {
                receive: false,
                send: wanted.send,
            },
        };
        self.tell(now)
    }

    /// [`plugin_sdk::NetBackend::send`].
    pub fn send(&mut self, frame: Pieces<'_>) -> Result<()> {
        let Some(link) = &mut self.link else {
            self.lost.add();
            return Ok(());
        };
        let had_rest = link.has_rest();
        let sent = link.send(frame);
        if link.has_rest() != had_rest {
            self.watch()?;
        }
        if sent.is_ok() && !self.flushes {
            return self.flush();
        }
        match sent {
            Ok(()) => Ok(()),
            Err(Stop::WouldBlock) => Err(Error::from_errno(libc::EAGAIN)),
            Err(Stop::FrameSize) => Err(Error::from_errno(libc::EMSGSIZE)),
            Err(Stop::Lost(error)) => {
                self.note_lost(&error);
                Ok(())
            }
            Err(Stop::Ended(ended)) => {
                self.lost.add();
                self.end(&ended)
            }
        }
    }

    /// [`plugin_sdk::NetBackend::flush`].
    pub fn flush(&mut self) -> Result<()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let had_rest = link.has_rest();
        let sent = link.send_rest();
        if link.has_rest() != had_rest {
            self.watch()?;
        }
        match sent {
            Err(Stop::Ended(ended)) => self.end(&ended),
            // What is left goes when there is room.
            _ => Ok(()),
        }
    }

    /// [`plugin_sdk::NetBackend::receive`].
    pub fn receive(&mut self, room: Pieces<'_>) -> Result<usize> {
        let nothing = || Error::from_errno(libc::EAGAIN);
        let link = self.link.as_mut().ok_or_else(nothing)?;
        match link.receive(room) {
            Ok(len) => {
                self.refused = false;
                Ok(len)
            }
            Err(Stop::FrameSize) => Err(Error::from_errno(libc::EMSGSIZE)),
            Err(Stop::WouldBlock) => Err(nothing()),
            Err(Stop::Lost(error)) => {
                self.note_lost(&error);
                Err(nothing())
            }
            Err(Stop::Ended(ended)) => {
                self.end(&ended)?;
                Err(nothing())
            }
        }
    }

    fn end(&mut self, ended: &Ended) -> Result<()> {
        self.unplug(&ended.to_string())
    }

    /// Counts as one refusal, until a frame comes.
    fn note_lost(&mut self, error: &std::io::Error) {
        self.lost.add();
        if std::mem::replace(&mut self.refused, true) {
            return;
        }
        self.refusals.add();
        if self.refusals.news().is_some() {
            let text = format!("a frame was not taken, and perhaps more are not: {error}");
            self.host.log(Level::Warn, &text);
        }
    }

    fn tell(&self, ready: Directions) -> Result<()> {
        if ready == Directions::default() {
            return Ok(());
        }
        self.host.net_ready(0, ready)
    }

    fn events(&self, link: &dyn Link) -> Events {
        Events {
            read: self.wanted.receive,
            write: self.wanted.send || link.has_rest(),
            hang_up: false,
        }
    }

    fn watch(&mut self) -> Result<()> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        let events = self.events(&**link);
        if events != self.watched {
            let fd = link.descriptor().as_raw_fd();
            self.host.modify_fd(fd, events, LINK)?;
            self.watched = events;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use plugin_sdk::testing::{Frame, MockHost};

    use super::*;
    use crate::testing::{NONE, RECEIVE};

    /// Sends each frame by halves, and has one whenever it is told so.
    struct Halves {
        socket: UnixStream,
        has_rest: bool,
        has_more: Arc<AtomicBool>,
    }

    impl Link for Halves {
        fn descriptor(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }

        fn send(&mut self, _: Pieces<'_>) -> std::result::Result<(), Stop> {
            self.has_rest = true;
            Ok(())
        }

        fn receive(&mut self, _: Pieces<'_>) -> std::result::Result<usize, Stop> {
            Err(Stop::WouldBlock)
        }

        fn has_rest(&self) -> bool {
            self.has_rest
        }

        fn send_rest(&mut self) -> std::result::Result<(), Stop> {
            self.has_rest = false;
            Ok(())
        }

        fn has_more(&self) -> bool {
            self.has_more.load(Ordering::Relaxed)
        }

        fn trouble(&mut self) -> Stop {
            Stop::WouldBlock
        }
    }

    fn cable(mock: &MockHost) -> (Cable, Arc<AtomicBool>, UnixStream) {
        let (socket, other) = UnixStream::pair().unwrap();
        let has_more = Arc::new(AtomicBool::new(false));
        let mut cable = Cable::new(mock.host());
        let link = Halves {
            socket,
            has_rest: false,
            has_more: Arc::clone(&has_more),
        };
        cable.plug(Box::new(link)).unwrap();
        let setup = NetSetup {
            offloads: 0,
            queue_pairs: 1,
            flushes: true,
        };
        cable.start(setup).unwrap();
        (cable, has_more, other)
    }

    #[test]
    fn the_rest_of_a_frame_goes_without_anybodys_interest() {
        let mock = MockHost::new();
        let (mut cable, _, _other) = cable(&mock);
        cable.set_interest(NONE).unwrap();
        assert!(mock.due(Duration::ZERO).is_empty());
        cable.send(Frame::room(60).pieces()).unwrap();
        let [(_, events, LINK)] = mock.due(Duration::ZERO)[..] else {
            panic!("nobody waits for room");
        };
        cable.on_event(events).unwrap();
        assert!(mock.due(Duration::ZERO).is_empty());
        assert!(mock.asked().ready.is_empty());
    }

    #[test]
    fn frames_go_at_the_flush_or_at_once_where_there_is_none() {
        let mock = MockHost::new();
        let (mut cable, _, _other) = cable(&mock);
        cable.send(Frame::room(60).pieces()).unwrap();
        assert!(cable.link.as_ref().unwrap().has_rest());
        cable.flush().unwrap();
        assert!(!cable.link.as_ref().unwrap().has_rest());
        let setup = NetSetup {
            offloads: 0,
            queue_pairs: 1,
            flushes: false,
        };
        cable.start(setup).unwrap();
        cable.send(Frame::room(60).pieces()).unwrap();
        assert!(!cable.link.as_ref().unwrap().has_rest());
    }

    #[test]
    fn a_frame_that_was_read_already_is_told_of_at_once() {
        let mock = MockHost::new();
        let (mut cable, has_more, _other) = cable(&mock);
        cable.set_interest(RECEIVE).unwrap();
        assert!(mock.asked().ready.is_empty());
        has_more.store(true, Ordering::Relaxed);
        cable.set_interest(NONE).unwrap();
        assert!(mock.asked().ready.is_empty());
        cable.set_interest(RECEIVE).unwrap();
        assert_eq!(mock.asked().ready, [(0, RECEIVE)]);
    }
}
