//! Where kernel packs and the guest's init lie on this host.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::volumes::NamedVolumes;

/// Packs by preference, when none is asked for.
const PREFERENCE: [&str; 2] = ["tuned", "stock"];
/// Where packages install what all users share.
const SYSTEM: &str = "/usr/lib/shem";
const GUEST_INIT: &str = "guest-init";

/// Why something was not found, or is no good.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No kernel pack at all, or none of that name.
    #[error(
        "there is no kernel pack {name:?} (looked in {looked}); make one with `cargo xtask kernel stock`"
    )]
    NoKernel {
        /// The name asked for, or the names tried.
        name: String,
        /// The folders, for the user.
        looked: String,
    },
    /// A pack's description cannot be read.
    #[error("read the kernel pack's description {}; make the pack again with `cargo xtask kernel stock`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pack's description is not one.
    #[error("{} does not describe a kernel pack; make the pack again with `cargo xtask kernel stock`", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A pack names a module with a path in it, or lacks a file.
    #[error("the kernel pack {} is broken: {what}; make it again with `cargo xtask kernel stock`", path.display())]
    Broken {
        /// The pack's folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The guest's init was not built or not installed.
    #[error("the guest's init was not found (looked for {looked}); `cargo xtask run` builds it")]
    NoGuestInit {
        /// The paths, for the user.
        looked: String,
    },
}

/// The folders in which kernel packs and the guest's init are looked for.
#[derive(Clone, Debug)]
pub struct Store {
    /// In order of preference.
    folders: Vec<PathBuf>,
    guest_init: Vec<PathBuf>,
}

impl Store {
    /// The store of this user and this host: `$SHEM_STORE`, else
    /// `$XDG_DATA_HOME/shem`, else `~/.local/share/shem`; then `/usr/lib/shem`.
    /// The guest's init is looked for at `$SHEM_GUEST_INIT`, beside the running
    /// program, and in these folders.
    pub fn discover() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let user = set("SHEM_STORE").map(PathBuf::from).or_else(|| {
            let data = set("XDG_DATA_HOME").map(PathBuf::from);
            let home = || set("HOME").map(|home| Path::new(&home).join(".local/share"));
            Some(data.or_else(home)?.join("shem"))
        });
        let program = env::current_exe().ok();
        Self::from_places(user, set("SHEM_GUEST_INIT"), program.as_deref())
    }

    fn from_places(user: Option<PathBuf>, init: Option<OsString>, program: Option<&Path>) -> Self {
        let folders: Vec<PathBuf> = user.into_iter().chain([PathBuf::from(SYSTEM)]).collect();
        let beside = program
            .and_then(Path::parent)
            .map(|folder| folder.join(GUEST_INIT));
        let guest_init = match init {
            Some(path) => vec![PathBuf::from(path)],
            None => beside
                .into_iter()
                .chain(folders.iter().map(|f| f.join(GUEST_INIT)))
                .collect(),
        };
        Store {
            folders,
            guest_init,
        }
    }

    /// The kernel pack of that name, or at that path where `name` has a `/`.
    /// Without a name the tuned one where there is one, else the stock one.
    pub fn kernel(&self, name: Option<&str>) -> Result<KernelPack, StoreError> {
        if let Some(path) = name.filter(|name| name.contains('/')) {
            return KernelPack::open(Path::new(path));
        }
        let names = name.map_or(PREFERENCE.to_vec(), |name| vec![name]);
        let found = names.iter().find_map(|name| self.pack_folder(name));
        match found {
            Some(folder) => KernelPack::open(&folder),
            None => Err(StoreError::NoKernel {
                name: names.join(" or "),
                looked: list(&self.kernel_folders()),
            }),
        }
    }

    /// All packs, by name, each with what is wrong with it, if anything.
    pub fn kernels(&self) -> Vec<(String, Result<KernelPack, StoreError>)> {
        let found = |name: &&str| {
            let folder = self.pack_folder(name)?;
            Some(((*name).to_owned(), KernelPack::open(&folder)))
        };
        PREFERENCE.iter().filter_map(found).collect()
    }

    /// The guest's init: a static program.
    pub fn guest_init(&self) -> Result<PathBuf, StoreError> {
        let found = self.guest_init.iter().find(|path| path.is_file());
        found.cloned().ok_or_else(|| StoreError::NoGuestInit {
            looked: list(&self.guest_init),
        })
    }

    /// The named volumes of this user.
    pub fn volumes(&self) -> NamedVolumes {
        // The system's where a user has no store of its own.
        NamedVolumes::new(self.folders[0].join("volumes"))
    }

    fn pack_folder(&self, name: &str) -> Option<PathBuf> {
        self.kernel_folders()
            .into_iter()
            .map(|folder| folder.join(name))
            .find(|folder| folder.is_dir())
    }

    fn kernel_folders(&self) -> Vec<PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join("kernels"))
            .collect()
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A kernel with what belongs to it: a folder with `vmlinux`, `modules/` and
/// `pack.json`.
#[derive(Clone, Debug)]
pub struct KernelPack {
    folder: PathBuf,
    description: Description,
}

#[derive(Clone, Debug, Deserialize)]
struct Description {
    name: String,
    version: String,
    #[serde(default)]
    origin: String,
    /// File names in `modules/`, in load order.
    #[serde(default)]
    modules: Vec<String>,
    /// By module: its file and those that it needs, in load order.
    #[serde(default)]
    on_demand: BTreeMap<String, Vec<String>>,
}

impl KernelPack {
    /// Reads the pack in `folder` and checks that its files are there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("pack.json");
        let text = fs::read(&path).map_err(|source| StoreError::Read {
            path: path.clone(),
            source,
        })?;
        let description = serde_json::from_slice(&text)
            .map_err(|source| StoreError::Description { path, source })?;
        let pack = KernelPack {
            folder: folder.to_path_buf(),
            description,
        };
        let broken = |what: String| StoreError::Broken {
            path: folder.to_path_buf(),
            what,
        };
        let description = &pack.description;
        let mut names = description
            .modules
            .iter()
            .chain(description.on_demand.values().flatten());
        if let Some(name) = names.find(|name| name.contains('/')) {
            return Err(broken(format!("the module name {name:?} has a path in it")));
        }
        let mut files = pack
            .modules(&[])
            .map(|(_, path)| path)
            .chain([pack.vmlinux()]);
        let missing = files.find(|path| !path.is_file());
        drop(files);
        match missing {
            Some(path) => Err(broken(format!("{} is missing", path.display()))),
            None => Ok(pack),
        }
    }

    /// `stock`, `tuned`, or what its maker called it.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// The kernel's version: `6.12.117`.
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// The package that it was made from.
    pub fn origin(&self) -> &str {
        &self.description.origin
    }

    /// The uncompressed ELF kernel.
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Name and path of the modules that a guest loads at its start, in order,
    /// when it needs those of `also` beside what every guest does. Ones that the
    /// pack does not have may be built in.
    pub fn modules(&self, also: &[&str]) -> impl Iterator<Item = (&str, PathBuf)> {
        let description = &self.description;
        let also = also
            .iter()
            .filter_map(|module| description.on_demand.get(*module));
        let mut names: Vec<&str> = Vec::new();
        for name in description.modules.iter().chain(also.flatten()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let folder = self.folder.join("modules");
        names.into_iter().map(move |name| (name, folder.join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(folder: &Path, json: &str) {
        fs::create_dir_all(folder.join("modules")).unwrap();
        fs::write(folder.join("vmlinux"), "").unwrap();
        fs::write(folder.join("pack.json"), json).unwrap();
    }

    fn store(folder: &Path) -> Store {
        Store {
            folders: vec![folder.to_path_buf()],
            guest_init: vec![folder.join(GUEST_INIT)],
        }
    }

    #[test]
    fn the_tuned_pack_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        pack(
            &dir.path().join("kernels/stock"),
            r#"{"name":"stock","version":"6.1"}"#,
        );
        assert_eq!(store(dir.path()).kernel(None).unwrap().name(), "stock");
        pack(
            &dir.path().join("kernels/tuned"),
            r#"{"name":"tuned","version":"6.12"}"#,
        );
        assert_eq!(store(dir.path()).kernel(None).unwrap().name(), "tuned");
        assert_eq!(
            store(dir.path()).kernel(Some("stock")).unwrap().version(),
            "6.1"
        );
    }

    #[test]
    fn a_missing_pack_says_where_it_looked_and_what_to_do() {
        let error = store(Path::new("/nonexistent"))
            .kernel(Some("mine"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"mine\"") && error.contains("/nonexistent/kernels"),
            "{error}"
        );
        assert!(error.contains("cargo xtask kernel"), "{error}");
    }

    #[test]
    fn a_broken_pack_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mine");
        pack(&folder, "nonsense");
        assert!(matches!(
            KernelPack::open(&folder),
            Err(StoreError::Description { .. })
        ));
        pack(
            &folder,
            r#"{"name":"m","version":"1","modules":["virtio_blk.ko"]}"#,
        );
        assert!(matches!(
            KernelPack::open(&folder),
            Err(StoreError::Broken { .. })
        ));
        pack(
            &folder,
            r#"{"name":"m","version":"1","modules":["../../etc/passwd"]}"#,
        );
        assert!(matches!(
            KernelPack::open(&folder),
            Err(StoreError::Broken { .. })
        ));
        fs::remove_file(folder.join("pack.json")).unwrap();
        assert!(matches!(
            KernelPack::open(&folder),
            Err(StoreError::Read { .. })
        ));
    }

    #[test]
    fn modules_that_a_guest_needs_come_after_those_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let json = r#"{"name":"m","version":"1","modules":["a.ko"],"on_demand":{"fs":["a.ko","b.ko","fs.ko"],"x":["x.ko"]}}"#;
        pack(dir.path(), json);
        fs::write(dir.path().join("modules/a.ko"), "").unwrap();
        let pack = KernelPack::open(dir.path()).unwrap();
        let names = |also: &[&str]| -> Vec<String> {
            pack.modules(also)
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert_eq!(names(&[]), ["a.ko"]);
        assert_eq!(names(&["fs", "built-in"]), ["a.ko", "b.ko", "fs.ko"]);
    }

    #[test]
    fn the_guests_init_may_lie_beside_the_program() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(GUEST_INIT), "").unwrap();
        let store = Store::from_places(None, None, Some(&dir.path().join("shem")));
        assert_eq!(store.guest_init().unwrap(), dir.path().join(GUEST_INIT));
        let store = Store::from_places(
            None,
            Some("/nonexistent/init".into()),
            Some(&dir.path().join("shem")),
        );
        assert!(matches!(
            store.guest_init(),
            Err(StoreError::NoGuestInit { .. })
        ));
    }
}
