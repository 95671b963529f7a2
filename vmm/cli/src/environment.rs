//! What is set in the command's environment beside the image's: the variables
//! of `--env-file`, then those of `--env`; later ones win. As Docker does, a
//! name without `=` takes the value it has here, and is left out when it has none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Names and values.
pub type Environment = Vec<(OsString, OsString)>;

/// Puts the variables together; `ours` looks a name up in our own
/// environment. Each name is in the result once.
pub fn merge(
    files: &[PathBuf],
    options: &[OsString],
    ours: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Environment> {
    let mut merged = Environment::new();
    for file in files {
        let text = std::fs::read(file)
            .with_context(|| format!("read the environment file {}", file.display()))?;
        add_lines(&mut merged, &text, &ours).with_context(|| at(file))?;
    }
    for option in options {
        add(&mut merged, option, &ours).context("--env")?;
    }
    Ok(merged)
}

fn at(file: &Path) -> String {
    format!("environment file {}", file.display())
}

/// Each line is `NAME=VALUE` or `NAME`; empty ones and those that start with # do not count.
fn add_lines(
    merged: &mut Environment,
    text: &[u8],
    ours: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<()> {
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii_start();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        add(merged, OsStr::from_bytes(line), &ours)
            .with_context(|| format!("line {}", index + 1))?;
    }
    Ok(())
}

fn add(
    merged: &mut Environment,
    text: &OsStr,
    ours: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<()> {
    let mut parts = text.as_bytes().splitn(2, |byte| *byte == b'=');
    let name = OsStr::from_bytes(parts.next().unwrap_or_default());
    ensure!(!name.is_empty(), "the name before = is empty");
    ensure!(
        !name.as_bytes().contains(&0),
        "a name of a variable has no NUL"
    );
    let value = match parts.next() {
        Some(value) => Some(OsString::from_vec(value.to_vec())),
        None => ours(name),
    };
    if let Some(value) = value {
        set(merged, name.to_owned(), value);
    }
    Ok(())
}

fn set(merged: &mut Environment, name: OsString, value: OsString) {
    match merged.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => merged.push((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &OsStr) -> Option<OsString> {
        (name == "HERE").then(|| "here".into())
    }

    fn shown(environment: Environment) -> Vec<String> {
        environment
            .into_iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    #[test]
    fn later_ones_win() {
        let options = ["A=1".into(), "C=x=y".into(), "A=3".into(), "E=".into()];
        let merged = merge(&[], &options, ours).unwrap();
        assert_eq!(shown(merged), ["A=3", "C=x=y", "E="]);
    }

    #[test]
    fn names_alone_take_our_value_or_are_left_out() {
        let options = ["HERE".into(), "MISSING".into()];
        assert_eq!(shown(merge(&[], &options, ours).unwrap()), ["HERE=here"]);
    }

    #[test]
    fn environment_files_have_comments_and_empty_lines() {
        let mut merged = Environment::new();
        add_lines(&mut merged, b"# note\n\n A=1 \r\nHERE\nB=#x", ours).unwrap();
        assert_eq!(shown(merged), ["A=1 ", "HERE=here", "B=#x"]);
    }

    #[test]
    fn empty_name_is_refused_with_its_line() {
        let mut merged = Environment::new();
        let error = add_lines(&mut merged, b"A=1\n=2\n", ours).unwrap_err();
        assert_eq!(format!("{error:#}"), "line 2: the name before = is empty");
    }

    #[test]
    fn missing_environment_file_is_named() {
        let error = merge(&["/nonexistent".into()], &[], ours).unwrap_err();
        assert!(format!("{error:#}").starts_with("read the environment file /nonexistent: "));
    }
}
