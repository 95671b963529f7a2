//! Signals to what has something to tidy up before it ends.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// The signals that are taken from their default actions.
const TAKEN: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

/// Takes the signals from their default actions in this thread and those that it
/// starts. Each is given to `take`, in a thread of its own that ends with the process;
/// it tells with which status the process is to end at once, if it is.
pub fn take_signals(mut take: impl FnMut(Signal) -> Option<u8> + Send + 'static) -> Result<()> {
    let mask: SigSet = TAKEN.into_iter().collect();
    mask.thread_block().context("block signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while let Ok(signal) = mask.wait() {
                if let Some(status) = take(signal) {
                    std::process::exit(status.into());
                }
            }
        })
        .map(drop)
        .context("start the thread for signals")
}
