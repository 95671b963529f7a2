//! A backend in memory, which tells everything once and never again.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use device_model::net::{
    Directions, MAX_FRAME_PIECES, NetBackend, NetError, NetInfo, NetNews, NetSetup, Offloads,
};
use vm_memory::VolatileSlice;

/// What comes next for the guest.
pub(crate) enum Incoming {
    Frame(Vec<u8>),
    /// Says that it wrote so many bytes.
    Claim(usize),
    TooLong,
    Failure,
}

pub(crate) struct State {
    pub(crate) incoming: Vec<VecDeque<Incoming>>,
    pub(crate) sent: Vec<(u16, Vec<u8>)>,
    /// Frames that were taken, to be sent at the next flush of their queue pair.
    taken: Vec<(u16, Vec<u8>)>,
    /// Calls of `flush`.
    pub(crate) flushes: usize,
    /// Frames that can still be sent.
    pub(crate) room: usize,
    pub(crate) interest: Vec<Directions>,
    pub(crate) link: Option<bool>,
    pub(crate) setup: Option<NetSetup>,
    pub(crate) starts: usize,
    /// What fails from now on.
    pub(crate) broken: Option<&'static str>,
    /// Calls of `receive`, and of `process`.
    pub(crate) receives: usize,
    pub(crate) processes: usize,
    /// Pieces that each call of `receive` that had a frame was given for it.
    pub(crate) pieces: Vec<usize>,
}

/// The world behind the backend.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    wake: Arc<UnixStream>,
}

impl World {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Something comes for queue pair `queue`.
    pub(crate) fn push(&self, queue: u16, incoming: Incoming) {
        let mut state = self.state();
        state.incoming[usize::from(queue)].push_back(incoming);
        if state.interest[usize::from(queue)].receive {
            self.wake();
        }
    }

    /// A frame comes for the first queue pair.
    pub(crate) fn frame(&self, frame: &[u8]) {
        self.push(0, Incoming::Frame(frame.to_vec()));
    }

    /// From now on `room` more frames can be sent.
    pub(crate) fn allow(&self, room: usize) {
        let mut state = self.state();
        state.room = room;
        if room > 0 && state.interest.iter().any(|interest| interest.send) {
            self.wake();
        }
    }

    pub(crate) fn plug(&self, up: bool) {
        self.state().link = Some(up);
        self.wake();
    }

    /// The backend has something to do.
    pub(crate) fn wake(&self) {
        // When there is no room it is awake.
        let _ = (&*self.wake).write(&[0]);
    }

    /// Frames sent since the last call.
    pub(crate) fn sent(&self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.state().sent)
    }
}

pub(crate) struct MockBackend {
    info: NetInfo,
    world: World,
    woken: UnixStream,
}

pub(crate) fn info() -> NetInfo {
    NetInfo {
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: None,
        queue_pairs: 1,
        header: false,
        send: Offloads::default(),
        receive: Offloads::default(),
        max_frame: 1514,
        link_up: true,
    }
}

impl MockBackend {
    pub(crate) fn new(info: NetInfo) -> (Self, World) {
        let queues = usize::from(info.queue_pairs);
        let state = State {
            incoming: (0..queues).map(|_| VecDeque::new()).collect(),
            sent: Vec::new(),
            room: usize::MAX,
            interest: vec![Directions::default(); queues],
            link: None,
            setup: None,
            starts: 0,
            taken: Vec::new(),
            flushes: 0,
            broken: None,
            receives: 0,
            processes: 0,
            pieces: Vec::new(),
        };
        let (woken, wake) = UnixStream::pair().unwrap();
        woken.set_nonblocking(true).unwrap();
        wake.set_nonblocking(true).unwrap();
        let world = World {
            state: Arc::new(Mutex::new(state)),
            wake: Arc::new(wake),
        };
        let backend = MockBackend {
            info,
            world: world.clone(),
            woken,
        };
        (backend, world)
    }
}

fn check(state: &State, call: &'static str) -> Result<(), NetError> {
    if state.broken == Some(call) {
        return Err(NetError::Failed(format!("{call} does not work").into()));
    }
    Ok(())
}

/// The state of a backend that was started for `queue`.
fn running(state: &State, queue: u16) {
    let setup = state.setup.expect("it is started");
    assert!(queue < setup.queue_pairs, "queue pair {queue} is not used");
}

impl NetBackend for MockBackend {
    fn info(&self) -> &NetInfo {
        &self.info
    }

    fn start(&mut self, setup: &NetSetup) -> Result<(), NetError> {
        let mut state = self.world.state();
        check(&state, "start")?;
        assert!(state.setup.is_none(), "started twice");
        assert!((1..=self.info.queue_pairs).contains(&setup.queue_pairs));
        state.setup = Some(*setup);
        state.starts += 1;
        state.interest.fill(Directions::default());
        Ok(())
    }

    fn stop(&mut self) {
        self.world.state().setup = None;
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    fn process(&mut self) -> Result<NetNews, NetError> {
        let _ = self.woken.read(&mut [0; 4096]);
        let mut state = self.world.state();
        state.processes += 1;
        check(&state, "process")?;
        let mut news = NetNews {
            ready: Vec::new(),
            link: state.link.take(),
        };
        for (queue, interest) in (0..).zip(&state.interest) {
            let ready = Directions {
                receive: interest.receive && !state.incoming[usize::from(queue)].is_empty(),
                send: interest.send && state.room > 0,
            };
            if ready != Directions::default() {
                news.ready.push((queue, ready));
            }
        }
        Ok(news)
    }

    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<(), NetError> {
        let mut state = self.world.state();
        running(&state, queue);
        check(&state, "set_interest")?;
        let known = &mut state.interest[usize::from(queue)];
        assert_ne!(*known, directions, "told what it knows");
        *known = directions;
        let waiting = !state.incoming[usize::from(queue)].is_empty();
        if directions.receive && waiting || directions.send && state.room > 0 {
            self.world.wake();
        }
        Ok(())
    }

    fn send(&mut self, queue: u16, frame: &[VolatileSlice<'_>]) -> Result<(), NetError> {
        let mut state = self.world.state();
        running(&state, queue);
        check(&state, "send")?;
        assert!(frame.len() <= MAX_FRAME_PIECES);
        if state.room == 0 {
            return Err(NetError::WouldBlock);
        }
        let mut bytes = Vec::new();
        for piece in frame {
            assert!(!piece.is_empty());
            let start = bytes.len();
            bytes.resize(start + piece.len(), 0);
            piece.copy_to(&mut bytes[start..]);
        }
        assert!(bytes.len() <= self.info.max_frame);
        if bytes.ends_with(b"indigestible") {
            return Err(NetError::FrameSize);
        }
        state.room -= 1;
        state.taken.push((queue, bytes));
        Ok(())
    }

    fn flush(&mut self, queue: u16) -> Result<(), NetError> {
        let mut state = self.world.state();
        running(&state, queue);
        check(&state, "flush")?;
        state.flushes += 1;
        let state = &mut *state;
        let going = state.taken.extract_if(.., |(of, _)| *of == queue);
        state.sent.extend(going);
        Ok(())
    }

    fn receive(&mut self, queue: u16, room: &[VolatileSlice<'_>]) -> Result<usize, NetError> {
        let mut state = self.world.state();
        running(&state, queue);
        state.receives += 1;
        assert!(room.len() <= MAX_FRAME_PIECES);
        assert!(room.iter().all(|piece| !piece.is_empty()));
        let space: usize = room.iter().map(VolatileSlice::len).sum();
        assert!(space >= self.info.max_frame, "{space} bytes");
        let frame = match state.incoming[usize::from(queue)].pop_front() {
            None => return Err(NetError::WouldBlock),
            Some(Incoming::TooLong) => return Err(NetError::FrameSize),
            Some(Incoming::Claim(len)) => return Ok(len),
            Some(Incoming::Failure) => return Err(NetError::Failed("no more frames".into())),
            Some(Incoming::Frame(frame)) => frame,
        };
        state.pieces.push(room.len());
        let mut rest = frame.as_slice();
        for piece in room {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            piece.copy_from(now);
            rest = later;
        }
        assert!(
            rest.is_empty(),
            "the test's frame is longer than the longest"
        );
        Ok(frame.len())
    }
}
