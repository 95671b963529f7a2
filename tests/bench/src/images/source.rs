//! A container image of this machine's own programs, in the forms that it may have.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::run::done;

/// Where files are taken from: what an image of a distribution has too.
const FROM: &str = "/usr";
const LAYERS: usize = 3;

/// An image that lies in a folder of its own, which goes with this value.
pub struct Source {
    dir: TempDir,
    tree: Tree,
}

/// The image's files, unpacked.
pub struct Tree {
    /// Their folder.
    pub path: PathBuf,
    /// How many.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// A form of the image.
pub struct Form {
    /// As people call it.
    pub name: &'static str,
    /// As `shem image build` is told.
    pub source: String,
}

impl Source {
    /// With some `bytes` of files.
    pub fn make(bytes: u64) -> Result<Self> {
        // Not of memory: it takes several times the bytes.
        let dir = TempDir::new_in("/var/tmp")?;
        let (files, found) = choose(bytes)?;
        let tree = dir.path().join("tree");
        fs::create_dir(&tree)?;
        let count = files.len();
        let share = count.div_ceil(LAYERS);
        for (number, files) in files.chunks(share).enumerate() {
            layer(dir.path(), number, files, &tree)?;
        }
        describe(dir.path())?;
        let folder = dir.path().display();
        let oci = format!("oci:{folder}/layout:bench");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "--tmpdir", "/var/tmp", "copy", "-q"]);
        done(skopeo.args([format!("docker-archive:{folder}/saved.tar"), oci]))?;
        Ok(Source {
            tree: Tree {
                path: tree,
                files: count,
                bytes: found,
            },
            dir,
        })
    }

    /// The folder that all is in.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// All of its forms.
    pub fn forms(&self) -> [Form; 2] {
        let folder = self.folder().display();
        [
            Form {
                name: "from `docker save`'s archive, layers plain",
                source: format!("docker-archive:{folder}/saved.tar"),
            },
            Form {
                name: "from an OCI layout, layers in gzip",
                source: format!("oci:{folder}/layout:bench"),
            },
        ]
    }
}

/// Regular files and links, in the order of their names, until there are enough bytes.
fn choose(bytes: u64) -> Result<(Vec<PathBuf>, u64)> {
    let mut found = Vec::new();
    let mut sum = 0;
    let mut folders = vec![PathBuf::from(FROM)];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if sum < bytes && (kind.is_file() || kind.is_symlink()) {
                sum += entry.metadata()?.size();
                found.push(entry.path());
            }
        }
    }
    ensure!(
        sum >= bytes,
        "{FROM} has no more than {} MiB of files",
        sum >> 20
    );
    Ok((found, sum))
}

/// A layer's archive, which is unpacked into the tree.
fn layer(dir: &Path, number: usize, files: &[PathBuf], tree: &Path) -> Result<()> {
    let list = dir.join("list");
    let names: Vec<&[u8]> = files
        .iter()
        .map(|file| file.as_os_str().as_bytes())
        .collect();
    fs::write(&list, names.join(&0))?;
    let archive = dir.join(format!("{number}.tar"));
    let mut tar = Command::new("tar");
    tar.args([
        "-C",
        "/",
        "--null",
        "--no-recursion",
        "--hard-dereference",
        "-T",
    ])
    .arg(&list)
    .arg("-cf")
    .arg(&archive);
    done(&mut tar)?;
    done(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(tree),
    )
}

/// What `docker save` would have written beside the layers, and all in one archive.
fn describe(dir: &Path) -> Result<()> {
    let layers: Vec<String> = (0..LAYERS).map(|number| format!("{number}.tar")).collect();
    let mut sums = Vec::new();
    for layer in &layers {
        let output = Command::new("sha256sum").arg(dir.join(layer)).output()?;
        let text = String::from_utf8(output.stdout)?;
        let sum = text.split(' ').next().context("sha256sum prints a sum")?;
        sums.push(format!("sha256:{sum}"));
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": sums },
        "history": sums.iter().map(|_| json!({})).collect::<Vec<_>>(),
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["bench:1"], "Layers": layers }]);
    for (name, value) in [("config.json", config), ("manifest.json", manifest)] {
        fs::File::create(dir.join(name))?.write_all(value.to_string().as_bytes())?;
    }
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-cf").arg(dir.join("saved.tar"));
    let names: Vec<OsString> = layers.into_iter().map(Into::into).collect();
    done(tar.args(names).args(["config.json", "manifest.json"]))
}
