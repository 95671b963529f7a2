//! Measures how fast folders of the host are in a guest, side by side in one
//! run: `shem`'s file system, C virtiofsd and 9p under QEMU, and a disk of each
//! as the yardstick.
//!
//! All guests run one kernel and one program, `bench-workload`, which takes the
//! times. Prints a table in Markdown; with `plot=` writes the plot too.

mod candidates;
mod host;

use std::ffi::OsString;

use anyhow::Result;

use crate::compare::Subject;
use crate::guest;
use crate::options::{Amount, Options, amount};
use crate::table::{Ratio, Row, Unit, row};
use candidates::{CANDIDATES, Way};
use host::Setup;

/// How much the workload does.
const AMOUNTS: &[Amount] = &[
    amount("size", "MIB", 64),
    amount("operations", "N", 2_000),
    amount("files", "N", 10_000),
    amount("tree", "N", 4_000),
];

/// All rows in order.
const ROWS: &[Row] = &[
    row("write", "write, 1 MiB blocks, fsync (MiB/s)", Unit::Rate),
    row("read", "read, 1 MiB blocks (MiB/s)", Unit::Rate),
    row("random read", "random read, 4 KiB (µs)", Unit::Each),
    row(
        "random write",
        "random write, 4 KiB, one fsync (µs)",
        Unit::Each,
    ),
    row("create", "create a file (µs)", Unit::Each),
    row("stat", "stat a file (µs)", Unit::Each),
    row("unlink", "unlink a file (µs)", Unit::Each),
    row("unpack", "unpack a tree, each file (µs)", Unit::Each),
    row("find", "list and stat it, each file (µs)", Unit::Each),
    row("read tree", "read it, each file (µs)", Unit::Each),
];

/// Candidates that are compared: how many times as fast the first is.
const RATIOS: &[Ratio] = &[
    ("shem coherent", "virtiofsd none"),
    ("shem coherent", "virtiofsd auto"),
    ("shem exclusive", "virtiofsd always"),
    ("shem coherent", "9p"),
    ("shem exclusive", "9p"),
];

/// `cargo xtask bench volumes -- ARGS`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let options = Options::parse(arguments, AMOUNTS)?;
    let setup = Setup::new(&options)?;
    let subject = Subject {
        title: "A folder of the host in a guest: shorter is faster",
        candidates: CANDIDATES,
        rows: ROWS,
        ratios: RATIOS,
    };
    subject.compare(&options, &guest::name(&setup.kernel), |way: &Way| {
        way.measure(&setup)
    })
}
