//! Programs of others that check or package the sources: built by cargo once and kept
//! in the cache. Their versions are fixed, so that they do the same everywhere.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cargo, paths, process, say};

/// A crate with a program of the same name.
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
    /// How long it takes to build on two processors.
    pub minutes: u32,
}

/// Finds the program in the cache or builds it.
pub fn ensure(tool: &Tool) -> Result<PathBuf> {
    let Tool { name, version, .. } = tool;
    let folder = paths::cache()?.join(format!("tools/{name}-{version}"));
    let program = folder.join("bin").join(name);
    let _lock = paths::lock("tools")?;
    if !program.exists() {
        say(&format!(
            "{name}: building (about {} minutes, once)",
            tool.minutes
        ));
        let scratch = paths::Scratch::new(name)?;
        let mut install = cargo("install --quiet --locked --no-default-features");
        install
            .args([name, "--version", version, "--root"])
            .arg(&folder);
        process::quiet(install.env("CARGO_TARGET_DIR", scratch.path()))?;
    }
    Ok(program)
}
