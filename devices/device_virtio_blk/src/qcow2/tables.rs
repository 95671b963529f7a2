//! The tables of a qcow2 image, as QEMU's `docs/interop/qcow2.txt` has them: a
//! check of all of them, and the counts of clusters in use, made anew.
//!
//! Who is killed between two writes leaves counts that say a cluster is free
//! though a table leads to it. It would become a part of something else too. So
//! the counts of an image are never believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes of a cluster: the only size that is taken.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Entries of a cluster of a table.
const ENTRIES: u64 = CLUSTER / 8;
/// Counts in a cluster of counts: two bytes each.
const COUNTS: u64 = CLUSTER / 2;
/// Width of a count as its header has it: 2^4 bits.
const COUNT_ORDER: u32 = 4;

/// The largest disk, in bytes. With its tables it fits what [`MAX_CLUSTERS`] holds.
const MAX_SIZE: u64 = 8 << 40;
/// Entries of the first table, each for 512 MiB, that such a disk needs.
const MAX_L1: u32 = (MAX_SIZE / (ENTRIES * CLUSTER)) as u32;
/// Clusters of a file: 16 TiB, whose counts a table of one cluster leads to.
const MAX_CLUSTERS: u64 = ENTRIES * COUNTS;

const MAGIC: u32 = u32::from_be_bytes(*b"QFI\xfb");
const VERSION: u32 = 3;
/// Bytes of the header that say something here.
const HEADER: usize = 104;
/// Where in it the table of counts is named: 8 bytes of offset, 4 of clusters.
const COUNT_TABLE_FIELD: u64 = 48;

/// Bits of an entry that are an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The entry's cluster is in use just once.
const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros.
const ZERO: u64 = 1;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It could not be read or written.
    #[error("read or write it")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is not a qcow2 image")]
    NotQcow2,
    /// Of a kind that is not known here.
    #[error("it has {0}, which is not supported: convert it with `qemu-img convert -O qcow2`")]
    Unsupported(String),
    /// Not what any program would have written.
    #[error("it is damaged: {0}; `qemu-img check` tells more")]
    Damaged(String),
}

/// The clusters of a file that something leads to, a bit each.
#[derive(Default)]
pub(super) struct Used {
    bits: Vec<u64>,
    /// None before this one is free.
    first_free: u64,
}

/// Checks the image in `file` and finds its clusters.
pub(super) fn check(mut file: &File) -> Result<Used, TableError> {
    let mut header = [0; HEADER];
    file.seek(SeekFrom::Start(0))?;
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(TableError::NotQcow2);
        }
        outcome => outcome?,
    }
    let (l1_offset, l1_entries) = check_header(&header)?;
    let mut used = Used::default();
    used.add(0)?;
    let mut l1 = vec![0; l1_entries as usize * 8];
    file.read_exact_at(&mut l1, l1_offset)
        .map_err(|_| TableError::Damaged("its first table is cut off".into()))?;
    for at in 0..(l1.len() as u64).div_ceil(CLUSTER) {
        used.add(l1_offset + at * CLUSTER)?;
    }
    let mut l2 = vec![0; CLUSTER as usize];
    for entry in entries(&l1) {
        let offset = offset(entry, COPIED)?;
        if offset == 0 {
            continue;
        }
        used.add(offset)?;
        read_padded(file, &mut l2, offset)?;
        for entry in entries(&l2) {
            if entry & COMPRESSED != 0 {
                return Err(unsupported("compressed clusters"));
            }
            let offset = self::offset(entry, COPIED | ZERO)?;
            if offset != 0 {
                used.add(offset)?;
            }
        }
    }
    Ok(used)
}

/// Gives place and length of the first table.
fn check_header(header: &[u8; HEADER]) -> Result<(u64, u32), TableError> {
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    if word(0) != MAGIC {
        return Err(TableError::NotQcow2);
    }
    // What a version other than this has at these places is not known.
    if word(4) != VERSION {
        return Err(unsupported(format!("version {}", word(4))));
    }
    let features = long(72);
    for (is_so, what) in [
        (long(8) != 0, "a backing file".to_owned()),
        (word(32) != 0, "encryption".to_owned()),
        (word(60) != 0, "snapshots".to_owned()),
        (
            features != 0,
            format!("incompatible features {features:#x}"),
        ),
        (
            word(20) != CLUSTER_BITS,
            "clusters of another size than 64 KiB".to_owned(),
        ),
        (
            word(96) != COUNT_ORDER,
            "counts of another width than 16 bits".to_owned(),
        ),
        (long(24) > MAX_SIZE, format!("more than {MAX_SIZE} bytes")),
    ] {
        if is_so {
            return Err(unsupported(what));
        }
    }
    let (entries, offset) = (word(36), long(40));
    let needed = long(24).div_ceil(ENTRIES * CLUSTER);
    if u64::from(entries) < needed || entries > MAX_L1 {
        let what = format!("its first table has {entries} entries, and {needed} are needed");
        return Err(TableError::Damaged(what));
    }
    Ok((offset, entries))
}

impl Used {
    /// The cluster at `offset` is in use.
    fn add(&mut self, offset: u64) -> Result<(), TableError> {
        let cluster = offset / CLUSTER;
        if !offset.is_multiple_of(CLUSTER) || cluster >= MAX_CLUSTERS {
            let what = format!("nothing can be at offset {offset:#x}");
            return Err(TableError::Damaged(what));
        }
        if self.has(cluster) {
            let what = format!("its cluster at {offset:#x} is in use twice");
            return Err(TableError::Damaged(what));
        }
        let word = (cluster / 64) as usize;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (cluster % 64);
        Ok(())
    }

    fn has(&self, cluster: u64) -> bool {
        let word = self.bits.get((cluster / 64) as usize);
        word.is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }

    /// The offset of the first cluster that is free, which then is in use.
    fn take(&mut self) -> Result<u64, TableError> {
        while self.has(self.first_free) {
            self.first_free += 1;
        }
        let offset = self.first_free * CLUSTER;
        self.add(offset)?;
        Ok(offset)
    }

    /// Writes counts that say what is in use, to clusters that are not, and has
    /// the header lead to them. Any of it may be missing afterwards: it is
    /// written again the next time.
    pub(super) fn write_counts(mut self, file: &File) -> Result<(), TableError> {
        let table_offset = self.take()?;
        let mut blocks = BTreeMap::new();
        // Blocks of counts are counted themselves, perhaps in further ones.
        loop {
            let parts = (0..).zip(self.bits.chunks(COUNTS as usize / 64));
            let missing: Vec<u64> = parts
                .filter(|(part, bits)| {
                    bits.iter().any(|word| *word != 0) && !blocks.contains_key(part)
                })
                .map(|(part, _)| part)
                .collect();
            if missing.is_empty() {
                break;
            }
            for part in missing {
                blocks.insert(part, self.take()?);
            }
        }
        let mut table = vec![0; CLUSTER as usize];
        for (part, offset) in blocks {
            let counts: Vec<u8> = (part * COUNTS..(part + 1) * COUNTS)
                .flat_map(|cluster| u16::from(self.has(cluster)).to_be_bytes())
                .collect();
            file.write_all_at(&counts, offset)?;
            table[part as usize * 8..][..8].copy_from_slice(&offset.to_be_bytes());
        }
        file.write_all_at(&table, table_offset)?;
        let mut field = [0; 12];
        field[..8].copy_from_slice(&table_offset.to_be_bytes());
        field[8..].copy_from_slice(&1u32.to_be_bytes());
        file.write_all_at(&field, COUNT_TABLE_FIELD)?;
        Ok(())
    }
}

/// The offset in `entry`, which may have `flags` beside it.
fn offset(entry: u64, flags: u64) -> Result<u64, TableError> {
    if entry & !(OFFSET | flags) != 0 {
        let what = format!("a table has the entry {entry:#x}");
        return Err(TableError::Damaged(what));
    }
    Ok(entry & OFFSET)
}

fn entries(table: &[u8]) -> impl Iterator<Item = u64> {
    let (entries, _) = table.as_chunks();
    entries.iter().map(|entry| u64::from_be_bytes(*entry))
}

/// Fills `to` from `offset` on; what is past the file's end reads as zeros.
fn read_padded(file: &File, to: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < to.len() {
        match file.read_at(&mut to[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to[done..].fill(0);
    Ok(())
}

fn unsupported(what: impl Into<String>) -> TableError {
    TableError::Unsupported(what.into())
}
