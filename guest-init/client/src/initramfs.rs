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

/// Archives start at multiples of this, and in them headers and contents.
const ALIGN: usize = 4;

/// Length of an entry's header, in bytes.
const HEADER: usize = 110;

/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// The part that all guests of one kernel share: `guest-init` as `/init`, the
/// mount points and device nodes it starts with, and the kernel's modules by
/// file name.
///
/// # Panics
/// When a file is 4 GiB or larger, which the format cannot express.
pub fn base(guest_init: &[u8], modules: &[(&str, &[u8])]) -> Vec<u8> {
    let sizes: Vec<_> = (modules.iter())
        .map(|(name, bytes)| (*name, bytes.len()))
        .collect();
    let mut around = around(guest_init.len(), &sizes).into_iter();
    let mut archive = around.next().unwrap_or_default();
    let files = [guest_init]
        .into_iter()
        .chain(modules.iter().map(|(_, bytes)| *bytes));
    for (file, after) in files.zip(around) {
        archive.extend(file);
        archive.extend(after);
    }
    archive
}

/// What stands around the files of [`base`], which have these sizes: before
/// `guest_init`, between it and the first module, and so on, and after the last.
/// Whoever has the files elsewhere need not bring them here to have an archive.
///
/// # Panics
/// When a file is 4 GiB or larger, which the format cannot express.
pub fn around(guest_init: usize, modules: &[(&str, usize)]) -> Vec<Vec<u8>> {
    let mut archive = Archive::new();
    for dir in ["dev", "proc", "sys", "shem", "mnt"] {
        archive.entry(dir, S_IFDIR | 0o755, (0, 0));
    }
    // The kernel opens the console for PID 1 before anything is mounted, and
    // the Rust runtime falls back on null where there is no console.
    archive.entry("dev/console", S_IFCHR | 0o600, (5, 1));
    archive.entry("dev/null", S_IFCHR | 0o666, (1, 3));
    let dir = MODULES_DIR.trim_start_matches('/');
    if !modules.is_empty() {
        archive.entry(dir, S_IFDIR | 0o755, (0, 0));
    }
    let mut parts = vec![archive.file("init", 0o755, guest_init)];
    for (name, size) in modules {
        parts.push(archive.file(&format!("{dir}/{name}"), 0o644, *size));
    }
    parts.push(archive.finish());
    parts
}

/// The part of one guest: its boot configuration. Append it to [`base`].
///
/// # Errors
/// When the configuration exceeds a limit.
pub fn boot_part(config: &BootConfig) -> Result<Vec<u8>, MessageError> {
    let content = config.encode()?;
    let mut archive = Archive::new();
    let path = BOOT_CONFIG_PATH.trim_start_matches('/');
    let mut part = archive.file(path, 0o444, content.len());
    part.extend(content);
    part.extend(archive.finish());
    Ok(part)
}

struct Archive {
    /// What comes next, up to a file's content.
    bytes: Vec<u8>,
    next_inode: usize,
}

impl Archive {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            next_inode: 1,
        }
    }

    /// A folder or a device.
    fn entry(&mut self, name: &str, mode: u32, device: (usize, usize)) {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.header(name, inode, mode as usize, device, 0);
    }

    /// A file. Returns all that comes before its content, which has `size` bytes.
    fn file(&mut self, name: &str, permissions: u32, size: usize) -> Vec<u8> {
        let inode = self.next_inode;
        self.next_inode += 1;
        let mode = (S_IFREG | permissions) as usize;
        self.header(name, inode, mode, (0, 0), size);
        std::mem::replace(&mut self.bytes, padding(size))
    }

    /// Thirteen fields of eight hexadecimal digits and the name with a NUL, padded.
    fn header(
        &mut self,
        name: &str,
        inode: usize,
        mode: usize,
        (major, minor): (usize, usize),
        size: usize,
    ) {
        let name_len = name.len() + 1;
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name, check
        let fields = [
            inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_len, 0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            let field = u32::try_from(field).expect("files in an initramfs are below 4 GiB");
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.bytes.extend(padding(HEADER + name_len));
    }

    fn finish(mut self) -> Vec<u8> {
        self.header(TRAILER, 0, 0, (0, 0), 0);
        self.bytes
    }
}

/// What makes `len` bytes end at a multiple of [`ALIGN`].
fn padding(len: usize) -> Vec<u8> {
    vec![0; len.next_multiple_of(ALIGN) - len]
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
    fn what_stands_around_the_files_says_their_sizes() {
        let parts = around(6, &[("a.ko", 3), ("b.ko", 4)]);
        let contents: [&[u8]; 4] = [b"guests", b"one", b"four", b""];
        let archive: Vec<u8> = (parts.iter().zip(contents))
            .flat_map(|(part, content)| [part, content].concat())
            .collect();
        let files: Vec<_> = list(&archive)
            .into_iter()
            .filter(|entry| entry.mode & S_IFREG as usize != 0)
            .map(|entry| (entry.name, entry.content))
            .collect();
        let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
        assert_eq!(
            files,
            [
                file("init", b"guests"),
                file("modules/a.ko", b"one"),
                file("modules/b.ko", b"four")
            ]
        );
    }

    #[test]
    fn every_part_is_padded_so_that_another_may_follow() {
        for len in 0..5 {
            assert_eq!(base(&vec![1; len], &[]).len() % ALIGN, 0);
        }
    }
}
