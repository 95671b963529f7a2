//! `shem plugin new`: the sources of a plugin that builds, passes its own test and
//! can be run.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::args::{Language, NewPluginArgs};
use crate::status;

/// Longest name, as of all plugins and drivers.
const MAX_NAME: usize = 64;
/// The sources that this program was built from, if they are still there.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Where packages put the sources of the SDK.
const SYSTEM_SOURCES: &str = "/usr/share/shem/sdk";
/// The SDK in shem's sources.
const SDK: &str = "plugins/sdk";

/// Files of a project, with what stands for its name in path and text.
const RUST: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("new/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("new/rust/lib.rs.in")),
    ("README.md", include_str!("new/rust/README.md.in")),
    (".gitignore", include_str!("new/rust/gitignore.in")),
];
const C: [(&str, &str); 4] = [
    ("@NAME@.c", include_str!("new/c/plugin.c.in")),
    ("Makefile", include_str!("new/c/Makefile.in")),
    ("README.md", include_str!("new/c/README.md.in")),
    (".gitignore", include_str!("new/c/gitignore.in")),
];

/// Carries the command out.
pub fn run(args: &NewPluginArgs) -> Result<u8> {
    check_name(&args.name)?;
    let mut sdk = String::new();
    let mut files: Vec<(PathBuf, &str)> = Vec::new();
    let templates = match args.lang {
        Language::Rust => {
            let folder = sdk_folder(args.sdk.as_deref())?;
            // What JSON quotes, TOML reads.
            let folder = folder.to_str().context("the SDK's path is not UTF-8")?;
            sdk = serde_json::to_string(folder)?;
            RUST
        }
        Language::C => {
            let headers = plugin_abi::HEADERS.iter();
            files.extend(headers.map(|(path, text)| (Path::new("include").join(path), *text)));
            C
        }
    };
    let filled = |text: &str| {
        text.replace("@NAME@", &args.name)
            .replace("@LIB@", &args.name.replace('-', "_"))
            .replace("@SDK@", &sdk)
    };
    files.extend(templates.map(|(path, text)| (filled(path).into(), text)));
    let folder = args
        .path
        .clone()
        .unwrap_or_else(|| args.name.clone().into());
    fs::create_dir(&folder).with_context(|| format!("make the folder {}", folder.display()))?;
    for (path, text) in files {
        if let Err(error) = write(&folder.join(path), &filled(text)) {
            // What is there is ours alone; without it the command can be tried again.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
    }
    let next = match args.lang {
        Language::Rust => "cargo test",
        Language::C => "make test",
    };
    let place = folder.display();
    writeln!(io::stdout(), "{place}: made; next: cd {place} && {next}")?;
    Ok(status::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// As of plugins and drivers, and narrower: it is a name for Cargo and for files too.
fn check_name(name: &str) -> Result<()> {
    let sound =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    ensure!(
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(sound)
            && name.len() <= MAX_NAME,
        "{name:?} is no name for a plugin: write a letter, then letters, digits and -, \
         in lower case, at most {MAX_NAME}"
    );
    Ok(())
}

/// The crate `plugin_sdk`: in the folder that was named, else in shem's sources where
/// they are.
fn sdk_folder(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        let found = sdk_in(named);
        return found.with_context(|| {
            format!(
                "{}: these are not shem's sources, there is no {SDK} in it",
                named.display()
            )
        });
    }
    let known = [BUILT_FROM, SYSTEM_SOURCES];
    match known.iter().find_map(|folder| sdk_in(Path::new(folder))) {
        Some(found) => Ok(found),
        None => bail!(
            "shem's sources, with the crate plugin_sdk, are not at {}: \
             get them and name their folder by --sdk or SHEM_SDK, or use --lang c",
            known.join(" nor at ")
        ),
    }
}

/// Its absolute path, if it is in `sources`.
fn sdk_in(sources: &Path) -> Option<PathBuf> {
    let folder = sources.join(SDK);
    let is_there = folder.join("Cargo.toml").is_file();
    is_there.then(|| folder.canonicalize().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_plugins_and_of_packages() {
        for name in ["a", "net-tap", "x2", &"a".repeat(64)] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "-a",
            "2x",
            "Net",
            "a_b",
            "a/b",
            "../a",
            "ä",
            &"a".repeat(65),
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("is no name for a plugin"), "{error}");
        }
    }

    #[test]
    fn sources_that_were_named_are_taken_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = sdk_folder(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("no plugins/sdk in it"), "{error}");
        let sdk = folder.path().join(SDK);
        fs::create_dir_all(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "").unwrap();
        let found = sdk_folder(Some(folder.path())).unwrap();
        assert_eq!(found, sdk.canonicalize().unwrap());
    }
}
