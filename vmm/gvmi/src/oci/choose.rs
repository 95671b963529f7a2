//! From an index to the manifest of one image (OCI image specification 1.1,
//! "Image Index"; Docker's manifest list). Fetches nothing: it says what to
//! fetch next.

use super::error::OciFault;
use super::json;
use super::manifest::{Descriptor, Document, Manifest, RawDescriptor};
use super::media::DocumentType;
use super::platform::Platform;

/// Most documents in a row, of which the last must be an image's manifest. An
/// image for several platforms takes two.
pub const MAX_INDEX_DEPTH: usize = 4;

/// What BuildKit marks manifests with that tell of another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// What a document says that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is an index: this is the document to fetch next, verify
    /// ([`Descriptor::verify`]) and choose from, with its own media type; up to
    /// [`MAX_INDEX_DEPTH`] times.
    Next(Descriptor),
    /// It is the manifest of an image.
    Image(Manifest),
}

/// Reads the manifest or index in `bytes`, which were sent as `media_type`
/// (HTTP's `Content-Type`, or that of a descriptor), and of an index chooses
/// what is for `platform`.
///
/// ```no_run
/// use gvmi::{Choice, Descriptor, Manifest, MAX_INDEX_DEPTH, OciFault, Platform, choose};
///
/// # fn fetch_first() -> Vec<u8> { Vec::new() }
/// # fn fetch(what: &Descriptor) -> Vec<u8> { Vec::new() }
/// fn resolve(platform: &Platform) -> Result<Manifest, OciFault> {
///     let mut bytes = fetch_first();
///     let mut media_type = None;
///     for _ in 0..MAX_INDEX_DEPTH {
///         let next = match choose(&bytes, media_type.as_deref(), platform)? {
///             Choice::Image(manifest) => return Ok(manifest),
///             Choice::Next(next) => next,
///         };
///         bytes = fetch(&next);
///         next.verify("its manifest", &bytes)?;
///         media_type = Some(next.media_type);
///     }
///     Err(OciFault::TooDeep { max: MAX_INDEX_DEPTH })
/// }
/// ```
pub fn choose(
    bytes: &[u8],
    media_type: Option<&str>,
    platform: &Platform,
) -> Result<Choice, OciFault> {
    let document: Document = json::parse("its manifest", bytes)?;
    match document.document_type(media_type)? {
        DocumentType::Image => document.into_manifest(bytes).map(Choice::Image),
        DocumentType::Index => {
            let manifests = document.into_manifests();
            choose_of(&manifests, platform).map(Choice::Next)
        }
    }
}

/// The one of `manifests` that is for `platform`: the first that says so
/// exactly, else the first that fits, else the only one that does not say.
pub(crate) fn choose_of(
    manifests: &[RawDescriptor],
    platform: &Platform,
) -> Result<Descriptor, OciFault> {
    let of_images = || manifests.iter().filter(|manifest| is_of_image(manifest));
    let with = |fits: &dyn Fn(&Platform) -> bool| {
        of_images().find(|manifest| manifest.platform().is_some_and(fits))
    };
    let silent: Vec<_> = of_images().filter(|m| m.platform().is_none()).collect();
    let chosen =
        with(&|offered| offered == platform).or_else(|| with(&|offered| platform.accepts(offered)));
    match (chosen, &silent[..]) {
        (Some(chosen), _) => chosen.checked(),
        (None, [only]) => only.checked(),
        (None, []) => Err(OciFault::NoPlatform {
            wanted: platform.to_string(),
            there: of_images()
                .filter_map(|manifest| manifest.platform())
                .map(Platform::to_string)
                .collect(),
        }),
        (None, several) => Err(OciFault::Unnamed {
            count: several.len(),
        }),
    }
}

/// Not an attestation, which tells of an image and is none.
fn is_of_image(manifest: &RawDescriptor) -> bool {
    let unknown = manifest.platform().is_some_and(Platform::is_unknown);
    !unknown && manifest.annotation(REFERENCE_TYPE).is_none()
}
