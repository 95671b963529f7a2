//! Many short byte strings in one piece of memory. Nothing is ever given back.

use std::num::NonZeroU32;

/// Bytes of a length in front of its string.
const LEN: usize = size_of::<u32>();

/// A string in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text(NonZeroU32);

#[derive(Debug)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    max: u64,
}

impl Arena {
    /// One that takes `max` bytes, lengths not counted.
    pub(super) fn new(max: u64) -> Self {
        Self {
            // So that no string is at 0.
            bytes: vec![0],
            max,
        }
    }

    /// Keeps `text`; `None` when there is no room for it.
    pub(super) fn add(&mut self, text: &[u8]) -> Option<Text> {
        let at = u32::try_from(self.bytes.len())
            .ok()
            .and_then(NonZeroU32::new)?;
        let len = u32::try_from(text.len()).ok()?;
        if self.bytes.len() as u64 + u64::from(len) > self.max {
            return None;
        }
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(text);
        Some(Text(at))
    }

    pub(super) fn get(&self, text: Text) -> &[u8] {
        let at = text.0.get() as usize;
        let (len, rest) = self.bytes[at..]
            .split_first_chunk::<LEN>()
            .expect("a text is behind its length");
        &rest[..u32::from_le_bytes(*len) as usize]
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    pub(super) fn len_in_bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_added_until_it_is_full() {
        let mut arena = Arena::new(20);
        let first = arena.add(b"first").unwrap();
        let empty = arena.add(b"").unwrap();
        assert!(arena.add(&[0; 20]).is_none());
        assert_eq!(arena.get(first), b"first");
        assert_eq!(arena.get(empty), b"");
    }
}
