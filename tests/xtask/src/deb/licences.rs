//! Whose work is in the package, and on what terms: Debian's machine-readable
//! `copyright` (DEP-5), and the licences of the linked crates word by word.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::{self, command};
use crate::{cargo, guest, paths};

/// The crates whose programs and libraries are packaged.
const PACKAGED: [&str; 5] = [
    "shem_cli",
    "ya_runtime",
    "net",
    "guest_init",
    "ya_self_test",
];
/// Beginnings of the names of licence files, in capitals.
const FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
/// Licences whose text every Debian has, by the name that it has there.
const COMMON: [(&str, &str); 3] = [
    ("Apache-2.0", "Apache-2.0"),
    ("GPL-2", "GPL-2"),
    ("LGPL-2.1+", "LGPL-2.1"),
];
const OURS: &str = "Apache-2.0 or BSD-3-Clause";

/// What is told of licences.
pub struct Licences {
    /// The file `copyright`.
    pub copyright: String,
    /// The crates' own texts.
    pub texts: String,
}

/// A crate that is linked in.
struct Crate {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    files: Vec<(String, String)>,
}

/// Collects them for the package with this kernel pack.
pub fn collect(kernel: &Path) -> Result<Licences> {
    let crates = linked_crates()?;
    Ok(Licences {
        copyright: copyright(&crates, kernel)?,
        texts: texts(&crates),
    })
}

/// Those of others, by name and version.
fn linked_crates() -> Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        license: Option<String>,
        authors: Vec<String>,
        manifest_path: PathBuf,
        /// Where it is from; what is ours is from nowhere.
        source: Option<String>,
    }
    let mut tree = cargo("tree --locked --edges normal,no-proc-macro --prefix none");
    tree.args(["--target", guest::TARGET, "--format", "{p}"]);
    for name in PACKAGED {
        tree.args(["--package", name]);
    }
    let tree = process::output(&mut tree)?;
    // Lines are `NAME vVERSION`, with more behind what was shown before.
    let linked: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    let metadata = process::output(&mut cargo("metadata --locked --format-version=1"))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let mut crates = Vec::new();
    for package in metadata.packages {
        let known = linked.contains(&(package.name.as_str(), package.version.as_str()));
        if !known || package.source.is_none() {
            continue;
        }
        let licence = package.license;
        let licence = licence.with_context(|| format!("{} has no licence", package.name))?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
        crates.push(Crate {
            files: licence_files(folder)?,
            licence: in_debian_words(&licence),
            authors: package.authors,
            name: package.name,
            version: package.version,
        });
    }
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    ensure!(!crates.is_empty(), "cargo names no linked crates");
    Ok(crates)
}

/// Names and texts, in the order of names.
fn licence_files(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let capitals = name.to_uppercase();
        let is_licence = FILES.iter().any(|start| capitals.starts_with(start));
        if is_licence && path.is_file() {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            files.push((name.into_owned(), text));
        }
    }
    files.sort();
    Ok(files)
}

/// SPDX's expression as DEP-5 has it.
fn in_debian_words(licence: &str) -> String {
    licence
        .replace('/', " or ")
        .replace(" OR ", " or ")
        .replace(" AND ", " and ")
        .replace(" WITH LLVM-exception", " with LLVM exception")
}

fn copyright(crates: &[Crate], kernel: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Pack {
        version: String,
        origin: String,
    }
    let path = kernel.join("pack.json");
    let pack = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let pack: Pack = serde_json::from_slice(&pack)
        .with_context(|| format!("{} describes no kernel", path.display()))?;
    let glibc = command("dpkg-query")
        .args(["-W", "-f=${source:Package} ${source:Version}", "libc6-dev"])
        .output();
    let glibc = String::from_utf8_lossy(&glibc.context("run dpkg-query")?.stdout).into_owned();

    let mut text = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: shem\n\
         Comment: Sections of crates/ name what is linked into programs; the crates' own\n \
         licences are, word by word, in licences.txt beside this file.\n",
    );
    let mut section = |files: &str, whose: &[&str], licence: &str, comment: &str| {
        let whose = whose.join("\n           ");
        // A string takes everything.
        let _ = write!(
            text,
            "\nFiles: {files}\nCopyright: {whose}\nLicense: {licence}\n"
        );
        if !comment.is_empty() {
            let _ = writeln!(text, "Comment: {comment}");
        }
    };
    section("*", &["2026 The shem authors"], OURS, "");
    section(
        "usr/lib/shem/kernels/*",
        &["Linus Torvalds and the other authors of Linux"],
        "GPL-2",
        &format!(
            "Linux {} with Debian's patches, from Debian's package {}.\n \
             Its sources are in that package, by `apt-get source` or from\n \
             https://snapshot.debian.org/, its configuration is tuned.config beside this\n \
             file, and `cargo xtask kernel tuned` of shem's sources builds it from both.",
            pack.version, pack.origin
        ),
    );
    section(
        "usr/lib/shem/guest-init usr/lib/yagna/plugins/ya-runtime-shem/runtime/self-test.gvmi",
        &["2026 The shem authors", "The authors of the GNU C library"],
        &format!("{OURS}, and LGPL-2.1+"),
        &format!(
            "Linked with the C library of Debian's {glibc}; `cargo xtask deb` of\n \
             shem's sources links them again with another."
        ),
    );
    section(
        "crates/std/*",
        &["The authors of Rust's standard library"],
        "MIT or Apache-2.0",
        "",
    );
    for linked in crates {
        let whose = linked.whose();
        let whose: Vec<&str> = whose.iter().map(String::as_str).collect();
        let files = format!("crates/{}-{}/*", linked.name, linked.version);
        section(&files, &whose, &linked.licence, "");
    }
    for (licence, name) in COMMON {
        let _ = write!(
            text,
            "\nLicense: {licence}\n On Debian its text is /usr/share/common-licenses/{name}.\n"
        );
    }
    let ours = paths::root().join("LICENSE-BSD-3-Clause");
    let ours = fs::read_to_string(&ours).with_context(|| format!("read {}", ours.display()))?;
    let _ = write!(text, "\nLicense: BSD-3-Clause\n{}", indented(&ours));
    for licence in others(crates) {
        let _ = write!(
            text,
            "\nLicense: {licence}\n The texts of those who chose it are in licences.txt.\n"
        );
    }
    Ok(text)
}

/// Licences that the crates name and that have no text yet.
fn others(crates: &[Crate]) -> BTreeSet<&str> {
    crates
        .iter()
        .flat_map(|linked| linked.licence.split(" or "))
        .flat_map(|choice| choice.split(" and "))
        .map(|name| name.trim_matches(['(', ')']))
        .filter(|name| *name != "BSD-3-Clause" && COMMON.iter().all(|(common, _)| name != common))
        .collect()
}

/// Lines of a text as DEP-5 has them.
fn indented(text: &str) -> String {
    let lines = text.trim_end().lines().map(|line| match line {
        "" => " .\n".into(),
        line => format!(" {line}\n"),
    });
    lines.collect()
}

impl Crate {
    /// The notices in its licences, else its authors.
    fn whose(&self) -> Vec<String> {
        let lines = self.files.iter().flat_map(|(_, text)| text.lines());
        let notices: BTreeSet<&str> = lines
            .map(str::trim)
            .filter(|line| is_notice(line))
            .collect();
        if !notices.is_empty() {
            return notices.into_iter().map(str::to_owned).collect();
        }
        match self.authors.as_slice() {
            [] => vec![format!("The authors of {}", self.name)],
            authors => authors.to_vec(),
        }
    }
}

/// Whether a line is somebody's notice, not one of the words about notices that
/// licences have.
fn is_notice(line: &str) -> bool {
    let notice = line.starts_with("Copyright ") && !line.contains('[');
    notice && (line.contains("(c)") || line.contains("(C)") || line.contains(char::is_numeric))
}

/// Every text once, below the names of the crates that it is of.
fn texts(crates: &[Crate]) -> String {
    let mut by_text: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for linked in crates {
        for (file, text) in &linked.files {
            let name = format!("{} {}: {file}", linked.name, linked.version);
            by_text.entry(text.trim()).or_default().push(name);
        }
    }
    let rule = "-".repeat(78);
    let mut sections: Vec<(Vec<String>, &str)> = by_text
        .into_iter()
        .map(|(text, names)| (names, text))
        .collect();
    sections.sort();
    let mut all = String::new();
    for (names, text) in sections {
        let _ = write!(all, "{}\n{rule}\n\n{text}\n\n{rule}\n", names.join("\n"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_licence_of_a_crate_is_named_and_every_notice_kept() {
        let linked = |licence: &str, text: &str| Crate {
            name: "some".into(),
            version: "1.0.0".into(),
            licence: in_debian_words(licence),
            authors: vec!["Ann <ann@example.com>".into()],
            files: vec![("LICENSE".into(), text.into())],
        };
        let mit = "MIT License\n\nCopyright (c) 2020 Bob\n\nThe above copyright notice …\n";
        let apache = "  Copyright [yyyy] [name of copyright owner]\n Copyright License. Subject";
        let crates = [
            linked("Apache-2.0 WITH LLVM-exception OR MIT", mit),
            linked("Zlib/Apache-2.0 AND (Unicode-3.0 OR BSD-3-Clause)", apache),
        ];
        let expected = [
            "Apache-2.0 with LLVM exception",
            "MIT",
            "Unicode-3.0",
            "Zlib",
        ];
        assert_eq!(others(&crates), expected.into());
        assert_eq!(crates[0].whose(), ["Copyright (c) 2020 Bob"]);
        assert_eq!(crates[1].whose(), ["Ann <ann@example.com>"]);
        let all = texts(&crates);
        assert!(
            all.contains("some 1.0.0: LICENSE") && all.contains("Bob"),
            "{all}"
        );
    }
}
