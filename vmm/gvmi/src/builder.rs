//! Makes an image: a squashfs by `mksquashfs`, and the trailer behind it.
//! Needs no privilege and unpacks nothing; an image appears whole or not.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use thiserror::Error;

use crate::blob::Blob;
use crate::compression::Compression;
use crate::config::ContainerConfig;
use crate::draft::Draft;
use crate::fault::Fault;
use crate::image::Contents;
use crate::layer::Layer;
use crate::limits::Limits;
use crate::merge::{LayerError, MAX_LAYERS, Merge, Rules, Whiteouts};
use crate::mksquashfs::Mksquashfs;
use crate::oci::{OciError, spool};
use crate::owners::Owners;
use crate::progress::{Meter, Progress};
use crate::tar::{Attributes, TarError};
use crate::trailer;
use crate::warnings::Warnings;

/// Layers that are read at the same time, where that many processors may be
/// used.
const READERS: u32 = 2;

/// How to make an image.
///
/// ```no_run
/// use gvmi::{Builder, ContainerConfig};
///
/// let builder = Builder {
///     config: ContainerConfig {
///         cmd: vec!["/bin/sh".to_owned()],
///         ..Default::default()
///     },
///     ..Default::default()
/// };
/// let built = builder.pack("rootfs.tar".as_ref(), "demo.gvmi".as_ref())?;
/// println!("{} bytes", built.contents.file_len);
/// # Ok::<(), gvmi::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// What the image says of how it runs.
    pub config: ContainerConfig,
    /// How the file system is compressed.
    pub compression: Compression,
    /// Most processors that compress at the same time; all when `None`.
    pub processors: Option<NonZeroU32>,
    /// How much an archive or the layers may hold.
    pub limits: Limits,
}

/// An image that was made.
#[derive(Debug)]
pub struct Built {
    /// What it holds, read back from the file.
    pub contents: Contents,
    /// What of the source is not in it, one line each; empty as a rule.
    pub warnings: Vec<String>,
}

/// Why an image could not be made. Nothing is left of it.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The folder or archive to pack cannot be opened.
    #[error("{}: cannot be packed", path.display())]
    Source {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image cannot be created or put in its place.
    #[error("{}: cannot be written (see that its folder exists, is writable and has room)", path.display())]
    Destination {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive that comes as a stream cannot be copied.
    #[error(transparent)]
    Copy(#[from] OciError),
    /// The archive is not one.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A layer is damaged, or holds what no image can.
    #[error("layer {layer}")]
    Layer {
        /// Its name.
        layer: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// No container engine makes so many.
    #[error("the image has {count} layers, at most {MAX_LAYERS} can be merged (flatten it first)")]
    Layers {
        /// How many.
        count: usize,
    },
    /// The configuration does not fit into an image.
    #[error(
        "the image's configuration takes {len} bytes, at most {} may be (shorten its labels or environment)",
        trailer::MAX_CONFIG_LEN
    )]
    ConfigTooLong {
        /// Its length.
        len: u64,
    },
    /// The program is not installed.
    #[error("mksquashfs is not installed (`sudo apt-get install squashfs-tools`)")]
    NoMksquashfs,
    /// The program could not be run.
    #[error("run mksquashfs")]
    Start(#[source] io::Error),
    /// The program gave up.
    #[error("mksquashfs failed ({status}): {messages}")]
    Mksquashfs {
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        messages: String,
    },
    /// What the program made is no image that we would open. The fault tells
    /// what to do with an image that one got, and so is not in the text.
    #[error("what mksquashfs made cannot be read (install squashfs-tools 4.5 or later)")]
    Unusable(Fault),
}

impl Builder {
    /// Packs the folder or the tar archive at `source` into an image at `to`,
    /// replacing a file there: as [`Builder::pack_dir`], or as
    /// [`Builder::pack_archive`]. The same source makes the same bytes.
    pub fn pack(&self, source: &Path, to: &Path) -> Result<Built, BuildError> {
        let cannot = |error| BuildError::Source {
            path: source.to_path_buf(),
            source: error,
        };
        let kind = fs::metadata(source).map_err(cannot)?.file_type();
        if kind.is_dir() {
            return self.pack_dir(source, to);
        }
        let file = File::open(source).map_err(cannot)?;
        if kind.is_file() {
            let blob = Blob::whole(file).map_err(cannot)?;
            self.pack_archive(&blob, to, &mut |_| {})
        } else {
            self.pack_tar(file, to)
        }
    }

    /// Packs a tar archive, plain or compressed with gzip or zstd: hard links,
    /// devices, owners by number and extended attributes (but for the root
    /// folder's own) survive. Its order does not matter, of two entries with
    /// one name the last counts, and symbolic links on the way to an entry are
    /// followed inside of the archive. A root folder without an entry of its
    /// own, and folders that are implied only, belong to user and group 0,
    /// with mode 0755. It is read twice, the second time only as far as it is
    /// needed; `progress` is told how far it is, from this thread. The same
    /// archive makes the same bytes, dated as [`Builder::pack_layers`] does.
    pub fn pack_archive(
        &self,
        archive: &Blob,
        to: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Built, BuildError> {
        let archive = [Layer {
            name: String::new(),
            blob: archive.clone(),
            digest: None,
            diff_id: None,
        }];
        let built = self.pack_merged(&archive, Whiteouts::AreFiles, to, progress);
        built.map_err(|error| match error {
            BuildError::Layer {
                source: LayerError::Archive(error),
                ..
            } => error.into(),
            error => error,
        })
    }

    /// Packs the tree below `dir` as it is: names, owners, modes, times, hard
    /// links, devices and extended attributes. What cannot be read is an
    /// error. An image at `to` inside the tree is not packed. The same tree
    /// with the same times makes the same bytes.
    pub fn pack_dir(&self, dir: &Path, to: &Path) -> Result<Built, BuildError> {
        let cannot = |error| BuildError::Source {
            path: dir.to_path_buf(),
            source: error,
        };
        let dir = dir.canonicalize().map_err(cannot)?;
        let metadata = fs::metadata(&dir).map_err(cannot)?;
        if !metadata.is_dir() {
            return Err(cannot(io::Error::new(
                io::ErrorKind::NotADirectory,
                "it is not a folder (tar:FILE packs an archive)",
            )));
        }
        self.pack_into(self.draft(to)?, &dir, metadata.mtime(), to)
    }

    /// Packs the folder `dir`, an absolute path, last changed at `made`, into
    /// `draft`, which becomes `to`.
    fn pack_into(
        &self,
        draft: Draft,
        dir: &Path,
        made: i64,
        to: &Path,
    ) -> Result<Built, BuildError> {
        let trailer = self.trailer()?;
        let mut options = self.options();
        let made = made.clamp(0, u32::MAX.into());
        options.extend(["-mkfs-time".into(), made.to_string().into()]);
        let ours = [Some(to), draft.hidden_name()].into_iter().flatten();
        let ours = ours.filter_map(|path| path.canonicalize().ok());
        let inside: Vec<_> = ours.filter(|path| path.starts_with(dir)).collect();
        if !inside.is_empty() {
            // All that is behind it is left out.
            options.push("-e".into());
            options.extend(inside.into_iter().map(PathBuf::into_os_string));
        }
        let (source, stdin) = (dir.as_os_str(), Stdio::null());
        let running = Mksquashfs::start(source, draft.file(), options, None, stdin)?;
        let warnings = running.finish()?;
        let contents = append_trailer(&draft, &trailer, to)?;
        publish(draft, to, contents, warnings)
    }

    /// Packs a tar archive that comes as a stream, as [`Builder::pack_archive`]
    /// does. It is read to its end, and first copied into a temporary file
    /// without a name (in `TMPDIR`, or `/var/tmp`), because it is read twice.
    pub fn pack_tar(&self, tar: impl Read, to: &Path) -> Result<Built, BuildError> {
        let archive = spool(tar, self.limits.max_size);
        let archive = archive.map_err(|fault| fault.of("the archive"))?;
        self.pack_archive(&archive, to, &mut |_| {})
    }

    /// Packs what `layers`, the bottom one first, make together, as a
    /// container engine would unpack them. Their bytes are read twice and
    /// their digests checked; `progress` is told how far it is, from this
    /// thread. The same layers make the same bytes, dated as the newest thing
    /// in them, which the root folder is too. (Where that is in the future the
    /// root folder has the time of now.) Of the root folder's attributes the
    /// extended ones are lost.
    pub fn pack_layers(
        &self,
        layers: &[Layer],
        to: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Built, BuildError> {
        self.pack_merged(layers, Whiteouts::Remove, to, progress)
    }

    fn pack_merged(
        &self,
        layers: &[Layer],
        whiteouts: Whiteouts,
        to: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Built, BuildError> {
        let trailer = self.trailer()?;
        let readers = READERS.min(self.processors.map_or(READERS, NonZeroU32::get));
        let mut meter = Meter::new(layers, progress);
        let rules = Rules {
            limits: self.limits,
            whiteouts,
            readers: readers as usize,
        };
        let merge = Merge::new(layers, &rules, &mut meter)?;
        let (root, newest) = (merge.root(), merge.newest());
        self.pack_stream(trailer, root, newest, to, |sink, owners| {
            merge.write(Some(owners), sink, &mut meter)
        })
    }

    /// Packs the archive that `write` writes, in which nothing is newer than
    /// `newest`.
    fn pack_stream(
        &self,
        trailer: Vec<u8>,
        root: Attributes,
        newest: u32,
        to: &Path,
        write: impl FnOnce(&mut dyn Write, &Owners) -> Result<Warnings, BuildError>,
    ) -> Result<Built, BuildError> {
        let owners = Owners::new(root);
        let draft = self.draft(to)?;
        let mut options = self.options();
        // Tar mode leaves the table out that lets overlayfs follow hard links
        // of its lower layer by file handle; packed folders have it.
        options.extend(["-tar", "-exports", "-noId"].map(OsString::from));
        options.extend(["-root-mode".into(), format!("{:o}", root.mode).into()]);
        let (source, stdin) = (OsStr::new("-"), Stdio::piped());
        let mut running = Mksquashfs::start(source, draft.file(), options, Some(newest), stdin)?;
        let mut stdin = running.stdin().expect("it was asked for above");
        let written = write(&mut stdin, &owners);
        drop(stdin);
        let mut warnings = match written {
            Ok(warnings) => warnings,
            Err(error) => {
                if let BuildError::Tar(TarError::Write(_)) = error {
                    // It stopped reading, and its own words say why.
                    running.finish()?;
                }
                return Err(error);
            }
        };
        running
            .finish()?
            .into_iter()
            .filter(|line| !is_false(line))
            .for_each(|line| warnings.add(line));
        if !owners.keeps_group() {
            warnings.add(format!(
                "the root folder has group {}, not {}",
                root.uid, root.gid
            ));
        }
        let contents = append_trailer(&draft, &trailer, to)?;
        owners
            .restore(draft.file(), &contents.superblock)
            .map_err(|source| destination(to, source))?;
        publish(draft, to, contents, warnings.into_lines())
    }

    fn draft(&self, to: &Path) -> Result<Draft, BuildError> {
        Draft::create(to).map_err(|source| destination(to, source))
    }

    fn options(&self) -> Vec<OsString> {
        // Without the last one, what cannot be read would be packed as empty.
        let mut options = ["-noappend", "-quiet", "-no-progress", "-exit-on-error"]
            .map(OsString::from)
            .to_vec();
        options.extend(self.compression.options().into_iter().map(OsString::from));
        if let Some(processors) = self.processors {
            options.extend(["-processors".into(), processors.to_string().into()]);
        }
        options
    }

    fn trailer(&self) -> Result<Vec<u8>, BuildError> {
        trailer::encode(&self.config).map_err(|len| BuildError::ConfigTooLong { len })
    }
}

/// Whether a warning of `mksquashfs` is wrong: in tar mode it takes minor
/// numbers of devices from 524288 on for negative ones, and stores them right.
/// What Linux cannot have is refused before.
fn is_false(warning: &str) -> bool {
    warning.contains(" out of range in device node ")
        && (warning.starts_with("Major ") || warning.starts_with("Minor "))
}

/// Makes an image of the squashfs in `draft` and reads it back.
fn append_trailer(draft: &Draft, trailer: &[u8], to: &Path) -> Result<Contents, BuildError> {
    let mut file = draft.file();
    let end = file
        .seek(SeekFrom::End(0))
        .and_then(|end| file.write_all(trailer).map(|()| end))
        .map_err(|source| destination(to, source))?;
    Contents::read(file, end + trailer.len() as u64).map_err(BuildError::Unusable)
}

fn publish(
    draft: Draft,
    to: &Path,
    contents: Contents,
    warnings: Vec<String>,
) -> Result<Built, BuildError> {
    draft.publish().map_err(|source| destination(to, source))?;
    Ok(Built { contents, warnings })
}

fn destination(to: &Path, source: io::Error) -> BuildError {
    BuildError::Destination {
        path: to.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::squashfs::Tree;

    #[test]
    fn draft_with_a_hidden_name_inside_of_the_folder_is_not_packed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().canonicalize().unwrap();
        fs::write(dir.join("a"), "").unwrap();
        let to = dir.join("new.gvmi");
        let draft = Draft::create_hidden(&to).unwrap();
        assert!(draft.hidden_name().is_some());
        Builder::default().pack_into(draft, &dir, 0, &to).unwrap();
        let image = Image::open(&to).unwrap();
        let tree = Tree::open(&image).unwrap();
        let paths: Vec<_> = tree.walk().unwrap().map(|e| e.unwrap().path).collect();
        assert_eq!(paths, [&b""[..], b"a"]);
    }
}
