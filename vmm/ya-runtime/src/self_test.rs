//! `test`: boots a VM from an image of our own, with volumes of every kind and a
//! command that uses them. golem-runtime, sections 1.5 and 6.
//!
//! A success holds until this host boots again or anything of it changes, so that
//! `offer-template` and `test` boot one VM together.

use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shem::ExitStatus;

use crate::args::Args;
use crate::boot::{boot, check_devices};
use crate::deploy::{Order, deploy};
use crate::mounts::MountKind;
use crate::{Deployment, PROGRAM};

/// The image, beside the program or where packages put it.
const IMAGE: &str = "self-test.gvmi";
const SYSTEM: &str = "/usr/lib/shem";

/// Its command, which gets the path of a file for its result: a JSON object of what
/// it found, for the market.
const COMMAND: &str = "/ya-self-test";
/// The image's VOLUME, and the file in it.
const OUT: &str = "/mnt/out";
const RESULT: &str = "result.json";

/// Beside that volume one of each kind that requestors can ask for.
const VOLUMES: &str = r#"{
    "/golem/storage": { "storage": { "size": "1mi", "errors": "remount-ro" } },
    "/golem/storage2": { "ram": { "size": "1gi" } }
}"#;

/// Room for changes to the image's files, in GiB.
const STORAGE: f64 = 0.0625;

/// Most bytes of the command's output, and of its result.
const MAX_OUTPUT: usize = 1 << 20;

/// In the folder for what can be made again: who tests has the lock.
const LOCK: &str = "self-test.lock";
const PASSED: &str = "self-test.json";
const WORK: &str = "self-test.work";

/// Why a machine did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The image is not installed.
    #[error("the image of the self-test was not found (looked for {looked})")]
    NoImage {
        /// The paths, for the user.
        looked: String,
    },
    /// There is no place for the VM's files.
    #[error("prepare the self-test")]
    Prepare(#[source] anyhow::Error),
    /// The VM did not come up.
    #[error("boot the VM of the self-test")]
    Boot(#[source] anyhow::Error),
    /// The command did not run, or failed.
    #[error("run {COMMAND} in the VM of the self-test")]
    Command(#[source] anyhow::Error),
    /// The command's result is not in the volume, or none.
    #[error("read the result of the self-test")]
    Result(#[source] anyhow::Error),
    /// It took too long.
    #[error(
        "the self-test did not end within {} s, which --test-timeout changes; `shem doctor` \
         tells whether this machine can run VMs", limit.as_secs()
    )]
    Timeout {
        /// The limit.
        limit: Duration,
    },
}

/// What a test depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    /// Of this host's uptime.
    boot: String,
    version: String,
    /// Program, kernel, guest-init, image: path, length and time of change of each.
    files: Vec<(PathBuf, u64, Duration)>,
    cpu_cores: u64,
    mem_gib: f64,
}

#[derive(Serialize, Deserialize)]
struct Passed {
    key: Key,
    found: Map<String, Value>,
}

/// Tests this machine, unless it has passed already, and tells what the command
/// found: an object, empty where there is nothing of interest.
pub fn self_test(args: &Args) -> Result<Value> {
    check_devices(&args.pci_device)?;
    let image = image()?;
    let key = Key::new(args, &image).map_err(SelfTestError::Prepare)?;
    let folder = cache_folder().map_err(SelfTestError::Prepare)?;
    let lock = File::create(folder.join(LOCK)).context("make the self-test's lock");
    let lock = lock.map_err(SelfTestError::Prepare)?;
    // Whoever has it tests for us too.
    (lock.lock().context("wait for the self-test's lock")).map_err(SelfTestError::Prepare)?;
    if let Some(found) = passed(&folder, &key) {
        log::debug!("this machine has passed the self-test already");
        return Ok(found.into());
    }
    let work = folder.join(WORK);
    let limit = Duration::from_secs(args.test_timeout);
    let outcome = prepare(args, image, &work)
        .map_err(SelfTestError::Prepare)
        .and_then(|deployment| run(deployment, &work, limit));
    if let Err(error) = remove(&work) {
        log::debug!("remove {}: {error}", work.display());
    }
    let found = outcome?;
    keep(
        &folder,
        Passed {
            key,
            found: found.clone(),
        },
    );
    Ok(found.into())
}

impl Key {
    fn new(args: &Args, image: &Path) -> Result<Self> {
        let program = env::current_exe().context("find this program")?;
        let store = shem::Store::discover();
        let (kernel, init) = (store.kernel(None)?.vmlinux(), store.guest_init()?);
        let about = |path: PathBuf| {
            let data =
                fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
            let changed = data
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            anyhow::Ok((path, data.len(), changed))
        };
        let boot = "/proc/sys/kernel/random/boot_id";
        Ok(Key {
            boot: fs::read_to_string(boot).with_context(|| format!("read {boot}"))?,
            version: env!("CARGO_PKG_VERSION").into(),
            files: [program, kernel, init, image.to_owned()]
                .into_iter()
                .map(about)
                .collect::<Result<_>>()?,
            cpu_cores: args.test_cpu_cores,
            mem_gib: args.test_mem_gib,
        })
    }
}

fn image() -> Result<PathBuf, SelfTestError> {
    let beside = |program: PathBuf| {
        let folder = program.parent().map(Path::to_owned).unwrap_or_default();
        [folder.join("runtime").join(IMAGE), folder.join(IMAGE)]
    };
    let looked: Vec<PathBuf> = env::var_os("SHEM_SELF_TEST_IMAGE")
        .map(|path| vec![path.into()])
        .unwrap_or_else(|| {
            let program = env::current_exe().ok().map(beside).into_iter().flatten();
            program.chain([Path::new(SYSTEM).join(IMAGE)]).collect()
        });
    let found = looked.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let looked: Vec<_> = looked.iter().map(|path| path.to_string_lossy()).collect();
        SelfTestError::NoImage {
            looked: looked.join(", "),
        }
    })
}

/// Where what can be made again is kept, by the XDG rules.
fn cache_folder() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty());
    let folder = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join(PROGRAM);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn passed(folder: &Path, key: &Key) -> Option<Map<String, Value>> {
    let text = fs::read(folder.join(PASSED)).ok()?;
    let passed: Passed = serde_json::from_slice(&text).ok()?;
    (passed.key == *key).then_some(passed.found)
}

fn keep(folder: &Path, passed: Passed) {
    let (path, new) = (folder.join(PASSED), folder.join(format!("{PASSED}.new")));
    let kept = serde_json::to_vec(&passed)
        .map_err(io::Error::other)
        .and_then(|text| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, &path));
    if let Err(error) = kept {
        log::debug!("the next call tests again: {}: {error}", path.display());
    }
}

/// Deploys the image. What a killed test left behind is removed: we have the lock.
fn prepare(args: &Args, image: PathBuf, work: &Path) -> Result<Deployment> {
    remove(work)
        .and_then(|()| fs::create_dir(work))
        .with_context(|| format!("make {}", work.display()))?;
    deploy(&Order {
        workdir: work.to_owned(),
        packages: vec![image],
        cpu_cores: args.test_cpu_cores,
        mem_gib: args.test_mem_gib,
        storage_gib: STORAGE,
        volume_override: Some(VOLUMES.into()),
        hostname: shem::DEFAULT_HOSTNAME.into(),
    })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs the VM in a thread of its own: only that one is confined, and only it hangs
/// where the VM does. Then the process ends, and the VM with it.
fn run(
    deployment: Deployment,
    work: &Path,
    limit: Duration,
) -> Result<Map<String, Value>, SelfTestError> {
    let volume = deployment
        .mounts
        .iter()
        .find_map(|mount| match &mount.kind {
            MountKind::Host { name } if mount.path == OUT => Some(work.join(name)),
            _ => None,
        });
    let (done, outcome) = channel();
    let folder = work.to_owned();
    thread::Builder::new()
        .name("self-test".into())
        .spawn(move || {
            // Nobody waits any more when the time is up.
            let _ = done.send(in_vm(&deployment, &folder));
        })
        .map_err(|error| SelfTestError::Prepare(error.into()))?;
    match outcome.recv_timeout(limit) {
        Ok(outcome) => outcome?,
        Err(RecvTimeoutError::Timeout) => return Err(SelfTestError::Timeout { limit }),
        Err(RecvTimeoutError::Disconnected) => {
            return Err(SelfTestError::Boot(anyhow::anyhow!("its thread panicked")));
        }
    }
    let result = volume.map(|folder| folder.join(RESULT));
    let result = result.context("the image has no volume for it");
    result
        .and_then(|path| read(&path))
        .map_err(SelfTestError::Result)
}

fn in_vm(deployment: &Deployment, work: &Path) -> Result<(), SelfTestError> {
    let booted = boot(deployment, work, (None, None), Instant::now(), || Ok(()));
    let vm = booted.map_err(SelfTestError::Boot)?.vm;
    let command = [COMMAND.into(), format!("{OUT}/{RESULT}")];
    let process = vm.exec(&shem::Command::new(command));
    let process = process.map_err(|error| SelfTestError::Command(error.into()))?;
    let output = process.wait_with_output(MAX_OUTPUT);
    let output = output.map_err(|error| SelfTestError::Command(error.into()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    log::debug!("{COMMAND}: {}", text(&output.stdout));
    if output.exit.status != ExitStatus::Code(0) {
        let (status, said) = (output.exit.status, text(&output.stderr));
        let error = anyhow::anyhow!("it ended with {status:?}: {said}");
        return Err(SelfTestError::Command(error));
    }
    vm.stop(shem::STOP_GRACE);
    Ok(())
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let about = || format!("read {}", path.display());
    let data = fs::metadata(path).with_context(about)?;
    anyhow::ensure!(
        data.len() <= MAX_OUTPUT as u64,
        "{} is too long",
        path.display()
    );
    serde_json::from_slice(&fs::read(path).with_context(about)?)
        .with_context(|| format!("{} is no JSON object", path.display()))
}
