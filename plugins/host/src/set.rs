//! The drivers that are there, by name: those of plugins beside the built-in ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::load::{Driver, LoadError, Plugin};
use crate::nearest::nearest;

/// Plugins whose drivers' names are all different.
#[derive(Clone, Default)]
pub struct PluginSet {
    plugins: Vec<Arc<Plugin>>,
    built_in: Vec<String>,
}

/// Why a plugin or a driver cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The file was refused.
    #[error("plugin {}", path.display())]
    Load {
        /// As given.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// Two drivers of one name.
    #[error("plugin {}: its driver {name:?} is there already, {by}", path.display())]
    DriverTaken {
        /// The later plugin.
        path: PathBuf,
        /// The driver.
        name: String,
        /// Who has it.
        by: String,
    },
    /// No driver of that name.
    #[error("there is no driver {name:?}{}; the drivers are {}; one of a plugin needs --plugin", meant(nearest), known.join(", "))]
    UnknownDriver {
        /// As asked for.
        name: String,
        /// Of the known ones, if one is near.
        nearest: Option<String>,
        /// All, sorted.
        known: Vec<String>,
    },
}

fn meant(nearest: &Option<String>) -> String {
    let text = |name| format!(" (did you mean {name:?}?)");
    nearest.as_ref().map_or(String::new(), text)
}

impl PluginSet {
    /// No plugins yet, beside drivers that are `built_in`.
    pub fn new<'a>(built_in: impl IntoIterator<Item = &'a str>) -> Self {
        PluginSet {
            plugins: Vec::new(),
            built_in: built_in.into_iter().map(String::from).collect(),
        }
    }

    /// Loads the plugin at `path`.
    pub fn add(&mut self, path: &Path) -> Result<Arc<Plugin>, SetError> {
        let plugin = Plugin::load(path).map_err(|source| SetError::Load {
            path: path.to_owned(),
            source,
        })?;
        for driver in &plugin.drivers {
            let by = if self.built_in.contains(&driver.name) {
                "built in".to_owned()
            } else if let Some((other, _)) = self.find(&driver.name) {
                format!("from {}", other.path.display())
            } else {
                continue;
            };
            return Err(SetError::DriverTaken {
                path: plugin.path,
                name: driver.name.clone(),
                by,
            });
        }
        let plugin = Arc::new(plugin);
        self.plugins.push(Arc::clone(&plugin));
        Ok(plugin)
    }

    /// The plugins, in the order of their adding.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// A plugin's driver by name; `None` for a built-in one.
    pub fn driver(&self, name: &str) -> Result<Option<(&Arc<Plugin>, &Driver)>, SetError> {
        if self.built_in.iter().any(|known| known == name) {
            return Ok(None);
        }
        if let Some(found) = self.find(name) {
            return Ok(Some(found));
        }
        let of_plugins = self.plugins.iter().flat_map(|plugin| &plugin.drivers);
        let mut known = self.built_in.clone();
        known.extend(of_plugins.map(|driver| driver.name.clone()));
        known.sort();
        Err(SetError::UnknownDriver {
            name: name.to_owned(),
            nearest: nearest(name, known.iter().map(String::as_str)).map(String::from),
            known,
        })
    }

    fn find(&self, name: &str) -> Option<(&Arc<Plugin>, &Driver)> {
        self.plugins.iter().find_map(|plugin| {
            let driver = plugin.drivers.iter().find(|driver| driver.name == name)?;
            Some((plugin, driver))
        })
    }
}
