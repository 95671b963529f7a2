//! Disks of the guest: found by serial number, formatted when they are new.
//!
//! Knows no mount point; a layer's squashfs is mounted in `root.rs`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use guest_protocol::OnError;
use mkfs_ext4::{HEAD, MAX_LABEL, Options};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::console::say;
use crate::error::{Attempt, BootError, Result};
use crate::sys;

const BLOCK_DEVICES: &str = "/sys/block";

/// Where ext2 and all that came after it have their magic number.
const EXT_MAGIC_OFFSET: usize = 1024 + 0x38;
const EXT_MAGIC: [u8; 2] = [0x53, 0xef];

/// The virtio block devices by serial number, and what is mounted of them.
pub struct Disks {
    found: Vec<(String, PathBuf)>,
    /// The roots of file systems that can be changed.
    mounted: Vec<File>,
}

/// What the first bytes of a disk say.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Ext4,
    Unknown,
}

impl Disks {
    /// Looks for all that the guest has.
    pub fn find() -> Result<Self> {
        Self::find_in(Path::new(BLOCK_DEVICES))
    }

    /// Looks through a folder such as `/sys/block`.
    fn find_in(block: &Path) -> Result<Self> {
        let mut disks = Vec::new();
        for entry in fs::read_dir(block).attempt(block.display())? {
            let entry = entry.attempt(block.display())?;
            if !entry.file_name().as_encoded_bytes().starts_with(b"vd") {
                continue;
            }
            // A disk without a serial number is not ours.
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial")) {
                disks.push((
                    serial.trim_end().to_owned(),
                    Path::new("/dev").join(entry.file_name()),
                ));
            }
        }
        Ok(Self {
            found: disks,
            mounted: Vec::new(),
        })
    }

    /// The device of the disk with this serial number.
    pub fn by_serial(&self, serial: &str) -> Result<&Path> {
        match self.found.iter().find(|(of, _)| of == serial) {
            Some((_, device)) => Ok(device),
            None => {
                let found: Vec<_> = self
                    .found
                    .iter()
                    .map(|(serial, _)| serial.as_str())
                    .collect();
                let found = if found.is_empty() {
                    "none".into()
                } else {
                    found.join(", ")
                };
                Err(BootError::new(format!(
                    "no disk with serial {serial} (found: {found})"
                )))
            }
        }
    }

    /// Mounts the ext4 of a disk, and makes it first when the disk is empty.
    pub fn mount_ext4(
        &mut self,
        serial: &str,
        target: &str,
        flags: MsFlags,
        errors: OnError,
    ) -> Result<()> {
        let device = self.by_serial(serial)?;
        format_if_new(device, serial)?;
        let errors = match errors {
            OnError::Continue => "continue",
            OnError::RemountReadOnly => "remount-ro",
            OnError::Panic => "panic",
        };
        // What files leave goes back to the host as they go.
        let options = format!("errors={errors},discard");
        let what = format_args!("mount disk {serial} on {target}");
        let ext4 = Some("ext4");
        match mount(Some(device), target, ext4, flags, Some(options.as_str())) {
            // Its journal holds changes that nothing can be written for.
            Err(Errno::EROFS) => {
                return Err(BootError::new(format!(
                    "{what}: its last user was cut short; mount it once without read-only"
                )));
            }
            outcome => outcome.attempt(what)?,
        }
        if !flags.contains(MsFlags::MS_RDONLY) {
            self.mounted.push(File::open(target).attempt(target)?);
        }
        Ok(())
    }

    /// Leaves all that is mounted as an orderly unmount would, so that the next
    /// one needs no repair and no right to write. Nothing changes it any more.
    pub fn freeze(&self) {
        for folder in &self.mounted {
            if let Err(error) = sys::freeze(folder) {
                say(format_args!("warning: freeze a disk: {error}"));
            }
        }
    }
}

/// Formats a disk that has nothing on it; leaves an ext4 alone, and refuses
/// anything else.
fn format_if_new(device: &Path, serial: &str) -> Result<()> {
    let examine = format_args!("examine disk {serial}");
    let content = content(&File::open(device).attempt(examine)?).attempt(examine)?;
    match content {
        Content::Ext4 => return Ok(()),
        Content::Unknown => {
            return Err(BootError::new(format!(
                "disk {serial}: neither empty nor ext4"
            )));
        }
        Content::Nothing => {}
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open(device)
        .attempt(format_args!("open disk {serial} to format it"))?;
    let mut random = [[0; 16]; 2];
    let mut source = File::open("/dev/urandom").attempt("/dev/urandom")?;
    source
        .read_exact(random.as_flattened_mut())
        .attempt("/dev/urandom")?;
    let [uuid, hash_seed] = random;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let options = Options {
        label: label(serial),
        uuid,
        hash_seed,
        root_mode: 0o755,
        root_owner: (0, 0),
        now: now.map_or(0, |since| since.as_secs()),
    };
    mkfs_ext4::format(&file, &options).map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let cause = cause.unwrap_or_default();
        BootError::new(format!("format disk {serial}: {error}{cause}"))
    })?;
    say(format_args!("disk {serial}: formatted"));
    Ok(())
}

/// As much of the serial number as a label has room for.
fn label(serial: &str) -> &str {
    let mut end = serial.len().min(MAX_LABEL);
    while !serial.is_char_boundary(end) {
        end -= 1;
    }
    &serial[..end]
}

fn content(device: &File) -> io::Result<Content> {
    let mut head = vec![0; HEAD];
    let mut filled = 0;
    while filled < head.len() {
        match device.read_at(&mut head[filled..], filled as u64) {
            // A disk smaller than that, which the formatter will refuse.
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(if head[EXT_MAGIC_OFFSET..].starts_with(&EXT_MAGIC) {
        Content::Ext4
    } else if head.iter().all(|byte| *byte == 0) {
        Content::Nothing
    } else {
        Content::Unknown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys_block(disks: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, serial) in disks {
            fs::create_dir(dir.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(dir.path().join(name).join("serial"), serial).unwrap();
            }
        }
        dir
    }

    fn disk_of(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn disks_are_found_by_serial_whatever_their_order() {
        let disks = [
            ("vda", Some("rootfs-1")),
            ("vdb", Some("rootfs-0\n")),
            ("vdc", None),
        ];
        let block = sys_block(&disks);
        let disks = Disks::find_in(block.path()).unwrap();
        assert_eq!(disks.by_serial("rootfs-0").unwrap(), Path::new("/dev/vdb"));
        assert_eq!(disks.by_serial("rootfs-1").unwrap(), Path::new("/dev/vda"));
    }

    #[test]
    fn missing_disk_is_an_error_that_lists_what_is_there() {
        let block = sys_block(&[("vda", Some("data")), ("loop0", Some("rootfs-0"))]);
        let error = Disks::find_in(block.path())
            .unwrap()
            .by_serial("rootfs-0")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no disk with serial rootfs-0 (found: data)"
        );
    }

    #[test]
    fn empty_disk_is_formatted_once() {
        let disk = disk_of(16 << 20);
        format_if_new(disk.path(), "data").unwrap();
        let first = fs::read(disk.path()).unwrap();
        assert_eq!(content(disk.as_file()).unwrap(), Content::Ext4);
        assert_eq!(&first[1024 + 0x78..][..5], b"data\0");
        // Another format would have another identity.
        format_if_new(disk.path(), "data").unwrap();
        assert_eq!(fs::read(disk.path()).unwrap(), first);
    }

    #[test]
    fn disk_with_something_else_on_it_is_refused_and_kept() {
        for at in [0, 4095, HEAD as u64 - 1] {
            let disk = disk_of(16 << 20);
            disk.as_file().write_all_at(b"x", at).unwrap();
            let before = fs::read(disk.path()).unwrap();
            let error = format_if_new(disk.path(), "data").unwrap_err();
            assert_eq!(error.to_string(), "disk data: neither empty nor ext4");
            assert_eq!(fs::read(disk.path()).unwrap(), before);
        }
    }

    #[test]
    fn disk_too_small_is_named_with_the_reason() {
        let disk = disk_of(4096);
        let error = format_if_new(disk.path(), "data").unwrap_err().to_string();
        assert!(error.starts_with("format disk data: 4096 bytes"), "{error}");
    }

    #[test]
    fn label_is_cut_between_characters() {
        assert_eq!(label("data"), "data");
        assert_eq!(label("exactly-20-character"), "exactly-20-chara");
        assert_eq!(label("fifteen bytes..\u{e4}x"), "fifteen bytes..");
    }
}
