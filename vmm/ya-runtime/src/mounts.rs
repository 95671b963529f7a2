//! What a VM has beside its image, by the image's VOLUMEs and what the requestor
//! put in their place or beside them. golem-runtime, sections 3.1 and 3.2. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::size::Size;

/// What a requestor asks for at a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// A folder of the work folder, to and from which exe-unit transfers files.
    Host {},
    /// Memory of the VM.
    Ram {
        /// Its limit.
        size: Size,
    },
    /// A disk.
    Storage {
        /// Its size.
        size: Size,
        /// How much of its room is taken from the start.
        preallocate: Option<Size>,
        /// What follows when its file system is damaged.
        errors: Option<OnError>,
    },
}

/// ext4's `errors=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    Continue,
    RemountRo,
    Panic,
}

impl From<OnError> for shem::OnError {
    fn from(on_error: OnError) -> Self {
        match on_error {
            OnError::Continue => shem::OnError::Continue,
            OnError::RemountRo => shem::OnError::RemountReadOnly,
            OnError::Panic => shem::OnError::Panic,
        }
    }
}

/// Something mounted in the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Where, as it was asked for.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: MountKind,
}

/// What is mounted; names are those of files in the work folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A folder of the work folder.
    Host {
        /// Its name.
        name: String,
    },
    /// Memory of the VM.
    Ram {
        /// Bytes.
        size: u64,
    },
    /// A disk.
    Storage {
        /// Name of its file.
        name: String,
        /// Bytes.
        size: u64,
        /// Bytes of room that is taken from the start.
        #[serde(default)]
        preallocate: u64,
        /// `errors=` of its file system.
        errors: OnError,
    },
}

/// What the requestor's JSON asks for; nothing when there is none.
pub fn read(json: Option<&str>) -> Result<BTreeMap<String, Wish>> {
    match json {
        None | Some("") => Ok(BTreeMap::new()),
        Some(json) => serde_json::from_str(json).context(
            "--volume-override is no object of paths, as {\"/data\":{\"storage\":{\"size\":\"1gi\"}}}",
        ),
    }
}

/// The mounts of a VM with the image's `volumes` and the requestor's `wishes`;
/// `unique` makes the names.
pub fn resolve(
    volumes: &BTreeSet<String>,
    wishes: BTreeMap<String, Wish>,
    mut unique: impl FnMut() -> String,
) -> Result<Vec<Mounted>> {
    let mut mounts: Vec<Mounted> = Vec::new();
    let of_image = volumes.iter().map(|path| (path.clone(), Wish::Host {}));
    // What was asked for comes later and counts.
    for (path, wish) in of_image.chain(wishes) {
        let place = place(&path)?;
        if place == "/" && wish == (Wish::Host {}) {
            bail!("Volume of type `host` specified for path={path:?}");
        }
        let same = |mounted: &Mounted| self::place(&mounted.path).is_ok_and(|other| other == place);
        if let Some(before) = mounts.iter().position(same) {
            if wish == (Wish::Host {}) {
                continue;
            }
            let before = mounts.remove(before);
            if !matches!(before.kind, MountKind::Host { .. }) {
                bail!("two volumes at {place:?}: give each a path of its own");
            }
        }
        let kind = match wish {
            Wish::Host {} => MountKind::Host {
                name: format!("vol-{}", unique()),
            },
            Wish::Ram { size: Size(0) } => bail!("the ram volume at {path:?} has no size"),
            Wish::Ram { size } => MountKind::Ram { size: size.0 },
            Wish::Storage {
                size,
                preallocate,
                errors,
            } => MountKind::Storage {
                name: format!("vol-{}.img", unique()),
                size: size.0,
                preallocate: preallocate.map_or(0, |size| size.0),
                errors: errors.unwrap_or(OnError::Continue),
            },
        };
        mounts.push(Mounted { path, kind });
    }
    Ok(mounts)
}

/// The path as the guest has it.
fn place(path: &str) -> Result<String> {
    match path.trim_matches('/') {
        "" => Ok("/".into()),
        _ => Ok(shem::target(path)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(volumes: &[&str], json: &str) -> Result<Vec<Mounted>> {
        let volumes = volumes.iter().map(|path| (*path).to_owned()).collect();
        let mut number = 0;
        resolve(&volumes, read(Some(json))?, || {
            number += 1;
            number.to_string()
        })
    }

    fn host(path: &str, name: &str) -> Mounted {
        Mounted {
            path: path.into(),
            kind: MountKind::Host { name: name.into() },
        }
    }

    #[test]
    fn requestor_adds_to_the_image_and_replaces_what_it_has() {
        let json = r#"{"/":{"storage":{"size":"10.7 GB","preallocate":"1.6 GB","errors":"remount-ro"}},
            "/golem/work":{"host":{}},"/ram":{"ram":{"size":"1.6 GB"}},"/data/":{"storage":{"size":4096}}}"#;
        let found = mounts(&["/golem/work", "/data", "/out"], json).unwrap();
        let storage = |path: &str, name: &str, size, preallocate, errors| Mounted {
            path: path.into(),
            kind: MountKind::Storage {
                name: name.into(),
                size,
                preallocate,
                errors,
            },
        };
        let ram = Mounted {
            path: "/ram".into(),
            kind: MountKind::Ram {
                size: 1_600_000_000,
            },
        };
        assert_eq!(
            found,
            [
                host("/golem/work", "vol-2"),
                host("/out", "vol-3"),
                storage(
                    "/",
                    "vol-4.img",
                    10_700_000_000,
                    1_600_000_000,
                    OnError::RemountRo
                ),
                storage("/data/", "vol-5.img", 4096, 0, OnError::Continue),
                ram,
            ]
        );
        assert_eq!(mounts(&["/a"], "").unwrap(), [host("/a", "vol-1")]);
    }

    #[test]
    fn deployment_file_has_mounts_as_they_are() {
        let mounts = mounts(
            &["/a"],
            r#"{"/b":{"storage":{"size":"1mi"}},"/c":{"ram":{"size":1}}}"#,
        );
        let mounts = mounts.unwrap();
        let json = serde_json::to_string(&mounts).unwrap();
        assert!(
            json.contains(r#"{"path":"/a","host":{"name":"vol-1"}}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Vec<Mounted>>(&json).unwrap(), mounts);
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        for (json, word) in [
            (
                r#"{"/":{"host":{}}}"#,
                "Volume of type `host` specified for path=\"/\"",
            ),
            (
                r#"{"//":{"host":{}}}"#,
                "Volume of type `host` specified for path=\"//\"",
            ),
            (
                r#"{"":{"host":{}}}"#,
                "Volume of type `host` specified for path=\"\"",
            ),
            ("[]", "--volume-override is no object of paths"),
            ("{", "--volume-override is no object of paths"),
            (r#"{"/a":{"cloud":{}}}"#, "unknown variant `cloud`"),
            (r#"{"/a":{"ram":{}}}"#, "a size is a number of bytes"),
            (r#"{"/a":{"ram":{"size":0}}}"#, "has no size"),
            (
                r#"{"/a":{"ram":{"size":"x"}}}"#,
                "a size is a number of bytes",
            ),
            (
                r#"{"/a":{"storage":{"size":1,"errors":"ignore"}}}"#,
                "unknown variant `ignore`",
            ),
            (r#"{"a":{"host":{}}}"#, "not an absolute path"),
            (r#"{"/a/../b":{"host":{}}}"#, "leave out .."),
            (
                r#"{"/a":{"ram":{"size":1}},"/a/":{"ram":{"size":1}}}"#,
                "two volumes at \"/a\"",
            ),
        ] {
            let error = format!("{:#}", mounts(&[], json).unwrap_err());
            assert!(error.contains(word), "{json}: {error}");
        }
    }
}
