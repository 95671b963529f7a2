//! Work folders of Golem's activities: one that stays, or a temporary one that goes
//! with this process, however that ends.
//!
//! A process that runs a VM gives up what it would take to remove everything, and may
//! be killed. So another one makes the temporary folder, waits for the end of a pipe
//! from here, which comes with the end of this process if not before, and removes it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{mounts, status};

/// What the other process is called with. It is no command of the user's, and so none
/// that clap would show in completions.
const KEEP: &str = "keep-temporary-folder";

/// What begins the name of a temporary folder.
const PREFIX: &str = "shem-";
/// Ends the path that the other process tells.
const END: u8 = 0;

/// A work folder.
#[derive(Debug)]
pub enum Workdir {
    /// The user's.
    Kept(PathBuf),
    /// Gone when this is dropped.
    Temporary(Temporary),
}

impl Workdir {
    /// The folder `kept`, made where it is missing, or a temporary one. To be called
    /// while this process may still start programs.
    pub fn open(kept: Option<&Path>) -> Result<Self> {
        let Some(folder) = kept else {
            return Temporary::make().map(Workdir::Temporary);
        };
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = std::path::absolute(folder).context("find the work folder")?;
        Ok(Workdir::Kept(folder))
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        match self {
            Workdir::Kept(path) => path,
            Workdir::Temporary(folder) => &folder.path,
        }
    }
}

/// A temporary folder, which another process keeps for us.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// Closed to have it removed.
    stop: Option<ChildStdin>,
    /// Ends when that is done.
    gone: BufReader<ChildStdout>,
}

impl Temporary {
    fn make() -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut keeper = Command::new(program)
            .arg(KEEP)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .context("start what keeps the temporary folder")?;
        let (Some(stop), Some(gone)) = (keeper.stdin.take(), keeper.stdout.take()) else {
            bail!("what keeps the temporary folder has no pipes");
        };
        let mut gone = BufReader::new(gone);
        let mut path = Vec::new();
        gone.read_until(END, &mut path)
            .context("hear of the temporary folder")?;
        if path.pop() != Some(END) {
            bail!("there is no temporary folder; name a work folder by --workdir");
        }
        Ok(Temporary {
            path: OsString::from_vec(path).into(),
            stop: Some(stop),
            gone,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It says nothing more, and what goes wrong it tells by itself.
        let _ = self.gone.read_to_end(&mut Vec::new());
    }
}

/// Whether this is the other process.
pub fn is_keeper(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().skip(1).eq([KEEP])
}

/// The other process: makes a temporary folder, tells where, and removes it when
/// standard input ends.
pub fn keep() -> Result<u8> {
    let place = mounts::temporary();
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(&place)
        .with_context(|| format!("make a folder in {}", place.display()))?;
    let told = [folder.path().as_os_str().as_bytes(), &[END]].concat();
    let mut stdout = io::stdout();
    // Who asked may be gone already, and then it is removed at once.
    let _ = stdout.write_all(&told).and_then(|()| stdout.flush());
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let path = folder.path().to_owned();
    folder
        .close()
        .with_context(|| format!("remove {}", path.display()))?;
    Ok(status::SUCCESS)
}
