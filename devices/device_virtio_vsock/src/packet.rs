//! The packet header on the wire: its fields, its operations, its two
//! conversions. Judges nothing. VIRTIO 1.2 section 5.10.6.

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 44;

/// The host's context id (section 5.10.4).
pub const HOST_CID: u64 = 2;

/// `type` of a packet of a stream socket, the only type this device has.
pub const TYPE_STREAM: u16 = 1;

/// The most payload a packet may carry: what Linux drivers send at most.
pub const MAX_PAYLOAD: u32 = 64 * 1024;

/// SHUTDOWN flag: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;

/// SHUTDOWN flag: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// Both SHUTDOWN flags: the sender is done with the connection.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    ReadWrite = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Op {
    /// The operation with this number, if there is one.
    pub fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => Op::Request,
            2 => Op::Response,
            3 => Op::Reset,
            4 => Op::Shutdown,
            5 => Op::ReadWrite,
            6 => Op::CreditUpdate,
            7 => Op::CreditRequest,
            _ => return None,
        })
    }
}

/// A header in host memory. Guest memory is read for it exactly once, so that
/// what has been checked is what is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    /// Bytes of payload that follow.
    pub len: u32,
    /// The socket type; `type` in the specification.
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    /// Bytes that the sender can buffer for this connection.
    pub buf_alloc: u32,
    /// Bytes that the sender has passed on so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads the wire form, which is little-endian and without padding.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest = bytes.as_slice();
        Header {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// The wire form.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &self.src_cid.to_le_bytes());
        put(&mut rest, &self.dst_cid.to_le_bytes());
        put(&mut rest, &self.src_port.to_le_bytes());
        put(&mut rest, &self.dst_port.to_le_bytes());
        put(&mut rest, &self.len.to_le_bytes());
        put(&mut rest, &self.kind.to_le_bytes());
        put(&mut rest, &self.op.to_le_bytes());
        put(&mut rest, &self.flags.to_le_bytes());
        put(&mut rest, &self.buf_alloc.to_le_bytes());
        put(&mut rest, &self.fwd_cnt.to_le_bytes());
        bytes
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, tail) = rest
        .split_first_chunk()
        .expect("the fields add up to the header's length");
    *rest = tail;
    *field
}

fn put(rest: &mut &mut [u8], field: &[u8]) {
    let (head, tail) = std::mem::take(rest).split_at_mut(field.len());
    head.copy_from_slice(field);
    *rest = tail;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place_on_the_wire() {
        let header = Header {
            src_cid: 0x0101_0101_0101_0101,
            dst_cid: 0x0202_0202_0202_0202,
            src_port: 0x0303_0303,
            dst_port: 0x0404_0404,
            len: 0x0505_0505,
            kind: 0x0606,
            op: 0x0707,
            flags: 0x0808_0808,
            buf_alloc: 0x0909_0909,
            fwd_cnt: 0x0a0a_0a0a,
        };
        let bytes = header.to_bytes();
        let widths: [(u8, usize); 10] = [
            (1, 8),
            (2, 8),
            (3, 4),
            (4, 4),
            (5, 4),
            (6, 2),
            (7, 2),
            (8, 4),
            (9, 4),
            (10, 4),
        ];
        let expected: Vec<u8> = widths
            .iter()
            .flat_map(|&(value, width)| std::iter::repeat_n(value, width))
            .collect();
        assert_eq!(bytes.as_slice(), expected);
        assert_eq!(Header::parse(&bytes), header);
    }

    #[test]
    fn integers_are_little_endian() {
        let mut bytes = [0; HEADER_LEN];
        bytes[24] = 0x01;
        bytes[25] = 0x02;
        assert_eq!(Header::parse(&bytes).len, 0x0201);
    }

    #[test]
    fn operations_survive_the_wire_and_others_are_none() {
        for number in 1..=7 {
            assert_eq!(Op::from_wire(number).unwrap() as u16, number);
        }
        assert_eq!(Op::from_wire(0), None);
        assert_eq!(Op::from_wire(8), None);
    }
}
