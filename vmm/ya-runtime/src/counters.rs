//! What the VM has used, in the names of exe-unit's usage counters.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use runtime_api::response::Command;
use runtime_api::{RuntimeStatus, runtime_status};
use shem::Vm;

use crate::outbox::Outbox;

/// How often they are told.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// How often the work folder is walked, which may be long: as exe-unit does.
const STORAGE_INTERVAL: Duration = Duration::from_secs(5 * 60);

const MIB: f64 = (1_u64 << 20) as f64;
const GIB: f64 = (1_u64 << 30) as f64;

/// What `stat` counts room in, in bytes.
const BLOCK: u64 = 512;

/// Reads the counters of one VM.
pub struct Counters {
    workdir: PathBuf,
    /// Bytes of the work folder, and when it was walked.
    storage: Option<(u64, Instant)>,
}

impl Counters {
    pub fn new(workdir: &Path) -> Self {
        Counters {
            workdir: workdir.to_owned(),
            storage: None,
        }
    }

    /// Sends them all; none to who reads nothing.
    pub fn send(&mut self, vm: &Vm, outbox: &Outbox) -> Result<(), Errno> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0
        };
        // Linux counts it in KiB.
        let peak = usage.max_rss() as f64 * 1024.0;
        let storage = self.folder_usage() + vm.temporary_disk_usage();
        let traffic = vm.traffic();
        let counters = [
            (
                "golem.usage.cpu_sec",
                seconds(usage.user_time()) + seconds(usage.system_time()),
            ),
            ("golem.usage.gib", peak / GIB),
            ("golem.usage.storage_gib", storage as f64 / GIB),
            ("golem.usage.network.in-mib", traffic.received as f64 / MIB),
            ("golem.usage.network.out-mib", traffic.sent as f64 / MIB),
        ];
        for (name, value) in counters {
            let name = name.into();
            let kind = Some(runtime_status::Kind::Counter(runtime_status::Counter {
                name,
                value,
            }));
            outbox.offer(Command::RtStatus(RuntimeStatus { kind }));
        }
        Ok(())
    }

    /// Room that the work folder takes, as it was at most [`STORAGE_INTERVAL`] ago.
    fn folder_usage(&mut self) -> u64 {
        match self.storage {
            Some((bytes, when)) if when.elapsed() < STORAGE_INTERVAL => bytes,
            _ => {
                let bytes = usage(&self.workdir);
                self.storage = Some((bytes, Instant::now()));
                bytes
            }
        }
    }
}

/// Room that a folder's files take. Links are not followed, and what goes away
/// while it is counted is not there.
fn usage(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => bytes += data.blocks() * BLOCK,
                Err(_) => {}
            }
        }
    }
    bytes
}
