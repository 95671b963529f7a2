//! SEEK_DATA, SEEK_HOLE.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok};

pub const CASES: &[Case] = &[
    ("a file without holes has one at its end", whole),
    ("data and holes are found", sparse),
    ("a file that is all hole has no data", empty),
    ("ENXIO behind the end", behind),
];

fn seek(file: impl AsFd, to: SeekFrom) -> Result<u64> {
    rustix::fs::seek(file, to)
}

fn whole() {
    let file = file("f", 0o644, &[7; 10_000]);
    is(seek(&file, SeekFrom::Data(0)), Ok(0));
    is(seek(&file, SeekFrom::Data(5000)), Ok(5000));
    is(seek(&file, SeekFrom::Hole(0)), Ok(10_000));
    is(seek(&file, SeekFrom::Hole(9999)), Ok(10_000));
}

fn sparse() {
    const MIB: u64 = 1 << 20;
    let file = file("f", 0o644, b"");
    is(pwrite(&file, &[7; 4096], MIB), Ok(4096));
    is(pwrite(&file, &[7; 4096], 3 * MIB), Ok(4096));
    ok(ftruncate(&file, 5 * MIB as i64));
    // File systems may keep more than was asked for, not less.
    let data = ok(seek(&file, SeekFrom::Data(0)));
    holds(data <= MIB && data > 0, "the first hole is known");
    let hole = ok(seek(&file, SeekFrom::Hole(MIB)));
    holds(
        (MIB + 4096..3 * MIB).contains(&hole),
        "the second hole is known",
    );
    let data = ok(seek(&file, SeekFrom::Data(hole)));
    holds((hole..=3 * MIB).contains(&data), "the last data is found");
    let hole = ok(seek(&file, SeekFrom::Hole(3 * MIB)));
    holds(
        (3 * MIB + 4096..5 * MIB).contains(&hole),
        "the last hole is known",
    );
    is(seek(&file, SeekFrom::Hole(hole)), Ok(hole));
}

fn empty() {
    let file = file("f", 0o644, b"");
    ok(ftruncate(&file, 100_000));
    fails(seek(&file, SeekFrom::Data(0)), Errno::NXIO);
    is(seek(&file, SeekFrom::Hole(0)), Ok(0));
}

fn behind() {
    let file = file("f", 0o644, b"text");
    for at in [4, 5, 1 << 40] {
        fails(seek(&file, SeekFrom::Data(at)), Errno::NXIO);
        fails(seek(&file, SeekFrom::Hole(at)), Errno::NXIO);
    }
}
