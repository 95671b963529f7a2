//! Why an image cannot be taken from where it is: one line each, with the
//! remedy, for the person who typed its name.

use std::error::Error;
use std::fmt;
use std::io;

use super::json::MAX_JSON_LEN;
use super::text::listed;
use crate::digest::{Digest, DigestError};
use crate::fault::Found;

/// An image could not be read.
#[derive(Debug)]
pub struct OciError {
    /// The file, folder or name in a registry, as its user named it.
    pub subject: String,
    /// What is wrong.
    pub fault: OciFault,
}

impl fmt::Display for OciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.fault)
    }
}

impl Error for OciError {
    // The fault is in the text already; the chain goes on with its cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with an image, or with what should hold one. Texts out of
/// images are shortened and rid of control characters.
#[derive(Debug, thiserror::Error)]
pub enum OciFault {
    /// The file or folder cannot be opened.
    #[error("cannot be opened (see the path, and that this user may read it)")]
    Open(#[source] io::Error),
    /// A folder where an archive should be.
    #[error(
        "is a folder, not an archive (oci:DIR reads an OCI layout, dir:PATH a root file system)"
    )]
    Folder,
    /// The system fails to read something.
    #[error("read {what}")]
    Read {
        /// What was read.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no room for what is unpacked, or no folder for it.
    #[error(
        "keep a copy of it in {dir} (see that it has room, or set TMPDIR to a folder that has)"
    )]
    Spool {
        /// The folder.
        dir: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More bytes than was allowed.
    #[error("takes more than {limit} bytes (allow more with --max-size)")]
    TooLarge {
        /// Most that were allowed.
        limit: u64,
    },
    /// It is compressed by what image tools do not write.
    #[error(
        "is compressed with {by} (unpack it: `{by} -dc FILE | shem image build docker-archive:-`)"
    )]
    Compression {
        /// The program that unpacks it.
        by: &'static str,
    },
    /// It is no tar archive.
    #[error("not a tar archive: {found} ({})", found.instead_of_tar())]
    NotTar {
        /// What it looks like.
        found: Found,
    },
    /// The archive ends before its end mark.
    #[error(
        "the archive is cut short: it ends at byte {offset} without an end mark (make or fetch it again)"
    )]
    Truncated {
        /// Bytes in it.
        offset: u64,
    },
    /// A header has the wrong checksum, or says what cannot be.
    #[error("the archive is damaged: no valid header at byte {offset} (make or fetch it again)")]
    Damaged {
        /// Where the header starts.
        offset: u64,
    },
    /// The names of its entries take more memory than is given to them.
    #[error("has too many entries to be an archive of images (tar:FILE packs a root file system)")]
    TooManyEntries,
    /// An archive that `docker save` did not write.
    #[error("has no manifest.json, as archives of `docker save` have ({remedy})")]
    NoManifestJson {
        /// What to do.
        remedy: &'static str,
    },
    /// A folder or an archive without an OCI layout's index.
    #[error("has no index.json, as OCI layouts have ({remedy})")]
    NoIndexJson {
        /// What to do.
        remedy: &'static str,
    },
    /// A file that the archive's manifest names.
    #[error("names a file `{name}` that is not in it (make or fetch it again)")]
    MissingEntry {
        /// Its name.
        name: String,
    },
    /// Something of the image is not there.
    #[error("has no blob {digest} (make or fetch it again)")]
    MissingBlob {
        /// Its digest.
        digest: Digest,
    },
    /// A link that leads outside of the archive, or in circles.
    #[error("holds a link `{name}` that leads to no file in it (make it again)")]
    Link {
        /// Its name.
        name: String,
    },
    /// Something else where a file should be.
    #[error("holds `{name}`, which is not a plain file (make it again)")]
    NotAFile {
        /// Its name.
        name: String,
    },
    /// JSON longer than is read.
    #[error(
        "{what} takes {len} bytes, more than the {} that are accepted (build the image with less in it)",
        MAX_JSON_LEN
    )]
    JsonTooLong {
        /// What it is.
        what: String,
        /// Its length.
        len: u64,
    },
    /// It is no JSON, or JSON of something else.
    #[error("{what} is not as it should be (make or fetch the image again)")]
    Json {
        /// What it is.
        what: String,
        /// Where and how.
        #[source]
        source: serde_json::Error,
    },
    /// A blob of another length than was said.
    #[error("{what} takes {len} bytes and should take {expected} (make or fetch it again)")]
    Size {
        /// What it is.
        what: String,
        /// Bytes it has.
        len: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// A blob with other bytes than was said.
    #[error(
        "{what} is damaged: its digest is {found} and should be {expected} (make or fetch it again)"
    )]
    Digest {
        /// What it is.
        what: String,
        /// The digest of its bytes.
        found: Digest,
        /// The one by which it is named.
        expected: Digest,
    },
    /// A digest of another algorithm, or none.
    #[error("refers to a blob by what is no SHA-256 (push or save the image again with SHA-256)")]
    DigestText(#[source] DigestError),
    /// A manifest of before 2016.
    #[error(
        "is an image in Docker's old format, schema 1 (push or save it again with Docker 1.10 or later)"
    )]
    Schema1,
    /// A manifest that says two things of what it is.
    #[error(
        "has a manifest that can be read as two things, {first} and {second} (push or save it again)"
    )]
    Ambiguous {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Neither a manifest nor an index.
    #[error("is of type {media_type}, not an image that can be built from (see its name)")]
    MediaType {
        /// The type.
        media_type: String,
    },
    /// Our own images, as they lie in a registry.
    #[error("is a gvmi image already (`shem image pull` fetches it)")]
    Gvmi,
    /// A chart of Helm.
    #[error("is a Helm chart, not a container image (name an image that the chart uses)")]
    Helm,
    /// Something else that a registry can hold.
    #[error("is an artifact of type {kind}, not a container image (see its name and tag)")]
    Artifact {
        /// Its type.
        kind: String,
    },
    /// A layer that only its owner can read.
    #[error("layer {digest} is encrypted (decrypt it first: `skopeo copy --decryption-key KEY …`)")]
    Encrypted {
        /// Which one.
        digest: Digest,
    },
    /// A layer that must not be passed on.
    #[error(
        "layer {digest} is non-distributable, as those of Windows are, and lies elsewhere (use an image without one)"
    )]
    Foreign {
        /// Which one.
        digest: Digest,
    },
    /// A layer that is no tar archive, or compressed otherwise.
    #[error(
        "layer {digest} is of type {media_type}, only tar archives with gzip, zstd or neither are read (convert it: `skopeo copy --format oci …`)"
    )]
    LayerType {
        /// Which one.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// The configuration tells of other layers.
    #[error("has {layers} layers, and {diff_ids} by its configuration (make or fetch it again)")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// No image at all.
    #[error("holds no image (save or make it again)")]
    NoImage,
    /// No image of that name.
    #[error("has no image `{wanted}` ({})", listed(.there))]
    NoSuchImage {
        /// The name that was given.
        wanted: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// More than one image, and no name, or one name of several.
    #[error("holds several images, so one must be named behind its path and a colon ({})", listed(.there))]
    Several {
        /// Their names.
        there: Vec<String>,
    },
    /// Several images without a name to tell them by.
    #[error("holds {count} images that no name tells apart (save one alone)")]
    Unnamed {
        /// How many.
        count: usize,
    },
    /// No image for the platform.
    #[error("has no image for {wanted} ({}; `--platform` chooses)", listed(.there))]
    NoPlatform {
        /// The platform that was asked for.
        wanted: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// The only image is for another platform.
    #[error("is an image for {found}, not for {wanted} (`--platform` chooses)")]
    OtherPlatform {
        /// The platform that was asked for.
        wanted: String,
        /// Its own.
        found: String,
    },
    /// More layers than are taken.
    #[error("has {layers} layers, more than the {max} that are accepted (build it with fewer)")]
    TooManyLayers {
        /// How many it has.
        layers: usize,
        /// Most that are taken.
        max: usize,
    },
    /// An index in an index, and so on.
    #[error("leads from index to index, more than {max} times (push or save it again)")]
    TooDeep {
        /// Most documents that are followed.
        max: usize,
    },
}

impl OciFault {
    /// The error that says of what this is wrong.
    pub fn of(self, subject: impl Into<String>) -> OciError {
        OciError {
            subject: subject.into(),
            fault: self,
        }
    }
}
