//! `cargo xtask deb`: Debian's package of the runtime, `shem`, a kernel and what they
//! need. What lies where in it says `vmm/ya-runtime/Cargo.toml`; here that is built.

mod licences;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guest::Built;
use crate::kernel::{self, Pack};
use crate::process::{self, command};
use crate::{paths, say, tool};

/// Built once and kept in the cache.
const CARGO_DEB: tool::Tool = tool::Tool {
    name: "cargo-deb",
    version: "3.8.0",
    minutes: 3,
};
/// The crate that describes the package.
const CRATE: &str = "ya_runtime";
/// Shells, each with the name of its file of completions.
const SHELLS: [(&str, &str); 3] = [("bash", "shem"), ("zsh", "_shem"), ("fish", "shem.fish")];

/// Makes the package of what was built, and gives its file.
pub fn build(built: &Built) -> Result<PathBuf> {
    let kernel = kernel::ensure(Pack::Tuned)?;
    let cargo_deb = tool::ensure(&CARGO_DEB)?;
    say("making the package");
    // Where cargo-deb finds what the description has below `target/release`.
    let folder = built.shem.parent().expect("a file is in a folder");
    let staged = folder.join("deb");
    if staged.exists() {
        fs::remove_dir_all(&staged).with_context(|| format!("remove {}", staged.display()))?;
    }
    paths::make(&staged)?;
    for name in ["vmlinux", "pack.json"] {
        copy(&kernel.join(name), &staged.join(name))?;
    }
    for (shell, name) in SHELLS {
        let text = process::output(command(&built.shem).args(["completions", shell]))?;
        write(&staged.join(name), &(text + "\n"))?;
    }
    let licences = licences::collect(&kernel)?;
    write(&staged.join("copyright"), &licences.copyright)?;
    write(&staged.join("licences.txt"), &licences.texts)?;

    let package = paths::target()?.join("debian");
    let mut deb = command(cargo_deb);
    deb.current_dir(paths::root())
        .args(["--package", CRATE, "--no-build", "--no-strip", "--locked"])
        .args(["--quiet", "--compress-system", "--output"])
        .arg(&package);
    // It prints the file that it made.
    Ok(PathBuf::from(process::output(&mut deb)?))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
