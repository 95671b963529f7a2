//! Container images that Debian's own tools make, unpack and copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Folder;

/// Room for a Debian in several copies, which is taken when used.
const ROOM: u64 = 8 << 30;

/// An OCI layout in a folder of its own, made with umoci. Takes root, for owners and
/// devices. The folder has a file system of its own: umoci tells hard links by inode
/// numbers, which others give out twice, and needs extended attributes.
pub struct Layout {
    folder: Folder,
}

impl Layout {
    /// With one image, `TAG`, that has no layer yet.
    pub fn new(tag: &str) -> Self {
        let layout = Layout {
            folder: Folder::of(ROOM),
        };
        umoci(&["init", "--layout", &layout.text()]);
        umoci(&["new", "--image", &layout.image(tag)]);
        layout
    }

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.folder.join("layout")
    }

    /// Another name beside the layout's folder, which is gone with it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self) -> String {
        self.path().display().to_string()
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.text())
    }

    /// Unpacks the image and gives the folder of its files.
    pub fn unpack(&self, tag: &str, name: &str) -> PathBuf {
        let bundle = self.beside(name);
        let text = bundle.display().to_string();
        umoci(&["unpack", "--image", &self.image(tag), &text]);
        bundle.join("rootfs")
    }

    /// Adds a layer that has in it what `change` does to the files.
    pub fn layer(&self, tag: &str, change: impl FnOnce(&Path)) {
        let root = self.unpack(tag, "bundle");
        change(&root);
        let bundle = self.beside("bundle");
        let text = bundle.display().to_string();
        umoci(&["repack", "--image", &self.image(tag), &text]);
        fs::remove_dir_all(bundle).unwrap();
    }

    /// Adds a layer that has the folder `from` in the place of the image's `to`.
    pub fn replace(&self, tag: &str, from: &Path, to: &str) {
        let from = from.display().to_string();
        umoci(&["insert", "--image", &self.image(tag), "--opaque", &from, to]);
    }

    /// Sets what the image says of how it runs, in umoci's words.
    pub fn configure(&self, tag: &str, words: &[&str]) {
        let image = self.image(tag);
        umoci(&[&["config", "--image", &image], words].concat());
    }

    /// Copies the image with skopeo, to a place named as skopeo does.
    pub fn copy(&self, tag: &str, words: &[&str], to: &str) {
        let from = format!("oci:{}", self.image(tag));
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "--tmpdir", "/var/tmp", "copy", "-q"]);
        done(skopeo.args(words).args([&*from, to]));
    }
}

fn umoci(words: &[&str]) {
    done(Command::new("umoci").args(words));
}

/// Runs it to its end, which must be a success.
#[track_caller]
fn done(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
