//! Inode numbers for programs in the guest, which see one file system where
//! the host may have several mounted in each other.

use std::collections::HashMap;
use std::sync::Mutex;

use super::stat::Key;

/// Where the number of the host's file system goes. File systems whose inode
/// numbers reach up here may show two files with one number; only programs that
/// look for hard links would take notice.
const SHIFT: u32 = 48;

/// The host's file systems that the guest has seen.
pub(super) struct Numbers {
    /// The shared folder's own, whose inode numbers stay as they are.
    root: u64,
    others: Mutex<HashMap<u64, u16>>,
}

impl Numbers {
    /// Numbers below a folder in file system `root`.
    pub(super) fn new(root: u64) -> Self {
        Numbers {
            root,
            others: Mutex::default(),
        }
    }

    /// The guest's number for a file of the host's.
    pub(super) fn guest(&self, key: Key) -> u64 {
        if key.dev == self.root {
            return key.ino;
        }
        let mut others = self.others.lock().expect("no holder of this lock panics");
        let next = u16::try_from(others.len() + 1).unwrap_or(u16::MAX);
        // The guest cannot mount on the host, and so cannot make this grow.
        let index = *others.entry(key.dev).or_insert(next);
        key.ino ^ u64::from(index) << SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_two_file_systems_with_one_number_are_told_apart() {
        let numbers = Numbers::new(1);
        let [root, first, second] = [1, 2, 3].map(|dev| numbers.guest(Key { dev, ino: 256 }));
        assert_eq!(root, 256);
        assert_ne!(first, root);
        assert_ne!(first, second);
        assert_eq!(first, numbers.guest(Key { dev: 2, ino: 256 }));
    }
}
