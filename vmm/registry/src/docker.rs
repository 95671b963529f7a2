//! Docker's `config.json`: who we are at registries, as `docker login` and
//! others keep it, in the file itself or by a credential helper
//! (Docker's manual, "docker login", "Credential stores").
//!
//! The crate docker_credential reads the same, but waits for helpers without an
//! end, takes any name of one, and stores nothing.

mod helper;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::auth::Identity;
use helper::Helper;
pub use helper::HelperError;

/// Longest configuration that is read, in bytes.
const MAX_LEN: u64 = 4 << 20;
/// The key of Docker Hub, from times when it had an API of version 1.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// Docker pads, others do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's configuration, which is read whenever it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    file: PathBuf,
}

/// Where [`crate::Registry::login`] has put a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredIn {
    /// With a credential helper: the program's name.
    Helper(String),
    /// In this file, which only its owner can read, but **not encrypted**. A
    /// user should be warned.
    File(PathBuf),
}

/// Why Docker's configuration was not read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DockerConfigError {
    /// Not read.
    #[error("cannot read Docker's configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not understood.
    #[error("Docker's configuration {} is not as Docker writes it: {fault}; mend it, or move it away and log in again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// Not written.
    #[error("cannot write Docker's configuration {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper that it names fails.
    #[error("the credential helper of Docker's configuration {} fails for {registry}; mend it, or take it out of there", path.display())]
    Helper {
        /// The file.
        path: PathBuf,
        /// For which registry.
        registry: String,
        /// Why.
        #[source]
        source: HelperError,
    },
}

impl DockerConfig {
    /// The one that `docker` uses: in `$DOCKER_CONFIG`, or in `~/.docker`. `None`
    /// when there is no home either.
    pub fn from_environment() -> Option<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = set("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(Path::new(&set("HOME")?).join(".docker")))?;
        Some(Self::at(folder.join("config.json")))
    }

    /// The one in `file`, which need not exist.
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Who we are at `registry`.
    pub(crate) fn identity(&self, registry: &str) -> Result<Identity, DockerConfigError> {
        let config = self.read()?;
        if let Some(helper) = self.helper(&config, registry)? {
            let found = helper.get(&key(registry));
            if let Some(identity) = found.map_err(|source| self.failed(registry, source))? {
                return Ok(identity);
            }
        }
        let auths = config.get("auths").and_then(Value::as_object);
        let entry = auths.and_then(|auths| find(auths, registry));
        entry.map_or(Ok(Identity::Nobody), |entry| {
            identity_of(entry)
                .ok_or_else(|| self.bad(format!("the login for {registry} is damaged")))
        })
    }

    /// Keeps a password: with the helper for the registry, else in the file.
    pub(crate) fn store(
        &self,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<StoredIn, DockerConfigError> {
        let config = self.read()?;
        let helper = self.helper(&config, registry)?;
        self.store_with(helper, config, registry, user, password)
    }

    fn store_with(
        &self,
        helper: Option<Helper>,
        mut config: Map<String, Value>,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<StoredIn, DockerConfigError> {
        let key = key(registry);
        if let Some(helper) = helper {
            helper
                .store(&key, user, password)
                .map_err(|source| self.failed(registry, source))?;
            // As Docker does, so that its own tools list the registry.
            self.replace(&mut config, key, json!({}))?;
            self.write(&config)?;
            return Ok(StoredIn::Helper(helper.program()));
        }
        let auth = BASE64.encode(format!("{user}:{password}"));
        self.replace(&mut config, key, json!({ "auth": auth }))?;
        self.write(&config)?;
        Ok(StoredIn::File(self.file.clone()))
    }

    /// Forgets what is kept for a registry. `false` when there was nothing.
    pub(crate) fn erase(&self, registry: &str) -> Result<bool, DockerConfigError> {
        let mut config = self.read()?;
        let key = key(registry);
        let mut erased = false;
        if let Some(helper) = self.helper(&config, registry)? {
            let result = helper.erase(&key);
            erased |= result.map_err(|source| self.failed(registry, source))?;
        }
        if config.contains_key("auths") {
            let auths = self.auths(&mut config)?;
            let before = auths.len();
            auths.retain(|known, _| host(known) != host(&key));
            if auths.len() != before {
                self.write(&config)?;
                erased = true;
            }
        }
        Ok(erased)
    }

    fn read(&self) -> Result<Map<String, Value>, DockerConfigError> {
        let failed = |source| DockerConfigError::Read {
            path: self.file.clone(),
            source,
        };
        let file = match fs::File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            file => file.map_err(failed)?,
        };
        let mut text = Vec::new();
        let read = file.take(MAX_LEN + 1).read_to_end(&mut text);
        if read.map_err(failed)? as u64 > MAX_LEN {
            return Err(self.bad("it is too long"));
        }
        if text.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(&text).map_err(|error| self.bad(error.to_string()))
    }

    /// Writes the file as a whole: aside, for its owner alone, and renamed. A
    /// link stays one.
    fn write(&self, config: &Map<String, Value>) -> Result<(), DockerConfigError> {
        let write = || -> io::Result<()> {
            let file = match fs::canonicalize(&self.file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.file.clone(),
                file => file?,
            };
            if let Some(folder) = file.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            let aside = file.with_extension(format!("json.{}", std::process::id()));
            // What a process of this number may have left.
            let _ = fs::remove_file(&aside);
            let mut out = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside)?;
            let mut text = serde_json::to_vec_pretty(config)?;
            text.push(b'\n');
            let written = out.write_all(&text).and_then(|()| out.sync_data());
            written
                .and_then(|()| fs::rename(&aside, &file))
                .inspect_err(|_| drop(fs::remove_file(&aside)))
        };
        write().map_err(|source| DockerConfigError::Write {
            path: self.file.clone(),
            source,
        })
    }

    fn helper(
        &self,
        config: &Map<String, Value>,
        registry: &str,
    ) -> Result<Option<Helper>, DockerConfigError> {
        let own = config.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|helpers| find(helpers, registry));
        let name = own.or(config.get("credsStore")).and_then(Value::as_str);
        let name = name.filter(|name| !name.is_empty());
        name.map(|name| Helper::new(name).map_err(|source| self.failed(registry, source)))
            .transpose()
    }

    fn auths<'a>(
        &self,
        config: &'a mut Map<String, Value>,
    ) -> Result<&'a mut Map<String, Value>, DockerConfigError> {
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        let bad = || self.bad("`auths` is no object");
        auths.as_object_mut().ok_or_else(bad)
    }

    /// Puts the only entry for the host of `key`, however others were written:
    /// they may have an old password.
    fn replace(
        &self,
        config: &mut Map<String, Value>,
        key: String,
        entry: Value,
    ) -> Result<(), DockerConfigError> {
        let auths = self.auths(config)?;
        auths.retain(|known, _| host(known) != host(&key));
        auths.insert(key, entry);
        Ok(())
    }

    fn bad(&self, fault: impl Into<String>) -> DockerConfigError {
        DockerConfigError::Format {
            path: self.file.clone(),
            fault: fault.into(),
        }
    }

    fn failed(&self, registry: &str, source: HelperError) -> DockerConfigError {
        DockerConfigError::Helper {
            path: self.file.clone(),
            registry: registry.to_owned(),
            source,
        }
    }
}

/// What Docker calls a registry in its configuration and to helpers.
fn key(registry: &str) -> String {
    match host(registry) {
        "docker.io" => DOCKER_HUB.to_owned(),
        _ => registry.to_owned(),
    }
}

/// The host, and port, of a key, which may be a URL.
pub(crate) fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").unwrap_or(key);
    let key = key.strip_prefix("http://").unwrap_or(key);
    match key.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// The value for a registry: by its own key, or one of the same host.
fn find<'a>(map: &'a Map<String, Value>, registry: &str) -> Option<&'a Value> {
    let same = || map.iter().find(|(known, _)| host(known) == host(registry));
    map.get(&key(registry)).or_else(|| Some(same()?.1))
}

/// `None` when the entry is not as Docker writes it.
fn identity_of(entry: &Value) -> Option<Identity> {
    let entry = entry.as_object()?;
    let text = |name| match entry.get(name) {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    };
    let (token, auth) = (text("identitytoken")?, text("auth")?);
    if !token.is_empty() {
        return Some(Identity::Refresh(token.to_owned()));
    }
    let (user, password) = match auth.is_empty() {
        true => (text("username")?.to_owned(), text("password")?.to_owned()),
        false => {
            let auth = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
            let (user, password) = auth.split_once(':')?;
            // Old versions of Docker put a NUL behind it.
            let password = password.trim_end_matches('\0');
            (user.to_owned(), password.to_owned())
        }
    };
    Some(match user.is_empty() && password.is_empty() {
        true => Identity::Nobody,
        false => Identity::Password { user, password },
    })
}

#[cfg(test)]
mod tests;
