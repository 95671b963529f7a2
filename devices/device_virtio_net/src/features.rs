//! What is offered to the driver and what came of it. VIRTIO 1.2 section 5.1.3.

use device_model::net::{NetInfo, Offloads};
use virtio_bindings::bindings::virtio_net as spec;

/// Feature bits of one direction: checksum, TSO4, TSO6, USO.
type Bits = [u64; 4];
const SEND: Bits = [
    1 << spec::VIRTIO_NET_F_CSUM,
    1 << spec::VIRTIO_NET_F_HOST_TSO4,
    1 << spec::VIRTIO_NET_F_HOST_TSO6,
    1 << spec::VIRTIO_NET_F_HOST_USO,
];
const RECEIVE: Bits = [
    1 << spec::VIRTIO_NET_F_GUEST_CSUM,
    1 << spec::VIRTIO_NET_F_GUEST_TSO4,
    1 << spec::VIRTIO_NET_F_GUEST_TSO6,
    1 << spec::VIRTIO_NET_F_GUEST_USO4 | 1 << spec::VIRTIO_NET_F_GUEST_USO6,
];
const CONTROL: u64 = 1 << spec::VIRTIO_NET_F_CTRL_VQ;
const MULTIQUEUE: u64 = CONTROL | 1 << spec::VIRTIO_NET_F_MQ;
const MTU: u64 = 1 << spec::VIRTIO_NET_F_MTU;
const MERGEABLE: u64 = 1 << spec::VIRTIO_NET_F_MRG_RXBUF;
const STATUS: u64 = 1 << spec::VIRTIO_NET_F_STATUS;

/// What driver and device have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// A frame may come in several buffers.
    pub mergeable: bool,
    /// The driver looks at the link's status.
    pub status: bool,
    /// There is a control queue.
    pub control: bool,
    /// There are all queue pairs, and a way to say how many are used.
    pub multiqueue: bool,
    /// The driver has learned the MTU.
    pub mtu: bool,
    pub send: Offloads,
    pub receive: Offloads,
}

/// The bits of a card with `pairs` queue pairs.
pub(crate) fn offered(info: &NetInfo, mtu: Option<u16>, pairs: u16) -> u64 {
    let mut features = MERGEABLE | STATUS | 1 << spec::VIRTIO_NET_F_MAC;
    if mtu.is_some() {
        features |= MTU;
    }
    if pairs > 1 {
        features |= MULTIQUEUE;
    }
    if info.header {
        features |= bits(info.send, SEND) | bits(info.receive, RECEIVE);
    }
    features
}

/// What the accepted bits mean: none without those that it needs (section
/// 5.1.3.1).
pub(crate) fn negotiated(accepted: u64) -> Negotiated {
    let all = |bits| accepted & bits == bits;
    Negotiated {
        mergeable: all(MERGEABLE),
        status: all(STATUS),
        control: all(CONTROL),
        multiqueue: all(MULTIQUEUE),
        mtu: all(MTU),
        send: offloads(accepted, SEND),
        receive: offloads(accepted, RECEIVE),
    }
}

fn bits(offloads: Offloads, [checksum, tso4, tso6, uso]: Bits) -> u64 {
    if !offloads.checksum {
        return 0;
    }
    let of = |offered, bits| if offered { bits } else { 0 };
    checksum | of(offloads.tso4, tso4) | of(offloads.tso6, tso6) | of(offloads.uso, uso)
}

fn offloads(accepted: u64, [checksum, tso4, tso6, uso]: Bits) -> Offloads {
    let both = |bits| accepted & (checksum | bits) == checksum | bits;
    Offloads {
        checksum: both(0),
        tso4: both(tso4),
        tso6: both(tso6),
        uso: both(uso),
    }
}

#[cfg(test)]
mod tests;
