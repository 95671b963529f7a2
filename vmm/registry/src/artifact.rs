//! `.gvmi` images in registries: OCI artifacts (image specification 1.1,
//! "Guidelines for artifact usage") with the file as their only layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gvmi::{Contents, Digest, Draft};
use oci_client::Reference;
use oci_client::annotations::ORG_OPENCONTAINERS_IMAGE_TITLE;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};

use crate::auth::Access;
use crate::download::Download;
use crate::progress::Meter;
use crate::transport::{Target, Transport};
use crate::upload::{Source, digest_of};
use crate::{Error, Manifest, Progress};

/// The type of the artifact, and of its layer.
pub const GVMI_MEDIA_TYPE: &str = "application/vnd.golem.gvmi.v1";
const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// What the specification has for a configuration that there is none of.
const EMPTY: &[u8] = b"{}";

impl Transport {
    pub(crate) async fn push_image(
        &self,
        reference: &Reference,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, Error> {
        if reference.digest().is_some() {
            return Err(Error::PushToDigest {
                reference: reference.whole(),
            });
        }
        let file = File::open(path).map_err(|source| Error::file(path, source))?;
        let (digest, len) = digest_of(&file, path)?;
        let target = Target::of(reference, Access::Push);
        let meter = Meter::new(&BTreeMap::from([(digest, len)]), progress);
        let sent = |sent| meter.set(&digest, sent);
        let source = Source::File {
            file: Arc::new(file),
            len,
            sent: &sent,
        };
        self.push_blob(&target, &digest, &source).await?;
        meter.set(&digest, len);
        let empty = Digest::of(EMPTY);
        self.push_blob(&target, &empty, &Source::Bytes(EMPTY))
            .await?;
        let manifest = manifest(path, &digest, len);
        self.push_manifest(reference, manifest, OCI_IMAGE_MEDIA_TYPE)
            .await
    }

    pub(crate) async fn pull_image(
        &self,
        reference: &Reference,
        to: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, Error> {
        let manifest = self.manifest(reference).await?;
        let (digest, size) = layer(&manifest).ok_or_else(|| Error::NotGvmi {
            reference: reference.whole(),
        })?;
        self.afford(reference, size)?;
        let draft = Draft::create(to).map_err(|source| Error::file(to, source))?;
        let meter = Meter::new(&BTreeMap::from([(digest, size)]), progress);
        let done = |done| meter.set(&digest, done);
        let download = Download {
            target: Target::of(reference, Access::Pull).blob(&digest),
            digest,
            size,
            file: draft.file(),
            path: to,
            done: &done,
        };
        download.run(self).await?;
        // Anybody can push anything under our media type.
        Contents::from_file(draft.file()).map_err(|source| Error::Damaged {
            reference: reference.whole(),
            source,
        })?;
        draft.publish().map_err(|source| Error::file(to, source))?;
        Ok(manifest.digest)
    }
}

fn manifest(path: &Path, digest: &Digest, len: u64) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: &Digest, len: u64, title: Option<String>| {
        let title = title.map(|title| (ORG_OPENCONTAINERS_IMAGE_TITLE.to_owned(), title));
        OciDescriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: len.cast_signed(),
            urls: None,
            annotations: title.map(|title| BTreeMap::from([title])),
            artifact_type: None,
        }
    };
    let title = path.file_name().map(|name| name.to_string_lossy().into());
    let manifest = OciImageManifest {
        schema_version: 2,
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(
            EMPTY_MEDIA_TYPE,
            &Digest::of(EMPTY),
            EMPTY.len() as u64,
            None,
        ),
        layers: vec![descriptor(GVMI_MEDIA_TYPE, digest, len, title)],
        subject: None,
        artifact_type: Some(GVMI_MEDIA_TYPE.to_owned()),
        annotations: None,
    };
    serde_json::to_vec(&manifest).expect("strings and numbers are JSON")
}

/// Digest and size of the image of an artifact; `None` when it is none of ours.
fn layer(manifest: &Manifest) -> Option<(Digest, u64)> {
    if manifest.media_type != OCI_IMAGE_MEDIA_TYPE {
        return None;
    }
    let manifest: OciImageManifest = serde_json::from_slice(&manifest.bytes).ok()?;
    let [layer] = manifest.layers.as_slice() else {
        return None;
    };
    let is_ours = layer.media_type == GVMI_MEDIA_TYPE;
    let size = layer.size.try_into().ok()?;
    is_ours.then_some((layer.digest.parse().ok()?, size))
}
