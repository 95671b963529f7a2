//! `cargo xtask test`: everything that can be tested, with the set-up that it
//! needs.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde::Deserialize;

use crate::guest::{self, Built};
use crate::kernel::{self, Pack};
use crate::lab::shell_word;
use crate::place::Place;
use crate::process::{self, show};
use crate::tally::{Counter, Tally};
use crate::{
    cargo, checks, deb, debian_image, debian_root, fuzz, newcomer, packages, paths, registry, say,
};

/// Seconds for each fuzz target, every day and in the long run.
const FUZZ_SECONDS: u64 = 5;
const LONG_FUZZ_SECONDS: u64 = 600;
/// Longest time for all end-to-end tests together.
const E2E_LIMIT: Duration = Duration::from_secs(45 * 60);
const LONG_E2E_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// End-to-end tests that start no guest: they run here where we are root, many times as
/// fast as in the lab.
const WITHOUT_GUESTS: &[&str] = &["image_trees"];

/// Which tests.
pub struct Selection {
    /// Also what is too slow for every day.
    pub long: bool,
    /// Only tests whose names contain one of these, and nothing else than
    /// tests; empty for all.
    pub filter: Vec<String>,
}

/// Runs the selected tests, prints the closing line and gives the exit status.
pub fn run(selection: &Selection) -> Result<i32> {
    let everything = selection.filter.is_empty();
    packages::ensure()?;
    if everything {
        checks::all()?;
    }
    let mut tally = unit_tests(&selection.filter)?;
    if everything {
        let seconds = if selection.long {
            LONG_FUZZ_SECONDS
        } else {
            FUZZ_SECONDS
        };
        tally.add(fuzz::run(seconds, &[])?);
    }
    let end_to_end = end_to_end_tests(selection)?;
    let skipped = end_to_end.skipped;
    tally.add(end_to_end);
    println!("{tally}");
    ensure!(tally.ran() > 0, "no test has a name like that");
    ensure!(skipped == 0, "end-to-end tests were skipped");
    Ok(i32::from(tally.failed > 0))
}

/// Unit, device and documentation tests: no KVM, no root, no network.
fn unit_tests(filter: &[String]) -> Result<Tally> {
    say("unit, device and documentation tests");
    let tests = "test --quiet --workspace --exclude e2e_tests --no-fail-fast --locked --";
    let mut test = cargo(tests);
    test.args(filter);
    let mut test = test
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{}`", show(&test)))?;
    let mut counter = Counter::new(io::stdout());
    io::copy(
        &mut test.stdout.take().expect("stdout is piped"),
        &mut counter,
    )?;
    let status = test.wait().context("wait for cargo")?;
    let mut tally = counter.into_tally();
    if !status.success() && tally.failed == 0 {
        let why = "a unit test program did not compile or did not get to its end";
        tally.add(Tally::failed(why.into()));
    }
    Ok(tally)
}

/// Tests that boot guests, with both kernel packs, all in one lab boot where
/// KVM is missing.
fn end_to_end_tests(selection: &Selection) -> Result<Tally> {
    for pack in [Pack::Stock, Pack::Tuned] {
        kernel::ensure(pack)?;
    }
    let built = guest::build()?;
    let programs = build_end_to_end(selection.long)?;
    let place = Place::choose(&built.shem);
    let mut env = environment(&built)?;
    let newcomer = newcomer::build(&built.shem)?;
    env.push(("SHEM_NEWCOMER".into(), newcomer.into()));
    env.push(("SHEM_PACKAGE".into(), deb::build(&built)?.into()));
    env.push(("SHEM_DEBIAN_ROOT".into(), debian_root::ensure()?.into()));
    env.push(("SHEM_REGISTRY".into(), registry::ensure()?.into()));
    if selection.long {
        env.push(("SHEM_TEST_LONG".into(), "1".into()));
        let image = debian_image::ensure(&built.shem)?;
        env.push(("SHEM_DEBIAN_IMAGE".into(), image.into()));
    }
    let limit = if selection.long {
        LONG_E2E_LIMIT
    } else {
        E2E_LIMIT
    };
    let (here, there): (Vec<PathBuf>, Vec<PathBuf>) = programs
        .into_iter()
        .partition(|program| geteuid().is_root() && WITHOUT_GUESTS.contains(&&*name(program)));
    let mut tally = Tally::default();
    for (place, programs) in [(Place::Here, here), (place, there)] {
        tally.add(run_programs(
            &place,
            &programs,
            &env,
            &selection.filter,
            limit,
        )?);
    }
    Ok(tally)
}

/// Runs test programs, one after the other.
fn run_programs(
    place: &Place,
    programs: &[PathBuf],
    env: &[(OsString, OsString)],
    filter: &[String],
    limit: Duration,
) -> Result<Tally> {
    say("end-to-end tests");
    let argv = vec!["sh".into(), "-c".into(), script(programs, filter)];
    let mut out = Counter::new(io::stdout());
    let outcome = place.run(argv, env.to_vec(), limit, &mut out, &mut io::stderr());
    out.flush()?;
    let mut tally = out.into_tally();
    match outcome {
        Err(error) => tally.add(Tally::failed(format!("end-to-end tests: {error:#}"))),
        Ok(0) => {}
        Ok(code) if tally.failed == 0 => {
            let why = format!("end-to-end tests: exit status {code} without a failed test");
            tally.add(Tally::failed(why));
        }
        Ok(_) => {}
    }
    Ok(tally)
}

/// What programs that start VMs are told about this checkout's.
pub fn environment(built: &Built) -> Result<Vec<(OsString, OsString)>> {
    Ok(vec![
        ("SHEM_BIN".into(), built.shem.clone().into()),
        ("SHEM_RUNTIME".into(), built.runtime.clone().into()),
        ("SHEM_GUEST_INIT".into(), built.guest_init.clone().into()),
        ("SHEM_DEMO_IMAGE".into(), built.demo_image.clone().into()),
        (
            "SHEM_GUEST_PROGRAMS".into(),
            built.guest_programs.clone().into(),
        ),
        ("SHEM_STORE".into(), paths::store()?.into()),
    ])
}

/// A shell script that runs every program and fails when one of them did. All output
/// goes one way, so that it stays in order.
fn script(programs: &[PathBuf], filter: &[String]) -> OsString {
    let mut script = OsString::from("failed=0\n");
    for program in programs {
        script.push(format!("echo '==> {}'\n", name(program)));
        script.push(shell_word(program.as_os_str()));
        for word in filter {
            script.push(" ");
            script.push(shell_word(word.as_ref()));
        }
        script.push(" 2>&1 || failed=1\n");
    }
    script.push("exit $failed\n");
    script
}

/// The name of a test program, which Cargo ends in `-` and a hash.
fn name(program: &Path) -> String {
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.rsplit_once('-').map_or(&*name, |(name, _hash)| name);
    name.to_owned()
}

/// Builds the test programs without running them, because a compiler would
/// take an hour in the lab.
fn build_end_to_end(long: bool) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        profile: Option<Profile>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    say("building the end-to-end tests");
    let mut build = cargo(
        "test --quiet --profile e2e --no-run --locked -p e2e_tests \
         --message-format=json-render-diagnostics",
    );
    if long {
        build.args(["--features", "long"]);
    }
    let messages = process::output(&mut build)?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).context("read cargo's messages")?;
        if message.profile.is_some_and(|profile| profile.test) {
            programs.extend(message.executable);
        }
    }
    Ok(programs)
}
