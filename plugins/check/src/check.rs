//! The checks, and what a process that makes one does.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use plugin_host::{CreateError, Driver, GuestFacts, Plugin, PluginDevice};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::finding::{Finding, in_words};
use crate::life::Effort;
use crate::{config, life, smallest};

/// The VM that devices are told of.
const FACTS: GuestFacts = GuestFacts {
    vcpus: 2,
    memory: 64 << 20,
};

/// What is tried: of the library the first, of each driver the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// The library is loaded and says what it is.
    Load,
    /// A device is made, goes through its life and is destroyed.
    Lifecycle,
    /// The device is used as what it is, and badly.
    Use,
    /// Many devices leave nothing behind.
    Repeat,
    /// Two devices at the same time.
    Pair,
    /// Configurations that cannot be are refused in words.
    Configuration,
    /// No callback holds up the guest.
    Speed,
    /// valgrind sees nothing wrong.
    Memory,
}

impl Check {
    /// Those of each driver, in order.
    pub(crate) const OF_DRIVERS: [Check; 7] = [
        Check::Lifecycle,
        Check::Use,
        Check::Repeat,
        Check::Pair,
        Check::Configuration,
        Check::Speed,
        Check::Memory,
    ];

    /// The check that has to be passed before this one tells anything new.
    pub(crate) fn needs(self) -> Option<Check> {
        match self {
            Check::Load => None,
            Check::Lifecycle => Some(Check::Load),
            Check::Use | Check::Repeat | Check::Configuration | Check::Memory => {
                Some(Check::Lifecycle)
            }
            Check::Pair | Check::Speed => Some(Check::Use),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Check::Load => "load",
            Check::Lifecycle => "lifecycle",
            Check::Repeat => "repeat",
            Check::Pair => "pair",
            Check::Configuration => "configuration",
            Check::Use => "use",
            Check::Speed => "speed",
            Check::Memory => "memory",
        })
    }
}

/// What one process has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub(crate) check: Check,
    /// None for [`Check::Load`].
    pub(crate) driver: Option<String>,
    /// `None`: the smallest that the driver's schema allows.
    pub(crate) config: Option<Value>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// A word on what was seen, or what is wrong.
    pub verdict: Result<String, String>,
    /// Of [`Check::Load`].
    pub drivers: Vec<String>,
}

/// A driver under check.
pub(crate) struct Subject {
    pub plugin: Plugin,
    pub driver: Driver,
    pub config: Value,
    /// Where it says what it is about to do.
    stages: File,
}

impl Subject {
    /// Makes a device of the configuration.
    pub(crate) fn create(&self, id: &str) -> Result<PluginDevice, Finding> {
        self.stage("create");
        self.create_of(id, &self.config).map_err(|error| {
            let why = match error {
                CreateError::Failed(failure) => match in_words("create", &failure.kind) {
                    Ok(()) => failure.into(),
                    Err(finding) => finding,
                },
                error => Finding::of(&error),
            };
            let config = &self.config;
            Finding(format!(
                "{} (of the configuration {config}; give another by --config)",
                why.0
            ))
        })
    }

    /// Makes a device of another configuration.
    pub(crate) fn create_of(&self, id: &str, config: &Value) -> Result<PluginDevice, CreateError> {
        PluginDevice::create(&self.plugin, &self.driver, id, config, FACTS)
    }

    /// What comes now, for the report of a process that did not get further.
    pub(crate) fn stage(&self, what: &str) {
        // Without it the report says less.
        let _ = writeln!(&self.stages, "{what}");
    }
}

/// Does what `task`, made by a [`Suite`](crate::Suite), says with the plugin at
/// `path`, and writes the outcome to standard output, on which the plugin's own
/// output goes to standard error. For a process of its own, which ends after it.
pub fn carry_out(path: &Path, task: &str) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let answers = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdout(io::stderr())?;
    let task: Task = serde_json::from_str(task)?;
    let mut drivers = Vec::new();
    let verdict = attempt(path, &task, answers.try_clone()?, &mut drivers);
    let outcome = Outcome {
        verdict: verdict.map_err(|finding| finding.0),
        drivers,
    };
    writeln!(&answers, "{}", serde_json::to_string(&outcome)?)
}

fn attempt(
    path: &Path,
    task: &Task,
    stages: File,
    drivers: &mut Vec<String>,
) -> Result<String, Finding> {
    // Its initialisers run.
    let _ = writeln!(&stages, "loading");
    let plugin = Plugin::load(path).map_err(|error| Finding::of(&error))?;
    drivers.extend(plugin.drivers.iter().map(|driver| driver.name.clone()));
    let Some(name) = &task.driver else {
        return declared(&plugin);
    };
    let driver = plugin.drivers.iter().find(|driver| driver.name == *name);
    let driver = driver.ok_or_else(|| Finding(format!("it has no driver {name:?}")))?;
    let smallest = || smallest::config(driver.schema.as_ref());
    let subject = Subject {
        config: task.config.clone().unwrap_or_else(smallest),
        driver: driver.clone(),
        plugin,
        stages,
    };
    match task.check {
        Check::Load | Check::Lifecycle => life::lifecycle(&subject),
        Check::Repeat => life::repeat(&subject),
        Check::Pair => life::pair(&subject),
        Check::Configuration => config::refusals(&subject),
        Check::Use => life::used(&subject, Effort::Full),
        Check::Speed => life::speed(&subject),
        Check::Memory => life::under_valgrind(&subject),
    }
}

/// That the plugin says what somebody who finds it needs to know.
fn declared(plugin: &Plugin) -> Result<String, Finding> {
    let version = &plugin.version;
    let is_number = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if version.is_empty() || !version.split(['.', '-', '+']).next().is_some_and(is_number) {
        return Err(Finding(format!(
            "its version is {version:?}: write it as 1.2.3"
        )));
    }
    if plugin.summary.is_empty() || plugin.summary.contains('\n') {
        let found = &plugin.summary;
        return Err(Finding(format!("its summary is {found:?}: write one line")));
    }
    let (major, minor) = plugin.abi;
    let drivers: Vec<_> = plugin.drivers.iter().map(|driver| &*driver.name).collect();
    Ok(format!(
        "{} {version} for ABI {major}.{minor}, drivers {}",
        plugin.name,
        drivers.join(", ")
    ))
}
