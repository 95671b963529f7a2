//! `shem` as a user without rights runs it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::exe_unit::{Activity, Provider};
use crate::{Folder, Shem, demo_image, runtime, variable};

/// The user and group `nobody`, whose ids are the same everywhere.
const NOBODY: u32 = 65_534;
const RUNTIME: &str = "ya-runtime-shem";
/// For the programs, a kernel, guest-init and the demo image.
const ROOM: u64 = 256 << 20;

/// An installation that user nobody can read, as the checkout and the store of
/// who runs the tests need not be. Where we are not root ourselves, `shem` runs
/// as who we are.
pub struct Unprivileged(Folder);

impl Unprivileged {
    /// Installs it.
    pub fn new() -> Self {
        let folder = Folder::of(ROOM);
        let kernel = folder.join("kernels/tuned");
        fs::create_dir_all(&kernel).unwrap();
        let vmlinux = crate::kernel("tuned").vmlinux();
        let pack = vmlinux.parent().expect("a file is in a folder");
        for entry in fs::read_dir(pack).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() {
                install(&file, &kernel.join(file.file_name().unwrap()));
            }
        }
        install(&variable("SHEM_BIN"), &folder.join("shem"));
        install(&variable("SHEM_GUEST_INIT"), &folder.join("guest-init"));
        install(&demo_image(), &folder.join("demo.gvmi"));
        install(&runtime(), &folder.join(RUNTIME));
        Unprivileged(folder)
    }

    /// `shem run OPTIONS… demo.gvmi -- CMD…`.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Shem {
        let image = self.0.join("demo.gvmi");
        let mut shem = Shem::of(&self.0.join("shem"), &["run", "--kernel", "tuned"]);
        let words = shem.command();
        words.args(options).arg(image).arg("--").args(command);
        words
            .env("SHEM_STORE", self.0.path())
            .env("SHEM_GUEST_INIT", self.0.join("guest-init"))
            .env("HOME", self.0.path());
        if geteuid().is_root() {
            words.uid(NOBODY).gid(NOBODY);
        }
        shem
    }

    /// An activity of the user's in a folder of theirs.
    pub fn activity(&self, folder: &Folder) -> Activity {
        self.give(folder);
        let mut activity = Activity::new(folder.path(), &[&self.0.join("demo.gvmi")]);
        if geteuid().is_root() {
            chown(&activity.workdir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        activity.provider = Some(Provider {
            program: self.0.join(RUNTIME),
            env: vec![
                ("SHEM_STORE", self.0.path().to_owned()),
                ("SHEM_GUEST_INIT", self.0.join("guest-init")),
                ("HOME", self.0.path().to_owned()),
            ],
            user: geteuid().is_root().then_some(NOBODY),
        });
        activity
    }

    /// Gives a folder to the user.
    pub fn give(&self, folder: &Folder) {
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

impl Default for Unprivileged {
    fn default() -> Self {
        Unprivileged::new()
    }
}

fn install(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}
