//! The options of `shem run` that mount volumes, in Docker's syntax. Parsing is
//! pure; [`volumes`] then looks named volumes up, or makes them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use shem::{
    Cache, Disk, DiskFormat, Fill, Memory, NamedKind, NamedVolumes, OnError, Ownership,
    SharedFolder, Volume, VolumeSource,
};

use crate::args::RunArgs;
use crate::values;

/// Where disks without a name lie unless `TMPDIR` says otherwise: not `/tmp`,
/// which is memory in many places.
const TEMPORARY: &str = "/var/tmp";

/// The folder for what is large and goes with its VM.
pub fn temporary() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| TEMPORARY.into(), PathBuf::from)
}

/// One mount, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountArg {
    source: Source,
    target: String,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Folder(PathBuf, Share),
    Named(String, Share),
    Disk {
        path: PathBuf,
        format: DiskFormat,
        size: Option<u64>,
        preallocate: u64,
        errors: Option<OnError>,
        no_copy: bool,
    },
    Memory {
        size: Option<u64>,
        mode: Option<u32>,
    },
}

/// How a folder is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Share {
    cache: Option<Cache>,
    owner: Option<Ownership>,
    no_copy: bool,
}

/// `HOST:GUEST[:ro][,cache=…][,owner=…]`, as `-v` has it. A HOST without a slash
/// that does not begin with a point is the name of a volume.
pub fn volume(text: &str) -> Result<MountArg> {
    const FORM: &str = "write HOST:GUEST, as in ./data:/data or ./data:/data:ro";
    let (host, rest) = text.split_once(':').context(FORM)?;
    let mut words = rest.split([':', ',']);
    let target = words.next().unwrap_or_default();
    ensure!(!host.is_empty() && !target.is_empty(), FORM);
    let mut share = Share::default();
    let mut read_only = false;
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            ("nocopy", "") => share.no_copy = true,
            ("cache", value) => share.cache = Some(cache(value)?),
            ("owner", value) => share.owner = Some(owner(value)?),
            _ => bail!("unknown option {word:?}: use ro, rw, nocopy, cache=… or owner=…"),
        }
    }
    let source = if host.contains('/') || host.starts_with('.') {
        Source::Folder(host.into(), share)
    } else {
        Source::Named(host.into(), share)
    };
    Ok(MountArg {
        source,
        target: target.into(),
        read_only,
    })
}

/// `PATH[:size=SIZE,mode=MODE]`, as `--tmpfs` has it.
pub fn tmpfs(text: &str) -> Result<MountArg> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    ensure!(
        !target.is_empty(),
        "write a path, as in /run or /run:size=64m"
    );
    let (mut size, mut mode) = (None, None);
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("size", value) => size = Some(values::size(value).context("size")?),
            ("mode", value) => mode = Some(octal(value)?),
            _ => bail!("unknown option {word:?}: use size=… or mode=…"),
        }
    }
    Ok(MountArg {
        source: Source::Memory { size, mode },
        target: target.into(),
        read_only: false,
    })
}

/// What a mount is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Volume,
    Bind,
    Tmpfs,
    Disk,
}

impl Type {
    /// What the option `key` is worth for it.
    fn knows(self, key: &str) -> bool {
        let shared = matches!(self, Type::Volume | Type::Bind);
        match key {
            "source" => self != Type::Tmpfs,
            "target" | "readonly" => true,
            "cache" | "owner" => shared,
            "volume-nocopy" => self != Type::Tmpfs,
            "tmpfs-size" | "tmpfs-mode" => self == Type::Tmpfs,
            "format" | "size" | "preallocate" | "errors" => self == Type::Disk,
            _ => false,
        }
    }

    fn keys(self) -> &'static str {
        match self {
            Type::Volume | Type::Bind => "source, target, readonly, cache, owner and volume-nocopy",
            Type::Tmpfs => "target, readonly, tmpfs-size and tmpfs-mode",
            Type::Disk => {
                "source, target, readonly, format, size, preallocate, errors and volume-nocopy"
            }
        }
    }
}

/// `type=volume|bind|tmpfs|disk,source=…,target=…,…`, as `--mount` has it.
pub fn mount(text: &str) -> Result<MountArg> {
    let pairs: Vec<(&str, &str)> = text
        .split(',')
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(key, value)| match key {
            "src" => ("source", value),
            "dst" | "destination" => ("target", value),
            "ro" => ("readonly", value),
            key => (key, value),
        })
        .collect();
    let given = |wanted: &str| {
        let mut found = pairs.iter().filter(|(key, _)| *key == wanted);
        found.next_back().map(|(_, value)| *value)
    };
    let kind = match given("type").unwrap_or("volume") {
        "volume" => Type::Volume,
        "bind" => Type::Bind,
        "tmpfs" => Type::Tmpfs,
        "disk" => Type::Disk,
        other => bail!("unknown type {other:?}: use volume, bind, tmpfs or disk"),
    };
    let unknown = pairs
        .iter()
        .find(|(key, _)| *key != "type" && !kind.knows(key));
    if let Some((key, _)) = unknown {
        bail!(
            "unknown key {key:?}: with this type there are {}",
            kind.keys()
        );
    }
    let target = given("target").filter(|target| !target.is_empty());
    let target = target.context("target is missing: where it is mounted, as in target=/data")?;
    let flag = |key: &str| match given(key) {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(other) => bail!("{key}={other}: use true or false"),
    };
    let sized = |key: &'static str| given(key).map(values::size).transpose().context(key);
    let source = || {
        let source = given("source").filter(|source| !source.is_empty());
        source.context("source is missing: what is mounted")
    };
    let no_copy = flag("volume-nocopy")?;
    let share = || -> Result<Share> {
        Ok(Share {
            cache: given("cache").map(cache).transpose()?,
            owner: given("owner").map(owner).transpose()?,
            no_copy,
        })
    };
    Ok(MountArg {
        source: match kind {
            Type::Volume => Source::Named(source()?.into(), share()?),
            Type::Bind => Source::Folder(source()?.into(), share()?),
            Type::Tmpfs => Source::Memory {
                size: sized("tmpfs-size")?,
                mode: given("tmpfs-mode").map(octal).transpose()?,
            },
            Type::Disk => Source::Disk {
                path: source()?.into(),
                format: given("format").map(format).transpose()?.unwrap_or_default(),
                size: sized("size")?,
                preallocate: sized("preallocate")?.unwrap_or(0),
                errors: given("errors").map(errors).transpose()?,
                no_copy,
            },
        },
        target: target.into(),
        read_only: flag("readonly")?,
    })
}

/// User and group in the guest: `UID[:GID]`, the group as the user when left out.
pub fn ids(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX);
    match (id(uid), id(gid)) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => bail!("write numbers, as in 1000 or 1000:1000"),
    }
}

/// All volumes that `args` ask for. Named ones that do not exist are made.
pub fn volumes(args: &RunArgs, named: &NamedVolumes) -> Result<Vec<Volume>> {
    let asked = args.volume.iter().chain(&args.mount).chain(&args.tmpfs);
    let mut volumes = Vec::new();
    let mut owned = false;
    for mount in asked {
        let source = match &mount.source {
            Source::Folder(path, share) => {
                share.apply(SharedFolder::new(path), args.volume_uid, &mut owned)
            }
            Source::Named(name, share) => {
                open_named(named, name, share, args.volume_uid, &mut owned)?
            }
            Source::Disk {
                path,
                format,
                size,
                preallocate,
                errors,
                no_copy,
            } => {
                let disk = Disk::file(path).format(*format).preallocate(*preallocate);
                disk_with(disk, *size, *errors, *no_copy).into()
            }
            Source::Memory { size, mode } => {
                let memory = size.map_or(Memory::new(), |size| Memory::new().size(size));
                mode.map_or(memory, |mode| memory.mode(mode)).into()
            }
        };
        let volume = Volume::new(source, &mount.target);
        volumes.push(if mount.read_only {
            volume.read_only()
        } else {
            volume
        });
    }
    if let Some(size) = args.disk_size {
        volumes.push(Volume::new(Disk::temporary(temporary(), size), "/"));
    }
    ensure!(
        args.volume_uid.is_none() || owned,
        "--volume-uid is for folders with owner=mapped or owner=squash, and there is none"
    );
    Ok(volumes)
}

impl Share {
    /// `owned` becomes true when the folder's files get owners from us.
    fn apply(
        &self,
        mut folder: SharedFolder,
        uid: Option<(u32, u32)>,
        owned: &mut bool,
    ) -> VolumeSource {
        if let Some(cache) = self.cache {
            folder = folder.cache(cache);
        }
        let ownership = self.owner.unwrap_or_else(Ownership::of_this_process);
        folder = folder.ownership(ownership);
        if let Some((uid, gid)) = uid
            && ownership != Ownership::AsIs
        {
            *owned = true;
            folder = folder.owner(uid, gid);
        }
        if self.no_copy {
            folder = folder.fill(Fill::Never);
        }
        folder.into()
    }
}

fn open_named(
    named: &NamedVolumes,
    name: &str,
    share: &Share,
    uid: Option<(u32, u32)>,
    owned: &mut bool,
) -> Result<VolumeSource> {
    let volume = match named.get(name) {
        Err(shem::VolumeStoreError::Missing(_)) => named.create(name, NamedKind::Folder, [])?,
        outcome => outcome?,
    };
    Ok(match volume.open()? {
        VolumeSource::Folder(folder) => share.apply(folder, uid, owned),
        VolumeSource::Disk(disk) => {
            ensure!(
                share.cache.is_none() && share.owner.is_none(),
                "volume {name:?} is a disk, which has no cache= and no owner="
            );
            if share.no_copy {
                disk.fill(Fill::Never).into()
            } else {
                disk.into()
            }
        }
        memory @ VolumeSource::Memory(_) => memory,
    })
}

fn disk_with(mut disk: Disk, size: Option<u64>, errors: Option<OnError>, no_copy: bool) -> Disk {
    if let Some(size) = size {
        disk = disk.size(size);
    }
    if let Some(errors) = errors {
        disk = disk.on_error(errors);
    }
    if no_copy {
        disk = disk.fill(Fill::Never);
    }
    disk
}

fn cache(text: &str) -> Result<Cache> {
    match text {
        "coherent" => Ok(Cache::Coherent),
        "exclusive" => Ok(Cache::Exclusive),
        _ => bail!("unknown cache {text:?}: use coherent or exclusive"),
    }
}

fn owner(text: &str) -> Result<Ownership> {
    match text {
        "as-is" => Ok(Ownership::AsIs),
        "mapped" => Ok(Ownership::Mapped),
        "squash" => Ok(Ownership::Squash),
        _ => bail!("unknown owner {text:?}: use as-is, mapped or squash"),
    }
}

fn format(text: &str) -> Result<DiskFormat> {
    match text {
        "raw" => Ok(DiskFormat::Raw),
        "qcow2" => Ok(DiskFormat::Qcow2),
        _ => bail!("unknown format {text:?}: use raw or qcow2"),
    }
}

fn errors(text: &str) -> Result<OnError> {
    match text {
        "continue" => Ok(OnError::Continue),
        "remount-ro" => Ok(OnError::RemountReadOnly),
        "panic" => Ok(OnError::Panic),
        _ => bail!("errors={text}: use continue, remount-ro or panic"),
    }
}

fn octal(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    mode.with_context(|| format!("mode {text:?}: write permissions in octal, as in 1777"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> String {
        format!("{:#}", outcome.unwrap_err())
    }

    #[test]
    fn volume_is_a_folder_or_a_name_with_options() {
        let arg = volume("./data:/data").unwrap();
        assert_eq!(
            arg.source,
            Source::Folder("./data".into(), Share::default())
        );
        assert_eq!((&*arg.target, arg.read_only), ("/data", false));
        for text in [
            "cache:/c:ro,cache=exclusive,owner=squash",
            "cache:/c,ro,cache=exclusive,owner=squash",
        ] {
            let arg = volume(text).unwrap();
            let share = Share {
                cache: Some(Cache::Exclusive),
                owner: Some(Ownership::Squash),
                no_copy: false,
            };
            assert_eq!(arg.source, Source::Named("cache".into(), share));
            assert!(arg.read_only);
        }
        assert!(matches!(volume(".:/x").unwrap().source, Source::Folder(..)));
    }

    #[test]
    fn volume_that_is_none_says_how_to_write_one() {
        for text in ["", "/data", "a:", ":/b"] {
            assert!(refusal(volume(text)).contains("HOST:GUEST"), "{text}");
        }
        assert!(refusal(volume("a:/b:z")).contains("unknown option \"z\""));
        assert!(refusal(volume("a:/b:cache=big")).contains("coherent or exclusive"));
        assert!(refusal(volume("a:/b:owner=me")).contains("as-is, mapped or squash"));
    }

    #[test]
    fn mount_has_dockers_keys_and_their_short_forms() {
        let long = mount("type=bind,source=/a,destination=/b,readonly,cache=coherent").unwrap();
        let short = mount("type=bind,src=/a,dst=/b,ro=true,cache=coherent").unwrap();
        assert_eq!(long, short);
        assert!(long.read_only);
        let named = mount("src=data,target=/data,volume-nocopy").unwrap();
        assert!(
            matches!(named.source, Source::Named(name, Share { no_copy: true, .. }) if name == "data")
        );
        let memory = mount("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=0700").unwrap();
        let expected = Source::Memory {
            size: Some(64 << 20),
            mode: Some(0o700),
        };
        assert_eq!(memory.source, expected);
        assert_eq!(tmpfs("/t:size=64m,mode=700").unwrap().source, expected);
        let disk = mount("type=disk,src=d.img,dst=/d,size=1g,preallocate=1m,errors=panic").unwrap();
        assert_eq!(
            disk.source,
            Source::Disk {
                path: "d.img".into(),
                format: DiskFormat::Raw,
                size: Some(1 << 30),
                preallocate: 1 << 20,
                errors: Some(OnError::Panic),
                no_copy: false,
            }
        );
        let image = mount("type=disk,src=d.img,dst=/d,format=qcow2").unwrap();
        let format = DiskFormat::Qcow2;
        assert!(matches!(image.source, Source::Disk { format: found, .. } if found == format));
    }

    #[test]
    fn mount_names_what_is_wrong_with_it() {
        for (text, word) in [
            ("type=nfs,src=a,dst=/b", "volume, bind, tmpfs or disk"),
            ("type=bind,src=/a,dst=/b,size=1g", "unknown key \"size\""),
            ("type=bind,src=/a", "target is missing"),
            ("type=bind,dst=/a", "source is missing"),
            ("type=disk,src=a,dst=/b,size=big", "size"),
            ("type=disk,src=a,dst=/b,errors=ignore", "remount-ro"),
            ("type=disk,src=a,dst=/b,format=vmdk", "raw or qcow2"),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "octal"),
            ("type=bind,src=/a,dst=/b,ro=maybe", "true or false"),
            ("", "unknown key"),
        ] {
            let error = refusal(mount(text));
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn ids_are_numbers() {
        assert_eq!(ids("1000").unwrap(), (1000, 1000));
        assert_eq!(ids("1:2").unwrap(), (1, 2));
        for text in ["", "me", "1:", "-1", "4294967295"] {
            assert!(refusal(ids(text)).contains("1000:1000"), "{text}");
        }
    }
}
