//! The options of `shem image`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use gvmi::{Compression, Limits, Platform};

use crate::{help, values};

/// [`Limits::max_size`] unless said otherwise, as it is written.
const MAX_SIZE: &str = "64g";

#[derive(Debug, Subcommand)]
#[command(after_help = help::IMAGE)]
pub enum ImageCommand {
    /// Make an image of Docker's images, from a registry or a file, or of a folder or tar
    Build(Box<BuildArgs>),
    /// Show what an image holds and how it runs
    Inspect(InspectArgs),
    /// List the files of an image
    Ls(LsArgs),
    /// Print files of an image
    Cat(CatArgs),
    /// Write the files of an image as a tar archive
    Export(ExportArgs),
    /// Read all of an image and say whether it is whole
    Verify(VerifyArgs),
    /// Show which files two images do not have in common
    Diff(DiffArgs),
    /// Put an image as it is into a registry
    Push(PushArgs),
    /// Get an image that was put into a registry
    Pull(PullArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget what `shem image login` was told
    Logout(LogoutArgs),
    /// Remove layers that were downloaded
    Prune(PruneArgs),
}

/// `shem image build`.
#[derive(Debug, Args)]
#[command(after_help = help::BUILD)]
pub struct BuildArgs {
    /// Image in a registry, file of `docker save`, OCI layout, folder or tar; - reads a tar
    /// from standard input
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub source: OsString,

    /// Where to put the image; replaced when it exists
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,

    /// Set a variable in the environment of its commands
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::told(values::pair))]
    pub env: Vec<(String, String)>,

    /// User of its commands
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = values::told(values::something))]
    pub user: Option<String>,

    /// Folder in which its commands start
    #[arg(short, long, value_name = "PATH", value_parser = values::told(values::absolute))]
    pub workdir: Option<String>,

    /// Its ENTRYPOINT: a program, or a JSON list of program and arguments; clears CMD
    #[arg(long, value_name = "PROGRAM|JSON")]
    pub entrypoint: Option<String>,

    /// Its CMD: a program, or a JSON list of program and arguments
    #[arg(long, value_name = "PROGRAM|JSON")]
    pub cmd: Option<String>,

    /// Attach a note
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::told(values::pair))]
    pub label: Vec<(String, String)>,

    /// Declare a path whose contents live outside of the image
    #[arg(long, value_name = "PATH", value_parser = values::told(values::absolute))]
    pub volume: Vec<String>,

    /// How its files are compressed: lzo, gzip, lz4, xz or zstd, and how hard
    #[arg(long, value_name = "NAME[:LEVEL]", default_value_t)]
    pub comp: Compression,

    /// Which of the images for several machines to take
    #[arg(long, value_name = "OS/ARCH", default_value_t)]
    pub platform: Platform,

    /// Most processors that compress and most layers that are fetched at the same time
    /// [default: all processors, 4 layers]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroU32>,

    /// Most bytes that the layers may have: those that are fetched, and their archives,
    /// unpacked
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size),
          default_value = MAX_SIZE)]
    pub max_size: u64,

    /// Most files, folders and links that the layers may have
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_entries)]
    pub max_entries: u32,

    /// Most bytes of layers that are kept, so that they are not fetched again
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size), default_value = "10g")]
    pub cache_limit: u64,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub report: ReportArgs,
}

/// How registries are reached.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// Speak plain HTTP, without TLS, to registries of other hosts than this one too
    #[arg(long)]
    pub insecure: bool,

    /// Trust the certificates of this file too, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
}

/// How progress is told.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Say nothing but errors, not even warnings
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,

    /// Tell what happens on standard output, a JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `shem image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// As JSON, with everything that the image says
    #[arg(long)]
    pub json: bool,

    /// Print only what a requestor of Golem's asks for an image at this URL with
    #[arg(long, value_name = "URL", conflicts_with = "json", value_parser = values::told(values::url))]
    pub link: Option<String>,
}

/// `shem image ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// A folder or file in it
    #[arg(default_value = "/")]
    pub path: OsString,

    /// With type, permissions, owner, size and time
    #[arg(short, long)]
    pub long: bool,

    /// And what is in its folders
    #[arg(short = 'R', long)]
    pub recursive: bool,

    /// A JSON object a line
    #[arg(long, conflicts_with = "long")]
    pub json: bool,
}

/// `shem image cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// The image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// Files in it
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<OsString>,
}

/// `shem image export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// Where to put the archive, instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// `shem image verify`.
#[derive(Debug, Args)]
#[command(after_help = help::VERIFY)]
pub struct VerifyArgs {
    /// The images, .gvmi files
    #[arg(required = true, value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub images: Vec<PathBuf>,
}

/// `shem image diff`.
#[derive(Debug, Args)]
#[command(after_help = help::DIFF)]
pub struct DiffArgs {
    /// An image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub old: PathBuf,

    /// What to compare it with
    #[arg(value_hint = ValueHint::FilePath)]
    pub new: PathBuf,

    /// Another time of change is a difference too
    #[arg(long)]
    pub times: bool,

    /// A JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `shem image push`.
#[derive(Debug, Args)]
#[command(after_help = help::PUSH)]
pub struct PushArgs {
    /// The image, a .gvmi file
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// Where to put it
    #[arg(value_name = "REGISTRY/NAME[:TAG]")]
    pub reference: String,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub report: ReportArgs,
}

/// `shem image pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// What to get
    #[arg(value_name = "REGISTRY/NAME[:TAG|@DIGEST]")]
    pub reference: String,

    /// Where to put the image; replaced when it exists
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,

    /// Most bytes that it may have
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size),
          default_value = MAX_SIZE)]
    pub max_size: u64,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub report: ReportArgs,
}

/// `shem image login`.
#[derive(Debug, Args)]
#[command(after_help = help::LOGIN)]
pub struct LoginArgs {
    /// Its host name, and port
    #[arg(default_value = "docker.io")]
    pub registry: String,

    /// Who you are there; asked for when it is not said
    #[arg(short, long)]
    pub username: Option<String>,

    /// Take the password from standard input
    #[arg(long)]
    pub password_stdin: bool,

    #[command(flatten)]
    pub access: RegistryArgs,
}

/// `shem image logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Its host name, and port
    #[arg(default_value = "docker.io")]
    pub registry: String,
}

/// `shem image prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Keep the layers that were used last, up to this much
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size))]
    pub keep: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_shown_is_the_library_s() {
        assert_eq!(values::size(MAX_SIZE).unwrap(), Limits::default().max_size);
    }
}
