//! The rows. Every file is made from numbers alone, so that all guests do the
//! same.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, AtFlags, Dir, FileType, Mode, OFlags};

/// Bytes of a sequential transfer.
const BLOCK: usize = 1 << 20;
/// Bytes of a random one.
const PAGE: usize = 4096;
/// Files in each folder of the tree, and folders in each of the folders above.
const FILES_OF_FOLDER: usize = 25;
const FOLDERS_OF_FOLDER: usize = 8;
/// Most bytes of the tree's files, and what tar writes at once.
const LONGEST: usize = 16 << 10;
const TAR_BLOCK: usize = 10 << 10;

/// What to do, and how much of it.
pub struct Rows {
    /// On the file system that is measured.
    pub folder: PathBuf,
    /// Bytes of the large file.
    pub size: usize,
    /// Random reads, and writes.
    pub operations: usize,
    /// Files in one folder.
    pub files: usize,
    /// Files of the tree.
    pub tree: usize,
}

impl Rows {
    /// All of them.
    pub fn run(&self) -> Result<()> {
        row("write", self.size, || self.write())?;
        drop_caches()?;
        row("read", self.size, || self.read())?;
        drop_caches()?;
        row("random read", self.operations, || self.random_read())?;
        row("random write", self.operations, || self.random_write())?;
        fs::create_dir(self.folder.join("many"))?;
        row("create", self.files, || self.each_file(create))?;
        drop_caches()?;
        row("stat", self.files, || {
            self.each_file(|path| {
                // The standard library's asks for the time of birth as well,
                // one more request where the host can tell it.
                rustix::fs::lstat(path)?;
                Ok(())
            })
        })?;
        row("unlink", self.files, || {
            self.each_file(|path| Ok(fs::remove_file(path)?))
        })?;
        row("unpack", self.tree, || self.unpack())?;
        drop_caches()?;
        row("find", self.tree, || self.find())?;
        drop_caches()?;
        row("read tree", self.tree, || self.read_tree())
    }

    fn large(&self) -> PathBuf {
        self.folder.join("large")
    }

    fn write(&self) -> Result<()> {
        let mut file = File::create(self.large())?;
        let block = noise(BLOCK, 1);
        for _ in 0..self.size / BLOCK {
            file.write_all(&block)?;
        }
        Ok(file.sync_all()?)
    }

    fn read(&self) -> Result<()> {
        let mut file = File::open(self.large())?;
        let mut block = vec![0; BLOCK];
        for _ in 0..self.size / BLOCK {
            file.read_exact(&mut block)?;
        }
        ensure!(
            block == noise(BLOCK, 1),
            "other bytes are read than written"
        );
        Ok(())
    }

    fn random_read(&self) -> Result<()> {
        let file = File::open(self.large())?;
        // No more is asked for than is read.
        rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
        let mut page = [0; PAGE];
        for at in self.places() {
            file.read_exact_at(&mut page, at)?;
        }
        Ok(())
    }

    fn random_write(&self) -> Result<()> {
        let file = OpenOptions::new().write(true).open(self.large())?;
        let page = noise(PAGE, 2);
        for at in self.places() {
            file.write_all_at(&page, at)?;
        }
        Ok(file.sync_all()?)
    }

    /// Offsets of random pages of the large file.
    fn places(&self) -> impl Iterator<Item = u64> {
        let pages = (self.size / PAGE) as u64;
        let mut numbers = Numbers(3);
        (0..self.operations).map(move |_| numbers.next() % pages * PAGE as u64)
    }

    fn each_file(&self, act: impl Fn(&Path) -> Result<()>) -> Result<()> {
        for number in 0..self.files {
            let path = self.folder.join(format!("many/file-{number:05}"));
            act(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Folders two deep with files, by the calls of `tar x` as root.
    fn unpack(&self) -> Result<()> {
        let mut numbers = Numbers(4);
        let content = noise(LONGEST, 5);
        for number in 0..self.tree {
            let folder = number / FILES_OF_FOLDER;
            let above = self
                .tree_folder()
                .join(format!("part-{:03}", folder / FOLDERS_OF_FOLDER));
            let folder = above.join(format!("folder-{folder:04}"));
            if number % (FILES_OF_FOLDER * FOLDERS_OF_FOLDER) == 0 {
                fs::create_dir_all(&above)?;
            }
            if number % FILES_OF_FOLDER == 0 {
                fs::create_dir(&folder)?;
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.join(format!("source-{number:05}.c")))?;
            let length = numbers.next() as usize % LONGEST;
            for block in content[..length].chunks(TAR_BLOCK) {
                file.write_all(block)?;
            }
            file.set_modified(UNIX_EPOCH)?;
            fchown(&file, Some(0), Some(0))?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        }
        Ok(())
    }

    fn tree_folder(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Lists all folders and asks for the attributes of everything.
    fn find(&self) -> Result<()> {
        let found = self.walk(&mut |_, _| Ok(()))?;
        ensure!(found == self.tree, "found {found} files of {}", self.tree);
        Ok(())
    }

    fn read_tree(&self) -> Result<()> {
        let mut buffer = vec![0; 2 * LONGEST];
        self.walk(&mut |folder, name| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            let mut file = File::from(file);
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        })?;
        Ok(())
    }

    /// Gives each file by its folder and its name to `act`, and says how many
    /// there are. By the calls of `find` and `grep -r`.
    fn walk(&self, act: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<()>) -> Result<usize> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut files = 0;
        let tree = rustix::fs::open(self.tree_folder(), flags, Mode::empty())?;
        let mut folders = vec![tree];
        while let Some(folder) = folders.pop() {
            for entry in Dir::read_from(&folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    folders.push(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
                } else {
                    files += 1;
                    act(folder.as_fd(), name)?;
                }
            }
        }
        Ok(files)
    }
}

fn create(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).open(path)?;
    Ok(())
}

fn row(name: &str, count: usize, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    run().with_context(|| name.to_owned())?;
    let nanoseconds = start.elapsed().as_nanos();
    println!("row {nanoseconds} {count} {name}");
    Ok(())
}

/// Pages, names and attributes that the guest's kernel keeps, after what has
/// not been written yet.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop the kernel's caches")
}

/// Bytes that no storage finds anything in to save.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let words = (0..length.div_ceil(8)).flat_map(|_| numbers.next().to_le_bytes());
    words.take(length).collect()
}

/// Steele's SplitMix64: the same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
