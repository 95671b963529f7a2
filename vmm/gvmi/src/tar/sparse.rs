//! The maps of sparse files: GNU's old format, and its three in extended
//! headers, 0.0, 0.1 and 1.0 (GNU tar's manual, "Storing Sparse Files").

use super::entry::EntryError;
use super::pax::Record;

/// Most stretches of data in one file; 16 bytes each are held.
const MAX_EXTENTS: usize = 1 << 18;

/// A stretch of data in a file; between them are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// Where the data of a file belongs: in order, apart and inside of the file,
/// none of them empty.
#[derive(Debug, Default)]
pub(super) struct Map(Vec<Extent>);

impl Map {
    /// Of a file that has no holes.
    pub(super) fn whole(size: u64) -> Self {
        let whole = Extent {
            start: 0,
            len: size,
        };
        Self((size > 0).then_some(whole).into_iter().collect())
    }

    /// Of `extents` in a file of `size` bytes, `stored` of which are data.
    pub(super) fn new(
        mut extents: Vec<Extent>,
        size: u64,
        stored: u64,
    ) -> Result<Self, EntryError> {
        let (mut end, mut data) = (0, 0u64);
        for extent in &extents {
            if extent.start < end {
                return Err(EntryError::Sparse);
            }
            end = extent
                .start
                .checked_add(extent.len)
                .filter(|end| *end <= size)
                .ok_or(EntryError::Sparse)?;
            // No overflow: they are apart and inside of the file.
            data += extent.len;
        }
        if data > stored {
            return Err(EntryError::Sparse);
        }
        extents.retain(|extent| extent.len > 0);
        Ok(Self(extents))
    }

    pub(super) fn get(&self, at: usize) -> Option<Extent> {
        self.0.get(at).copied()
    }

    /// Bytes of data.
    pub(super) fn data(&self) -> u64 {
        self.0.iter().map(|extent| extent.len).sum()
    }
}

/// Adds to a map that is being read.
pub(super) fn push(extents: &mut Vec<Extent>, start: u64, len: u64) -> Result<(), EntryError> {
    if extents.len() == MAX_EXTENTS {
        return Err(EntryError::Sparse);
    }
    extents.push(Extent { start, len });
    Ok(())
}

/// What the records say, their keys without `GNU.sparse.`.
#[derive(Clone, Default)]
pub(super) struct SparseRecords {
    /// Its name; that in the header is another.
    pub(super) name: Option<Vec<u8>>,
    /// Its size with holes.
    pub(super) size: Option<u64>,
    pub(super) extents: Vec<Extent>,
    start: Option<u64>,
    major: u64,
}

impl SparseRecords {
    pub(super) fn take(&mut self, record: Record<'_>) -> Option<()> {
        match record.key {
            b"name" => self.name = Some(record.value.to_vec()),
            b"size" | b"realsize" => self.size = Some(record.number()?),
            b"major" => self.major = record.number()?,
            b"offset" => self.start = Some(record.number()?),
            b"numbytes" => {
                let start = self.start.take()?;
                push(&mut self.extents, start, record.number()?).ok()?;
            }
            b"map" => {
                let text = std::str::from_utf8(record.value).ok()?;
                let mut numbers = text.split(',').filter(|number| !number.is_empty());
                while let Some(start) = numbers.next() {
                    let len = numbers.next()?.parse().ok()?;
                    push(&mut self.extents, start.parse().ok()?, len).ok()?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Whether the map is in front of the data, as in format 1.0.
    pub(super) fn map_is_in_data(&self) -> bool {
        self.major == 1
    }
}

/// Reads the map of format 1.0, which is lines of decimal numbers, block by
/// block.
#[derive(Default)]
pub(super) struct MapReader {
    extents: Vec<Extent>,
    count: Option<usize>,
    start: Option<u64>,
    number: Option<u64>,
}

impl MapReader {
    /// Takes a block; returns whether it was the last one.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<bool, EntryError> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let sum = self.number.unwrap_or(0).checked_mul(10);
                    let sum = sum.and_then(|sum| sum.checked_add(u64::from(byte - b'0')));
                    self.number = Some(sum.ok_or(EntryError::Sparse)?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or(EntryError::Sparse)?;
                    self.line(number)?;
                    if self.count == Some(self.extents.len()) {
                        return Ok(true);
                    }
                }
                _ => return Err(EntryError::Sparse),
            }
        }
        Ok(false)
    }

    fn line(&mut self, number: u64) -> Result<(), EntryError> {
        if self.count.is_none() {
            let count = usize::try_from(number).ok();
            let count = count.filter(|count| *count <= MAX_EXTENTS);
            self.count = Some(count.ok_or(EntryError::Sparse)?);
            return Ok(());
        }
        match self.start.take() {
            None => self.start = Some(number),
            Some(start) => push(&mut self.extents, start, number)?,
        }
        Ok(())
    }

    pub(super) fn into_extents(self) -> Vec<Extent> {
        self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs
            .iter()
            .map(|(start, len)| Extent {
                start: *start,
                len: *len,
            })
            .collect()
    }

    #[test]
    fn maps_out_of_order_or_outside_are_refused() {
        assert!(Map::new(extents(&[(0, 5), (5, 0), (8, 2)]), 10, 7).is_ok());
        for (pairs, stored) in [
            (&[(5, 1), (0, 1)][..], 2),
            (&[(0, 5), (4, 1)], 6),
            (&[(9, 2)], 2),
            (&[(1, u64::MAX)], u64::MAX),
            (&[(0, 5)], 4),
        ] {
            assert!(Map::new(extents(pairs), 10, stored).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn lines_of_a_map_may_be_cut_by_blocks() {
        let mut reader = MapReader::default();
        assert!(!reader.block(b"2\n0\n5\n1").unwrap());
        assert!(reader.block(b"0\n7\n\0\0\0").unwrap());
        assert_eq!(reader.into_extents(), extents(&[(0, 5), (10, 7)]));
        assert!(MapReader::default().block(b"0\n").unwrap());
        for bad in [
            "\n",
            "x",
            "99999999999999999999\n",
            "999999999\n",
            "1\n-1\n",
        ] {
            assert!(MapReader::default().block(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
