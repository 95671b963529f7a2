//! A tree that several processes change at once. Each knows what it made: the
//! names of others are in the same folders, and the bytes of others in the same
//! file and the same pages.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::data::compare;
use crate::log::Log;
use crate::random::Random;

/// Folders that all processes work in.
const FOLDERS: usize = 4;
/// Most files of one process.
const FILES: usize = 40;
/// Longest contents of a file.
const LENGTH: usize = 3000;
/// Pieces of the common file: those of one process are never next to each other.
const PIECES: usize = 400;
const PIECE: usize = 700;

pub struct Exercise {
    root: PathBuf,
    part: usize,
    parts: usize,
    /// Path below the root to contents.
    model: BTreeMap<String, Vec<u8>>,
    common: File,
    pieces: BTreeMap<usize, Vec<u8>>,
    /// For names that no file had before.
    made: usize,
    random: Random,
    pub log: Log,
}

impl Exercise {
    pub fn new(root: &Path, part: usize, parts: usize, random: Random) -> Result<Self> {
        for folder in 0..FOLDERS {
            match fs::create_dir(root.join(format!("d{folder}"))) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                outcome => outcome?,
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Exercise {
            root: root.into(),
            part,
            parts,
            model: BTreeMap::new(),
            common: options.open(root.join("common"))?,
            pieces: BTreeMap::new(),
            made: 0,
            random,
            log: Log::default(),
        })
    }

    /// One random operation. An error says what is wrong.
    pub fn step(&mut self) -> std::result::Result<(), String> {
        let outcome = match self.random.below(100) {
            0..25 => self.create(),
            25..45 => self.check_one(),
            45..55 => self.remove(),
            55..70 => self.rename(),
            70..75 => self.list(),
            75..90 => self.write_piece(),
            _ => self.check_piece(),
        };
        match outcome {
            Ok(wrong) => wrong.map_or(Ok(()), Err),
            Err(error) => Err(format!("the operation failed: {error}")),
        }
    }

    /// Everything that this process made.
    pub fn check_all(&mut self) -> std::result::Result<(), String> {
        self.log.note(format_args!("check all"));
        for (path, wanted) in &self.model {
            let got = fs::read(self.root.join(path)).map_err(|error| format!("{path}: {error}"))?;
            if let Some(wrong) = compare(&got, wanted, 0) {
                return Err(format!("{path}: {wrong}"));
            }
        }
        for folder in 0..FOLDERS {
            let listed = self.listed(folder).map_err(|error| error.to_string())?;
            let known: Vec<String> = self.known(folder);
            if listed != known {
                return Err(format!("d{folder} lists {listed:?}, not {known:?}"));
            }
        }
        Ok(())
    }

    fn fresh_name(&mut self) -> String {
        self.made += 1;
        let folder = self.random.below(FOLDERS);
        format!("d{folder}/p{}.{}", self.part, self.made)
    }

    fn any(&mut self) -> Option<String> {
        if self.model.is_empty() {
            return None;
        }
        let index = self.random.below(self.model.len());
        self.model.keys().nth(index).cloned()
    }

    fn create(&mut self) -> Result<Option<String>> {
        if self.model.len() == FILES {
            return self.remove();
        }
        let name = self.fresh_name();
        let len = self.random.below(LENGTH);
        self.log.note(format_args!("write {len} to {name}"));
        let bytes = self.random.bytes(len);
        fs::write(self.root.join(&name), &bytes)?;
        self.model.insert(name, bytes);
        Ok(None)
    }

    fn check_one(&mut self) -> Result<Option<String>> {
        let Some(name) = self.any() else {
            return Ok(None);
        };
        self.log.note(format_args!("read {name}"));
        let bytes = fs::read(self.root.join(&name))?;
        Ok(compare(&bytes, &self.model[&name], 0))
    }

    fn remove(&mut self) -> Result<Option<String>> {
        let Some(name) = self.any() else {
            return Ok(None);
        };
        self.log.note(format_args!("unlink {name}"));
        fs::remove_file(self.root.join(&name))?;
        self.model.remove(&name);
        let there = self.root.join(&name).exists();
        Ok(there.then(|| format!("{name} is still there")))
    }

    /// Onto a new name or onto one that is taken.
    fn rename(&mut self) -> Result<Option<String>> {
        let Some(from) = self.any() else {
            return Ok(None);
        };
        let to = match self.random.below(2) {
            0 => self.fresh_name(),
            _ => self.any().unwrap_or_default(),
        };
        self.log.note(format_args!("rename {from} to {to}"));
        fs::rename(self.root.join(&from), self.root.join(&to))?;
        if let Some(bytes) = self.model.remove(&from) {
            self.model.insert(to, bytes);
        }
        Ok(None)
    }

    fn list(&mut self) -> Result<Option<String>> {
        let folder = self.random.below(FOLDERS);
        self.log.note(format_args!("list d{folder}"));
        let (listed, known) = (self.listed(folder)?, self.known(folder));
        Ok((listed != known).then(|| format!("it lists {listed:?}, not {known:?}")))
    }

    /// The names of this process in a folder, sorted.
    fn listed(&self, folder: usize) -> Result<Vec<String>> {
        let ours = format!("p{}.", self.part);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(format!("d{folder}")))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&ours) {
                names.push(format!("d{folder}/{name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    fn known(&self, folder: usize) -> Vec<String> {
        let prefix = format!("d{folder}/");
        let names = self.model.keys().filter(|name| name.starts_with(&prefix));
        names.cloned().collect()
    }

    /// A piece of the common file that no other process writes.
    fn write_piece(&mut self) -> Result<Option<String>> {
        let piece = self.random.below(PIECES / self.parts) * self.parts + self.part;
        self.log.note(format_args!("write piece {piece}"));
        let bytes = self.random.bytes(PIECE);
        self.common.write_all_at(&bytes, (piece * PIECE) as u64)?;
        self.pieces.insert(piece, bytes);
        Ok(None)
    }

    fn check_piece(&mut self) -> Result<Option<String>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let index = self.random.below(self.pieces.len());
        let (piece, wanted) = self.pieces.iter().nth(index).expect("there are more");
        self.log.note(format_args!("read piece {piece}"));
        let mut bytes = vec![0; PIECE];
        let start = piece * PIECE;
        self.common.read_exact_at(&mut bytes, start as u64)?;
        Ok(compare(&bytes, wanted, start))
    }
}
