//! `shem image`: makes images, shows what they hold, and keeps them in registries.

mod build;
mod compare;
mod files;
mod inspect;
mod report;
mod store;

use anyhow::Result;

use crate::args::ImageCommand;

/// Carries the command out.
pub fn run(command: ImageCommand) -> Result<u8> {
    match command {
        ImageCommand::Build(args) => build::run(*args),
        ImageCommand::Inspect(args) => inspect::run(&args),
        ImageCommand::Ls(args) => files::ls(&args),
        ImageCommand::Cat(args) => files::cat(&args),
        ImageCommand::Export(args) => files::export(&args),
        ImageCommand::Verify(args) => compare::verify(&args),
        ImageCommand::Diff(args) => compare::diff(&args),
        ImageCommand::Push(args) => store::push(&args),
        ImageCommand::Pull(args) => store::pull(&args),
        ImageCommand::Login(args) => store::login(&args),
        ImageCommand::Logout(args) => store::logout(&args),
        ImageCommand::Prune(args) => store::prune(&args),
    }
}
