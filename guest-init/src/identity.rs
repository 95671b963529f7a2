//! Who the guest is: host name, hosts file, loopback interface, kernel settings.
//!
//! Nothing here is worth more than a warning.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use guest_protocol::{HostEntry, Interface};

use crate::console::say;
use crate::interface;

/// The lines that every hosts file gets, before that of the host itself.
const HOSTS: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// - Memory: what ran within the last second stays, and when that does not fit
///   the largest process is killed. Otherwise a full guest reads the same pages
///   of programs from disk again and again, for minutes, before the kernel
///   admits that its memory is gone (Documentation/admin-guide/mm/multigen_lru.rst).
/// - Console: the kernel's errors too. The boot goes without, for speed.
/// - Socket buffers for networks with long ways, and ports and pings for
///   processes that are not root, as container images expect.
const SETTINGS: &[(&str, &str)] = &[
    ("/proc/sys/kernel/printk", "4"),
    ("/sys/kernel/mm/lru_gen/enabled", "y"),
    ("/sys/kernel/mm/lru_gen/min_ttl_ms", "1000"),
    ("/proc/sys/net/core/rmem_default", "1048576"),
    ("/proc/sys/net/core/wmem_default", "1048576"),
    ("/proc/sys/net/core/rmem_max", "2097152"),
    ("/proc/sys/net/core/wmem_max", "2097152"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// The container's hosts file, below its root.
pub const HOSTS_FILE: &str = "etc/hosts";

/// Gives the guest its name and the surroundings that go with it.
pub fn apply(hostname: &str) {
    warn("set the host name", nix::unistd::sethostname(hostname));
    let root = Path::new("/");
    warn("create /etc", make_etc(root));
    warn(
        "write /etc/hostname",
        write_hostname(&root.join("etc/hostname"), hostname),
    );
    let lines = format!("{HOSTS}127.0.1.1\t{hostname}\n");
    warn(
        "write /etc/hosts",
        append_lines(&root.join(HOSTS_FILE), &lines),
    );
    // The kernel gives it 127.0.0.1 and ::1 by itself.
    let lo = Interface {
        name: "lo".into(),
        ..Interface::default()
    };
    warn("the loopback interface", interface::set_up(&lo));
    for (path, value) in SETTINGS {
        match fs::write(path, value) {
            // A kernel without the feature has no setting for it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => warn(path, other),
        }
    }
}

/// Makes the folder of [`HOSTS_FILE`] and its like where an image has none, or a
/// container removed it. A link stays what it is, wherever it leads.
pub fn make_etc(root: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(root.join("etc")) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Appends to the hosts file of the container at `root` the entries that it does
/// not have.
pub fn add_hosts(root: &Path, entries: &[HostEntry]) -> io::Result<()> {
    make_etc(root)?;
    let lines: String = entries
        .iter()
        .map(|entry| format!("{}\t{}\n", entry.address, entry.name))
        .collect();
    append_lines(&root.join(HOSTS_FILE), &lines)
}

fn write_hostname(path: &Path, hostname: &str) -> io::Result<()> {
    let file = open_regular(path)?;
    file.set_len(0)?;
    (&file).write_all(format!("{hostname}\n").as_bytes())
}

/// Appends whole lines, also where the last one of the file has no end. A line
/// that is there already, as on a disk that was used before, is not repeated, and
/// neither is one that comes twice.
fn append_lines(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = open_regular(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut known: HashSet<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let lines: String = lines
        .split_inclusive('\n')
        .filter(|line| known.insert(line.trim_end_matches('\n').as_bytes()))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    if text.last().is_some_and(|&last| last != b'\n') {
        file.write_all(b"\n")?;
    }
    file.write_all(lines.as_bytes())
}

/// Opens what an image may have replaced by a FIFO without waiting for its other end.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn warn<E: Display>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        say(format_args!("warning: {what}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A root with an `/etc`, and its hosts file.
    fn root() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        make_etc(root.path()).unwrap();
        let hosts = root.path().join(HOSTS_FILE);
        (root, hosts)
    }

    fn node() -> HostEntry {
        HostEntry {
            address: "10.0.0.2".parse().unwrap(),
            name: "node".into(),
        }
    }

    #[test]
    fn host_entries_follow_what_the_image_has() {
        let (root, path) = root();
        fs::write(&path, "10.0.0.1 image").unwrap();
        let entry = |address: &str, name: &str| HostEntry {
            address: address.parse().unwrap(),
            name: name.into(),
        };
        let entries = [entry("192.168.0.2", "node"), entry("fe80::1", "six")];
        add_hosts(root.path(), &entries).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "10.0.0.1 image\n192.168.0.2\tnode\nfe80::1\tsix\n");
    }

    #[test]
    fn lines_of_an_earlier_start_are_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        for lines in ["a\nb\n", "b\nc\n", "a\nb\n"] {
            append_lines(&path, lines).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
    }

    #[test]
    fn the_same_entries_twice_are_one_line_each() {
        let (root, path) = root();
        let entries = [node(), node()];
        add_hosts(root.path(), &entries).unwrap();
        add_hosts(root.path(), &entries).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "10.0.0.2\tnode\n");
    }

    #[test]
    fn host_name_replaces_that_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hostname");
        fs::write(&path, "0123456789ab\nmore\n").unwrap();
        write_hostname(&path, "golem").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "golem\n");
    }

    #[test]
    fn fifo_in_place_of_the_hosts_file_is_an_error_and_no_wait() {
        let (root, path) = root();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(add_hosts(root.path(), &[]).is_err());
    }

    #[test]
    fn container_without_etc_is_given_one() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        add_hosts(root.path(), &[node()]).unwrap();
        let data = fs::metadata(&etc).unwrap();
        assert_eq!(data.permissions().mode() & 0o7777, 0o755);
        assert_eq!(data.uid(), nix::unistd::geteuid().as_raw());
        let text = fs::read_to_string(etc.join("hosts")).unwrap();
        assert_eq!(text, "10.0.0.2\tnode\n");
    }

    #[test]
    fn nothing_is_made_where_a_link_in_place_of_etc_leads() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = outside.path().join("etc");
        symlink(&there, root.path().join("etc")).unwrap();
        assert!(add_hosts(root.path(), &[node()]).is_err());
        assert!(!there.exists());
    }
}
