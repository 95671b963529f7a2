//! One file and what has to be in it: random reads and changes by every way
//! there is, each read checked.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use posix_suite::map::Map;
use rustix::fs::{FallocateFlags, copy_file_range, fallocate};
use rustix::io::Errno;

use crate::log::Log;
use crate::random::Random;

/// Longest transfer. Larger than what a request of FUSE carries by default.
const TRANSFER: usize = 200_000;
/// What direct transfers are multiples of.
const BLOCK: usize = 4096;

pub struct Exercise {
    path: PathBuf,
    file: File,
    /// `None` where there are no direct transfers.
    direct: Option<File>,
    model: Vec<u8>,
    /// Most bytes of the file.
    most: usize,
    random: Random,
    pub log: Log,
    zero_range: bool,
}

impl Exercise {
    pub fn new(path: &Path, most: usize, random: Random) -> Result<Self> {
        let (file, direct) = open(path)?;
        Ok(Exercise {
            path: path.into(),
            file,
            direct,
            model: Vec::new(),
            most,
            random,
            log: Log::default(),
            zero_range: true,
        })
    }

    /// One random operation. An error says what is wrong.
    pub fn step(&mut self) -> std::result::Result<(), String> {
        let outcome = match self.random.below(100) {
            0..20 => self.read(),
            20..40 => self.write(),
            40..50 => self.map_read(),
            50..60 => self.map_write(),
            60..68 => self.truncate(),
            68..73 => self.punch(),
            73..76 => self.zero(),
            76..80 => self.allocate(),
            80..85 => self.copy(),
            85..90 => self.direct_read(),
            90..95 => self.direct_write(),
            95..98 => self.reopen(),
            _ => self.sync(),
        };
        match outcome {
            Ok(wrong) => wrong.map_or(Ok(()), Err),
            Err(error) => Err(format!("the operation failed: {error}")),
        }
    }

    /// All of the file, read at once.
    pub fn check_all(&mut self) -> std::result::Result<(), String> {
        self.log
            .note(format_args!("read all of {}", self.model.len()));
        let bytes = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        compare(&bytes, &self.model, 0).map_or(Ok(()), Err)
    }

    /// A range in the file; its length may be 0 only if the file is empty.
    fn range(&mut self) -> (usize, usize) {
        if self.model.is_empty() {
            return (0, 0);
        }
        let start = self.random.below(self.model.len());
        let most = (self.model.len() - start).min(TRANSFER);
        (start, 1 + self.random.below(most))
    }

    /// A range that may reach behind the end.
    fn range_behind(&mut self) -> (usize, usize) {
        let start = self
            .random
            .below(self.most.min(self.model.len() + TRANSFER));
        (
            start,
            1 + self.random.below((self.most - start).min(TRANSFER)),
        )
    }

    fn put(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[start..end].copy_from_slice(bytes);
    }

    fn read(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range();
        self.log.note(format_args!("read {len} at {start}"));
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, start as u64)?;
        Ok(compare(&bytes, &self.model[start..start + len], start))
    }

    fn write(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range_behind();
        self.log.note(format_args!("write {len} at {start}"));
        let bytes = self.random.bytes(len);
        self.file.write_all_at(&bytes, start as u64)?;
        self.put(start, &bytes);
        Ok(None)
    }

    fn map(&self, writable: bool) -> Result<Map> {
        Ok(Map::new(&self.file, self.model.len(), true, writable)?)
    }

    fn map_read(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range();
        self.log
            .note(format_args!("read {len} at {start} by a mapping"));
        if len == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        self.map(false)?.read(start, &mut bytes);
        Ok(compare(&bytes, &self.model[start..start + len], start))
    }

    fn map_write(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range();
        let sync = self.random.below(2) == 0;
        self.log.note(format_args!(
            "write {len} at {start} by a mapping, msync {sync}"
        ));
        if len == 0 {
            return Ok(None);
        }
        let bytes = self.random.bytes(len);
        let map = self.map(true)?;
        map.write(start, &bytes);
        if sync {
            map.sync()?;
        }
        self.put(start, &bytes);
        Ok(None)
    }

    fn truncate(&mut self) -> Result<Option<String>> {
        let size = self.random.below(self.most + 1);
        self.log
            .note(format_args!("truncate {} to {size}", self.model.len()));
        self.file.set_len(size as u64)?;
        self.model.resize(size, 0);
        let told = self.file.metadata()?.len();
        Ok((told != size as u64).then(|| format!("the size is {told}, not {size}")))
    }

    fn punch(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range_behind();
        self.log.note(format_args!("punch {len} at {start}"));
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, start as u64, len as u64)?;
        let end = (start + len).min(self.model.len());
        if start < end {
            self.model[start..end].fill(0);
        }
        Ok(None)
    }

    fn zero(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range_behind();
        self.log.note(format_args!("zero {len} at {start}"));
        if !self.zero_range {
            return Ok(None);
        }
        match fallocate(
            &self.file,
            FallocateFlags::ZERO_RANGE,
            start as u64,
            len as u64,
        ) {
            Err(Errno::OPNOTSUPP) => self.zero_range = false,
            outcome => {
                outcome?;
                self.put(start, &vec![0; len]);
            }
        }
        Ok(None)
    }

    fn allocate(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range_behind();
        let keep = self.random.below(2) == 0;
        self.log
            .note(format_args!("allocate {len} at {start}, keep size {keep}"));
        let flags = if keep {
            FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::empty()
        };
        fallocate(&self.file, flags, start as u64, len as u64)?;
        if !keep && self.model.len() < start + len {
            self.model.resize(start + len, 0);
        }
        Ok(None)
    }

    fn copy(&mut self) -> Result<Option<String>> {
        let (from, len) = self.range();
        let to = self.random.below(self.most - len + 1);
        self.log
            .note(format_args!("copy {len} from {from} to {to}"));
        if from.abs_diff(to) < len {
            return Ok(None);
        }
        let (mut at, mut onto) = (from as u64, to as u64);
        let mut left = len;
        while left > 0 {
            let file = self.file.as_fd();
            let copied = copy_file_range(file, Some(&mut at), file, Some(&mut onto), left)?;
            if copied == 0 {
                return Ok(Some(format!("nothing copied with {left} left")));
            }
            left -= copied;
        }
        let bytes = self.model[from..from + len].to_vec();
        self.put(to, &bytes);
        Ok(None)
    }

    fn direct_read(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range();
        let start = start / BLOCK * BLOCK;
        let len = len.div_ceil(BLOCK) * BLOCK;
        self.log
            .note(format_args!("read {len} at {start} directly"));
        let Some(direct) = &self.direct else {
            return Ok(None);
        };
        let mut memory = vec![0; len + BLOCK];
        let skip = memory.as_ptr().align_offset(BLOCK);
        let bytes = &mut memory[skip..skip + len];
        let read = direct.read_at(bytes, start as u64)?;
        let end = (start + len).min(self.model.len());
        if read != end - start {
            return Ok(Some(format!("{read} bytes read, not {}", end - start)));
        }
        Ok(compare(&bytes[..read], &self.model[start..end], start))
    }

    fn direct_write(&mut self) -> Result<Option<String>> {
        let (start, len) = self.range_behind();
        let start = start / BLOCK * BLOCK;
        let len = (len / BLOCK).max(1) * BLOCK;
        self.log
            .note(format_args!("write {len} at {start} directly"));
        let (Some(direct), true) = (&self.direct, start + len <= self.most) else {
            return Ok(None);
        };
        let mut memory = vec![0; len + BLOCK];
        let skip = memory.as_ptr().align_offset(BLOCK);
        let bytes = &mut memory[skip..skip + len];
        bytes.copy_from_slice(&self.random.bytes(len));
        direct.write_all_at(bytes, start as u64)?;
        let bytes = bytes.to_vec();
        self.put(start, &bytes);
        Ok(None)
    }

    fn reopen(&mut self) -> Result<Option<String>> {
        self.log.note(format_args!("close and open"));
        (self.file, self.direct) = open(&self.path)?;
        let told = self.file.metadata()?.len();
        let size = self.model.len() as u64;
        Ok((told != size).then(|| format!("the size is {told}, not {size}")))
    }

    fn sync(&mut self) -> Result<Option<String>> {
        self.log.note(format_args!("fsync"));
        self.file.sync_all()?;
        Ok(None)
    }
}

fn open(path: &Path) -> Result<(File, Option<File>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path)?;
    let direct = match options.custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        outcome => Some(outcome?),
    };
    Ok((file, direct))
}

/// What is wrong, with the place in the file.
pub fn compare(got: &[u8], wanted: &[u8], start: usize) -> Option<String> {
    if got.len() != wanted.len() {
        return Some(format!("{} bytes, not {}", got.len(), wanted.len()));
    }
    let first = got.iter().zip(wanted).position(|(a, b)| a != b)?;
    let last = got.iter().zip(wanted).rposition(|(a, b)| a != b)?;
    let different = got.iter().zip(wanted).filter(|(a, b)| a != b).count();
    let shown = |bytes: &[u8]| format!("{:02x?}", &bytes[first..bytes.len().min(first + 16)]);
    Some(format!(
        "{different} bytes differ from {} to {}: {} instead of {}",
        start + first,
        start + last,
        shown(got),
        shown(wanted)
    ))
}
