//! How many descriptors this process may have. The library leaves that to its owner, whose
//! process it is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Has this process have as many descriptors as its user may: shared folders live on them,
/// and the soft limit is low for the sake of old programs that count bits. For a program
/// that runs VMs to call once; a limit that cannot be raised stays.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::debug!("raise the limit of open files: {error}");
    }
}
