//! The files in an image: listed, printed, or all of them as a tar archive. Nothing is
//! mounted, unpacked or run.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
use chrono::DateTime;
use gvmi::{Entry, ExportError, Exported, Image, Inode, Kind, Tree, display_path};
use serde_json::{Value, json};

use super::report::STDOUT;
use crate::args::{CatArgs, ExportArgs, LsArgs};
use crate::status;

/// Bytes of a file that are printed at once.
const PIECE: usize = 128 << 10;

/// `shem image ls`.
pub fn ls(args: &LsArgs) -> Result<u8> {
    let image = Image::open(&args.image)?;
    let name = || args.image.display().to_string();
    let tree = Tree::open(&image).with_context(name)?;
    // As ls(1) does, of a link at the end itself only where it shows what a link is.
    let follow = !args.long && !args.json;
    let start = tree
        .lookup(args.path.as_bytes(), follow)
        .with_context(name)?;
    let is_folder = start.inode.is_dir();
    let depth = if start.path.is_empty() {
        0
    } else {
        start.path.len() + 1
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut walk = tree.walk_from(start);
    // A folder stands for what is in it.
    if is_folder {
        walk.next().transpose().with_context(name)?;
    }
    while let Some(entry) = walk.next() {
        let entry = entry.with_context(name)?;
        if !args.recursive {
            walk.skip_folder();
        }
        let path = if is_folder {
            &entry.path[depth..]
        } else {
            &entry.path
        };
        if args.json {
            writeln!(out, "{}", as_json(&entry)).context(STDOUT)?;
        } else if args.long {
            writeln!(out, "{}", long_line(path, &entry.inode)).context(STDOUT)?;
        } else {
            writeln!(out, "{}", display_path(path)).context(STDOUT)?;
        }
    }
    out.flush().context(STDOUT)?;
    Ok(status::SUCCESS)
}

/// As `ls -ln` has it, with times of UTC.
fn long_line(path: &[u8], inode: &Inode) -> String {
    let size = match &inode.kind {
        Kind::File(data) => data.size().to_string(),
        Kind::Block(device) | Kind::Char(device) => format!("{},{}", device.major, device.minor),
        _ => "0".to_owned(),
    };
    let target = match &inode.kind {
        Kind::Symlink(target) => format!(" -> {}", display_path(target)),
        _ => String::new(),
    };
    let time = DateTime::from_timestamp(inode.mtime.into(), 0).unwrap_or_default();
    format!(
        "{} {:>3} {:>5} {:>5} {size:>10} {} {}{target}",
        permissions(inode),
        inode.links,
        inode.uid,
        inode.gid,
        time.format("%Y-%m-%d %H:%M"),
        display_path(path),
    )
}

/// Type and permissions in ten letters.
fn permissions(inode: &Inode) -> String {
    let mode = inode.mode;
    let mut text = String::from(inode.kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// What is known of an entry. Of a name that is not UTF-8 the bytes are told too.
pub fn as_json(entry: &Entry) -> Value {
    let inode = &entry.inode;
    let mut told = json!({
        "path": format!("/{}", display_path(&entry.path)),
        "type": inode.kind.letter().to_string(),
        "mode": format!("{:04o}", inode.mode),
        "uid": inode.uid,
        "gid": inode.gid,
        "mtime": inode.mtime,
        "links": inode.links,
    });
    match &inode.kind {
        Kind::File(data) => told["size"] = data.size().into(),
        Kind::Symlink(target) => told["target"] = display_path(target).into(),
        Kind::Block(device) | Kind::Char(device) => {
            told["device"] = json!([device.major, device.minor]);
        }
        _ => {}
    }
    if std::str::from_utf8(&entry.path).is_err() {
        told["path_bytes"] = entry.path.clone().into();
    }
    told
}

/// `shem image cat`.
pub fn cat(args: &CatArgs) -> Result<u8> {
    let image = Image::open(&args.image)?;
    let name = || args.image.display().to_string();
    let tree = Tree::open(&image).with_context(name)?;
    let mut out = io::stdout().lock();
    for path in &args.paths {
        let entry = tree.lookup(path.as_bytes(), true).with_context(name)?;
        let mut data = tree
            .file(&entry.inode)
            .with_context(|| format!("{}: /{}", name(), display_path(&entry.path)))?;
        let mut piece = vec![0; PIECE];
        loop {
            let len = data
                .read(&mut piece)
                .with_context(|| format!("{}: /{}", name(), display_path(&entry.path)))?;
            if len == 0 {
                break;
            }
            out.write_all(&piece[..len]).context(STDOUT)?;
        }
    }
    out.flush().context(STDOUT)?;
    Ok(status::SUCCESS)
}

/// `shem image export`.
pub fn export(args: &ExportArgs) -> Result<u8> {
    let image = Image::open(&args.image)?;
    let name = || args.image.display().to_string();
    let tree = Tree::open(&image).with_context(name)?;
    let exported = match &args.output {
        Some(path) => {
            not_the_source(&args.image, path)?;
            let draft = gvmi::Draft::create(path).with_context(|| cannot_write(path))?;
            let exported = named(tree.export(draft.file()), name, || cannot_write(path))?;
            draft.publish().with_context(|| cannot_write(path))?;
            exported
        }
        None if io::stdout().is_terminal() => {
            bail!("the archive would go to a terminal (give -o FILE, or a pipe)")
        }
        None => named(tree.export(io::stdout().lock()), name, || STDOUT.to_owned())?,
    };
    for warning in exported.warnings {
        note!("shem: warning: {warning}");
    }
    Ok(status::SUCCESS)
}

/// With the name of what could not be read, or written.
fn named(
    exported: Result<Exported, ExportError>,
    image: impl Fn() -> String,
    output: impl Fn() -> String,
) -> Result<Exported> {
    exported.map_err(|error| match error {
        ExportError::Write(error) => Error::from(error).context(output()),
        ExportError::Tree(error) => Error::from(error).context(image()),
    })
}

/// That `output`, which would be replaced, is not what is read.
pub fn not_the_source(source: &Path, output: &Path) -> Result<()> {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let same = identity(source).is_some_and(|source| identity(output) == Some(source));
    ensure!(
        !same,
        "{}: is what is read, and would be replaced (give another file to -o)",
        output.display()
    );
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}
