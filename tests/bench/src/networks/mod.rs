//! Measures how fast virtio-net is, side by side in one run: `shem`'s and QEMU's, on the
//! same TAP, and on processes of the same passt.
//!
//! All guests run one kernel and one program, `net-probe`, which takes the times; it runs
//! on the host as the server as well. All of it is in a network namespace that the
//! benchmark makes. Prints a table in Markdown; with `plot=` writes the plot too.

mod candidates;
mod setup;

use std::ffi::OsString;

use anyhow::Result;

use crate::compare::Subject;
use crate::guest;
use crate::options::{Amount, Options, amount};
use crate::table::{Ratio, Row, Unit, row};
use candidates::{CANDIDATES, Way};
use setup::Setup;

/// How much the probe does.
const AMOUNTS: &[Amount] = &[amount("bytes", "MIB", 64), amount("roundtrips", "N", 1_000)];

/// All rows in order.
const ROWS: &[Row] = &[
    row("send", "TCP to the host (MiB/s)", Unit::Rate),
    row("receive", "TCP from the host (MiB/s)", Unit::Rate),
    row("round trip", "one byte to and fro (µs)", Unit::Each),
];

/// Candidates that are compared: how many times as fast the first is.
const RATIOS: &[Ratio] = &[
    ("shem tap", "QEMU tap"),
    ("shem passt", "QEMU passt"),
    ("shem passt", "QEMU passt wide"),
];

/// `cargo xtask bench networks -- ARGS`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let options = Options::parse(arguments, AMOUNTS)?;
    let setup = Setup::new(&options)?;
    let subject = Subject {
        title: "A guest and its host by TCP: shorter is faster",
        candidates: CANDIDATES,
        rows: ROWS,
        ratios: RATIOS,
    };
    subject.compare(&options, &guest::name(&setup.kernel), |way: &Way| {
        way.measure(&setup)
    })
}
