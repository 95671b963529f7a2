//! Images in registries: layers fetched for a build and kept, whole images pushed and
//! pulled, and who we are there.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gvmi::{
    BuildError, Choice, Digest, Image, LayerError, MAX_INDEX_DEPTH, Manifest, OciImage, choose,
};
use registry::{
    Cache, Credentials, DockerConfig, Options, Reference, Registry, StoredIn, parse_reference,
};
use serde_json::json;

use super::report::{Report, mib};
use crate::args::{BuildArgs, LoginArgs, LogoutArgs, PruneArgs, PullArgs, PushArgs, RegistryArgs};
use crate::status;

/// Longest user name or password that is read.
const MAX_ANSWER: u64 = 4096;

/// The image that `name` is in its registry, with its layers in the cache, which is to
/// be dropped after it: what is in use stays there, beyond the limit too.
pub fn fetch(name: &str, args: &BuildArgs, report: &Report) -> Result<(Cache, OciImage)> {
    let reference = parse_reference(&format!("docker://{name}"))?;
    let mut options = options(&args.registry);
    options.max_size = args.max_size;
    if let Some(jobs) = args.jobs {
        options.jobs = jobs.get() as usize;
    }
    let cache = open_cache(args.cache_limit)?;
    let registry = Registry::new(options)?;
    let manifest = manifest(&registry, &reference, args)?;
    let blobs: Vec<_> = manifest
        .blobs()
        .map(|blob| (blob.digest, blob.size))
        .collect();
    let all_there = blobs.iter().all(|(digest, _)| cache.blob(digest).is_ok());
    let mut stage = report.stage("fetch");
    registry.fetch(&reference, &blobs, &cache, &mut |progress| {
        if !all_there {
            stage.set(progress.done, progress.size);
        }
    })?;
    let image = OciImage::from_blobs(name, &manifest, &args.platform, |digest| cache.blob(digest));
    let image = image.map_err(|fault| fault.of(name))?;
    Ok((cache, image))
}

/// The manifest of one image, which an index may lead to.
fn manifest(registry: &Registry, reference: &Reference, args: &BuildArgs) -> Result<Manifest> {
    let mut reference = reference.clone();
    for _ in 0..MAX_INDEX_DEPTH {
        let found = registry.manifest(&reference)?;
        let choice = choose(&found.bytes, Some(&found.media_type), &args.platform);
        match choice.map_err(|fault| fault.of(reference.to_string()))? {
            Choice::Image(manifest) => return Ok(manifest),
            Choice::Next(next) => {
                reference = reference.clone_with_digest(next.digest.to_string());
            }
        }
    }
    bail!("{reference}: its indexes lead to others, and not to an image")
}

/// Has a layer that was found damaged be fetched again the next time.
pub fn forget_damaged(cache: &Cache, image: &OciImage, error: &anyhow::Error) {
    let Some(BuildError::Layer { layer, source }) = error.downcast_ref() else {
        return;
    };
    if !matches!(source, LayerError::Digest { .. }) {
        return;
    }
    let named = image.layers.iter().filter(|found| found.name == *layer);
    for digest in named.filter_map(|layer| layer.digest) {
        if let Err(error) = cache.remove(&digest) {
            note!("shem: warning: {digest} cannot be removed from the cache: {error}");
        }
    }
}

/// `shem image push`.
pub fn push(args: &PushArgs) -> Result<u8> {
    // What is no image is refused before anything is sent.
    Image::open(&args.image)?;
    let report = Report::new(&args.report);
    let reference = parse_reference(&args.reference)?;
    let registry = Registry::new(options(&args.registry))?;
    let mut stage = report.stage("push");
    let digest = registry.push_image(&reference, &args.image, &mut |progress| {
        stage.set(progress.done, progress.size);
    })?;
    drop(stage);
    moved(&report, &reference, digest)
}

/// `shem image pull`.
pub fn pull(args: &PullArgs) -> Result<u8> {
    let report = Report::new(&args.report);
    let reference = parse_reference(&args.reference)?;
    let mut options = options(&args.registry);
    options.max_size = args.max_size;
    let registry = Registry::new(options)?;
    let mut stage = report.stage("pull");
    let digest = registry.pull_image(&reference, &args.output, &mut |progress| {
        stage.set(progress.done, progress.size);
    })?;
    drop(stage);
    moved(&report, &reference, digest)
}

fn moved(report: &Report, reference: &Reference, digest: Digest) -> Result<u8> {
    let line = format!("{reference}: {digest}");
    let object = json!({ "image": reference.to_string(), "digest": digest.to_string() });
    report.done(&line, object)?;
    Ok(status::SUCCESS)
}

/// `shem image login`.
pub fn login(args: &LoginArgs) -> Result<u8> {
    let (user, password) = who(args)?;
    ensure!(!password.is_empty(), "the password is empty");
    let stored = Registry::login(
        options(&args.access),
        &args.registry,
        &user,
        &password,
        &docker_config()?,
    )?;
    match stored {
        StoredIn::Helper(program) => {
            note!("Logged in to {} (kept by {program})", args.registry)
        }
        StoredIn::File(path) => note!(
            "Logged in to {} (kept in {}, not encrypted; a credential helper of Docker's would do better)",
            args.registry,
            path.display()
        ),
    }
    Ok(status::SUCCESS)
}

/// User and password, which are asked for on the terminal where they are not given.
fn who(args: &LoginArgs) -> Result<(String, String)> {
    let stdin = io::stdin();
    ensure!(
        stdin.is_terminal() || args.username.is_some() && args.password_stdin,
        "standard input is no terminal to ask at (give --username USER and --password-stdin)"
    );
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            write!(io::stderr(), "User name: ")?;
            line(stdin.lock())?
        }
    };
    let password = match args.password_stdin {
        true => line(stdin.lock())?,
        false => rpassword::prompt_password("Password: ").context("read the password")?,
    };
    Ok((user, password))
}

/// `shem image logout`.
pub fn logout(args: &LogoutArgs) -> Result<u8> {
    let known = Registry::logout(&args.registry, &docker_config()?)?;
    note!(
        "{}{}",
        if known {
            "Logged out of "
        } else {
            "Was not logged in to "
        },
        args.registry
    );
    Ok(status::SUCCESS)
}

/// The first line, without its end.
fn line(from: impl BufRead) -> Result<String> {
    let mut line = String::new();
    let read = from.take(MAX_ANSWER).read_line(&mut line);
    ensure!(
        (read.context("read an answer")? as u64) < MAX_ANSWER,
        "an answer is longer than {MAX_ANSWER} bytes"
    );
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// `shem image prune`.
pub fn prune(args: &PruneArgs) -> Result<u8> {
    let freed = open_cache(u64::MAX)?
        .prune(args.keep.unwrap_or(0))
        .context("remove layers")?;
    note!(
        "{} layers with {} removed, {} kept",
        freed.files,
        mib(freed.bytes),
        mib(freed.kept)
    );
    Ok(status::SUCCESS)
}

fn options(args: &RegistryArgs) -> Options {
    Options {
        insecure: args.insecure,
        ca_file: args.ca_file.clone(),
        credentials: DockerConfig::from_environment()
            .map_or(Credentials::Anonymous, Credentials::Docker),
        ..Options::default()
    }
}

fn docker_config() -> Result<DockerConfig> {
    DockerConfig::from_environment()
        .context("no place for Docker's configuration: set DOCKER_CONFIG or HOME")
}

/// Layers that were fetched: in `$XDG_CACHE_HOME/shem/layers`, else in
/// `~/.cache/shem/layers`.
fn open_cache(limit: u64) -> Result<Cache> {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    let folder = set("XDG_CACHE_HOME")
        .filter(absolute)
        .or_else(|| Some(set("HOME").filter(absolute)?.join(".cache")))
        .context("no place to keep layers in: set XDG_CACHE_HOME or HOME")?;
    let folder = folder.join("shem/layers");
    Cache::open(&folder, limit).with_context(|| cannot_open(&folder))
}

fn cannot_open(folder: &Path) -> String {
    format!("{}: layers cannot be kept there", folder.display())
}
