//! What `shem image build` is told to build from, as it is written on a
//! command line. Names and their parts are skopeo's (containers-transports(5)),
//! but for `dir:` and `tar:`, which are root file systems. Nothing is opened
//! here, and only [`SourceArg::recognise`] looks at the file system.

mod recognise;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::distribution::{ParseError, Reference};
use thiserror::Error;

use crate::oci::{ImageName, Input};
pub use recognise::RecogniseError;

/// An image, or a root file system, and what holds it. Written as it is read,
/// but for a path with a colon before an image's name, which has no such form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `docker-archive:FILE[:NAME[:TAG]|:@INDEX]`: what `docker save` wrote.
    DockerArchive {
        /// The archive.
        input: Input,
        /// Which of its images; its only one when `None`.
        image: Option<ImageName>,
    },
    /// `oci:DIR[:TAG]`: a folder with an OCI layout.
    OciDir {
        /// The folder.
        dir: PathBuf,
        /// Which of its images; its only one when `None`.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: an OCI layout as a tar archive.
    OciArchive {
        /// The archive.
        input: Input,
        /// Which of its images; its only one when `None`.
        tag: Option<String>,
    },
    /// `docker://[REGISTRY/]NAME[:TAG][@DIGEST]`: the part behind the slashes,
    /// of which [`oci_spec::distribution::Reference`] can be parsed.
    Registry(RegistryName),
    /// `dir:PATH`: a folder that is a root file system.
    Dir(PathBuf),
    /// `tar:FILE`: a root file system as a tar archive, plain or compressed.
    Tar(Input),
}

/// The name of an image in a registry, in Docker's syntax. As text: as it was
/// given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName(String);

impl RegistryName {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was written: with its kind in front, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// The kind was given.
    Named(Source),
    /// A path or a name in a registry: [`SourceArg::recognise`] tells.
    Bare(String),
}

/// A text that names no source.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// Nothing at all, or a kind without anything behind it.
    #[error("`{0}` names no source (as docker-archive:FILE, oci:DIR, docker://NAME, tar:FILE)")]
    Empty(String),
    /// A kind that needs another program's storage.
    #[error("`{kind}:` cannot be read without {program} ({remedy})")]
    Foreign {
        /// The kind.
        kind: &'static str,
        /// Whose it is.
        program: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// No name of an image.
    #[error("`{0}` does not name an image (as alpine:3.20 or ghcr.io/OWNER/NAME@sha256:HEX)")]
    Reference(String, #[source] ParseError),
    /// What is behind the `@` is no number.
    #[error("`@{0}` does not count an image in an archive (the first one is @0)")]
    Index(String),
}

impl FromStr for RegistryName {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.parse::<Reference>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(SourceError::Reference(text.to_owned(), error)),
        }
    }
}

impl FromStr for SourceArg {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let empty = || SourceError::Empty(text.to_owned());
        if text == "-" {
            return Ok(Self::Named(Source::Tar(Input::Stdin)));
        }
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Named(Source::Registry(name.parse()?)));
        }
        let Some((kind, rest)) = text.split_once(':') else {
            return match text {
                "" => Err(empty()),
                text => Ok(Self::Bare(text.to_owned())),
            };
        };
        // Names of archives and layouts cannot hold a colon, as in skopeo:
        // what follows one is the image's, which may.
        let (path, image) = rest.split_once(':').unwrap_or((rest, ""));
        let image = Some(image).filter(|image| !image.is_empty());
        let source = match kind {
            "docker-archive" => Source::DockerArchive {
                input: path.into(),
                image: image.map(str::parse).transpose()?,
            },
            "oci-archive" => Source::OciArchive {
                input: path.into(),
                tag: image.map(str::to_owned),
            },
            "oci" => Source::OciDir {
                dir: path.into(),
                tag: image.map(str::to_owned),
            },
            "dir" => Source::Dir(rest.into()),
            "tar" => Source::Tar(rest.into()),
            "docker-daemon" => {
                return Err(SourceError::Foreign {
                    kind: "docker-daemon",
                    program: "Docker",
                    remedy: "`docker save NAME | shem image build docker-archive:-`",
                });
            }
            "containers-storage" => {
                return Err(SourceError::Foreign {
                    kind: "containers-storage",
                    program: "Podman",
                    remedy: "`podman save NAME | shem image build docker-archive:-`",
                });
            }
            _ => return Ok(Self::Bare(text.to_owned())),
        };
        if path.is_empty() {
            return Err(empty());
        }
        Ok(Self::Named(source))
    }
}

impl FromStr for ImageName {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(index) = text.strip_prefix('@') {
            let number = index.parse();
            return number
                .map(Self::At)
                .map_err(|_| SourceError::Index(index.to_owned()));
        }
        match text.parse::<Reference>() {
            Ok(_) => Ok(Self::Named(text.to_owned())),
            Err(error) => Err(SourceError::Reference(text.to_owned(), error)),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerArchive { input, image } => {
                write!(f, "docker-archive:{input}")?;
                suffix(f, image.as_ref())
            }
            Self::OciDir { dir, tag } => {
                write!(f, "oci:{}", dir.display())?;
                suffix(f, tag.as_ref())
            }
            Self::OciArchive { input, tag } => {
                write!(f, "oci-archive:{input}")?;
                suffix(f, tag.as_ref())
            }
            Self::Registry(name) => write!(f, "docker://{name}"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Tar(input) => write!(f, "tar:{input}"),
        }
    }
}

fn suffix(f: &mut fmt::Formatter<'_>, image: Option<&impl fmt::Display>) -> fmt::Result {
    image.map_or(Ok(()), |image| write!(f, ":{image}"))
}

impl fmt::Display for SourceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(source) => source.fmt(f),
            Self::Bare(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests;
