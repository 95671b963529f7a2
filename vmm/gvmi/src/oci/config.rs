//! The configuration of an image (OCI image specification 1.1, "Image
//! Configuration"; Docker's image specification 1.2): how it runs, what for,
//! and what its layers hash to.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use super::error::OciFault;
use super::json;
use super::platform::Platform;
use crate::config::ContainerConfig;
use crate::digest::Digest;
use crate::display::shown;

/// Most layers of one image. Docker stacks up to 127.
const MAX_LAYERS: usize = 1000;

/// What is used of it.
#[derive(Debug)]
pub(crate) struct ImageConfig {
    pub(crate) container: ContainerConfig,
    /// Seconds since 1970; `None` where it does not say, or says it wrongly.
    pub(crate) created: Option<u64>,
    /// What it is for, where it says so.
    pub(crate) platform: Option<Platform>,
    /// One for each layer, bottom first; `None` in the oldest archives.
    pub(crate) diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize)]
struct Raw {
    /// Any value: a wrong one is not worth an error.
    #[serde(default)]
    created: Value,
    #[serde(flatten)]
    platform: Platform,
    config: Option<ContainerConfig>,
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

impl ImageConfig {
    /// Reads it from its JSON.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, OciFault> {
        let raw: Raw = json::parse("its configuration", bytes)?;
        let diff_ids = raw.rootfs.and_then(|rootfs| rootfs.diff_ids).map(|ids| {
            let ids = ids.iter().map(|id| shown(id).parse::<Digest>());
            ids.collect::<Result<_, _>>().map_err(OciFault::DigestText)
        });
        Ok(Self {
            container: raw.config.unwrap_or_default(),
            created: raw.created.as_str().and_then(seconds),
            platform: Some(raw.platform).filter(Platform::is_said),
            diff_ids: diff_ids.transpose()?,
        })
    }

    /// That it is for `wanted`, where it says what it is for. Many do not say
    /// which variant, also where the index does.
    pub(crate) fn check_platform(&self, wanted: &Platform) -> Result<(), OciFault> {
        let Some(own) = &self.platform else {
            return Ok(());
        };
        let same = own.os == wanted.os && own.architecture == wanted.architecture;
        if wanted.accepts(own) || same && !own.has_variant() {
            return Ok(());
        }
        Err(OciFault::OtherPlatform {
            wanted: wanted.to_string(),
            found: shown(own.to_string()),
        })
    }

    /// What each of `layers` layers must unpack to.
    pub(crate) fn layers(&self, layers: usize) -> Result<Vec<Option<Digest>>, OciFault> {
        if layers > MAX_LAYERS {
            return Err(OciFault::TooManyLayers {
                layers,
                max: MAX_LAYERS,
            });
        }
        match &self.diff_ids {
            None => Ok(vec![None; layers]),
            Some(ids) if ids.len() == layers => Ok(ids.iter().copied().map(Some).collect()),
            Some(ids) => Err(OciFault::LayerCount {
                layers,
                diff_ids: ids.len(),
            }),
        }
    }
}

/// Seconds since 1970 of a time as RFC 3339 writes it. Go's "no time" is one
/// long before.
fn seconds(text: &str) -> Option<u64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(time.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ImageConfig, OciFault> {
        ImageConfig::parse(json.as_bytes())
    }

    #[test]
    fn every_field_of_dockers_reaches_the_container() {
        let json = r#"{"architecture":"arm64","variant":"v8","os":"linux",
            "created":"2024-05-06T07:08:09.123456789+02:00","author":"x","history":null,
            "config":{"Env":["A=b"],"User":"1:2","WorkingDir":"/w","Entrypoint":["/e"],
                "Cmd":["c"],"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},
                "Labels":{"l":"m"},"StopSignal":"SIGINT","Shell":["/s"],
                "Healthcheck":{"Test":["NONE"]},"ArgsEscaped":true,"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = parse(json).unwrap();
        assert_eq!(config.created, Some(1_714_972_089));
        assert_eq!(config.platform.unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(config.diff_ids, Some(Vec::new()));
        let mut expected: Value = serde_json::from_str(json).unwrap();
        let written = serde_json::to_value(&config.container).unwrap();
        assert_eq!(written, expected["config"].take());
    }

    #[test]
    fn platform_counts_as_far_as_it_is_said() {
        let check = |json: &str, wanted: &str| {
            let wanted = wanted.parse().unwrap();
            parse(json).unwrap().check_platform(&wanted).is_ok()
        };
        let arm = r#"{"os":"linux","architecture":"arm","variant":""}"#;
        assert!(check("{}", "linux/amd64"));
        assert!(check(arm, "linux/arm/v6"));
        assert!(!check(arm, "linux/arm64"));
        let v7 = r#"{"os":"linux","architecture":"arm","variant":"v7"}"#;
        assert!(check(v7, "linux/arm"));
        assert!(!check(v7, "linux/arm/v6"));
    }

    #[test]
    fn what_is_left_out_or_null_is_no_error() {
        for json in [
            "{}",
            r#"{"config":null,"rootfs":null,"created":null,"variant":null}"#,
            r#"{"created":5,"rootfs":{"type":"layers","diff_ids":null}}"#,
            r#"{"created":"0001-01-01T00:00:00Z","os":"","architecture":""}"#,
        ] {
            let config = parse(json).unwrap();
            assert_eq!(config.container, ContainerConfig::default());
            assert_eq!((config.created, config.diff_ids), (None, None));
            assert_eq!(config.platform, None);
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for json in ["", "[]", "{", r#"{"config":[1]}"#, r#"{"os":{}}"#] {
            assert!(matches!(parse(json), Err(OciFault::Json { .. })), "{json}");
        }
        let answer = parse(r#"{"rootfs":{"diff_ids":["sha512:00"]}}"#);
        assert!(matches!(answer, Err(OciFault::DigestText(_))), "{answer:?}");
    }
}
