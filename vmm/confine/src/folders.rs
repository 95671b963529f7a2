//! What a thread may open: nothing but what is in some folders. Landlock,
//! landlock(7).
//!
//! The rule is the kernel's and goes by where a file is, not by how the thread
//! came to it: a descriptor from before the rule, a link in `/proc/self/fd`, a
//! folder that has been moved out since. Only what is open already stays usable.
//! Permissions, owners, times and extended attributes are not Landlock's.

use device_model::FileAccess;
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};

use crate::{ConfineError, PluginPath};

/// What is handled, and so denied where no rule allows it: everything up to
/// Linux 6.10's. Later rights are about devices and sockets, which the threads
/// in question can do nothing with.
const HANDLED: ABI = ABI::V5;

/// What came of the rule about a thread's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// All of it holds.
    Full,
    /// The kernel knows some of it: Linux before 6.10.
    Partial,
    /// The kernel has no Landlock, or it is switched off.
    None,
}

/// Confines the calling thread, and those that it starts later, to what `access`
/// allows. Best effort: what the kernel does not know is left out, and the
/// answer tells.
pub(crate) fn enter(access: &FileAccess) -> Result<Enforcement, ConfineError> {
    let all = AccessFs::from_all(HANDLED);
    let mut rules = Ruleset::default()
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(ConfineError::Landlock)?;
    if let Some(folder) = &access.folder {
        let rule = PathBeneath::new(folder, rights(access.read_only));
        rules = rules.add_rule(rule).map_err(ConfineError::Landlock)?;
    }
    restrict(rules)
}

/// Confines the calling thread, and those that it starts later, to what plugins
/// declared that they open. A path that is not there allows nothing.
pub(crate) fn enter_paths(paths: &[PluginPath]) -> Result<Enforcement, ConfineError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(HANDLED))
        .and_then(Ruleset::create)
        .map_err(ConfineError::Landlock)?;
    for path in paths {
        let mut rights = BitFlags::empty();
        if path.read {
            rights |= AccessFs::from_read(HANDLED) & !AccessFs::Execute;
        }
        if path.write {
            rights |= AccessFs::from_write(HANDLED);
        }
        if path.execute {
            rights |= AccessFs::Execute;
        }
        rules = rules
            .add_rules(path_beneath_rules([&path.path], rights))
            .map_err(ConfineError::Landlock)?;
    }
    restrict(rules)
}

fn restrict(rules: RulesetCreated) -> Result<Enforcement, ConfineError> {
    let status = rules.restrict_self().map_err(ConfineError::Landlock)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

/// Nothing is ever executed, and no device is ever opened.
fn rights(read_only: bool) -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::IoctlDev;
    if read_only {
        AccessFs::from_read(HANDLED) & !never
    } else {
        AccessFs::from_all(HANDLED) & !never
    }
}
