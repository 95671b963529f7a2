//! O_DIRECT beside the page cache.

use rustix::fs::OFlags;

use super::Case;
use crate::calls::*;
use crate::check::{is, ok, skip};

pub const CASES: &[Case] = &[
    (
        "direct writes are read through the cache",
        direct_then_cached,
    ),
    ("cached writes are read directly", cached_then_direct),
    ("a direct read ends with the file", ends),
];

const BLOCK: usize = 4096;
const BLOCKS: usize = 8;

/// Memory that starts at a multiple of a block.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new(fill: u8) -> Self {
        let memory = vec![fill; BLOCKS * BLOCK + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Aligned { memory, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BLOCKS * BLOCK]
    }
}

/// `f`, opened for direct transfers, where that is to be had.
fn direct() -> Option<std::os::fd::OwnedFd> {
    match open("f", OFlags::RDWR | OFlags::DIRECT, 0) {
        Err(Errno::INVAL) => {
            skip();
            None
        }
        outcome => Some(ok(outcome)),
    }
}

fn direct_then_cached() {
    let cached = file("f", 0o644, &[b'.'; BLOCKS * BLOCK]);
    let Some(direct) = direct() else { return };
    is(pread(&cached, 1, 0), Ok(b".".to_vec()));
    let mut memory = Aligned::new(b'd');
    is(
        pwrite(&direct, &memory.bytes()[..2 * BLOCK], BLOCK as u64),
        Ok(2 * BLOCK),
    );
    let bytes = ok(pread(&cached, BLOCKS * BLOCK, 0));
    is(
        bytes[BLOCK..3 * BLOCK].iter().all(|byte| *byte == b'd'),
        true,
    );
    is((bytes[BLOCK - 1], bytes[3 * BLOCK]), (b'.', b'.'));
    // Past the end it grows.
    let end = (BLOCKS * BLOCK) as u64;
    is(pwrite(&direct, &memory.bytes()[..BLOCK], end), Ok(BLOCK));
    is(ok(stat("f")).st_size as u64, end + BLOCK as u64);
}

fn cached_then_direct() {
    let cached = file("f", 0o644, &[b'.'; BLOCKS * BLOCK]);
    let Some(direct) = direct() else { return };
    is(pwrite(&cached, b"fresh", BLOCK as u64 + 7), Ok(5));
    let mut memory = Aligned::new(0);
    let bytes = memory.bytes();
    is(
        rustix::io::pread(&direct, &mut *bytes, 0),
        Ok(BLOCKS * BLOCK),
    );
    is(&bytes[BLOCK + 6..BLOCK + 13], b".fresh.");
}

fn ends() {
    file("f", 0o644, &[b'.'; BLOCK + 100]);
    let Some(direct) = direct() else { return };
    let mut memory = Aligned::new(0);
    let bytes = memory.bytes();
    is(rustix::io::pread(&direct, &mut *bytes, 0), Ok(BLOCK + 100));
    is(
        rustix::io::pread(&direct, &mut *bytes, 4 * BLOCK as u64),
        Ok(0),
    );
}
