//! The header before each frame in the guest's buffers: what it asks for, in either
//! direction, and whether that was negotiated. VIRTIO 1.2 section 5.1.6.

use device_model::net::{NET_HEADER, Offloads};
use virtio_bindings::bindings::virtio_net as spec;

const NEEDS_CSUM: u8 = spec::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const DATA_VALID: u8 = spec::VIRTIO_NET_HDR_F_DATA_VALID as u8;
const GSO_NONE: u8 = spec::VIRTIO_NET_HDR_GSO_NONE as u8;
const GSO_TCPV4: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV4 as u8;
const GSO_TCPV6: u8 = spec::VIRTIO_NET_HDR_GSO_TCPV6 as u8;
const GSO_UDP_L4: u8 = spec::VIRTIO_NET_HDR_GSO_UDP_L4 as u8;

/// Offsets of its fields, all little-endian.
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const GSO_SIZE: usize = 4;
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;
const NUM_BUFFERS: usize = 10;
/// Bytes of a checksum of TCP or UDP.
const CHECKSUM: usize = 2;

/// A header in host memory, where no guest changes it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header(pub(crate) [u8; NET_HEADER]);

impl Header {
    /// Of a frame that the guest sends, of `len` bytes after the header: whether
    /// it asks for nothing but `allowed`, and makes sense.
    pub(crate) fn may_be_sent(&self, allowed: Offloads, len: usize) -> bool {
        let unfinished = self.0[FLAGS] & NEEDS_CSUM != 0;
        let sum = self.field(CSUM_START) + self.field(CSUM_OFFSET) + CHECKSUM;
        if unfinished && (!allowed.checksum || sum > len) {
            return false;
        }
        // What is cut later cannot have its checksums yet.
        self.is_whole() || self.may_be_cut(allowed) && unfinished && self.field(GSO_SIZE) > 0
    }

    /// Of a frame that the guest receives: whether it asks for nothing but
    /// `accepted`. One that waited in the backend for an earlier driver may.
    pub(crate) fn may_be_received(&self, accepted: Offloads) -> bool {
        let unfinished = self.0[FLAGS] & NEEDS_CSUM != 0;
        (accepted.checksum || !unfinished) && (self.is_whole() || self.may_be_cut(accepted))
    }

    /// The header as a driver gets it: without the flags that it has not accepted
    /// (section 5.1.6.4.1).
    pub(crate) fn to_receive(mut self, accepted: Offloads) -> Self {
        self.0[FLAGS] &= if accepted.checksum {
            NEEDS_CSUM | DATA_VALID
        } else {
            0
        };
        self
    }

    /// Whether `allowed` has the kind in which a frame that is not whole is cut.
    fn may_be_cut(&self, allowed: Offloads) -> bool {
        match self.0[GSO_TYPE] {
            GSO_TCPV4 => allowed.tso4,
            GSO_TCPV6 => allowed.tso6,
            GSO_UDP_L4 => allowed.uso,
            _ => false,
        }
    }

    /// The header as a backend gets it: without the flags that say nothing on the
    /// way out.
    pub(crate) fn to_send(mut self) -> Self {
        self.0[FLAGS] &= NEEDS_CSUM;
        self.0[NUM_BUFFERS..].fill(0);
        self
    }

    /// The frame is one that does not have to be cut any more.
    pub(crate) fn is_whole(&self) -> bool {
        self.0[GSO_TYPE] == GSO_NONE
    }

    /// Says in how many buffers the guest gets the frame.
    pub(crate) fn set_buffers(&mut self, count: u16) {
        self.0[NUM_BUFFERS..].copy_from_slice(&count.to_le_bytes());
    }

    fn field(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }
}
