//! From a plugin's name to its file.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders to look in first, separated by colons.
pub const PATH_VARIABLE: &str = "SHEM_PLUGIN_PATH";
/// Where packages put plugins.
pub const SYSTEM_FOLDERS: [&str; 2] = ["/usr/local/lib/shem/plugins", "/usr/lib/shem/plugins"];
/// A plugin NAME is in the file `libshem_NAME.so`, with _ for each - of it.
pub const LIBRARY_PREFIX: &str = "libshem_";

/// No plugin of that name.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// No file at any of the places.
    #[error(
        "there is no plugin {name:?}: tried {}; set {PATH_VARIABLE} or give a path with a /",
        list(tried)
    )]
    NotFound {
        /// As asked for.
        name: String,
        /// Every path that was tried.
        tried: Vec<PathBuf>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// The folders in which plugins are looked for, in order.
#[derive(Clone, Debug)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// Those of [`PATH_VARIABLE`], the folder of the running program, as a checkout
    /// builds them there, then [`SYSTEM_FOLDERS`].
    pub fn from_environment() -> Self {
        let program = env::current_exe().ok();
        SearchPath::new(
            env::var_os(PATH_VARIABLE),
            program.as_deref().and_then(Path::parent),
        )
    }

    /// As from an environment in which [`PATH_VARIABLE`] is `variable` and the program
    /// lies in `beside`. Folders of the variable that are not absolute are left out:
    /// what is loaded must not depend on where somebody stands.
    pub fn new(variable: Option<OsString>, beside: Option<&Path>) -> Self {
        let variable = variable.unwrap_or_default();
        let named = env::split_paths(&variable).filter(|folder| folder.is_absolute());
        let beside = beside.map(Path::to_owned);
        let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
        SearchPath(named.chain(beside).chain(system).collect())
    }

    /// The folders, in order.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// The file of plugin `name`: that path, when there is a `/` in it.
    pub fn find(&self, name: &str) -> Result<PathBuf, SearchError> {
        if name.contains('/') {
            return Ok(Path::new(name).to_owned());
        }
        let file = format!("{LIBRARY_PREFIX}{}.so", name.replace('-', "_"));
        let tried: Vec<_> = self.0.iter().map(|folder| folder.join(&file)).collect();
        match tried.iter().position(|path| path.exists()) {
            Some(at) => Ok(tried[at].clone()),
            None => Err(SearchError::NotFound {
                name: name.to_owned(),
                tried,
            }),
        }
    }

    /// Every file that [`SearchPath::find`] could find, the first of each name, by
    /// name.
    pub fn all(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in &self.0 {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut files: Vec<_> = entries
                .map(|entry| entry.path())
                .filter(|path| named(path))
                .collect();
            files.retain(|path| {
                !found
                    .iter()
                    .any(|known| known.file_name() == path.file_name())
            });
            found.append(&mut files);
        }
        found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        found
    }
}

fn named(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(LIBRARY_PREFIX) && name.ends_with(".so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_before_the_system_and_a_slash_before_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libshem_net_tap.so");
        std::fs::write(&file, "").unwrap();
        let path = SearchPath::new(Some(folder.path().into()), None);
        assert_eq!(path.find("net-tap").unwrap(), file);
        assert_eq!(path.find("./x.so").unwrap(), Path::new("./x.so"));
        assert_eq!(path.all().first(), Some(&file));
    }

    #[test]
    fn every_place_that_was_tried_is_named() {
        let path = SearchPath::new(
            Some("/nowhere:relative".into()),
            Some(Path::new("/opt/bin")),
        );
        let text = path.find("gpu").unwrap_err().to_string();
        for place in ["/nowhere", "/opt/bin", SYSTEM_FOLDERS[0], SYSTEM_FOLDERS[1]] {
            assert!(text.contains(&format!("{place}/libshem_gpu.so")), "{text}");
        }
        assert!(!text.contains("relative"), "{text}");
    }
}
