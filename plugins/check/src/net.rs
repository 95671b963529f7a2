//! A network backend under a frontend that has much to send, little room, and goes
//! away.

use device_model::net::{Directions, MAX_FRAME_PIECES, NetBackend, NetError, NetSetup};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use plugin_host::PluginDevice;
use vm_memory::VolatileSlice;

use crate::check::Subject;
use crate::finding::{Finding, sound};
use crate::life::Effort;

/// The most frames that are sent until the backend is full: some never are.
const FULL: usize = 5000;
/// The most frames that are received until it is empty.
const EMPTY: usize = 20_000;
/// The most rounds until a backend has told what it has to tell.
const TURNS: usize = 16;
/// Steps between the lengths of frames that are sent.
const STEP: usize = 97;
/// Lengths at which something may be special, of those that fit.
const LENS: [usize; 12] = [1, 12, 13, 14, 59, 60, 61, 1499, 1500, 1513, 1514, 1515];
/// A frame that every backend can carry.
const SHORT: usize = 60;
/// What lies behind the room for a frame.
const BEYOND: [u8; 64] = [0xa5; 64];

const NONE: Directions = Directions {
    receive: false,
    send: false,
};
const SEND: Directions = Directions {
    receive: false,
    send: true,
};
const BOTH: Directions = Directions {
    receive: true,
    send: true,
};

/// Uses `backend`, which is `device`, in as many starts.
pub(crate) fn carry(
    subject: &Subject,
    device: &PluginDevice,
    backend: &mut dyn NetBackend,
    effort: Effort,
) -> Result<(), Finding> {
    let info = backend.info().clone();
    let setup = NetSetup {
        queue_pairs: info.queue_pairs,
        send: info.send,
        receive: info.receive,
    };
    for _ in 0..effort.rounds() {
        subject.stage("start");
        backend.start(&setup).map_err(failed)?;
        subject.stage("on_event with no interest");
        quiet(backend)?;
        for queue in 0..info.queue_pairs {
            subject.stage("set_interest");
            told_at_once(backend, queue, info.max_frame)?;
            subject.stage("send of all lengths, and receive");
            let stepped = (1..info.max_frame).step_by(STEP);
            let last = [info.max_frame - 1, info.max_frame, info.max_frame + 1];
            for len in LENS.into_iter().chain(stepped).chain(last) {
                for pieces in [1, 2, MAX_FRAME_PIECES] {
                    send(backend, queue, len, pieces)?;
                }
                backend.flush(queue).map_err(failed)?;
                drain(backend, queue, info.max_frame)?;
            }
            subject.stage("send until it is full");
            let is_sent = |_: &usize| send(backend, queue, SHORT, 1) != Ok(false);
            let sent = (0..FULL).take_while(is_sent).count();
            backend.flush(queue).map_err(failed)?;
            backend.set_interest(queue, BOTH).map_err(failed)?;
            turn(backend)?;
            drain(backend, queue, info.max_frame)?;
            turn(backend)?;
            backend.set_interest(queue, NONE).map_err(failed)?;
            if sent < FULL {
                send(backend, queue, SHORT, 1)?;
            }
        }
        subject.stage("stop");
        backend.stop();
        turn(backend)?;
        sound(device)?;
    }
    Ok(())
}

fn failed(error: NetError) -> Finding {
    match error {
        NetError::Failed(source) => Finding(source.to_string()),
        error => Finding::of(&error),
    }
}

/// Sends a frame of `len` bytes in as many pieces. Whether it went, or can never go.
fn send(
    backend: &mut dyn NetBackend,
    queue: u16,
    len: usize,
    pieces: usize,
) -> Result<bool, Finding> {
    // Neither an address of a group nor a type that anybody knows.
    let mut frame = vec![0x02; len];
    let size = len.div_ceil(pieces);
    let slices: Vec<_> = frame.chunks_mut(size).map(VolatileSlice::from).collect();
    match backend.send(queue, &slices) {
        Ok(()) | Err(NetError::FrameSize) => Ok(true),
        Err(NetError::WouldBlock) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Receives what there is.
fn drain(backend: &mut dyn NetBackend, queue: u16, max_frame: usize) -> Result<(), Finding> {
    let mut room = vec![0; max_frame];
    room.extend(BEYOND);
    for _ in 0..EMPTY {
        let (frame, _) = room.split_at_mut(max_frame);
        let (head, rest) = frame.split_at_mut(max_frame / 3);
        let slices = [head, rest].map(VolatileSlice::from);
        let received = backend.receive(queue, &slices);
        if room[max_frame..] != BEYOND {
            return Err(Finding::new("receive wrote behind the room for a frame"));
        }
        match received {
            Ok(_) | Err(NetError::FrameSize) => {}
            Err(NetError::WouldBlock) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn readable(backend: &dyn NetBackend) -> bool {
    let mut fds = [PollFd::new(backend.descriptor(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready == 1)
}

/// Has it do what is due; whether it told that queue pair `queue` can send.
fn turn(backend: &mut dyn NetBackend) -> Result<Vec<(u16, Directions)>, Finding> {
    let mut told = Vec::new();
    for _ in 0..TURNS {
        if !readable(backend) {
            break;
        }
        told.extend(backend.process().map_err(failed)?.ready);
    }
    Ok(told)
}

/// Without interest a backend leaves the event loop alone.
fn quiet(backend: &mut dyn NetBackend) -> Result<(), Finding> {
    turn(backend)?;
    if readable(backend) {
        return Err(Finding::new(
            "it wakes the event loop without end while nobody is interested: \
             wait for a descriptor only while set_interest asks for it",
        ));
    }
    Ok(())
}

/// Who waits to send is told so when a frame can go already, or waits for ever.
fn told_at_once(backend: &mut dyn NetBackend, queue: u16, max_frame: usize) -> Result<(), Finding> {
    backend.set_interest(queue, SEND).map_err(failed)?;
    let told = turn(backend)?
        .iter()
        .any(|(of, directions)| *of == queue && directions.send);
    backend.set_interest(queue, NONE).map_err(failed)?;
    if send(backend, queue, SHORT.min(max_frame), 1)? && !told {
        return Err(Finding::new(
            "set_interest for sending is not answered by ready, though a frame can go: \
             a guest whose frame was put off would wait for ever",
        ));
    }
    Ok(())
}
