//! `deploy`: checks the image and the wishes, makes folders and disks in the work
//! folder, and writes down what `start` needs. golem-runtime, sections 1.5 and 3.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use shem::Image;
use uuid::Uuid;

use crate::args::Args;
use crate::boot::check_devices;
use crate::deployment::{Deployment, Package, disk};
use crate::mounts::{self, MountKind};

/// Bytes of a host name, as Linux has them.
const MAX_HOSTNAME: usize = 64;

/// Bytes of a GiB, to count with fractions.
const GIB: f64 = (1_u64 << 30) as f64;

/// What is to be deployed.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where to.
    pub workdir: PathBuf,
    /// Layers of the root file system, the top one first.
    pub packages: Vec<PathBuf>,
    /// Number of CPUs.
    pub cpu_cores: u64,
    /// RAM in GiB.
    pub mem_gib: f64,
    /// Room for changes to the image's files in GiB.
    pub storage_gib: f64,
    /// JSON of the requestor's volumes.
    pub volume_override: Option<String>,
    /// The guest's host name.
    pub hostname: String,
}

impl Order {
    /// What the command line asks for.
    pub fn new(args: &Args) -> Result<Self> {
        check_devices(&args.pci_device)?;
        let workdir = args.workdir.clone().context("deploy needs --workdir")?;
        ensure!(!args.task_package.is_empty(), "deploy needs --task-package");
        let hostname = match args.hostname.as_str() {
            // Set and empty in the environment.
            "" => shem::DEFAULT_HOSTNAME.to_owned(),
            name => name.to_owned(),
        };
        Ok(Order {
            workdir,
            packages: args.task_package.clone(),
            cpu_cores: args.cpu_cores,
            mem_gib: args.mem_gib,
            storage_gib: args.storage_gib,
            volume_override: args.volume_override.clone(),
            hostname,
        })
    }
}

/// Prepares the work folder. What an earlier deployment of the same folder had on
/// disks is removed; its folders stay, as they can be looked at from here.
pub fn deploy(order: &Order) -> Result<Deployment> {
    let workdir = std::path::absolute(&order.workdir).context("find the work folder")?;
    ensure!(
        workdir.is_dir(),
        "the work folder {} is missing",
        workdir.display()
    );
    ensure!(
        !order.hostname.is_empty()
            && order.hostname.len() <= MAX_HOSTNAME
            && !order.hostname.contains(char::is_whitespace),
        "--hostname {:?}: 1 to {MAX_HOSTNAME} bytes without white space",
        order.hostname
    );
    let mut packages = Vec::new();
    let mut volumes = None;
    for path in &order.packages {
        let path = std::path::absolute(path).context("find the image")?;
        let image = Image::open(&path)?;
        // Those of the top layer.
        volumes.get_or_insert_with(|| image.contents().config.volumes.clone());
        packages.push(Package::look(&path)?);
    }
    let wishes = mounts::read(order.volume_override.as_deref())?;
    let mounts = mounts::resolve(&volumes.unwrap_or_default(), wishes, || {
        Uuid::new_v4().to_string()
    })?;
    let deployment = Deployment::new(
        packages,
        vcpus(order.cpu_cores)?,
        memory_mib(order.mem_gib)?,
        storage(order.storage_gib)?,
        order.hostname.clone(),
        mounts,
    );
    let before = Deployment::read(&workdir).ok();
    let mut made = Made::default();
    for mount in &deployment.mounts {
        made.make(&mount.kind, &workdir)?;
    }
    deployment.write(&workdir)?;
    made.keep();
    for disk in before.iter().flat_map(|before| before.disks(&workdir)) {
        match fs::remove_file(&disk) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("remove the disk {} of before: {error}", disk.display());
            }
            _ => {}
        }
    }
    Ok(deployment)
}

/// Tells exe-unit of it, on `out`.
pub fn tell(deployment: &Deployment, out: &mut impl Write) -> Result<()> {
    let volumes = deployment
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Host { name } => Some(json!({ "name": name, "path": mount.path })),
            MountKind::Ram { .. } | MountKind::Storage { .. } => None,
        });
    let result = json!({
        "valid": { "Ok": "" },
        "vols": volumes.collect::<Vec<_>>(),
        "startMode": "blocking",
    });
    out.write_all(result.to_string().as_bytes())
        .and_then(|()| out.flush())
        .context("tell of the deployment")
}

/// Files that are removed again when the rest fails.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn make(&mut self, kind: &MountKind, workdir: &Path) -> Result<()> {
        match kind {
            MountKind::Host { name } => {
                let path = workdir.join(name);
                fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
                self.0.push(path);
            }
            MountKind::Storage { name, .. } => {
                let path = workdir.join(name);
                disk(kind, path.clone()).prepare()?;
                self.0.push(path);
            }
            MountKind::Ram { .. } => {}
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            let removed = match path.is_dir() {
                true => fs::remove_dir(path),
                false => fs::remove_file(path),
            };
            if let Err(error) = removed {
                log::warn!("remove {}: {error}", path.display());
            }
        }
    }
}

/// A VM takes as many as it can have: an offer may name more.
pub(crate) fn vcpus(cpu_cores: u64) -> Result<u8> {
    ensure!(cpu_cores > 0, "--cpu-cores: a VM has at least one");
    Ok(u8::try_from(cpu_cores)
        .ok()
        .filter(|vcpus| *vcpus <= shem::MAX_VCPUS)
        .unwrap_or_else(|| {
            log::warn!("--cpu-cores {cpu_cores}: the VM gets {}", shem::MAX_VCPUS);
            shem::MAX_VCPUS
        }))
}

pub(crate) fn memory_mib(mem_gib: f64) -> Result<u64> {
    let least = shem::MIN_MEMORY >> 20;
    let mib = mem_gib * 1024.0;
    ensure!(
        mib >= least as f64 && mib < u64::MAX as f64,
        "--mem-gib {mem_gib}: a VM has at least {least} MiB"
    );
    Ok(mib as u64)
}

fn storage(storage_gib: f64) -> Result<u64> {
    let bytes = storage_gib * GIB;
    ensure!(
        bytes >= shem::MIN_DISK as f64 && bytes < i64::MAX as f64,
        "--storage-gib {storage_gib}: a disk has at least {} bytes",
        shem::MIN_DISK
    );
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use gvmi::ContainerConfig;
    use serde_json::Value;

    use super::*;

    /// A work folder, and an image beside it with these volumes.
    fn order(dir: &Path, volumes: &[&str]) -> Order {
        let workdir = dir.join("work");
        fs::create_dir_all(&workdir).unwrap();
        let root = dir.join("root");
        fs::create_dir_all(&root).unwrap();
        let image = dir.join("image.gvmi");
        let config = ContainerConfig {
            volumes: volumes.iter().map(|path| (*path).to_owned()).collect(),
            ..ContainerConfig::default()
        };
        let builder = gvmi::Builder {
            config,
            ..gvmi::Builder::default()
        };
        builder.pack(&root, &image).unwrap();
        Order {
            workdir,
            packages: vec![image],
            cpu_cores: 1,
            mem_gib: 0.25,
            storage_gib: 0.25,
            volume_override: None,
            hostname: "golem".into(),
        }
    }

    fn refusal(order: &Order) -> String {
        let before = fs::read_dir(&order.workdir).map_or(0, Iterator::count);
        let error = format!("{:#}", deploy(order).unwrap_err());
        let after = fs::read_dir(&order.workdir).map_or(0, Iterator::count);
        assert_eq!(after, before, "it leaves something behind: {error}");
        error
    }

    #[test]
    fn exe_unit_is_told_of_folders_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut order = order(dir.path(), &["/out", "/data"]);
        order.volume_override = Some(r#"{"/data":{"storage":{"size":"2mi"}}}"#.into());
        let deployment = deploy(&order).unwrap();
        let mut told = Vec::new();
        tell(&deployment, &mut told).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["valid"], json!({ "Ok": "" }));
        assert_eq!(told["startMode"], "blocking");
        let vols = told["vols"].as_array().unwrap();
        assert_eq!(vols.len(), 1);
        assert_eq!(vols[0]["path"], "/out");
        let name = vols[0]["name"].as_str().unwrap();
        assert!(name.starts_with("vol-") && order.workdir.join(name).is_dir());
        assert_eq!(Deployment::read(&order.workdir).unwrap(), deployment);
        let disks = deployment.disks(&order.workdir);
        assert!(disks.len() == 1 && disks[0].is_file());
    }

    #[test]
    fn deploying_again_replaces_names_and_disks() {
        let dir = tempfile::tempdir().unwrap();
        let mut order = order(dir.path(), &["/out"]);
        order.volume_override = Some(r#"{"/data":{"storage":{"size":"2mi"}}}"#.into());
        let first = deploy(&order).unwrap();
        let second = deploy(&order).unwrap();
        assert_ne!(first.mounts, second.mounts);
        assert!(!first.disks(&order.workdir)[0].exists());
        assert!(second.disks(&order.workdir)[0].exists());
    }

    #[test]
    fn figures_out_of_range_are_refused_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let order = order(dir.path(), &["/out"]);
        let with = |change: fn(&mut Order)| {
            let mut order = order.clone();
            change(&mut order);
            refusal(&order)
        };
        assert!(with(|order| order.cpu_cores = 0).contains("--cpu-cores"));
        assert!(with(|order| order.mem_gib = 0.01).contains("at least 64 MiB"));
        assert!(with(|order| order.mem_gib = f64::NAN).contains("--mem-gib NaN"));
        assert!(with(|order| order.storage_gib = -1.0).contains("--storage-gib -1"));
        assert!(with(|order| order.hostname = "a b".into()).contains("--hostname"));
        assert!(
            with(|order| order.packages = vec!["/nonexistent.gvmi".into()])
                .contains("no such file")
        );
        let json = r#"{"/x":{"host":{}},"/y":{"storage":{"size":5}}}"#;
        let small = |order: &mut Order| order.volume_override = Some(json.into());
        let mut other = order.clone();
        small(&mut other);
        deploy(&other).unwrap();
    }

    #[test]
    fn work_folder_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut order = order(dir.path(), &["/out"]);
        let file = order.workdir.join("file");
        fs::write(&file, "").unwrap();
        order.workdir = file;
        assert!(refusal(&order).contains("work/file is missing"));
        if nix::unistd::geteuid().is_root() {
            return; // Permissions do not hold root.
        }
        order.workdir = dir.path().join("work");
        fs::set_permissions(&order.workdir, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(refusal(&order).contains("vol-"));
    }

    #[test]
    fn image_that_changed_is_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let order = order(dir.path(), &[]);
        let deployment = deploy(&order).unwrap();
        assert_eq!(deployment.images().unwrap().len(), 1);
        let image = &order.packages[0];
        let mut bytes = fs::read(image).unwrap();
        bytes[8] ^= 1;
        fs::write(image, bytes).unwrap();
        let error = deployment.images().unwrap_err().to_string();
        assert!(error.contains("not what it was"), "{error}");
    }

    #[test]
    fn other_and_damaged_deployments_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(dir.path().join(crate::DEPLOYMENT_FILE), text).unwrap();
            Deployment::read(dir.path()).unwrap_err().to_string()
        };
        assert!(read(r#"{"version":9}"#).contains("has version 9 and not 1"));
        for text in [
            "",
            "{",
            "{}",
            r#"{"version":1}"#,
            r#"{"cpu_cores":2,"mem_mib":512}"#,
        ] {
            assert!(read(text).contains("is damaged: deploy again"), "{text}");
        }
        let missing = Deployment::read(&dir.path().join("x"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("`deploy` makes it"), "{missing}");
    }
}
