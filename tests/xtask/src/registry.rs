//! Debian's registry of container images, for tests: the program alone, since its
//! package installs a server that starts at once.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::debian_tree;
use crate::{paths, say};

const PACKAGE: &str = "docker-registry";
const PROGRAM: &str = "usr/bin/docker-registry";

/// Finds the program in the cache or fetches it. A newer one is taken when the cache is
/// removed.
pub fn ensure() -> Result<PathBuf> {
    let folder = paths::cache()?.join("images");
    let _lock = paths::lock("images")?;
    let program = folder.join(PACKAGE);
    if !program.exists() {
        say("fetching a registry of images (30 MB, once)");
        paths::make(&folder)?;
        let scratch = paths::Scratch::new(PACKAGE)?;
        let tree = scratch.path().join("tree");
        debian_tree::make(&[PACKAGE], scratch.path(), &tree)
            .with_context(|| format!("fetch {PACKAGE}"))?;
        fs::rename(tree.join(PROGRAM), &program)
            .with_context(|| format!("keep {}", program.display()))?;
    }
    Ok(program)
}
