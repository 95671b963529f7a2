//! Manifests as bytes: fetched and checked by digest, pushed; not understood.

use gvmi::Digest;
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::Error;
use crate::auth::Access;
use crate::transport::{Target, Transport};
use crate::upload::{Content, same_digest};

/// Longest manifest or index, in bytes. The specification asks registries to
/// take manifests of this length, and no more.
pub const MAX_MANIFEST_LEN: usize = 4 << 20;
/// The types of manifests and indexes that are asked for and taken.
const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];

/// A manifest or an index as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its JSON, at most [`MAX_MANIFEST_LEN`] bytes, not looked at.
    pub bytes: Vec<u8>,
    /// What the registry says that it is: OCI's index or image manifest, or
    /// Docker's manifest list or image manifest of schema 2.
    pub media_type: String,
    /// Of the bytes; the one in the reference, if that has one.
    pub digest: Digest,
}

impl Transport {
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        let target = Target::of(reference, Access::Pull);
        let wanted = wanted(reference)?;
        let url = self.url(&target, &format!("manifests/{}", name(reference)))?;
        let mut request = self.request(Method::GET, url);
        let accept = ACCEPTED.map(HeaderValue::from_static);
        for media_type in accept {
            request.headers.append(ACCEPT, media_type);
        }
        let mut retry = crate::retry::Retry::new(&self.options);
        let (headers, bytes) = loop {
            let result = async {
                let mut response = self.once(&target, &request).await?;
                let body = self.small(&target, &mut response, MAX_MANIFEST_LEN).await?;
                Ok((response.headers().clone(), body))
            };
            match result.await {
                Ok(answer) => break answer,
                Err(error) => retry.wait(error).await?,
            }
        };
        let digest = Digest::of(&bytes);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(Error::WrongDigest {
                what: target.what,
                registry: target.registry,
                found: digest,
            });
        }
        same_digest(&target, &headers, &digest).map_err(|_| Error::WrongDigest {
            what: target.what.clone(),
            registry: target.registry.clone(),
            found: digest,
        })?;
        Ok(Manifest {
            bytes,
            media_type: media_type(&target, &headers)?,
            digest,
        })
    }

    pub(crate) async fn push_manifest(
        &self,
        reference: &Reference,
        bytes: Vec<u8>,
        media_type: &'static str,
    ) -> Result<Digest, Error> {
        let target = Target::of(reference, Access::Push);
        let digest = Digest::of(&bytes);
        let url = self.url(&target, &format!("manifests/{}", name(reference)))?;
        let mut request = self.request(Method::PUT, url);
        let media_type = HeaderValue::from_static(media_type);
        request.headers.insert(CONTENT_TYPE, media_type);
        request.content = Content::Bytes(bytes);
        let response = self.send(&target, &request).await?;
        same_digest(&target, response.headers(), &digest)?;
        Ok(digest)
    }
}

/// What a registry knows a manifest by.
fn name(reference: &Reference) -> &str {
    let name = reference.digest().or(reference.tag());
    name.unwrap_or("latest")
}

fn wanted(reference: &Reference) -> Result<Option<Digest>, Error> {
    let digest = reference.digest().map(str::parse).transpose();
    digest.map_err(|source| Error::Digest {
        what: reference.whole(),
        source,
    })
}

/// The type without its parameters.
fn media_type(target: &Target, headers: &HeaderMap) -> Result<String, Error> {
    let said = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    if ACCEPTED.contains(&media_type) {
        return Ok(media_type.to_owned());
    }
    Err(Error::MediaType {
        what: target.what.clone(),
        found: media_type.escape_debug().to_string(),
    })
}
