//! Measures how fast guests start, side by side in one run: `shem` and QEMU's
//! microvm with the same kernel, the same initramfs and the same disk.
//!
//! Prints a table in Markdown. Runs alternate, so that a machine that slows
//! down does so for both; the figures are medians, the ratio that of one run's
//! times, and only it means something on an emulated machine. Process start is
//! included.
//!
//! `cargo xtask bench [-- RUNS]`. With the word `volumes`, `networks` or
//! `images` it measures those instead.

mod compare;
mod guest;
mod host;
mod images;
mod networks;
mod options;
mod plot;
mod rows;
mod run;
mod setup;
mod table;
mod volumes;

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::setup::Setup;

const RUNS: usize = 9;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == "volumes").is_some() {
        return volumes::run(arguments);
    }
    if arguments.next_if(|word| word == "networks").is_some() {
        return networks::run(arguments);
    }
    if arguments.next_if(|word| word == "images").is_some() {
        return images::run(arguments);
    }
    let runs = match std::env::args().nth(1) {
        Some(text) => (text.parse::<NonZeroUsize>())
            .context("the argument is a number of runs")?
            .get(),
        None => RUNS,
    };
    let setup = Setup::new()?;
    let mut shem_init = Vec::new();
    let mut qemu_init = Vec::new();
    let mut echo = Vec::new();
    // The first round warms caches and does not count.
    for round in 0..=runs {
        let times = (
            run::until_line(setup.shem_boot(), setup::INIT_LINE)?,
            run::until_line(setup.qemu_boot(), setup::INIT_LINE)?,
            run::until_exit(setup.shem_echo(), "hello\n")?,
        );
        if round > 0 {
            shem_init.push(times.0);
            qemu_init.push(times.1);
            echo.push(times.2);
        }
    }
    let kernel = setup.kernel();
    println!("{runs} runs each, alternating; kernel {kernel}; median (minimum to maximum) in ms\n");
    println!("| from process start | shem | QEMU microvm | ratio |");
    println!("| --- | --- | --- | --- |");
    let pairs = shem_init.iter().zip(&qemu_init);
    let mut ratios: Vec<_> = pairs
        .map(|(shem, qemu)| shem.as_secs_f64() / qemu.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "| to init's first line | {} | {} | {:.2} ({:.2} to {:.2}) |",
        show(&mut shem_init),
        show(&mut qemu_init),
        ratios[runs / 2],
        ratios[0],
        ratios[runs - 1],
    );
    println!(
        "| to output and exit of `echo` from a .gvmi | {} | | |",
        show(&mut echo)
    );
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn show(times: &mut [Duration]) -> String {
    let middle = median(times).as_millis();
    let (first, last) = (times[0].as_millis(), times[times.len() - 1].as_millis());
    format!("{middle} ({first} to {last})")
}
