//! A plugin's network backend as `device_model` has them.

// UNSAFETY: calls functions of the plugin.
#![expect(unsafe_code, reason = "calls into plugins")]

use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use device_model::net::{
    Directions, MAX_FRAME, MAX_FRAME_PIECES, MAX_QUEUE_PAIRS, MIN_MAX_FRAME, NetBackend, NetError,
    NetInfo, NetNews, NetSetup, Offloads,
};
use plugin_abi as abi;
use vm_memory::VolatileSlice;

use crate::failure::{DeviceFailure, FailureKind};
use crate::instance::{Instance, On, garbage, lock, required};

/// The shortest MTU that IPv4 allows.
const MIN_MTU: u16 = 68;

pub(crate) struct PluginNet {
    instance: Arc<Instance>,
    table: abi::NetBackend,
    info: NetInfo,
    started: bool,
    pieces: Pieces,
}

impl PluginNet {
    /// `None` for a device that is none; an error for one that is no sound one.
    pub(crate) fn new(instance: &Arc<Instance>) -> Option<Result<Self, DeviceFailure>> {
        let table = instance.net?;
        Some(described(instance, &table).map(|info| {
            // Set once, as this is called once.
            let _ = instance.state().queue_pairs.set(info.queue_pairs);
            PluginNet {
                instance: Arc::clone(instance),
                table,
                info,
                started: false,
                pieces: Pieces(Vec::with_capacity(MAX_FRAME_PIECES)),
            }
        }))
    }

    /// Calls `body` with a function that `described` has found to be there.
    fn call<F>(
        &self,
        callback: &'static str,
        function: Option<F>,
        body: impl FnOnce(F, *mut abi::Device) -> i32,
    ) -> Result<Result<i32, FailureKind>, NetError> {
        let function = function.expect("checked when it was made");
        let outcome = self
            .instance
            .call(callback, On::Machine, |device| body(function, device));
        outcome.map_err(|failure| NetError::Failed(failure.into()))
    }

    fn fail(&self, callback: &'static str, kind: FailureKind) -> NetError {
        NetError::Failed(self.instance.fail(callback, kind).into())
    }
}

fn described(instance: &Instance, table: &abi::NetBackend) -> Result<NetInfo, DeviceFailure> {
    let complete = required(table.start.is_some(), "start")
        .and(required(table.stop.is_some(), "stop"))
        .and(required(table.set_interest.is_some(), "set_interest"))
        .and(required(table.send.is_some(), "send"))
        .and(required(table.receive.is_some(), "receive"))
        .and(required(table.describe.is_some(), "describe"));
    complete.map_err(|kind| instance.fail(abi::EXT_NET_BACKEND, kind))?;
    let describe = table.describe.expect("checked just now");
    let mut info = abi::NetInfo {
        struct_size: size_of::<abi::NetInfo>() as u32,
        offloads: 0,
        queue_pairs: 0,
        mtu: 0,
        mac: [0; 6],
        header: 0,
        link_down: 0,
        max_frame: 0,
    };
    instance.ask("describe", On::Owner, |device| {
        // SAFETY: `call` gives a device that is not destroyed, alone.
        unsafe { describe(device, &raw mut info) }
    })?;
    sound(&info).map_err(|kind| instance.fail("describe", kind))
}

fn sound(info: &abi::NetInfo) -> Result<NetInfo, FailureKind> {
    let max_frame = info.max_frame as usize;
    if !(1..=MAX_QUEUE_PAIRS).contains(&info.queue_pairs) {
        return Err(garbage(
            format_args!("{} queue pairs", info.queue_pairs),
            "1 to 8",
        ));
    }
    if !(MIN_MAX_FRAME..=MAX_FRAME).contains(&max_frame) {
        return Err(garbage(
            format_args!("max_frame {max_frame}"),
            "60 to 65562",
        ));
    }
    if info.mtu != 0 && info.mtu < MIN_MTU {
        return Err(garbage(
            format_args!("MTU {}", info.mtu),
            "68 to 65535, or 0",
        ));
    }
    if info.mac[0] & 1 != 0 {
        return Err(garbage("a MAC of a group", "one of a card"));
    }
    if info.offloads != 0 && info.header == 0 {
        return Err(garbage("offloads without a header", "offloads with one"));
    }
    Ok(NetInfo {
        mac: (info.mac != [0; 6]).then_some(info.mac),
        mtu: (info.mtu != 0).then_some(info.mtu),
        queue_pairs: info.queue_pairs,
        header: info.header != 0,
        send: offloads(info.offloads, SEND),
        receive: offloads(info.offloads, RECEIVE),
        max_frame,
        link_up: info.link_down == 0,
    })
}

/// Flags of one direction: checksum, TSO4, TSO6, USO.
type Flags = [u32; 4];
const SEND: Flags = [
    abi::NET_SEND_CHECKSUM,
    abi::NET_SEND_TSO4,
    abi::NET_SEND_TSO6,
    abi::NET_SEND_USO,
];
const RECEIVE: Flags = [
    abi::NET_RECEIVE_CHECKSUM,
    abi::NET_RECEIVE_TSO4,
    abi::NET_RECEIVE_TSO6,
    abi::NET_RECEIVE_USO,
];

fn offloads(bits: u32, [checksum, tso4, tso6, uso]: Flags) -> Offloads {
    Offloads {
        checksum: bits & checksum != 0,
        tso4: bits & tso4 != 0,
        tso6: bits & tso6 != 0,
        uso: bits & uso != 0,
    }
}

fn bits(offloads: Offloads, flags: Flags) -> u32 {
    let wanted = [
        offloads.checksum,
        offloads.tso4,
        offloads.tso6,
        offloads.uso,
    ];
    let set = flags.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    set.map(|(flag, _)| flag).sum()
}

/// Guest memory as the plugin is passed it: of the call at hand, and kept from call to
/// call for its room alone.
struct Pieces(Vec<abi::Iovec>);

// SAFETY: what it points at is used during a call only, by the thread that filled it
// for that call.
unsafe impl Send for Pieces {}

impl Pieces {
    fn fill(&mut self, slices: &[VolatileSlice<'_>]) -> Result<(), NetError> {
        if slices.len() > MAX_FRAME_PIECES {
            return Err(NetError::FrameSize);
        }
        self.0.clear();
        self.0.extend(slices.iter().map(|slice| abi::Iovec {
            data: slice.ptr_guard_mut().as_ptr().cast(),
            len: slice.len(),
        }));
        Ok(())
    }
}

impl NetBackend for PluginNet {
    fn info(&self) -> &NetInfo {
        &self.info
    }

    fn start(&mut self, setup: &NetSetup) -> Result<(), NetError> {
        let setup = abi::NetSetup {
            struct_size: size_of::<abi::NetSetup>() as u32,
            offloads: bits(setup.send, SEND) | bits(setup.receive, RECEIVE),
            queue_pairs: setup.queue_pairs,
            // A number that was to be 0 in 1.0, so only to those who know it.
            flushes: u16::from(self.table.flush.is_some()),
            reserved: [0; 2],
        };
        let start = self.table.start.expect("checked when it was made");
        self.instance
            // SAFETY: `call` gives a device that is not destroyed, alone.
            .ask("start", On::Machine, |device| unsafe {
                start(device, &raw const setup)
            })
            .map_err(|failure| NetError::Failed(failure.into()))?;
        self.started = true;
        Ok(())
    }

    fn stop(&mut self) {
        if mem::take(&mut self.started) {
            // A device that has failed is not called, and touches nothing.
            let _ = self.call("stop", self.table.stop, |stop, device| {
                // SAFETY: as above.
                unsafe { stop(device) };
                0
            });
            // The link is as it is whether or not frames are carried.
            lock(&self.instance.state().news).ready.clear();
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.instance.state().waits.descriptor()
    }

    fn process(&mut self) -> Result<NetNews, NetError> {
        self.instance
            .process()
            .map_err(|failure| NetError::Failed(failure.into()))?;
        Ok(mem::take(&mut *lock(&self.instance.state().news)))
    }

    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<(), NetError> {
        let mut wanted = 0;
        if directions.receive {
            wanted |= abi::NET_RECEIVE;
        }
        if directions.send {
            wanted |= abi::NET_SEND;
        }
        let set = self.table.set_interest.expect("checked when it was made");
        self.instance
            .call_or_fail("set_interest", On::Machine, |device| {
                // SAFETY: as above.
                unsafe { set(device, queue, wanted) }
            })
            .map_err(|failure| NetError::Failed(failure.into()))
    }

    fn send(&mut self, queue: u16, frame: &[VolatileSlice<'_>]) -> Result<(), NetError> {
        self.pieces.fill(frame)?;
        let pieces = &self.pieces.0;
        let sent = self.call("send", self.table.send, |send, device| {
            // SAFETY: as above; the pieces are of mapped guest memory.
            unsafe { send(device, queue, pieces.as_ptr(), pieces.len()) }
        })?;
        match sent {
            Ok(0) => Ok(()),
            Ok(value) => Err(self.fail("send", garbage(value, "0 or a negative errno"))),
            Err(kind) => Err(self.refused("send", kind)),
        }
    }

    fn flush(&mut self, queue: u16) -> Result<(), NetError> {
        let Some(flush) = self.table.flush else {
            return Ok(());
        };
        self.instance
            .call_or_fail("flush", On::Machine, |device| {
                // SAFETY: as above.
                unsafe { flush(device, queue) }
            })
            .map_err(|failure| NetError::Failed(failure.into()))
    }

    fn receive(&mut self, queue: u16, room: &[VolatileSlice<'_>]) -> Result<usize, NetError> {
        self.pieces.fill(room)?;
        let pieces = &self.pieces.0;
        let received = self.call("receive", self.table.receive, |receive, device| {
            // SAFETY: as above.
            unsafe { receive(device, queue, pieces.as_ptr(), pieces.len()) }
        })?;
        match received {
            Ok(len) if len > 0 && len as usize <= self.info.max_frame => Ok(len as usize),
            Ok(value) => {
                let kind = garbage(value, "1 to max_frame, or a negative errno");
                Err(self.fail("receive", kind))
            }
            Err(kind) => Err(self.refused("receive", kind)),
        }
    }
}

impl PluginNet {
    /// An error about a frame: an answer, or the end of the backend.
    fn refused(&self, callback: &'static str, kind: FailureKind) -> NetError {
        match kind {
            FailureKind::Error { errno, .. } if errno == libc::EAGAIN => NetError::WouldBlock,
            FailureKind::Error { errno, .. } if errno == libc::EMSGSIZE => NetError::FrameSize,
            kind => self.fail(callback, kind),
        }
    }
}

impl Drop for PluginNet {
    fn drop(&mut self) {
        self.stop();
    }
}
