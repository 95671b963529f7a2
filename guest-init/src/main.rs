//! `guest-init`: PID 1 of the guest and, as its child, the agent.
//!
//! This file decides which of the two this process is; the story of the boot
//! is in [`init`], that of the agent in [`agent`].

mod agent;
mod console;
mod disks;
mod error;
mod fill;
mod identity;
mod init;
mod interface;
mod modules;
mod mounts;
mod netlink;
mod reap;
mod root;
mod sys;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("guest-init: runs as PID 1 of a shem guest only");
        return ExitCode::FAILURE;
    }
    init::run()
}
