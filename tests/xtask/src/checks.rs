//! Checks of the sources that need no guest: format, lints, documentation,
//! and what the dependencies may be.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{cargo, paths, process, say};

/// Built once and kept in the cache; a fixed version, so that the same
/// `deny.toml` means the same everywhere.
const CARGO_DENY: &str = "0.20.2";

/// Runs them all and stops at the first that fails.
pub fn all() -> Result<()> {
    say("checking: cargo fmt");
    process::quiet(&mut cargo("fmt --all -- --check -l"))
        .context("these files are not formatted; run `cargo fmt --all`")?;
    say("checking: cargo clippy");
    process::quiet(&mut cargo(
        "clippy --quiet --workspace --all-targets --all-features --locked -- -D warnings",
    ))?;
    say("checking: cargo doc");
    process::quiet(
        cargo("doc --quiet --workspace --no-deps --document-private-items --locked")
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    say("checking: cargo deny");
    let mut deny = process::command(cargo_deny()?);
    deny.args(["--offline", "check", "licenses", "bans", "sources"]);
    process::quiet(deny.current_dir(paths::root()))
}

fn cargo_deny() -> Result<PathBuf> {
    let folder = paths::cache()?.join(format!("tools/cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    let _lock = paths::lock("tools")?;
    if !program.exists() {
        say("cargo-deny: building (about 2 minutes, once)");
        let scratch = paths::Scratch::new("cargo-deny")?;
        let mut install = cargo("install --quiet --locked --no-default-features cargo-deny");
        install
            .args(["--version", CARGO_DENY, "--root"])
            .arg(&folder);
        process::quiet(install.env("CARGO_TARGET_DIR", scratch.path()))?;
    }
    Ok(program)
}
