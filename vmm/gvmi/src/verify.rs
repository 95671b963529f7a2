//! Reads all of a tree, as a guest that uses everything would: every name,
//! every inode, every attribute, every byte of every file. What the superblock
//! and the trailer say was checked when the image was opened.

use crate::squashfs::{Damage, Entry, Inodes, Kind, Tree, TreeError, TreeFault};

/// Most faults that are kept; the others are counted.
const MAX_FAULTS: usize = 16;

/// What was found in a tree.
#[derive(Debug, Default)]
pub struct Verification {
    /// What is there.
    pub counts: Counts,
    /// The first faults, at most 16 of them; none if the tree is whole.
    pub faults: Vec<TreeError>,
    /// How many faults there are.
    pub fault_count: u64,
}

/// Entries of a tree by what they are, and their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Folders, the root among them.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Block and character devices.
    pub devices: u64,
    /// Named pipes and sockets.
    pub pipes: u64,
    /// Names of files of any kind beyond their first.
    pub hard_links: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Bytes of regular files, with their holes.
    pub data: u64,
}

impl Counts {
    /// Inodes that were read, of as many as the superblock says.
    pub fn inodes(&self) -> u64 {
        self.directories + self.files + self.symlinks + self.devices + self.pipes
    }
}

impl Verification {
    /// Whether all of the tree could be read.
    pub fn is_ok(&self) -> bool {
        self.fault_count == 0
    }

    fn fault(&mut self, path: &[u8], fault: TreeFault) {
        self.error(TreeError::new(path, fault));
    }

    fn error(&mut self, error: TreeError) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(error);
        }
    }
}

impl Tree<'_> {
    /// Reads everything, and goes on behind what cannot be read.
    pub fn verify(&self) -> Verification {
        self.verify_with(&mut |_| ())
    }

    /// As [`Tree::verify`]; behind each entry `progress` is told what was
    /// found so far.
    pub fn verify_with(&self, progress: &mut dyn FnMut(&Counts)) -> Verification {
        let mut found = Verification::default();
        if let Err(fault) = self.check_tables() {
            found.fault(b"", fault);
        }
        let mut seen = Inodes::new(self);
        match self.walk() {
            Ok(walk) => {
                for entry in walk {
                    match entry {
                        Ok(entry) => self.verify_entry(&entry, &mut seen, &mut found),
                        Err(error) => found.error(error),
                    }
                    progress(&found.counts);
                }
            }
            Err(error) => found.error(error),
        }
        found
    }

    fn verify_entry(&self, entry: &Entry, seen: &mut Inodes, found: &mut Verification) {
        let inode = &entry.inode;
        let counts = &mut found.counts;
        if !seen.insert(inode.number) && !inode.is_dir() {
            counts.hard_links += 1;
            return;
        }
        *match inode.kind {
            Kind::Directory(_) => &mut counts.directories,
            Kind::File(_) => &mut counts.files,
            Kind::Symlink(_) => &mut counts.symlinks,
            Kind::Block(_) | Kind::Char(_) => &mut counts.devices,
            Kind::Fifo | Kind::Socket => &mut counts.pipes,
        } += 1;
        match self.xattrs(inode) {
            Ok(xattrs) => counts.xattrs += xattrs.len() as u64,
            Err(fault) => found.fault(&entry.path, fault),
        }
        if let Kind::File(data) = &inode.kind {
            match self.read_all(entry) {
                // The sum of what hostile inodes name has no bound.
                Ok(()) => found.counts.data = found.counts.data.saturating_add(data.size()),
                Err(fault) => found.fault(&entry.path, fault),
            }
        }
    }

    fn read_all(&self, entry: &Entry) -> Result<(), TreeFault> {
        let mut file = self.file(&entry.inode)?;
        while let Some(piece) = file.piece()? {
            let len = piece.len();
            file.consume(len);
        }
        Ok(())
    }

    /// Reads what the walk does not come past: the tables' unused entries, and
    /// the index of inodes by number, which file handles of NFS and overlayfs
    /// are looked up in.
    fn check_tables(&self) -> Result<(), TreeFault> {
        if let Some(table) = self.fragments {
            for number in 0..table.count() {
                self.charge_item()?;
                table.entry(self, number)?.u64(self)?;
            }
        }
        if let Some(xattrs) = self.xattrs {
            // Their count was read from 32 bits.
            for number in 0..xattrs.lists.count() as u32 {
                self.charge_item()?;
                self.xattr_list(number)?;
            }
        }
        if let Some(table) = self.exports {
            // As above.
            for at in 0..table.count() as u32 {
                self.charge_item()?;
                let reference = table.entry(self, at.into())?.u64(self)?;
                let (number, found) = (at + 1, self.inode(reference)?.number);
                if found != number {
                    return Err(Damage::Export { number, found }.into());
                }
            }
        }
        Ok(())
    }
}
