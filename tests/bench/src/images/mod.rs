//! How long images take to build, beside `mksquashfs` alone on the tree that is in them,
//! and what each compressor makes of it. Needs no guest; runs on this machine.

mod source;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::guest::told;
use crate::options::{Amount, Options, amount};
use crate::{median, run};
use source::Source;

const AMOUNTS: &[Amount] = &[amount("size", "MIB", 1024)];
/// What `mksquashfs` is asked for beside the compressor, as `shem` asks.
const QUIETLY: [&str; 5] = [
    "-noappend",
    "-quiet",
    "-no-progress",
    "-exit-on-error",
    "-comp",
];
const DEFAULT: &str = "lzo";
const COMPRESSORS: [&str; 5] = ["lzo", "gzip", "lz4", "xz", "zstd"];
const MIB: f64 = (1 << 20) as f64;

/// Makes both tables; the words are in the README.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let options = Options::parse(arguments, AMOUNTS)?;
    let source = Source::make(options.amount("size") as u64 * (1 << 20))?;
    let tree = source.tree();
    println!(
        "{} files, {:.0} MiB, in 3 layers; {} rounds, alternating; seconds, median (minimum to maximum)\n",
        tree.files,
        tree.bytes as f64 / MIB,
        options.rounds
    );
    beside_mksquashfs(&source, &options)?;
    println!();
    compressors(&source, &options)
}

/// One image from each of its forms, with the compressor that is the default.
fn beside_mksquashfs(source: &Source, options: &Options) -> Result<()> {
    let out = source.folder().join("out");
    let forms = source.forms();
    let mut alone = Vec::new();
    let mut ours = vec![Vec::new(); forms.len()];
    let mut memory = vec![0; forms.len()];
    // The first round warms caches and does not count.
    for round in 0..=options.rounds {
        let time = mksquashfs(&source.tree().path, &out, DEFAULT)?;
        let mut times = Vec::new();
        for (form, peak) in forms.iter().zip(&mut memory) {
            let (time, used) = build(&form.source, &out, DEFAULT)?;
            *peak = used.max(*peak);
            times.push(time);
        }
        if round > 0 {
            alone.push(time);
            ours.iter_mut()
                .zip(times)
                .for_each(|(all, time)| all.push(time));
        }
    }
    println!("| | seconds | ratio | shem's own memory at most, MiB |");
    println!("| --- | --- | --- | --- |");
    println!(
        "| `mksquashfs` on the unpacked tree | {} | | |",
        seconds(&mut alone)
    );
    for ((form, times), peak) in forms.iter().zip(&mut ours).zip(memory) {
        let ratio = median(times).as_secs_f64() / median(&mut alone).as_secs_f64();
        let peak = peak as f64 / MIB;
        println!(
            "| {} | {} | {ratio:.2} | {peak:.0} |",
            form.name,
            seconds(times)
        );
    }
    Ok(())
}

/// What each compressor makes of it: how large, how long it takes to pack, and for this
/// machine's kernel to read all of it.
fn compressors(source: &Source, options: &Options) -> Result<()> {
    println!("| compressor | MiB | to pack | to read all, by this kernel |");
    println!("| --- | --- | --- | --- |");
    let form = &source.forms()[0];
    let out = source.folder().join("out");
    for compressor in COMPRESSORS {
        if !options.names(compressor) {
            continue;
        }
        let (packed, _) = build(&form.source, &out, compressor)?;
        let size = std::fs::metadata(&out)?.len() as f64 / MIB;
        let mut read = Vec::new();
        if geteuid().is_root() {
            for _ in 0..options.rounds {
                read.push(read_all(&out, source.folder())?);
            }
        }
        let read = if read.is_empty() {
            "takes root".to_owned()
        } else {
            seconds(&mut read)
        };
        let packed = packed.as_secs_f64();
        println!("| {compressor} | {size:.0} | {packed:.1} | {read} |");
    }
    Ok(())
}

fn mksquashfs(tree: &Path, out: &Path, compressor: &str) -> Result<Duration> {
    let mut command = Command::new("mksquashfs");
    command.arg(tree).arg(out).args(QUIETLY).arg(compressor);
    let begin = Instant::now();
    run::done(&mut command)?;
    Ok(begin.elapsed())
}

/// Builds, and tells how long it took and how many bytes of memory `shem` had at most.
fn build(source: &str, out: &Path, compressor: &str) -> Result<(Duration, u64)> {
    let mut command = Command::new(told("SHEM_BIN")?);
    command
        .args([
            "image", "build", "--json", "--comp", compressor, source, "-o",
        ])
        .arg(out)
        .stderr(Stdio::inherit());
    let begin = Instant::now();
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    let time = begin.elapsed();
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let events = String::from_utf8(output.stdout)?;
    let last: Value = serde_json::from_str(events.lines().last().unwrap_or_default())?;
    let memory = last["peak_memory"].as_u64();
    Ok((time, memory.context("the build tells of its memory")?))
}

/// Time to read every file of an image through a mount, from a cold cache of the mount's.
fn read_all(image: &Path, scratch: &Path) -> Result<Duration> {
    let folder = scratch.join("mount");
    std::fs::create_dir_all(&folder)?;
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "squashfs", "-o", "loop,ro"])
        .args([image, &folder]);
    run::done(&mut mount)?;
    let mut read = Command::new("tar");
    // To /dev/null itself tar would read nothing.
    read.args(["-cf", "-", "-C"]).arg(&folder).arg(".");
    let begin = Instant::now();
    let ended = read.stdout(Stdio::piped()).spawn().and_then(|mut tar| {
        let mut out = tar.stdout.take().expect("it is piped");
        std::io::copy(&mut out, &mut std::io::sink())?;
        tar.wait()
    });
    let time = begin.elapsed();
    run::done(Command::new("umount").arg(&folder))?;
    ensure!(ended.context("read the files")?.success(), "tar failed");
    Ok(time)
}

fn seconds(times: &mut [Duration]) -> String {
    let middle = median(times).as_secs_f64();
    let (first, last) = (times[0], times[times.len() - 1]);
    format!(
        "{middle:.1} ({:.1} to {:.1})",
        first.as_secs_f64(),
        last.as_secs_f64()
    )
}
