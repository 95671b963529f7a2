//! Confinement of a process that runs hostile guests: `no_new_privs`, no
//! capabilities, a seccomp allow-list for each kind of thread, and for those
//! that open files by name the folders that they may do it in.
//!
//! Everything is per thread and nothing is global, so that a program may run
//! many virtual machines. A machine's threads call [`enter_thread`] before
//! anything else. A command confines its own thread too, by [`enter_process`]
//! as soon as it knows what it is to do and by [`drop_capabilities`] as soon as
//! everything is open, and says what happened when a filter was violated by
//! [`report_violations`]. Filters stack: a thread is held by its own filter and
//! by those of the threads that it descends from.
//!
//! It does not restrict namespaces or resources.

mod capabilities;
mod filter;
mod folders;
mod plugins;
mod syscalls;
mod tables;
mod violation;

use std::fmt;
use std::io;
use std::str::FromStr;

use device_model::ThreadKind;

pub use folders::Enforcement;
pub use plugins::{PluginNeeds, PluginPath};
pub use violation::{VIOLATION_STATUS, report_violations};

/// What happens when a thread makes a system call that its filter does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeccompMode {
    /// The process ends by `SIGSYS`; see [`report_violations`].
    #[default]
    Kill,
    /// The call is made, and the kernel writes it to its audit log.
    Log,
    /// There are no filters. Privileges are dropped all the same.
    Off,
}

impl FromStr for SeccompMode {
    type Err = ConfineError;

    fn from_str(text: &str) -> Result<Self, ConfineError> {
        match text {
            "kill" => Ok(SeccompMode::Kill),
            "log" => Ok(SeccompMode::Log),
            "off" => Ok(SeccompMode::Off),
            _ => Err(ConfineError::UnknownMode(text.to_owned())),
        }
    }
}

impl fmt::Display for SeccompMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SeccompMode::Kill => "kill",
            SeccompMode::Log => "log",
            SeccompMode::Off => "off",
        })
    }
}

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The text is not a [`SeccompMode`].
    #[error("unknown seccomp mode {0:?}: use kill, log or off")]
    UnknownMode(String),
    /// `PR_SET_NO_NEW_PRIVS` failed.
    #[error("set no_new_privs")]
    NoNewPrivs(#[source] nix::Error),
    /// A set of capabilities could not be changed.
    #[error("drop the {set} capabilities")]
    Capabilities {
        /// Which of the five sets.
        set: &'static str,
        /// What the kernel said.
        #[source]
        source: caps::errors::CapsError,
    },
    /// The table could not be made a BPF program.
    #[error("compile the seccomp filter")]
    CompileFilter(#[source] seccompiler::BackendError),
    /// The kernel refused the BPF program.
    #[error("load the seccomp filter (the kernel needs CONFIG_SECCOMP_FILTER)")]
    LoadFilter(#[source] seccompiler::Error),
    /// A plugin asks for a call that nobody knows.
    #[error("there is no system call {0:?} on x86_64")]
    UnknownCall(String),
    /// A plugin asks for a call that would undo the confinement.
    #[error(
        "the system call {0} is never allowed while a guest runs: do it when the device is made"
    )]
    NeverAllowed(String),
    /// The kernel refused the rules about folders, though it has Landlock.
    #[error("restrict the thread to its folders")]
    Landlock(#[source] landlock::RulesetError),
}

/// How threads are to be held, the same for all of one VM.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What a violation does.
    pub mode: SeccompMode,
    /// What the event loop and the vCPUs may do for plugins, and so must who
    /// starts them.
    pub plugins: PluginNeeds,
}

impl From<SeccompMode> for Policy {
    /// Without plugins.
    fn from(mode: SeccompMode) -> Self {
        let plugins = PluginNeeds::default();
        Policy { mode, plugins }
    }
}

/// Confines the calling thread, and so those that it starts later, to what a
/// command does between its start and its end: no program can be started, no
/// network socket opened, no kernel interface reached but KVM and files.
///
/// Of the capabilities only those remain, until [`drop_capabilities`], by which
/// root opens files of others; where `as_users`, also those by which the threads
/// of shared folders will act as other users.
pub fn enter_process(policy: &Policy, as_users: bool) -> Result<(), ConfineError> {
    no_new_privs()?;
    capabilities::keep_files(as_users)?;
    filter::load(policy.mode, tables::START_UP, policy.plugins.calls())
}

/// Drops every capability of the calling thread and of those that it starts
/// later: to be called when everything is open and before the guest runs.
pub fn drop_capabilities() -> Result<(), ConfineError> {
    capabilities::drop_all()
}

/// Confines the calling thread to the work of `kind`: `no_new_privs`, no
/// capabilities, its filter; one that serves a shared folder to that folder,
/// with root's capabilities over files. Threads that it starts inherit all of it.
///
/// Tells how much of the rule about its folder the kernel holds: all of none,
/// for threads that open nothing.
pub fn enter_thread(policy: &Policy, kind: &ThreadKind) -> io::Result<Enforcement> {
    enter(policy, kind).map_err(io::Error::other)
}

fn enter(policy: &Policy, kind: &ThreadKind) -> Result<Enforcement, ConfineError> {
    no_new_privs()?;
    let plugins = &policy.plugins;
    let enforcement = match kind {
        ThreadKind::FileServer(access) => {
            capabilities::keep_files(access.as_users)?;
            folders::enter(access)?
        }
        ThreadKind::Vcpu | ThreadKind::EventLoop if plugins.opens_files() => {
            capabilities::drop_all()?;
            folders::enter_paths(plugins.paths())?
        }
        ThreadKind::Vcpu | ThreadKind::EventLoop | ThreadKind::BlockIo | ThreadKind::Forwarder => {
            capabilities::drop_all()?;
            Enforcement::Full
        }
    };
    let (table, also) = match kind {
        ThreadKind::Vcpu => (tables::VCPU, plugins.calls()),
        ThreadKind::EventLoop => (tables::EVENT_LOOP, plugins.calls()),
        ThreadKind::BlockIo => (tables::BLOCK_IO, &[][..]),
        ThreadKind::FileServer(_) => (tables::FILE_SERVER, &[][..]),
        ThreadKind::Forwarder => (tables::FORWARDER, &[][..]),
    };
    filter::load(policy.mode, table, also)?;
    Ok(enforcement)
}

fn no_new_privs() -> Result<(), ConfineError> {
    nix::sys::prctl::set_no_new_privs().map_err(ConfineError::NoNewPrivs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_shown() {
        for mode in [SeccompMode::Kill, SeccompMode::Log, SeccompMode::Off] {
            assert_eq!(mode.to_string().parse::<SeccompMode>().unwrap(), mode);
        }
    }

    #[test]
    fn unknown_mode_is_refused_with_the_known_ones() {
        let error = "audit".parse::<SeccompMode>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown seccomp mode \"audit\": use kill, log or off"
        );
    }
}
