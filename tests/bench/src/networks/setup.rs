//! The host's side: a network namespace with a server in it, and the files that guests
//! start from.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use shem::{KernelPack, Store};
use tempfile::TempDir;

use crate::guest::{Shem, told};
use crate::options::Options;
use crate::run::{Running, done, start};

/// The server's port; two more are behind it. One that passt, which has given up its
/// privileges, may bind to: so it finds out that the server is near. To hosts that it
/// takes for far ones it has guests send segments of 4 KiB, as long as
/// `net.core.wmem_max` is as small as systems have it.
pub const PORT: &str = "7007";

/// What `ip` is told to make.
const INTERFACES: &[&str] = &[
    "link set lo up",
    "tuntap add dev tap0 mode tap vnet_hdr",
    "addr add 10.77.0.1/24 dev tap0",
    "link set tap0 up",
    // What passt takes for the way out.
    "tuntap add dev out0 mode tap",
    "addr add 192.0.2.2/24 dev out0",
    "link set out0 up",
    "route add default via 192.0.2.1",
];

const INIT: &str = include_str!("init");
/// Static, as Debian's package busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";

/// What all candidates share.
pub struct Setup {
    pub shem: Shem,
    pub kernel: KernelPack,
    /// An image with the probe alone.
    pub image: PathBuf,
    /// The probe, and what runs it as the first process.
    pub initramfs: PathBuf,
    /// How many bytes and how many round trips the probe is told.
    pub amounts: [String; 2],
    _server: Running,
    _folder: TempDir,
}

impl Setup {
    /// Makes all of it. From then on this thread and what it starts are in the network
    /// namespace.
    pub fn new(options: &Options) -> Result<Self> {
        let shem = Shem::find()?;
        let probe = told("SHEM_GUEST_PROGRAMS")?.join("net-probe");
        let kernel = Store::discover().kernel(Some("tuned"))?;
        let folder = tempfile::tempdir()?;
        let bytes = options.amount("bytes") << 20;
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace, which takes root")?;
        for words in INTERFACES {
            done(Command::new("ip").args(words.split(' ')))?;
        }
        Ok(Setup {
            image: shem.image_of(&probe, "net-probe", folder.path())?,
            initramfs: initramfs(&probe, folder.path())?,
            amounts: [bytes, options.amount("roundtrips")].map(|amount| amount.to_string()),
            _server: serve(&probe)?,
            shem,
            kernel,
            _folder: folder,
        })
    }
}

/// Starts the server, and returns when it listens.
fn serve(probe: &Path) -> Result<Running> {
    let mut server = Command::new(probe);
    server.args(["serve", PORT]);
    let (running, reader) = start(server)?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    ensure!(line == "ready\n", "net-probe does not serve: {line}");
    Ok(running)
}

/// Packs what QEMU's guests start from.
fn initramfs(probe: &Path, folder: &Path) -> Result<PathBuf> {
    let (tree, archive) = (folder.join("initramfs"), folder.join("initramfs.cpio"));
    fs::create_dir(&tree)?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    for (file, name) in [(Path::new(BUSYBOX), "busybox"), (probe, "net-probe")] {
        fs::copy(file, tree.join(name)).with_context(|| format!("copy {}", file.display()))?;
    }
    let names = folder.join("names");
    fs::write(&names, "init\nbusybox\nnet-probe\n")?;
    let mut pack = Command::new("cpio");
    pack.args(["--quiet", "-o", "-H", "newc", "-R", "0:0", "-O"])
        .arg(&archive)
        .current_dir(&tree)
        .stdin(File::open(names)?);
    done(&mut pack)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::END;

    #[test]
    fn qemus_guest_says_the_end_that_is_waited_for() {
        assert!(INIT.contains(&format!("\necho '{END}'\n")), "{INIT}");
    }

    #[test]
    fn initramfs_has_all_that_its_init_runs() {
        let folder = tempfile::tempdir().unwrap();
        let probe = folder.path().join("probe");
        fs::write(&probe, "a program").unwrap();
        let archive = initramfs(&probe, folder.path()).unwrap();
        let mut list = Command::new("cpio");
        list.args(["--quiet", "-t"])
            .stdin(File::open(archive).unwrap());
        let names = list.output().unwrap().stdout;
        assert_eq!(
            String::from_utf8(names).unwrap(),
            "init\nbusybox\nnet-probe\n"
        );
    }
}
