//! What an image's programs run on (OCI image specification 1.1, "Platform
//! Object"), in the form that Docker's `--platform` takes.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

/// An operating system and an architecture, as Go names them. As text:
/// `linux/amd64`, `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// As `linux`.
    #[serde(default)]
    pub os: String,
    /// As `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The architecture's version, as `v8`; the usual one when `None`.
    #[serde(default)]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a platform (as linux/amd64 or linux/arm64/v8)")]
pub struct PlatformError(String);

impl Platform {
    /// Whether an image for `offered` is one for this platform.
    pub(crate) fn accepts(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (!self.has_variant() || self.full_variant() == offered.full_variant())
    }

    /// Whether it was not left empty.
    pub(crate) fn is_said(&self) -> bool {
        !self.os.is_empty() || !self.architecture.is_empty()
    }

    /// Whether the architecture's version is said.
    pub(crate) fn has_variant(&self) -> bool {
        self.variant
            .as_ref()
            .is_some_and(|variant| !variant.is_empty())
    }

    /// Whether it is what attestations have in its place.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    fn full_variant(&self) -> Option<&str> {
        match (self.variant.as_deref(), self.architecture.as_str()) {
            (None | Some(""), "arm64") => Some("v8"),
            (None | Some(""), "arm") => Some("v7"),
            (None | Some(""), "amd64") => Some("v1"),
            (variant, _) => variant,
        }
    }
}

impl Default for Platform {
    /// What guests are: `linux/amd64`.
    fn default() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_part = |part: &&str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.bytes().all(allowed)
        };
        let parts: Vec<_> = text.split('/').collect();
        if !parts.iter().all(is_part) {
            return Err(PlatformError(text.to_owned()));
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError(text.to_owned())),
        };
        // What `uname -m` prints is often typed.
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_written_as_they_are_read() {
        for text in ["linux/amd64", "linux/arm64/v8", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        assert_eq!(Platform::default(), platform("linux/x86_64"));
        for text in ["", "amd64", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert_eq!(
                text.parse::<Platform>(),
                Err(PlatformError(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_usual_variant_need_not_be_said_by_either_side() {
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm64/v8").accepts(&platform("linux/arm64")));
        assert!(platform("linux/arm").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/arm/v7").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/amd64").accepts(&platform("linux/arm64")));
        assert!(!platform("linux/amd64").accepts(&platform("windows/amd64")));
    }
}
