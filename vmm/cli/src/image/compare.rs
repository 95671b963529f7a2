//! Whether images are whole, and what two of them do not have in common.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use gvmi::{Change, DiffError, Fault, Image, Tree, Verification, display_path};
use serde_json::{Value, json};

use super::files::as_json;
use super::report::{STDOUT, mib};
use crate::args::{DiffArgs, VerifyArgs};
use crate::status;

/// `shem image verify`: all images, also behind one that is not whole.
pub fn verify(args: &VerifyArgs) -> Result<u8> {
    let mut worst = status::SUCCESS;
    for path in &args.images {
        let found = match Image::open(path) {
            Ok(image) => check(path, &image),
            Err(error) => {
                if is_unread(&error.fault) {
                    worst = status::FAILED;
                }
                Err(error.into())
            }
        };
        match found {
            Ok(line) => {
                writeln!(io::stdout(), "{}: {line}", path.display()).context(STDOUT)?;
            }
            Err(error) => {
                note!("shem: {error:#}");
                worst = worst.max(status::UNHEALTHY);
            }
        }
    }
    Ok(worst)
}

/// Whether nothing is known of a file, as it could not be read.
fn is_unread(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Missing
            | Fault::Permission
            | Fault::Open(_)
            | Fault::Read(_)
            | Fault::Directory
            | Fault::NotAFile
    )
}

fn check(path: &Path, image: &Image) -> Result<String> {
    let tree = Tree::open(image).with_context(|| path.display().to_string())?;
    let found = tree.verify();
    ensure!(
        found.is_ok(),
        "{}: damaged: {}",
        path.display(),
        faults(&found)
    );
    let counts = found.counts;
    Ok(format!(
        "ok, {} files with {}, {} folders, {} links, {} devices and pipes",
        counts.files,
        mib(counts.data),
        counts.directories,
        counts.symlinks + counts.hard_links,
        counts.devices + counts.pipes,
    ))
}

fn faults(found: &Verification) -> String {
    let mut told: Vec<_> = found.faults.iter().map(ToString::to_string).collect();
    let more = found.fault_count.saturating_sub(told.len() as u64);
    // What is damaged at its root is met from several sides.
    told.dedup();
    let more = match more {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    told.join("; ") + &more
}

/// `shem image diff`.
pub fn diff(args: &DiffArgs) -> Result<u8> {
    let open = |path: &Path| Image::open(path);
    let (old, new) = (open(&args.old)?, open(&args.new)?);
    let old = Tree::open(&old).with_context(|| args.old.display().to_string())?;
    let new = Tree::open(&new).with_context(|| args.new.display().to_string())?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut differ = false;
    let named = |error| match error {
        DiffError::Old(error) => Error::from(error).context(args.old.display().to_string()),
        DiffError::New(error) => Error::from(error).context(args.new.display().to_string()),
    };
    for change in old.diff(&new, args.times).map_err(named)? {
        let change = change.map_err(named)?;
        differ = true;
        if args.json {
            writeln!(out, "{}", object(&change)).context(STDOUT)?;
        } else {
            writeln!(out, "{}", line(&change)).context(STDOUT)?;
        }
    }
    out.flush().context(STDOUT)?;
    Ok(if differ {
        status::UNHEALTHY
    } else {
        status::SUCCESS
    })
}

/// As `docker diff` has it, with what has changed.
fn line(change: &Change) -> String {
    match change {
        Change::Added(entry) => format!("A /{}", display_path(&entry.path)),
        Change::Removed(entry) => format!("D /{}", display_path(&entry.path)),
        Change::Changed { new, aspects, .. } => {
            let aspects: Vec<_> = aspects.iter().map(ToString::to_string).collect();
            format!("C /{} ({})", display_path(&new.path), aspects.join(", "))
        }
    }
}

fn object(change: &Change) -> Value {
    match change {
        Change::Added(entry) => json!({ "change": "added", "new": as_json(entry) }),
        Change::Removed(entry) => json!({ "change": "removed", "old": as_json(entry) }),
        Change::Changed { old, new, aspects } => json!({
            "change": "changed",
            "in": aspects.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "old": as_json(old),
            "new": as_json(new),
        }),
    }
}
