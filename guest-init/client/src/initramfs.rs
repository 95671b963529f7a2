//! Builds the initramfs: cpio archives in the `newc` format, not compressed.
//!
//! The kernel takes several archives one after the other, so the part that
//! every guest of a kernel shares ([`base`]) is made once and the few hundred
//! bytes of one guest ([`boot_part`]) follow it. The format is described in
//! the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use guest_protocol::{BOOT_CONFIG_PATH, BootConfig, MODULES_DIR, MessageError};

/// File type bits of `st_mode`.
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;

/// Archives start at multiples of this.
const ALIGN: usize = 4;

/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// The part that all guests of one kernel share: `guest-init` as `/init`, the
/// mount points and device nodes it starts with, and the kernel's modules by
/// file name.
///
/// # Panics
/// When a file is 4 GiB or larger, which the format cannot express.
pub fn base(guest_init: &[u8], modules: &[(&str, &[u8])]) -> Vec<u8> {
    let size: usize = modules.iter().map(|(_, bytes)| bytes.len() + 512).sum();
    let mut archive = Archive::with_capacity(guest_init.len() + size + 4096);
    for dir in ["dev", "proc", "sys", "shem", "mnt"] {
        archive.entry(dir, S_IFDIR | 0o755, (0, 0), &[]);
    }
    // The kernel opens the console for PID 1 before anything is mounted, and
    // the Rust runtime falls back on null where there is no console.
    archive.entry("dev/console", S_IFCHR | 0o600, (5, 1), &[]);
    archive.entry("dev/null", S_IFCHR | 0o666, (1, 3), &[]);
    archive.entry("init", S_IFREG | 0o755, (0, 0), guest_init);
    if !modules.is_empty() {
        let dir = MODULES_DIR.trim_start_matches('/');
        archive.entry(dir, S_IFDIR | 0o755, (0, 0), &[]);
        for (name, bytes) in modules {
            archive.entry(&format!("{dir}/{name}"), S_IFREG | 0o644, (0, 0), bytes);
        }
    }
    archive.finish()
}

/// The part of one guest: its boot configuration. Append it to [`base`].
///
/// # Errors
/// When the configuration exceeds a limit.
pub fn boot_part(config: &BootConfig) -> Result<Vec<u8>, MessageError> {
    let mut archive = Archive::with_capacity(1024);
    archive.entry(
        BOOT_CONFIG_PATH.trim_start_matches('/'),
        S_IFREG | 0o444,
        (0, 0),
        &config.encode()?,
    );
    Ok(archive.finish())
}

struct Archive {
    bytes: Vec<u8>,
    next_inode: usize,
}

impl Archive {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            next_inode: 1,
        }
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (usize, usize), content: &[u8]) {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.raw_entry(name, inode, mode as usize, (major, minor), content);
    }

    /// Thirteen fields of eight hexadecimal digits, the name with a NUL, the
    /// content; name and content padded.
    fn raw_entry(
        &mut self,
        name: &str,
        inode: usize,
        mode: usize,
        (major, minor): (usize, usize),
        content: &[u8],
    ) {
        let name_len = name.len() + 1;
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name, check
        let fields = [
            inode,
            mode,
            0,
            0,
            links,
            0,
            content.len(),
            0,
            0,
            major,
            minor,
            name_len,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            let field = u32::try_from(field).expect("files in an initramfs are below 4 GiB");
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.raw_entry(TRAILER, 0, 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use guest_protocol::Upper;

    use super::*;

    fn field(archive: &[u8], at: usize, index: usize) -> usize {
        let digits = &archive[at + 6 + index * 8..][..8];
        usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
    }

    struct Entry {
        name: String,
        mode: usize,
        device: (usize, usize),
        content: Vec<u8>,
    }

    /// Every entry, trailers left out.
    fn list(archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < archive.len() {
            assert_eq!(&archive[at..at + 6], b"070701", "entry at {at}");
            let (size, name_len) = (field(archive, at, 6), field(archive, at, 11));
            let name = &archive[at + 110..][..name_len - 1];
            let content_at = (at + 110 + name_len).next_multiple_of(4);
            let entry = Entry {
                name: String::from_utf8(name.to_vec()).unwrap(),
                mode: field(archive, at, 1),
                device: (field(archive, at, 9), field(archive, at, 10)),
                content: archive[content_at..content_at + size].to_vec(),
            };
            if entry.name != TRAILER {
                entries.push(entry);
            }
            at = (content_at + size).next_multiple_of(4);
        }
        entries
    }

    #[test]
    fn base_and_boot_part_make_one_initramfs() {
        let config = BootConfig {
            hostname: "golem".into(),
            layers: vec!["rootfs-0".into()],
            upper: Upper::Tmpfs { size: None },
            mounts: Vec::new(),
            modules: vec!["a.ko".into()],
        };
        let mut archive = base(b"ELF..", &[("a.ko", b"module")]);
        archive.extend(boot_part(&config).unwrap());

        let entries = list(&archive);
        let get = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(get("init").mode, 0o100_755);
        assert_eq!(get("init").content, b"ELF..");
        assert_eq!(get("dev").mode, 0o040_755);
        assert_eq!(get("dev/console").mode, 0o020_600);
        assert_eq!(get("dev/console").device, (5, 1));
        assert_eq!(get("modules/a.ko").content, b"module");
        assert_eq!(BootConfig::decode(&get("shem/boot").content), Ok(config));
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let names: Vec<_> = list(&base(b"", &[("a.ko", b"")]))
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        for (at, name) in names.iter().enumerate() {
            if let Some((dir, _)) = name.rsplit_once('/') {
                assert!(names[..at].iter().any(|earlier| earlier == dir), "{name}");
            }
        }
    }

    #[test]
    fn every_part_is_padded_so_that_another_may_follow() {
        for len in 0..5 {
            assert_eq!(base(&vec![1; len], &[]).len() % ALIGN, 0);
        }
    }
}
