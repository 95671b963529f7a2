//! Frames in a byte stream: each after its length, in one of two spellings. Pure, and
//! hostile streams are expected: what is held is bounded by the longest frame.

use std::fmt;

/// The longest frame there can be: an IPv6 packet that was not cut, and its Ethernet
/// header.
pub const LONGEST_FRAME: usize = 65_536 + 14;

/// Bytes that are read from a stream at once, if they are there.
const BATCH: usize = 256 << 10;

/// How a frame's length is written before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Four bytes, most significant first: QEMU's stream sockets, passt.
    Big32,
    /// Two bytes of the machine's own order: exe-unit's Unix sockets.
    Native16,
}

/// A frame's length as it is sent.
#[derive(Clone, Copy)]
pub struct Head {
    bytes: [u8; 4],
    len: usize,
}

impl Head {
    /// What goes before the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Prefix {
    /// Bytes of a prefix.
    const fn size(self) -> usize {
        match self {
            Prefix::Big32 => 4,
            Prefix::Native16 => 2,
        }
    }

    /// The prefix of a frame of `len` bytes; `None`: it has no room for that.
    pub fn head(self, len: usize) -> Option<Head> {
        let mut bytes = [0; 4];
        match self {
            Prefix::Big32 => bytes = u32::try_from(len).ok()?.to_be_bytes(),
            Prefix::Native16 => {
                bytes[..2].copy_from_slice(&u16::try_from(len).ok()?.to_ne_bytes());
            }
        }
        let len = self.size();
        Some(Head { bytes, len })
    }

    /// The length that `held` begins with.
    fn read(self, held: &[u8]) -> Option<usize> {
        match self {
            Prefix::Big32 => {
                let bytes = held.first_chunk().copied()?;
                Some(u32::from_be_bytes(bytes) as usize)
            }
            Prefix::Native16 => {
                let bytes = held.first_chunk().copied()?;
                Some(u16::from_ne_bytes(bytes).into())
            }
        }
    }
}

/// A length that no frame has: the stream cannot be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent a frame of {0} bytes, must be 1 to {LONGEST_FRAME}")]
pub struct BadLength(pub usize);

/// Cuts a stream into frames.
pub struct Decoder {
    prefix: Prefix,
    buffer: Box<[u8]>,
    /// What was read and is no frame yet is `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.end - self.start;
        write!(f, "Decoder({:?}, {held} bytes)", self.prefix)
    }
}

impl Decoder {
    /// Of a stream that has not begun.
    pub fn new(prefix: Prefix) -> Self {
        Decoder {
            prefix,
            buffer: vec![0; BATCH].into(),
            start: 0,
            end: 0,
        }
    }

    /// Where the next bytes of the stream go. Has room after [`Decoder::frame`] said
    /// that there is none.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < self.prefix.size() + LONGEST_FRAME {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes of the room have been filled.
    pub fn filled(&mut self, count: usize) {
        self.end = self.buffer.len().min(self.end + count);
    }

    /// The next whole frame, which is taken out. After an error there are no more.
    pub fn frame(&mut self) -> Result<Option<&[u8]>, BadLength> {
        let Some(range) = self.next()? else {
            return Ok(None);
        };
        self.start = range.end;
        Ok(Some(&self.buffer[range]))
    }

    /// Whether [`Decoder::frame`] has an answer without more bytes.
    pub fn has_answer(&self) -> bool {
        !matches!(self.next(), Ok(None))
    }

    fn next(&self) -> Result<Option<std::ops::Range<usize>>, BadLength> {
        let held = &self.buffer[self.start..self.end];
        let Some(len) = self.prefix.read(held) else {
            return Ok(None);
        };
        if !(1..=LONGEST_FRAME).contains(&len) {
            return Err(BadLength(len));
        }
        let begin = self.start + self.prefix.size();
        Ok((begin + len <= self.end).then_some(begin..begin + len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `stream` when it arrives in pieces of `step` bytes.
    fn decoded(prefix: Prefix, stream: &[u8], step: usize) -> Result<Vec<Vec<u8>>, BadLength> {
        let mut decoder = Decoder::new(prefix);
        let mut frames = Vec::new();
        for bytes in stream.chunks(step) {
            decoder.room()[..bytes.len()].copy_from_slice(bytes);
            decoder.filled(bytes.len());
            while let Some(frame) = decoder.frame()? {
                frames.push(frame.to_vec());
            }
        }
        Ok(frames)
    }

    fn stream(prefix: Prefix, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend_from_slice(prefix.head(frame.len()).unwrap().bytes());
            stream.extend_from_slice(frame);
        }
        stream
    }

    #[test]
    fn a_length_is_written_as_its_peers_read_it() {
        assert_eq!(Prefix::Big32.head(60).unwrap().bytes(), [0, 0, 0, 60]);
        let native = Prefix::Native16.head(60).unwrap();
        assert_eq!(native.bytes(), 60u16.to_ne_bytes());
        assert!(Prefix::Native16.head(65_536).is_none());
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        for prefix in [Prefix::Big32, Prefix::Native16] {
            let frames = vec![vec![1; 1], vec![2; 60], vec![3; 65_535], vec![4; 1514]];
            let stream = stream(prefix, &frames);
            for step in [1, 3, 61, 4096, stream.len()] {
                assert_eq!(decoded(prefix, &stream, step).unwrap(), frames);
            }
        }
    }

    #[test]
    fn a_stream_without_end_needs_no_more_memory_than_a_batch() {
        let frames: Vec<_> = (0..64).map(|byte| vec![byte; 65_535]).collect();
        let stream = stream(Prefix::Big32, &frames);
        let mut decoder = Decoder::new(Prefix::Big32);
        let (mut rest, mut count) = (stream.as_slice(), 0);
        while !rest.is_empty() {
            let room = decoder.room();
            assert!(!room.is_empty() && room.len() <= BATCH);
            let now = room.len().min(rest.len());
            room[..now].copy_from_slice(&rest[..now]);
            decoder.filled(now);
            rest = &rest[now..];
            while let Some(frame) = decoder.frame().unwrap() {
                assert_eq!(frame, frames[count]);
                count += 1;
            }
        }
        assert_eq!(count, 64);
    }

    #[test]
    fn no_frame_and_a_huge_one_end_the_stream() {
        for len in [0u32, LONGEST_FRAME as u32 + 1, u32::MAX] {
            let error = decoded(Prefix::Big32, &len.to_be_bytes(), 4).unwrap_err();
            assert_eq!(error, BadLength(len as usize));
        }
        let error = decoded(Prefix::Native16, &[0, 0], 1).unwrap_err();
        assert_eq!(error, BadLength(0));
    }
}
