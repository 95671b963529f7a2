//! Plugins as a newcomer makes them, by `shem plugin new`: built here, as a compiler
//! would take an hour in the lab. What else their READMEs say is tried by the tests of
//! the command.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{self, command};
use crate::{cargo, paths, say};

/// Makes and builds one of each language; the folder of their libraries.
pub fn build(shem: &Path) -> Result<PathBuf> {
    say("making plugins as a newcomer does");
    let target = paths::target()?;
    let place = target.join("newcomer");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    paths::make(&place)?;
    for (name, language) in [("demo-rust", "rust"), ("demo-c", "c")] {
        let mut new = command(shem);
        new.args(["plugin", "new", name, "--lang", language])
            .arg("--path")
            .arg(place.join(name))
            .arg("--sdk")
            .arg(paths::root());
        process::quiet(&mut new)?;
    }

    let rust = place.join("demo-rust");
    // The versions that this workspace has fetched.
    let lock = rust.join("Cargo.lock");
    fs::copy(paths::root().join("Cargo.lock"), &lock).context("copy Cargo.lock")?;
    let mut build = cargo("build --quiet");
    build.current_dir(&rust).arg("--target-dir").arg(&target);
    process::quiet(&mut build)?;
    let name = "libshem_demo_rust.so";
    // Not left where plugins are looked for.
    fs::rename(target.join("debug").join(name), place.join(name))
        .with_context(|| format!("move {name}"))?;

    let c = place.join("demo-c");
    process::quiet(command("make").arg("--silent").arg("-C").arg(&c))?;
    let name = "libshem_demo_c.so";
    fs::copy(c.join(name), place.join(name)).with_context(|| format!("copy {name}"))?;
    Ok(place)
}
