//! Runs every fuzz target of the crate `fuzz` for a while, with libFuzzer's
//! coverage built by the stable compiler.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, bail};

use crate::guest::{TARGET, rust_flags};
use crate::process::{self, command};
use crate::tally::Tally;
use crate::{cargo, paths, say};

/// What `cargo fuzz` passes on a nightly compiler, less the sanitizer, plus
/// the checks that make a wrong sum a finding.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];
/// A decoder that takes more than this for one input is broken.
const LIMITS: &[&str] = &["-rss_limit_mb=512", "-timeout=10", "-verbosity=0"];

/// Builds the targets and runs each for `seconds`, or only those named.
pub fn run(seconds: u64, only: &[String]) -> Result<Tally> {
    let folder = paths::target()?.join("fuzz");
    say("building the fuzz targets");
    let mut build = cargo("build --quiet --release -p fuzz --bins --target");
    build.arg(TARGET);
    build.arg("--target-dir").arg(&folder);
    // Link-time optimisation would lose the counters' section bounds.
    build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    rust_flags(&mut build, FLAGS);
    process::quiet(&mut build)?;

    let targets = targets()?;
    if let Some(unknown) = only.iter().find(|name| !targets.contains(name)) {
        bail!(
            "no fuzz target \"{unknown}\"; there are {}",
            targets.join(", ")
        );
    }
    let chosen = targets
        .iter()
        .filter(|name| only.is_empty() || only.contains(name));
    let next = Mutex::new(chosen);
    let tally = Mutex::new(Tally::default());
    // As many at a time as there are processors.
    let at_a_time = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(name) = take(&next) {
                    say(&format!("fuzzing {name} for {seconds} s"));
                    let program = folder.join(TARGET).join("release").join(name);
                    let outcome = match run_one(&program, name, &folder, seconds) {
                        Ok(()) => Tally::passed(),
                        Err(error) => Tally::failed(format!("fuzz target {name}: {error:#}")),
                    };
                    tally.lock().expect("no target panics").add(outcome);
                }
            });
        }
    });
    Ok(tally.into_inner().expect("no target panics"))
}

fn take<T>(from: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    from.lock().expect("no target panics").next()
}

fn run_one(program: &Path, name: &str, folder: &Path, seconds: u64) -> Result<()> {
    // Inputs that were worth keeping make the next run start further on.
    let corpus = folder.join("corpus").join(name);
    let findings = folder.join("findings").join(name);
    paths::make(&corpus)?;
    paths::make(&findings)?;
    // What a target makes there is gone when it ends, however that is.
    let temporary = paths::Scratch::new(&format!("fuzz-{name}"))?;
    let mut fuzz = command(program);
    fuzz.env("TMPDIR", temporary.path());
    fuzz.args(LIMITS).arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&corpus);
    let seeds = paths::root().join("tests/fuzz/seeds").join(name);
    if seeds.is_dir() {
        fuzz.arg(seeds);
    }
    process::quiet(&mut fuzz)
}

/// The names of the crate's programs.
fn targets() -> Result<Vec<String>> {
    let packages = paths::workspace()?.packages;
    let fuzz = packages
        .into_iter()
        .filter(|package| package.name == "fuzz");
    let targets = fuzz.flat_map(|package| package.targets);
    let programs = targets.filter(|target| target.kind.iter().any(|kind| kind == "bin"));
    Ok(programs.map(|target| target.name).collect())
}
