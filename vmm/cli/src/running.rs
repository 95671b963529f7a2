//! The VMs of this user that run, by name: a folder each, below the user's run
//! folder, with the socket that leads to the VM's ports.
//!
//! A VM lives as long as somebody holds the lock of its folder, which ends with
//! the process however that ends. What a killed one left is removed by whoever
//! finds it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::args::PsArgs;
use crate::status;

/// Longest name; with it a socket's path stays within what the device takes.
const MAX_NAME: usize = 48;
/// What begins the name of a volume in the operands of `shem cp`.
pub const VOLUME: &str = "volume";

const LOCK: &str = "lock";
const RECORD: &str = "vm.json";
const SOCKET: &str = "vsock";

/// A VM that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub name: String,
    pub pid: u32,
    pub image: String,
    /// When its agent answered.
    pub since: SystemTime,
    /// Version of the protocol that its agent speaks.
    pub protocol: u32,
    /// Leads to its ports.
    pub socket: PathBuf,
}

/// A name that is ours until this is dropped.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    name: String,
    _lock: File,
}

/// The folder in which VMs are registered.
pub struct RunFolder(PathBuf);

/// A name of a VM: Docker's rule, and not what volumes begin with.
pub fn name(text: &str) -> Result<String> {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    ensure!(
        first && rest,
        "a name has letters, digits, _, . and -, and begins with one of the first two"
    );
    ensure!(
        text.len() <= MAX_NAME,
        "a name has at most {MAX_NAME} characters"
    );
    ensure!(
        text != VOLUME,
        "`shem cp` takes {VOLUME}: for the beginning of a volume's name"
    );
    Ok(text.to_owned())
}

/// A name for a VM that was given none: as long as the ids that Docker shows.
pub fn random_name() -> String {
    // Seeded by the system, which needs no file that a chroot may lack.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{:012x}", random >> 16)
}

impl RunFolder {
    /// This user's: below `$XDG_RUNTIME_DIR` when that is this user's own, else
    /// `/run` for root, else the folder for temporary files.
    pub fn of_this_user() -> Self {
        let user = nix::unistd::geteuid();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| {
            // sudo may leave another's there.
            fs::metadata(dir).is_ok_and(|data| data.uid() == user.as_raw())
        });
        Self(match runtime {
            Some(dir) => Path::new(&dir).join("shem"),
            None if user.is_root() => "/run/shem".into(),
            None => std::env::temp_dir().join(format!("shem-{user}")),
        })
    }

    /// Makes a name ours.
    pub fn claim(&self, name: &str) -> Result<Claim> {
        self.make()?;
        let folder = self.0.join(name);
        let lock = folder.join(LOCK);
        // Visible only when it is locked, so that nobody takes it for a dead one's.
        let new = folder.join(format!("{LOCK}.{}", std::process::id()));
        loop {
            make_folder(&folder).with_context(|| format!("make {}", folder.display()))?;
            let outcome = lock_new(&new).and_then(|file| {
                let outcome = fs::hard_link(&new, &lock);
                fs::remove_file(&new)?;
                outcome.map(|()| file)
            });
            match outcome {
                Ok(file) => {
                    return Ok(Claim {
                        folder,
                        name: name.into(),
                        _lock: file,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if !sweep(&folder)? {
                        let pid = read_record(&folder, name).map(|vm| format!(" (pid {})", vm.pid));
                        bail!(
                            "a VM named {name} runs already{}; choose another --name",
                            pid.unwrap_or_default()
                        );
                    }
                }
                // Somebody took the folder for one that is left over.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("lock {}", lock.display()));
                }
            }
        }
    }

    /// All VMs that run, by name.
    pub fn list(&self) -> Result<Vec<Running>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", self.0.display()))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", self.0.display()))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match sweep(&entry.path()) {
                // One that is booting has no record yet.
                Ok(false) => found.extend(read_record(&entry.path(), &name)),
                Ok(true) => {}
                Err(error) => log::debug!("{error:#}"),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The VM of that name.
    pub fn find(&self, name: &str) -> Result<Option<Running>> {
        Ok(self.list()?.into_iter().find(|vm| vm.name == name))
    }

    /// Makes the folder, and refuses one that others could change.
    fn make(&self) -> Result<()> {
        let path = &self.0;
        make_folder(path).with_context(|| format!("make {}", path.display()))?;
        let data =
            fs::symlink_metadata(path).with_context(|| format!("read {}", path.display()))?;
        let ours = data.is_dir() && data.uid() == nix::unistd::geteuid().as_raw();
        ensure!(
            ours && data.mode() & 0o022 == 0,
            "{} can be changed by others; remove it, or set XDG_RUNTIME_DIR to a folder of yours",
            path.display()
        );
        Ok(())
    }
}

impl Claim {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the VM's socket is to be.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// Lets others find the VM, now that it answers.
    pub fn publish(&self, image: &Path) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = json!({
            "pid": std::process::id(),
            "image": image.to_string_lossy(),
            "since": since.map_or(0, |since| since.as_secs()),
            "protocol": shem::PROTOCOL_VERSION,
        });
        let (path, new) = (
            self.folder.join(RECORD),
            self.folder.join(format!("{RECORD}.new")),
        );
        fs::write(&new, record.to_string())
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            log::debug!("{error:#}");
        }
    }
}

/// `shem ps`.
pub fn ps(args: &PsArgs) -> Result<u8> {
    let found = RunFolder::of_this_user().list()?;
    let now = SystemTime::now();
    let rows: Vec<[String; 4]> = [["NAME", "PID", "IMAGE", "AGE"].map(String::from)]
        .into_iter()
        .filter(|_| !args.quiet)
        .chain(found.into_iter().map(|vm| {
            let age = now.duration_since(vm.since).unwrap_or_default();
            [vm.name, vm.pid.to_string(), vm.image, show_age(age)]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, pid, image) = (width(0), width(1), width(2));
    let mut text = String::new();
    for row in &rows {
        text += &match args.quiet {
            true => format!("{}\n", row[0]),
            false => format!(
                "{:name$}  {:pid$}  {:image$}  {}\n",
                row[0], row[1], row[2], row[3]
            ),
        };
    }
    io::Write::write_all(&mut io::stdout(), text.as_bytes())?;
    Ok(status::SUCCESS)
}

/// In the largest unit that says something.
fn show_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    units
        .iter()
        .find(|(unit, _)| seconds >= 2 * unit)
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, letter)| format!("{}{letter}", seconds / unit),
        )
}

/// Removes what a VM left that is no more; whether there is nothing any more.
fn sweep(folder: &Path) -> Result<bool> {
    let about = || format!("look at {}", folder.display());
    let lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        // It comes or goes at this moment.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).with_context(about),
    };
    match lock.try_lock() {
        Ok(()) => remove(folder).map(|()| true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).with_context(about),
    }
}

/// The lock last: with it the name is free.
fn remove(folder: &Path) -> Result<()> {
    for file in [SOCKET, RECORD, LOCK] {
        gone(fs::remove_file(folder.join(file)))
            .with_context(|| format!("remove {}", folder.join(file).display()))?;
    }
    match fs::remove_dir(folder) {
        // The next one of that name is there.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => gone(other).with_context(|| format!("remove {}", folder.display())),
    }
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock_new(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.try_lock()?;
    Ok(file)
}

fn read_record(folder: &Path, name: &str) -> Option<Running> {
    let text = fs::read(folder.join(RECORD)).ok()?;
    let record: Value = serde_json::from_slice(&text).ok()?;
    let number = |key: &str| record[key].as_u64();
    Some(Running {
        name: name.into(),
        pid: u32::try_from(number("pid")?).ok()?,
        image: record["image"].as_str()?.into(),
        since: UNIX_EPOCH.checked_add(Duration::from_secs(number("since")?))?,
        protocol: u32::try_from(number("protocol")?).ok()?,
        socket: folder.join(SOCKET),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, RunFolder) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunFolder(dir.path().join("shem"));
        (dir, run)
    }

    #[test]
    fn name_belongs_to_one_vm_at_a_time() {
        let (_dir, run) = folder();
        let claim = run.claim("box").unwrap();
        assert!(run.list().unwrap().is_empty(), "it does not answer yet");
        claim.publish(Path::new("my.gvmi")).unwrap();
        let found = run.find("box").unwrap().unwrap();
        assert_eq!(
            (found.pid, found.image.as_str()),
            (std::process::id(), "my.gvmi")
        );
        assert_eq!(found.socket, claim.socket());
        let error = run.claim("box").unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(
            error,
            format!("a VM named box runs already (pid {pid}); choose another --name")
        );
        drop(claim);
        assert!(run.find("box").unwrap().is_none());
        run.claim("box").unwrap();
        assert_eq!(fs::read_dir(&run.0).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_vm_left_is_removed() {
        let (_dir, run) = folder();
        let left = || {
            let claim = run.claim("box").unwrap();
            claim.publish(Path::new("my.gvmi")).unwrap();
            fs::write(claim.socket(), "").unwrap();
            // Its lock ends as that of a process that is killed does.
            let lock = claim._lock.try_clone().unwrap();
            std::mem::forget(claim);
            lock.unlock().unwrap();
        };
        left();
        assert!(run.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(&run.0).unwrap().count(), 0);
        left();
        let claim = run.claim("box").unwrap();
        assert!(!claim.socket().exists());
        assert!(run.list().unwrap().is_empty());
    }

    #[test]
    fn run_folder_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, run) = folder();
        make_folder(&run.0).unwrap();
        fs::set_permissions(&run.0, fs::Permissions::from_mode(0o777)).unwrap();
        let error = run.claim("box").unwrap_err().to_string();
        assert!(error.contains("can be changed by others"), "{error}");
    }

    #[test]
    fn names_are_dockers_and_not_the_word_for_volumes() {
        for good in ["a", "web-1", "0.x_y", &"x".repeat(MAX_NAME)] {
            assert_eq!(name(good).unwrap(), good);
        }
        for bad in [
            "",
            ".a",
            "-a",
            "a b",
            "a/b",
            "a:b",
            "ä",
            "volume",
            &"x".repeat(MAX_NAME + 1),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
        let random = random_name();
        assert_eq!(name(&random).unwrap().len(), 12);
        assert_ne!(random, random_name());
    }

    #[test]
    fn ages_are_shown_in_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_200, "2h"),
            (172_800, "2d"),
        ] {
            assert_eq!(show_age(Duration::from_secs(seconds)), text);
        }
    }
}
