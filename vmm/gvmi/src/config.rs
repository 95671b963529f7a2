//! The container configuration that an image carries: what Docker calls
//! `ContainerConfig`, with the fields we use typed and all others kept.
//! It does not apply them; that is the guest's part.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// How a container of this image runs unless its user says otherwise.
///
/// Docker writes an unset field as absent, as `null` or as an empty value;
/// all three read as `None` or empty here, and are left out when written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Docker's host name for the container; not used for the VM's.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `user`, `user:group`, `uid` or `uid:gid` of the first process.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `NAME=VALUE` each.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Arguments to the entry point, or the whole command where there is none.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Program and first arguments of the container's process.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Folder in the image in which the process starts.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Name of the image that this one was made from.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Paths in the image whose contents live outside of it.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// `port/protocol` each, as `80/tcp`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// Free notes of the image's maker.
    #[serde(
        deserialize_with = "or_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the process to end, as `SIGTERM` or `15`.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Shell and its first arguments for commands in shell form.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// What it was made of, under the name that `docker image inspect` shows it by.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFs>,
    /// Every other field, as it was read.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The layers that an image was made of. They are the same wherever these came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// What each layer's archive hashes to, unpacked (the OCI `diff_id`), bottom first.
    #[serde(deserialize_with = "or_empty")]
    pub layers: Vec<String>,
}

fn or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Docker writes a set as an object whose values are empty objects.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: BTreeMap<String, IgnoredAny> = or_empty(deserializer)?;
    Ok(map.into_keys().collect())
}

fn as_keys<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().map(|key| (key, serde_json::Map::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_empty_fields_read_alike() {
        let absent: ContainerConfig = serde_json::from_str("{}").unwrap();
        let null = r#"{"User":null,"Env":null,"Volumes":null,"Labels":null,"Shell":null}"#;
        let empty = r#"{"User":"","Env":[],"Volumes":{},"Labels":{},"WorkingDir":""}"#;
        assert_eq!(
            serde_json::from_str::<ContainerConfig>(null).unwrap(),
            absent
        );
        assert_eq!(
            serde_json::from_str::<ContainerConfig>(empty).unwrap(),
            absent
        );
        assert_eq!(serde_json::to_string(&absent).unwrap(), "{}");
    }

    #[test]
    fn docker_config_is_read_and_unknown_fields_survive() {
        let text = r#"{"Cmd":["sh"],"Entrypoint":["/e"],"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},
            "Healthcheck":{"Test":["NONE"]},"Tty":false,"User":"1:2","Volumes":{"/data":{}},
            "WorkingDir":"/w"}"#;
        let config: ContainerConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.entrypoint, ["/e"]);
        assert_eq!(config.user.as_deref(), Some("1:2"));
        assert!(config.volumes.contains("/data") && config.exposed_ports.contains("80/tcp"));
        let written: Value = serde_json::to_value(&config).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn numbers_in_unknown_fields_are_written_as_they_were_read() {
        // Read without care this is the neighbour of the closest `f64`.
        let text = r#"{"Weight":1.4444441111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111222222227e127}"#;
        let config: ContainerConfig = serde_json::from_str(text).unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<ContainerConfig>(&written).unwrap(),
            config
        );
    }
}
