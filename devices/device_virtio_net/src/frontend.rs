//! The subscriber that serves the card's queues on the event loop: what is watched,
//! what happens in a turn, how it ends.
//!
//! What is worth a try is remembered for each queue, so that nothing depends on
//! being told twice. A turn has budgets; when one is used up, the subscriber wakes
//! itself and lets others have their turn.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use device_model::net::{Directions, NetBackend, NetError, NetSetup};
use device_model::{GuestMemory, Interrupt};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::card::{Card, Clock};
use crate::control::Control;
use crate::features::Negotiated;
use crate::host::{Host, Lease};
use crate::limit::Bucket;
use crate::queue::{DeviceQueue, QueueError};
use crate::receive::Receiver;
use crate::timer::Timer;
use crate::transmit::Sender;

/// Tokens of what is watched. The kick of a queue has the queue's number.
const CONTROL: u32 = 0x1_0000;
const BACKEND: u32 = 0x1_0001;
const TIMER: u32 = 0x1_0002;
const RESUME: u32 = 0x1_0003;

/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 16;

/// How long no command is taken after one that changed the queue pairs in use: each
/// stops and starts the backend, which may hold locks that all of the host shares.
pub(crate) const CHANGE_INTERVAL: Duration = Duration::from_millis(10);

/// Why serving a queue stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The driver has to offer something, and will kick.
    Starved,
    /// The backend has to do something, and will tell.
    Blocked,
    /// So much time has to pass.
    Wait(Duration),
    /// Others have to have their turn.
    Budget,
}

/// Why nothing is served until the driver resets the card.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the driver broke the protocol")]
    Driver(#[from] QueueError),
    #[error(transparent)]
    Backend(NetError),
    #[error("watch the card's descriptors")]
    Watch(#[source] event_manager::Error),
}

/// The card as this activation has it.
pub(crate) struct Guest {
    pub(crate) card: Arc<Card>,
    pub(crate) agreed: Negotiated,
    pub(crate) memory: GuestMemory,
    pub(crate) interrupt: Arc<dyn Interrupt>,
}

/// What serving a queue needs.
pub(crate) struct Service<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) backend: &'a mut (dyn NetBackend + 'static),
    pub(crate) limit: Option<&'a mut Bucket>,
    pub(crate) now: Instant,
}

impl Service<'_> {
    /// No frame may pass now.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.is_empty())
    }

    /// For when no frame may pass now.
    pub(crate) fn wait_for_limit(&self) -> Pause {
        let wait = self.limit.as_ref().map(|limit| limit.wait());
        Pause::Wait(wait.unwrap_or_default())
    }

    /// A frame of `len` bytes passed.
    pub(crate) fn passed(&mut self, len: usize) {
        if let Some(limit) = &mut self.limit {
            limit.take(len);
        }
    }
}

/// When a turn is, and what it leaves to do.
struct Turn {
    now: Instant,
    /// Something for the next turn.
    more: bool,
    /// Something after this time.
    wait: Option<Duration>,
}

impl Turn {
    /// Takes in why a queue is not served further. True when it is still worth a
    /// try.
    fn note(&mut self, pause: Pause) -> bool {
        match pause {
            Pause::Starved | Pause::Blocked => return false,
            Pause::Wait(wait) => self.wait = self.wait.into_iter().chain([wait]).min(),
            Pause::Budget => self.more = true,
        }
        true
    }
}

/// A queue pair.
pub(crate) struct Pair {
    receiver: Receiver,
    sender: Sender,
    /// What the backend was told last.
    interest: Directions,
}

impl Pair {
    pub(crate) fn new(receive: DeviceQueue, transmit: DeviceQueue) -> Self {
        Pair {
            receiver: Receiver::new(receive),
            sender: Sender::new(transmit),
            interest: Directions::default(),
        }
    }

    /// The backend was started anew.
    fn start_over(&mut self) {
        self.interest = Directions::default();
        self.receiver.ready = true;
        self.sender.ready = true;
    }

    /// Serves both directions of queue pair `index`, where they are worth a try.
    fn serve(
        &mut self,
        index: u16,
        in_use: bool,
        guest: &Guest,
        host: &mut Host,
        turn: &mut Turn,
    ) -> Result<(), Failure> {
        let mut wanted = self.interest;
        let mut service = Service {
            guest,
            backend: &mut *host.backend,
            limit: host.send_limit.as_mut(),
            now: turn.now,
        };
        if self.sender.ready {
            let pause = self.sender.serve(index, in_use, &mut service)?;
            self.sender.ready = turn.note(pause);
            wanted.send = pause == Pause::Blocked;
        }
        service.limit = host.receive_limit.as_mut();
        if self.receiver.ready && in_use {
            let spill = &mut host.spill;
            let pause = self.receiver.serve(index, spill, &mut service)?;
            self.receiver.ready = turn.note(pause);
            match pause {
                Pause::Blocked => wanted.receive = true,
                Pause::Starved | Pause::Wait(_) => wanted.receive = false,
                Pause::Budget => {}
            }
        }
        if wanted != self.interest {
            let set = host.backend.set_interest(index, wanted);
            set.map_err(Failure::Backend)?;
            self.interest = wanted;
        }
        let interrupt = &*guest.interrupt;
        self.sender.queue.notify(&guest.memory, interrupt)?;
        self.receiver.queue.notify(&guest.memory, interrupt)?;
        Ok(())
    }
}

/// What an activation brings.
pub(crate) struct Setup {
    pub(crate) guest: Guest,
    /// At least one.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) control: Option<Control>,
    pub(crate) clock: Clock,
}

/// Serves one activation.
pub(crate) struct Frontend {
    guest: Guest,
    pairs: Vec<Pair>,
    control: Option<Control>,
    clock: Clock,
    lease: Lease,
    /// The queue pairs in use: the first ones.
    used: u16,
    /// When the next command may be taken.
    next_command: Instant,
    /// The queue pair that is served first in the next turn.
    first: usize,
    timer: Timer,
    /// Written when a turn leaves work for the next.
    resume: EventFd,
    /// Nothing is served until the driver resets the card.
    broken: bool,
}

impl Frontend {
    /// Starts the backend. Fails when that fails, or the process is out of
    /// descriptors.
    pub(crate) fn start(
        setup: Setup,
        mut lease: Lease,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let timer = Timer::new()?;
        let resume = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        // Until the driver says how many (section 5.1.5).
        let used = 1;
        start_backend(lease.host(), setup.guest.agreed, used)?;
        let next_command = (setup.clock)();
        Ok(Frontend {
            guest: setup.guest,
            pairs: setup.pairs,
            control: setup.control,
            clock: setup.clock,
            lease,
            used,
            next_command,
            first: 0,
            timer,
            resume,
            broken: false,
        })
    }

    /// Does what there is to do, within the budgets of a turn.
    fn turn(&mut self, ops: &mut EventOps) {
        if self.broken {
            return;
        }
        match self.serve() {
            // The counter of an eventfd cannot overflow by ones.
            Ok(true) => drop(self.resume.write(1)),
            Ok(false) => {}
            Err(failure) => self.fail(&failure, ops),
        }
    }

    /// True when something is left for another turn.
    fn serve(&mut self) -> Result<bool, Failure> {
        let mut turn = Turn {
            now: (self.clock)(),
            more: false,
            wait: None,
        };
        self.serve_control(&mut turn)?;
        let host = self.lease.host();
        let limits = [&mut host.send_limit, &mut host.receive_limit];
        for limit in limits.into_iter().flatten() {
            limit.fill(turn.now);
        }
        // Each is the first in turn, as they share limits.
        self.first = (self.first + 1) % self.pairs.len();
        let (others, first) = self.pairs.split_at_mut(self.first);
        for (index, pair) in (self.first..).zip(first).chain((0..).zip(others)) {
            let index = index as u16;
            pair.serve(index, index < self.used, &self.guest, host, &mut turn)?;
        }
        if turn.wait.is_some() {
            self.timer.set(turn.wait);
        }
        Ok(turn.more)
    }

    /// Does what the driver commands, with one change of the queue pairs at most.
    fn serve_control(&mut self, turn: &mut Turn) -> Result<(), Failure> {
        let memory = &self.guest.memory;
        let Some(control) = self.control.as_mut().filter(|control| control.ready) else {
            return Ok(());
        };
        let wait = self.next_command.saturating_duration_since(turn.now);
        if !wait.is_zero() {
            turn.note(Pause::Wait(wait));
            return Ok(());
        }
        let mut pause = Pause::Budget;
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = control.next(memory)? else {
                pause = Pause::Starved;
                break;
            };
            let offered = 1..=self.pairs.len() as u16;
            let wanted = command.pairs.filter(|wanted| offered.contains(wanted));
            let change = wanted.filter(|wanted| *wanted != self.used);
            if let Some(wanted) = change {
                let host = self.lease.host();
                host.backend.stop();
                start_backend(host, self.guest.agreed, wanted).map_err(Failure::Backend)?;
                self.used = wanted;
                self.pairs.iter_mut().for_each(Pair::start_over);
            }
            control.answer(memory, &command, wanted.is_some())?;
            if change.is_some() {
                self.next_command = turn.now + CHANGE_INTERVAL;
                pause = Pause::Wait(CHANGE_INTERVAL);
                break;
            }
        }
        control.ready = turn.note(pause);
        control.queue.notify(memory, &*self.guest.interrupt)?;
        Ok(())
    }

    /// Takes in what the backend tells.
    fn hear(&mut self) -> Result<(), Failure> {
        let news = self.lease.host().backend.process();
        let news = news.map_err(Failure::Backend)?;
        for (pair, directions) in news.ready {
            if let Some(pair) = self.pairs.get_mut(usize::from(pair)) {
                pair.receiver.ready |= directions.receive;
                pair.sender.ready |= directions.send;
            }
        }
        if let Some(up) = news.link
            && self.guest.card.link_up.swap(up, Ordering::AcqRel) != up
            && self.guest.agreed.status
        {
            self.guest.interrupt.notify_config();
        }
        Ok(())
    }

    /// Ends the service until the driver resets the card.
    fn fail(&mut self, failure: &Failure, ops: &mut EventOps) {
        self.broken = true;
        let host = self.lease.host();
        host.complain(&self.guest.card.id, failure);
        // Left there it would wake the loop for ever. It may not have been added.
        let _ = ops.remove(Events::empty_raw(host.backend.descriptor().as_raw_fd()));
        host.backend.stop();
        self.guest.interrupt.needs_reset();
    }

    fn on_kick(&mut self, queue: u32) {
        let pair = self.pairs.get_mut(queue as usize / 2);
        if let Some(pair) = pair {
            let is_receive = queue.is_multiple_of(2);
            pair.receiver.ready |= is_receive;
            pair.sender.ready |= !is_receive;
        }
    }
}

/// Starts the backend for the first `pairs` queue pairs.
fn start_backend(host: &mut Host, agreed: Negotiated, pairs: u16) -> Result<(), NetError> {
    host.backend.start(&NetSetup {
        queue_pairs: pairs,
        send: agreed.send,
        receive: agreed.receive,
    })
}

impl MutEventSubscriber for Frontend {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            CONTROL => {
                if let Some(control) = &mut self.control {
                    control.ready = true;
                }
            }
            BACKEND if self.broken => {}
            BACKEND => {
                if let Err(failure) = self.hear() {
                    self.fail(&failure, ops);
                }
            }
            TIMER => self.timer.set(None),
            // What is worth a try is known.
            RESUME => {}
            queue => self.on_kick(queue),
        }
        self.turn(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        let backend = self.lease.host().backend.descriptor().as_raw_fd();
        let timer = std::os::fd::AsFd::as_fd(self.timer.fd()).as_raw_fd();
        // Told of each write, so that nobody has to read: the count says nothing.
        let written = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let mut watched = vec![
            Events::with_data_raw(backend, BACKEND, EventSet::IN),
            Events::with_data_raw(timer, TIMER, EventSet::IN),
            Events::with_data(&self.resume, RESUME, written),
        ];
        for pair in &self.pairs {
            for queue in [&pair.receiver.queue, &pair.sender.queue] {
                let token = queue.index().into();
                watched.push(Events::with_data(queue.kick(), token, written));
            }
        }
        if let Some(control) = &self.control {
            let kick = control.queue.kick();
            watched.push(Events::with_data(kick, CONTROL, written));
        }
        if let Err(error) = watched.into_iter().try_for_each(|events| ops.add(events)) {
            self.fail(&Failure::Watch(error), ops);
            return;
        }
        // Frames and kicks may have come before anyone watched.
        let _ = self.resume.write(1);
    }
}
