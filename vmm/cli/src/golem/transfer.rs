//! Transfers files between this host and the folders of volumes, in which a hostile
//! guest may have put anything: links that lead elsewhere, pipes, devices.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use ureq::Agent;

use super::interrupt::Interrupt;
use super::location::{Location, Volumes};

/// Permissions of what is made, but for those that the umask takes away.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;

/// How long a server may take to be reached, and then to say anything more.
const CONNECTING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);

/// Copies the file at `from` to `to`, whose folders are made as exe-unit makes them.
/// Gives the number of bytes.
pub fn transfer(
    from: &Location,
    to: &Location,
    volumes: &Volumes,
    interrupt: &Interrupt,
) -> Result<u64> {
    let source: Box<dyn Read> = match from {
        Location::Container(path) => Box::new(open(volumes, path)?),
        Location::Local(path) => {
            Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?)
        }
        Location::Http(url) => Box::new(fetch(url)?),
    };
    let target = match to {
        Location::Container(path) => create(volumes, path)?,
        Location::Local(path) => {
            File::create(path).with_context(|| format!("make {}", path.display()))?
        }
        Location::Http(url) => anyhow::bail!("nothing is sent to {url}"),
    };
    let mut target = interrupt.over(target);
    let copied = io::copy(&mut interrupt.over(source), &mut target)
        .and_then(|len| target.flush().map(|()| len));
    copied.with_context(|| format!("copy {from} to {to}"))
}

fn fetch(url: &str) -> Result<impl Read + use<>> {
    let config = Agent::config_builder()
        // As exe-unit does without one.
        .proxy(None)
        .timeout_connect(Some(CONNECTING))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    let response = Agent::from(config.build()).get(url).call();
    let response = match response {
        Err(ureq::Error::TlsRequired) => {
            anyhow::bail!("{url} leads on to https, which is not spoken here")
        }
        other => other.with_context(|| format!("fetch {url}"))?,
    };
    Ok(response.into_body().into_reader())
}

/// Opens the file that the guest has at `path`.
fn open(volumes: &Volumes, path: &str) -> Result<File> {
    let (folder, rest) = volumes.resolve(path)?;
    let about = || format!("open {path} in the folder {}", folder.display());
    let place = beneath(&root(folder)?, rest, OFlag::O_PATH).with_context(about)?;
    check_file(&place, path)?;
    // Of what it is now known not to block.
    File::open(by_descriptor(&place)).with_context(about)
}

/// Makes the file that the guest has at `path`, or empties it.
fn create(volumes: &Volumes, path: &str) -> Result<File> {
    let (folder, rest) = volumes.resolve(path)?;
    let about = || format!("make {path} in the folder {}", folder.display());
    let name = rest.file_name().filter(|_| !path.ends_with('/'));
    let name = name.with_context(|| format!("{path} is a folder: name a file in it"))?;
    let root = root(folder)?;
    let parent = parent_of(&root, rest).with_context(about)?;
    match beneath(&root, rest, OFlag::O_PATH) {
        Ok(place) => {
            check_file(&place, path)?;
            let options = File::options().write(true).truncate(true).to_owned();
            options.open(by_descriptor(&place)).with_context(about)
        }
        Err(Errno::ENOENT) => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            Ok(beneath(&parent, Path::new(name), flags)
                .with_context(about)?
                .into())
        }
        Err(error) => Err(error).with_context(about),
    }
}

fn root(folder: &Path) -> Result<OwnedFd> {
    let opened = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
    Ok(opened.into())
}

/// The folder in which `path` is, which is made where it is missing.
fn parent_of(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut parent = beneath(root, Path::new(""), flags)?;
    let mut walked = PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = part else {
            continue;
        };
        walked.push(name);
        parent = match beneath(root, &walked, flags) {
            Err(Errno::ENOENT) => {
                mkdirat(
                    &parent,
                    OsStr::new(name),
                    Mode::from_bits_truncate(FOLDER_MODE),
                )?;
                beneath(root, &walked, flags)?
            }
            other => other?,
        };
    }
    Ok(parent)
}

/// Opens a path that no link leads out of `folder`.
fn beneath(folder: &OwnedFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let mut how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    if flags.contains(OFlag::O_CREAT) {
        how = how.mode(Mode::from_bits_truncate(FILE_MODE));
    }
    match openat2(folder.as_fd(), path, how) {
        // As something else is changed there at this moment: once more is enough, or
        // else somebody wants it to be so.
        Err(Errno::EAGAIN) => openat2(folder.as_fd(), path, how),
        other => other,
    }
}

/// Whether it is a file, and so neither blocks nor does anything when it is opened.
fn check_file(place: &OwnedFd, path: &str) -> Result<()> {
    let kind = fstat(place)?.st_mode & SFlag::S_IFMT.bits();
    ensure!(kind != SFlag::S_IFDIR.bits(), "{path} is a folder");
    ensure!(kind == SFlag::S_IFREG.bits(), "{path} is no file of bytes");
    Ok(())
}

/// Leads to what a descriptor is of.
fn by_descriptor(place: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", place.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A work folder with the volumes /v and /v/w.
    fn place() -> (TempDir, Volumes) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vol-1")).unwrap();
        fs::create_dir(dir.path().join("vol-2")).unwrap();
        let told = r#"{"vols":[{"name":"vol-1","path":"/v"},{"name":"vol-2","path":"/v/w"}],
                       "startMode":"blocking"}"#;
        let volumes = Volumes::from_deploy(told.as_bytes(), dir.path()).unwrap();
        (dir, volumes)
    }

    fn copy(from: &str, to: &str, volumes: &Volumes) -> Result<u64, String> {
        let (from, to) = (Location::parse(from).unwrap(), Location::parse(to).unwrap());
        transfer(&from, &to, volumes, &Interrupt::default()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn files_go_in_and_out_through_the_folders_of_volumes() {
        let (dir, volumes) = place();
        let local = |name: &str| dir.path().join(name).display().to_string();
        fs::write(local("in"), "hello").unwrap();
        copy(&local("in"), "container:/v/w/a/b/file", &volumes).unwrap();
        assert_eq!(
            fs::read_to_string(local("vol-2/a/b/file")).unwrap(),
            "hello"
        );
        // What was there is replaced, and shorter contents leave nothing behind.
        fs::write(local("vol-1/old"), "something longer").unwrap();
        let file = format!("file://{}", local("in"));
        assert_eq!(copy(&file, "container:/v/old", &volumes), Ok(5));
        assert_eq!(fs::read_to_string(local("vol-1/old")).unwrap(), "hello");
        copy("container:/v/old", "container:/v/w/new", &volumes).unwrap();
        copy("container:/v/w/new", &local("out"), &volumes).unwrap();
        assert_eq!(fs::read_to_string(local("out")).unwrap(), "hello");
    }

    #[test]
    fn what_is_not_there_or_no_file_is_told() {
        let (dir, volumes) = place();
        let local = |name: &str| dir.path().join(name).display().to_string();
        fs::write(local("in"), "").unwrap();
        fs::create_dir(local("vol-1/d")).unwrap();
        nix::unistd::mkfifo(local("vol-1/pipe").as_str(), Mode::S_IRWXU).unwrap();
        let input = local("in");
        for (from, to, word) in [
            (
                "container:/etc/passwd",
                "x",
                "path not found in container: /etc/passwd",
            ),
            (
                &input,
                "container:/etc/x",
                "path not found in container: /etc/x",
            ),
            ("container:/v/x", "x", "open /v/x in the folder"),
            ("container:/v/d", "x", "/v/d is a folder"),
            ("container:/v/pipe", "x", "/v/pipe is no file of bytes"),
            (&input, "container:/v/pipe", "/v/pipe is no file of bytes"),
            (&input, "container:/v/d", "/v/d is a folder"),
            (&input, "container:/v", "/v is a folder: name a file in it"),
            (
                &input,
                "container:/v/n/",
                "/v/n/ is a folder: name a file in it",
            ),
            (&local("nothing"), "container:/v/n", "No such file"),
        ] {
            let error = copy(from, to, &volumes).unwrap_err();
            assert!(error.contains(word), "{from} to {to}: {error}");
        }
        assert!(!dir.path().join("vol-1/n").exists());
    }

    #[test]
    fn links_of_the_guest_lead_nowhere_but_in_their_volume() {
        let (dir, volumes) = place();
        let local = |name: &str| dir.path().join(name).display().to_string();
        fs::write(local("secret"), "secret").unwrap();
        fs::write(local("vol-1/file"), "mine").unwrap();
        symlink("file", local("vol-1/good")).unwrap();
        symlink(local("secret"), local("vol-1/absolute")).unwrap();
        symlink("../secret", local("vol-1/up")).unwrap();
        symlink("..", local("vol-1/folder")).unwrap();
        symlink("../made", local("vol-1/dangling")).unwrap();
        copy("container:/v/good", &local("out"), &volumes).unwrap();
        assert_eq!(fs::read_to_string(local("out")).unwrap(), "mine");
        for path in [
            "absolute",
            "up",
            "folder/secret",
            "dangling",
            "folder/new/x",
        ] {
            let path = format!("container:/v/{path}");
            copy(&path, &local("out"), &volumes).unwrap_err();
            copy(&local("out"), &path, &volumes).unwrap_err();
        }
        assert_eq!(fs::read_to_string(local("secret")).unwrap(), "secret");
        assert!(!dir.path().join("made").exists() && !dir.path().join("new").exists());
    }

    /// Serves one request with `response`, and gives the URL.
    fn server(response: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let response = response.to_owned();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).find(String::is_empty).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
        });
        url
    }

    #[test]
    fn servers_are_read_from() {
        let (dir, volumes) = place();
        let url = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(copy(&url, "container:/v/got", &volumes), Ok(5));
        let got = dir.path().join("vol-1/got");
        assert_eq!(fs::read_to_string(&got).unwrap(), "hello");
        let secure = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = secure.local_addr().unwrap();
        let moved = format!("302 Found\r\nLocation: https://{address}/\r\nContent-Length: 0");
        for (head, word) in [
            ("404 Not Found\r\nContent-Length: 0", "404"),
            ("200 OK\r\nContent-Length: 9", "copy http://"),
            (&moved, "leads on to https"),
        ] {
            let response = format!("HTTP/1.1 {head}\r\n\r\nshort");
            let error = copy(&server(&response), "container:/v/got", &volumes).unwrap_err();
            assert!(error.contains(word), "{head:?}: {error}");
        }
    }
}
