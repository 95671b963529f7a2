//! The media types of manifests, configurations and layers (OCI image
//! specification 1.1, "Media Types"; Docker's image manifest version 2).

use super::error::OciFault;
use crate::digest::Digest;
use crate::display::shown;

/// The types that can be built from, as a registry is asked for them.
pub const MANIFEST_TYPES: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Unsigned and signed.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Of drafts of OCI 1.1.
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const CONFIGS: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    // Docker 1.10 pushed so.
    "application/octet-stream",
];
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// In every type of our own artifact.
const GVMI: &str = "gvmi";

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentType {
    /// A list of manifests.
    Index,
    /// One image.
    Image,
}

impl DocumentType {
    /// By a media type; `Ok(None)` for one that any JSON may have.
    pub(crate) fn of(media_type: &str) -> Result<Option<Self>, OciFault> {
        match essence(media_type) {
            OCI_INDEX | DOCKER_LIST => Ok(Some(Self::Index)),
            OCI_MANIFEST | DOCKER_MANIFEST => Ok(Some(Self::Image)),
            "" | "application/json" | "text/plain" | "application/octet-stream" => Ok(None),
            old if SCHEMA_1.contains(&old) => Err(OciFault::Schema1),
            OCI_ARTIFACT => Err(OciFault::Artifact {
                kind: OCI_ARTIFACT.to_owned(),
            }),
            other => Err(OciFault::MediaType {
                media_type: shown(other),
            }),
        }
    }

    /// For an error.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Index => "an index",
            Self::Image => "an image manifest",
        }
    }
}

/// The type without its parameters, as `; charset=utf-8`.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// That an image manifest is a container image's, by the types in it.
pub(crate) fn check_image<'a>(
    config: &'a str,
    artifact: Option<&'a str>,
    layers: impl Iterator<Item = &'a str>,
) -> Result<(), OciFault> {
    let mut all = layers.chain([config]).chain(artifact);
    if all.any(|media_type| media_type.contains(GVMI)) {
        return Err(OciFault::Gvmi);
    }
    match essence(config) {
        HELM_CONFIG => Err(OciFault::Helm),
        config if CONFIGS.contains(&config) => Ok(()),
        config => Err(OciFault::Artifact {
            kind: shown(artifact.unwrap_or(config)),
        }),
    }
}

/// That a layer can be read, by its type.
pub(crate) fn check_layer(media_type: &str, digest: Digest) -> Result<(), OciFault> {
    match essence(media_type) {
        known if LAYERS.contains(&known) => Ok(()),
        other if other.ends_with("+encrypted") => Err(OciFault::Encrypted { digest }),
        other if other.contains(".nondistributable.") || other.contains(".foreign.") => {
            Err(OciFault::Foreign { digest })
        }
        other => Err(OciFault::LayerType {
            digest,
            media_type: shown(other),
        }),
    }
}
