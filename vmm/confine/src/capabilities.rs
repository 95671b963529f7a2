//! Capabilities of the calling thread: which of them go, and when.
//! See capabilities(7).

use caps::errors::CapsError;
use caps::{CapSet, Capability};

use crate::ConfineError;

/// By these root opens files that belong to others: images and packs in the
/// home folder of the one who called `sudo`.
const FILE_ACCESS: [Capability; 2] = [
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// By these root acts as any user of a shared folder, and makes there what only
/// root can: owners, device nodes, file capabilities.
const USERS: [Capability; 7] = [
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Drops all but [`FILE_ACCESS`], and where `as_users` [`USERS`]; these stay
/// permitted and effective where they were.
pub(crate) fn keep_files(as_users: bool) -> Result<(), ConfineError> {
    drop_inheritance()?;
    let mut kept = caps::read(None, CapSet::Effective).map_err(failed("effective"))?;
    kept.retain(|capability| {
        FILE_ACCESS.contains(capability) || (as_users && USERS.contains(capability))
    });
    // Effective first: it may never exceed the permitted set.
    caps::set(None, CapSet::Effective, &kept).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted"))
}

/// Empties every set that can be emptied.
pub(crate) fn drop_all() -> Result<(), ConfineError> {
    drop_inheritance()?;
    // Clears the effective set with it.
    caps::clear(None, CapSet::Permitted).map_err(failed("permitted"))
}

/// Empties the sets that only matter when another program is executed.
fn drop_inheritance() -> Result<(), ConfineError> {
    // An unprivileged thread cannot shrink its bounding set, nor can it ever
    // gain from it: it has no_new_privs.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)
        .map_err(failed("effective"))?
    {
        caps::clear(None, CapSet::Bounding).map_err(failed("bounding"))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))
}

fn failed(set: &'static str) -> impl FnOnce(CapsError) -> ConfineError {
    move |source| ConfineError::Capabilities { set, source }
}
