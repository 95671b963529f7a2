//! Sockets in the file system that nobody listens at any more.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use plugin_sdk::{Error, Result};

/// Removes the socket `path`, to which no connection could be made. A file of another
/// kind, which refuses connections as well, is somebody's and stays.
pub fn remove(path: &Path) -> Result<()> {
    let place = path.display();
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let text = format!("{place} is no socket: move it, or name another path");
        return Err(Error::new(text));
    }
    let removed = fs::remove_file(path).map_err(Error::from);
    removed.map_err(|error| error.context(&format!("remove {place}, which was left")))
}
