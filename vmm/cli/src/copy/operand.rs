//! The operands of `shem cp`: which side they are on, and what their endings
//! mean. Pure functions over Docker's rules.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::running::VOLUME;

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A tar stream on standard input or output.
    Stream,
    /// A path of this host.
    Local(PathBuf),
    /// A path of a running VM.
    Vm(String, GuestPath),
    /// A path of a volume, from its own root.
    Volume(String, GuestPath),
}

/// An absolute path of a guest, and what its ending said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPath {
    /// Without an ending that only says what it is.
    pub path: OsString,
    /// How it ended.
    pub ending: Ending,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In a name.
    Name,
    /// In `/`: it has to be a folder.
    Slash,
    /// In `/.`: it stands for what is in it.
    Contents,
}

impl Operand {
    /// Reads an operand. A path of this host that has a colon begins with `/` or
    /// `.`, as with Docker.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        ensure!(!bytes.is_empty(), "an empty path; write . for this folder");
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|_| !matches!(bytes[0], b'/' | b'.')) else {
            return Ok(Self::Local(text.into()));
        };
        let (head, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        if head != VOLUME.as_bytes() {
            return Ok(Self::Vm(text_of(head)?, GuestPath::parse(rest)?));
        }
        let Some(colon) = rest.iter().position(|byte| *byte == b':') else {
            bail!("{}: write volume:NAME:PATH", text.display());
        };
        let name = text_of(&rest[..colon])?;
        Ok(Self::Volume(name, GuestPath::parse(&rest[colon + 1..])?))
    }
}

impl GuestPath {
    fn parse(path: &[u8]) -> Result<Self> {
        let (path, ending) = cut(path);
        let mut whole = Vec::with_capacity(path.len() + 1);
        if !path.starts_with(b"/") {
            whole.push(b'/');
        }
        whole.extend_from_slice(path);
        ensure!(
            !whole.ends_with(b"/.."),
            "a path that ends in ..: name the folder itself"
        );
        // The root has no name, so what is meant is in it.
        let ending = if whole == b"/" {
            Ending::Contents
        } else {
            ending
        };
        Ok(Self {
            path: OsString::from_vec(whole),
            ending,
        })
    }

    /// What the path is called at the top of an archive.
    pub fn name(&self) -> &OsStr {
        match (self.ending, Path::new(&self.path).file_name()) {
            (Ending::Name | Ending::Slash, Some(name)) => name,
            _ => OsStr::new("."),
        }
    }

    /// The folder that it is in.
    pub fn folder(&self) -> OsString {
        Path::new(&self.path)
            .parent()
            .map_or_else(|| "/".into(), |parent| parent.as_os_str().into())
    }

    /// The same path of what is mounted at `mount`.
    pub fn below(&self, mount: &str) -> Self {
        let mut path = OsString::from(mount);
        if self.path != "/" {
            path.push(&self.path);
        }
        Self {
            path,
            ending: self.ending,
        }
    }
}

/// How a path of this host ends; `.` alone stands for what is in it.
pub fn ending(path: &Path) -> Ending {
    match path.as_os_str().as_bytes() {
        b"." | b"/" => Ending::Contents,
        path => cut(path).1,
    }
}

/// Takes off the end what only says what the rest is.
fn cut(path: &[u8]) -> (&[u8], Ending) {
    let mut rest = path;
    let mut ending = Ending::Name;
    loop {
        if let Some(shorter) = rest.strip_suffix(b"/") {
            rest = shorter;
            if ending == Ending::Name {
                ending = Ending::Slash;
            }
        } else if rest == b"." || rest.ends_with(b"/.") {
            rest = &rest[..rest.len() - 1];
            ending = Ending::Contents;
        } else {
            return (rest, ending);
        }
    }
}

fn text_of(name: &[u8]) -> Result<String> {
    ensure!(!name.is_empty(), "the name before the colon is empty");
    let Ok(name) = std::str::from_utf8(name) else {
        bail!("the name before the colon is no text; write ./ before a path of this host");
    };
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Operand {
        Operand::parse(OsStr::new(text)).unwrap()
    }

    fn guest(path: &str, ending: Ending) -> GuestPath {
        GuestPath {
            path: path.into(),
            ending,
        }
    }

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        assert_eq!(parse("-"), Operand::Stream);
        for local in ["file", "./a:b", "/a:b", "../x", "a/b", "."] {
            assert_eq!(parse(local), Operand::Local(local.into()), "{local}");
        }
        let etc = guest("/etc", Ending::Name);
        assert_eq!(parse("box:/etc"), Operand::Vm("box".into(), etc.clone()));
        assert_eq!(parse("box:etc"), Operand::Vm("box".into(), etc.clone()));
        assert_eq!(
            parse("volume:data:/etc"),
            Operand::Volume("data".into(), etc)
        );
        let odd = guest("/a:b", Ending::Name);
        assert_eq!(parse("box:/a:b"), Operand::Vm("box".into(), odd));
        for bad in ["", ":x", "volume:data", "volume::/x", "box:/a/.."] {
            assert!(Operand::parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn endings_say_what_a_path_is() {
        for (text, path, ending, name) in [
            ("box:/a/b", "/a/b", Ending::Name, "b"),
            ("box:/a/b/", "/a/b", Ending::Slash, "b"),
            ("box:/a/b/.", "/a/b", Ending::Contents, "."),
            ("box:/a/./", "/a", Ending::Contents, "."),
            ("box:/", "/", Ending::Contents, "."),
            ("box:", "/", Ending::Contents, "."),
            ("box:.", "/", Ending::Contents, "."),
            ("box:/.hidden", "/.hidden", Ending::Name, ".hidden"),
        ] {
            let Operand::Vm(_, found) = parse(text) else {
                panic!("{text}");
            };
            assert_eq!(found, guest(path, ending), "{text}");
            assert_eq!(found.name(), name, "{text}");
        }
        assert_eq!(guest("/a/b", Ending::Name).folder(), "/a");
        assert_eq!(guest("/a", Ending::Name).folder(), "/");
        assert_eq!(ending(Path::new(".")), Ending::Contents);
        assert_eq!(ending(Path::new("a/.")), Ending::Contents);
        assert_eq!(ending(Path::new("a/")), Ending::Slash);
        assert_eq!(ending(Path::new("a.")), Ending::Name);
    }

    #[test]
    fn paths_of_a_volume_lie_below_its_mount() {
        let below = |path: &str| guest(path, Ending::Slash).below("/volume").path;
        assert_eq!(below("/a"), "/volume/a");
        assert_eq!(below("/"), "/volume");
    }
}
