//! `shem cp`: files between this host and a running VM or a volume, as tar
//! streams that the guest's agent packs and unpacks.
//!
//! A volume that is no VM's of its own is mounted in a helper VM, which has no
//! image and ends with the copy: so owners and disks mean there what they mean
//! in other VMs. What comes out of a guest is hostile input on this side.

mod interrupt;
mod operand;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use shem::{
    AgentPort, ArchiveRead, ArchiveWriter, ClientError, FileKind, Fill, Store, Vm, Volume,
    VolumeSource,
};
use tree_archive::{ArchiveError, Owners, Rules, Start, pack, unpack};

use crate::args::CopyArgs;
use crate::running::{RunFolder, Running};
use crate::{status, terminal};
use interrupt::Interrupt;
use operand::{Ending, GuestPath, Operand};

/// Where a helper VM has the volume.
const MOUNT: &str = "/volume";
/// RAM of a helper VM: its kernel, its agent, and something to cache with.
const HELPER_MEMORY: u64 = 192 << 20;
/// What fails without descriptors.
const SECOND_HANDLE: &str = "make a second handle on the stream";

/// `shem cp`.
pub fn run(args: &CopyArgs) -> Result<u8> {
    let source = Operand::parse(&args.source)?;
    let destination = Operand::parse(&args.destination)?;
    let interrupt = Interrupt::new()?;
    // After the other copies nothing has to be tidied up here.
    if let Operand::Volume(..) | Operand::Local(_) = &destination {
        interrupt.take_signals()?;
    }
    let copy = Copy { args, interrupt };
    let outcome = match (source, destination) {
        (Operand::Local(_) | Operand::Stream, Operand::Local(_) | Operand::Stream) => {
            bail!("neither side is in a VM: write NAME:PATH or volume:NAME:PATH for one of them")
        }
        (from @ (Operand::Local(_) | Operand::Stream), to) => copy.copy_in(&from, to),
        (from, to @ (Operand::Local(_) | Operand::Stream)) => copy.copy_out(from, &to),
        _ => bail!(
            "both sides are in VMs: copy by a stream, as in `shem cp {} - | shem cp - DST`",
            args.source.display()
        ),
    };
    match (outcome, copy.interrupt.status()) {
        (Ok(()), _) => Ok(status::SUCCESS),
        (Err(_), Some(status)) => Ok(status),
        (Err(error), None) => Err(error),
    }
}

/// A guest, and the path that is meant in it.
struct Guest {
    reach: Reach,
    path: GuestPath,
    /// What it is called in messages.
    shown: String,
}

/// How the agent is reached.
enum Reach {
    Running(AgentPort),
    Helper(Box<Vm>),
}

impl Guest {
    fn find(operand: Operand, shown: &OsStr, writes: bool) -> Result<Self> {
        let shown = shown.display().to_string();
        Ok(match operand {
            Operand::Vm(name, path) => Self {
                reach: Reach::Running(AgentPort::behind_socket(running(&name)?.socket)),
                path,
                shown,
            },
            Operand::Volume(name, path) => Self {
                reach: Reach::Helper(Box::new(helper(&name, writes)?)),
                path: path.below(MOUNT),
                shown,
            },
            Operand::Local(_) | Operand::Stream => bail!("{shown} is not in a VM"),
        })
    }

    fn port(&self) -> &AgentPort {
        match &self.reach {
            Reach::Running(port) => port,
            Reach::Helper(vm) => vm.agent().port(),
        }
    }

    /// What the path is, through links; `None` when there is nothing.
    fn kind(&self) -> Result<Option<FileKind>> {
        match self.port().stat_file(&self.path.path) {
            Ok(stat) => Ok(Some(stat.kind)),
            Err(ClientError::Failed(failure)) if failure.errno == libc::ENOENT => Ok(None),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Ends a helper in order, so that everything it wrote is kept.
    fn finish(self) {
        if let Reach::Helper(vm) = self.reach {
            let report = vm.stop(shem::STOP_GRACE);
            log::info!("the helper VM ended: {}", report.reason);
        }
    }

    /// One line about what went wrong there, with what to do.
    fn explain(&self, error: ClientError) -> Error {
        let shown = &self.shown;
        match error {
            ClientError::Failed(failure) => {
                let says = harmless(&failure.message);
                match failure.errno {
                    libc::ENOENT => anyhow!("{shown}: no such file or folder in the VM"),
                    libc::ENOTDIR => anyhow!("{shown}: not a folder: the VM says: {says}"),
                    libc::ENOSPC | libc::EDQUOT => {
                        anyhow!("{shown}: no room left in the VM; nothing was changed there")
                    }
                    _ => anyhow!("{shown}: the VM says: {says}"),
                }
            }
            ClientError::Lost => anyhow!("{shown}: the VM ended in the middle of the copy"),
            ClientError::Connect(error) => {
                anyhow!("{shown}: the VM does not answer ({error}); `shem ps` lists those that do")
            }
            error => Error::new(error).context(shown.clone()),
        }
    }

    /// As [`explain`](Self::explain), when the other side is a path of this host.
    fn explain_archive(&self, error: ArchiveError, local: &Path) -> Error {
        let error = match error {
            ArchiveError::Read(source) | ArchiveError::Write(source) => {
                match source.downcast::<ClientError>() {
                    Ok(error) => return self.explain(error),
                    Err(source) => return Error::new(source).context(self.shown.clone()),
                }
            }
            error => error,
        };
        let full = error
            .system()
            .and_then(io::Error::raw_os_error)
            .is_some_and(|errno| matches!(errno, libc::ENOSPC | libc::EDQUOT));
        let context = match full {
            true => format!(
                "{}: no room left there; nothing was changed",
                local.display()
            ),
            false => local.display().to_string(),
        };
        Error::new(error).context(context)
    }
}

/// One call of `shem cp`.
struct Copy<'a> {
    args: &'a CopyArgs,
    interrupt: Interrupt,
}

impl Copy<'_> {
    fn copy_out(&self, from: Operand, to: &Operand) -> Result<()> {
        let target = match to {
            Operand::Local(path) => Some(path),
            _ => {
                ensure!(
                    !io::stdout().is_terminal(),
                    "a tar stream is not for a terminal; write `> FILE` or `| tar t` behind it"
                );
                None
            }
        };
        let guest = Guest::find(from, &self.args.source, false)?;
        let outcome = match target {
            Some(target) => self.receive_folder(&guest, target),
            None => self.receive_stdout(&guest),
        };
        guest.finish();
        outcome
    }

    fn read(&self, guest: &Guest, name: &OsStr) -> Result<shem::ArchiveReader> {
        let follow = self.args.follow_link || guest.path.ending != Ending::Name;
        let read = ArchiveRead {
            path: guest.path.path.clone(),
            name: name.into(),
            follow,
        };
        let reader = guest.port().read_archive(read);
        reader.map_err(|error| guest.explain(error))
    }

    fn receive_stdout(&self, guest: &Guest) -> Result<()> {
        let mut archive = self.read(guest, guest.path.name())?;
        let mut stdout = io::stdout().lock();
        let copied = io::copy(&mut archive, &mut stdout);
        copied
            .and_then(|_| stdout.flush())
            .map_err(|error| match error.downcast::<ClientError>() {
                Ok(error) => guest.explain(error),
                Err(error) => Error::new(error).context("write the stream"),
            })
    }

    fn receive_folder(&self, guest: &Guest, target: &Path) -> Result<()> {
        let place = Place::of(target, guest)?;
        let into = open_folder(&place.folder)?;
        let privileged = self.args.archive && nix::unistd::geteuid().is_root();
        let rules = Rules {
            top: (place.name != ".").then(|| place.name.as_bytes().to_vec()),
            file_only: place.file_only,
            owners: privileged,
            rights: privileged,
            devices: false,
        };
        let archive = self.read(guest, &place.name)?;
        let stream = archive.try_clone_stream().context(SECOND_HANDLE)?;
        self.interrupt.watch(stream, Shutdown::Read);
        let made = unpack(archive, into.as_fd(), &rules)
            .map_err(|error| guest.explain_archive(error, target))?;
        if made.left_out > 0 {
            note!(
                "shem: {} device nodes were left out; `shem cp {} -` has them",
                made.left_out,
                self.args.source.display()
            );
        }
        self.tell(made.entries, made.bytes);
        Ok(())
    }

    fn copy_in(&self, from: &Operand, to: Operand) -> Result<()> {
        let source = match from {
            Operand::Local(path) => Some(Local::open(path, self.args.follow_link)?),
            _ => None,
        };
        let guest = Guest::find(to, &self.args.destination, true)?;
        let outcome = match &source {
            Some(source) => self.send_local(source, &guest),
            None => self.send_stdin(&guest),
        };
        guest.finish();
        outcome
    }

    fn send_stdin(&self, guest: &Guest) -> Result<()> {
        let mut archive = self.write(guest, guest.path.path.clone())?;
        let copied = io::copy(&mut self.interrupt.over(io::stdin()), &mut archive);
        match copied {
            Ok(_) => archive.finish().map_err(|error| guest.explain(error)),
            Err(error) => {
                give_up(archive);
                Err(match error.downcast::<ClientError>() {
                    Ok(error) => guest.explain(error),
                    Err(error) => Error::new(error).context("read the stream"),
                })
            }
        }
    }

    fn send_local(&self, source: &Local, guest: &Guest) -> Result<()> {
        let (folder, name) = source.place_in(guest)?;
        let owners = match self.args.archive {
            true => Owners::Kept,
            false => Owners::Root,
        };
        let mut archive = self.write(guest, folder)?;
        let packed = source
            .start()
            .map_err(|source| ArchiveError::File {
                name: ".".into(),
                source,
            })
            .and_then(|start| pack(start, &name, owners, &mut archive));
        match packed {
            Ok(packed) => {
                archive.finish().map_err(|error| guest.explain(error))?;
                self.tell(packed.entries, packed.bytes);
                Ok(())
            }
            Err(error) => {
                give_up(archive);
                Err(guest.explain_archive(error, &source.path))
            }
        }
    }

    fn write(&self, guest: &Guest, folder: OsString) -> Result<ArchiveWriter> {
        // The guest may begin before its answer is here.
        self.interrupt.hold();
        let writer = guest.port().write_archive(folder);
        let writer = writer.map_err(|error| guest.explain(error))?;
        let stream = writer.try_clone_stream().context(SECOND_HANDLE)?;
        // So that the guest still answers when it has tidied up.
        self.interrupt.watch(stream, Shutdown::Write);
        Ok(writer)
    }

    fn tell(&self, entries: u64, bytes: u64) {
        if !self.args.quiet {
            let files = if entries == 1 { "file" } else { "files" };
            let to = self.args.destination.display();
            note!("Copied {entries} {files}, {}, to {to}", show_bytes(bytes));
        }
    }
}

/// Waits until the guest has removed what it had, as far as it still can.
fn give_up(archive: ArchiveWriter) {
    if let Err(error) = archive.abort() {
        log::debug!("give up a copy: {error}");
    }
}

/// Where on this host a copy goes.
struct Place {
    folder: PathBuf,
    /// What it is called there; `.` for contents.
    name: OsString,
    /// It takes the place of a file.
    file_only: bool,
}

impl Place {
    /// Docker's rules for a DST of this host.
    fn of(target: &Path, guest: &Guest) -> Result<Self> {
        let shown = target.display();
        let must_be_folder = operand::ending(target) != Ending::Name;
        let there = match fs::metadata(target) {
            Ok(data) => Some(data.is_dir()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| shown.to_string()),
        };
        if there == Some(true) {
            return Ok(Self {
                folder: target.into(),
                name: guest.path.name().into(),
                file_only: false,
            });
        }
        ensure!(
            there.is_none() || (!must_be_folder && guest.path.ending != Ending::Contents),
            "{shown}: not a folder"
        );
        if there.is_none() && must_be_folder && guest.kind()? != Some(FileKind::Directory) {
            bail!("{shown}: no such folder; make it first, or leave out the / at its end");
        }
        let Some(name) = target.file_name() else {
            bail!("{shown}: no such folder");
        };
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        Ok(Self {
            folder: parent.unwrap_or(Path::new(".")).into(),
            name: name.into(),
            file_only: there.is_some(),
        })
    }
}

fn open_folder(path: &Path) -> Result<File> {
    let folder = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path);
    folder.with_context(|| format!("{}: open the folder", path.display()))
}

/// What is copied from this host.
struct Local {
    path: PathBuf,
    /// It, or the folder that it is in.
    opened: File,
    /// Its name in that folder, when it is a link or anything else that is not
    /// to be opened.
    leaf: Option<OsString>,
    name: OsString,
    is_folder: bool,
}

impl Local {
    fn open(path: &Path, follow: bool) -> Result<Self> {
        let about = || path.display().to_string();
        let ending = operand::ending(path);
        let follow = follow || ending != Ending::Name;
        let data = match follow {
            true => fs::metadata(path),
            false => fs::symlink_metadata(path),
        };
        let is_folder = data.with_context(about)?.is_dir();
        ensure!(
            is_folder || ending == Ending::Name,
            "{}: not a folder",
            about()
        );
        // A way up has a name only where it leads to.
        let named = match path.file_name() {
            Some(name) => Some(name.to_owned()),
            None => fs::canonicalize(path)
                .with_context(about)?
                .file_name()
                .map(OsStr::to_owned),
        };
        let name = match (ending, named) {
            (Ending::Contents, _) | (_, None) => ".".into(),
            (_, Some(name)) => name,
        };
        let (open, leaf) = match (follow, path.file_name()) {
            (false, Some(leaf)) => {
                let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(leaf.to_owned()))
            }
            _ => (path, None),
        };
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(open)
            .with_context(about)?;
        Ok(Self {
            path: path.into(),
            opened,
            leaf,
            name,
            is_folder,
        })
    }

    fn start(&self) -> io::Result<Start<'_>> {
        Ok(match &self.leaf {
            Some(leaf) => Start::Named(self.opened.as_fd(), leaf),
            None => Start::Opened(self.opened.try_clone()?.into()),
        })
    }

    /// Docker's rules for a DST in a guest: the folder, and the name in it.
    fn place_in(&self, guest: &Guest) -> Result<(OsString, OsString)> {
        let GuestPath { path, ending } = &guest.path;
        let shown = &guest.shown;
        let there = guest.kind()?;
        if there == Some(FileKind::Directory) {
            return Ok((path.clone(), self.name.clone()));
        }
        ensure!(
            there.is_none() || (*ending == Ending::Name && !self.is_folder),
            "{shown}: not a folder"
        );
        ensure!(
            *ending == Ending::Name || self.is_folder,
            "{shown}: no such folder; make it first, or leave out the / at its end"
        );
        let name = Path::new(path).file_name();
        let name = name.with_context(|| format!("{shown}: no such folder"))?;
        Ok((guest.path.folder(), name.into()))
    }
}

/// The running VM of that name.
fn running(name: &str) -> Result<Running> {
    let run_folder = RunFolder::of_this_user();
    let Some(vm) = run_folder.find(name)? else {
        let names: Vec<String> = run_folder.list()?.into_iter().map(|vm| vm.name).collect();
        let hint = match (Store::discover().volumes().get(name), names.is_empty()) {
            (Ok(_), _) => format!("for the volume of that name write volume:{name}:PATH"),
            (Err(_), true) => "none runs".into(),
            (Err(_), false) => format!("those that run: {}", names.join(", ")),
        };
        bail!("no VM named {name} runs; {hint}; a path of this host begins with ./ or /");
    };
    ensure!(
        vm.protocol == shem::PROTOCOL_VERSION,
        "the VM {name} was started by another release of shem: start it again"
    );
    Ok(vm)
}

/// A VM that has the volume of that name and nothing else.
fn helper(name: &str, writes: bool) -> Result<Vm> {
    let store = Store::discover();
    let volume = mounted(store.volumes().get(name)?.open()?, writes);
    confine::report_violations(terminal::restore).context("prepare for seccomp violations")?;
    shem::raise_descriptor_limit();
    let vm = Vm::builder(store.kernel(None)?, store.guest_init()?)
        .without_image()
        .memory(HELPER_MEMORY)
        .volume(volume)
        .boot()
        .with_context(|| format!("start a VM that has the volume {name}"))?;
    Ok(vm)
}

/// A folder is changed only when something is to be copied there; a disk may
/// have to be made good before it can be read.
fn mounted(source: VolumeSource, writes: bool) -> Volume {
    match source {
        VolumeSource::Folder(folder) => {
            let volume = Volume::new(folder.fill(Fill::Never), MOUNT);
            if writes { volume } else { volume.read_only() }
        }
        VolumeSource::Disk(disk) => Volume::new(disk.fill(Fill::Never), MOUNT),
        memory @ VolumeSource::Memory(_) => Volume::new(memory, MOUNT),
    }
}

/// What a guest says, without what a terminal would take for a command.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// A number of bytes, to three digits or so.
fn show_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    units
        .iter()
        .find(|(shift, _)| bytes >> shift > 0)
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_does_not_speak_to_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\nb \u{9b}ä"), "a?[2J?b ?ä");
    }

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
        ] {
            assert_eq!(show_bytes(bytes), text);
        }
    }

    #[test]
    fn local_sources_have_the_name_that_docker_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink("folder", path("link")).unwrap();
        let open = |name: &str, follow| Local::open(&path(name), follow).unwrap();
        for (text, follow, name, is_folder, leaf) in [
            ("folder", false, "folder", true, Some("folder")),
            ("folder/", false, "folder", true, None),
            ("folder/.", false, ".", true, None),
            (
                "folder/..",
                false,
                dir.path().file_name().unwrap().to_str().unwrap(),
                true,
                None,
            ),
            ("file", false, "file", false, Some("file")),
            ("link", false, "link", false, Some("link")),
            ("link", true, "link", true, None),
            ("link/", false, "link", true, None),
        ] {
            let local = open(text, follow);
            assert_eq!(local.name, name, "{text}");
            assert_eq!(local.is_folder, is_folder, "{text}");
            assert_eq!(local.leaf.as_deref(), leaf.map(OsStr::new), "{text}");
        }
        let refused = |name: &str| format!("{:#}", Local::open(&path(name), false).err().unwrap());
        assert!(refused("file/.").ends_with("Not a directory (os error 20)"));
        assert!(refused("missing").contains("missing: No such file"));
    }
}
