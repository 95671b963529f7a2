//! Checks of the sources that need no guest: format, lints, documentation,
//! and what the dependencies may be.

use anyhow::{Context, Result};

use crate::{cargo, paths, process, say, tool};

/// In a fixed version, so that the same `deny.toml` means the same everywhere.
const CARGO_DENY: tool::Tool = tool::Tool {
    name: "cargo-deny",
    version: "0.20.2",
    minutes: 2,
};

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
    let mut deny = process::command(tool::ensure(&CARGO_DENY)?);
    deny.args(["--offline", "check", "licenses", "bans", "sources"]);
    process::quiet(deny.current_dir(paths::root()))
}
