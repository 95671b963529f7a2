//! Who the guest is: host name, hosts file, loopback interface, kernel settings.
//!
//! Nothing here is worth more than a warning.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    let etc = Path::new("/etc");
    if !etc.is_dir() {
        warn("create /etc", fs::create_dir(etc));
    }
    warn(
        "write /etc/hostname",
        write_hostname(&etc.join("hostname"), hostname),
    );
    let lines = format!("{HOSTS}127.0.1.1\t{hostname}\n");
    warn(
        "write /etc/hosts",
        append_lines(&Path::new("/").join(HOSTS_FILE), &lines),
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

/// Appends to a hosts file the entries that it does not have.
pub fn add_hosts(path: &Path, entries: &[HostEntry]) -> io::Result<()> {
    let lines: String = entries
        .iter()
        .map(|entry| format!("{}\t{}\n", entry.address, entry.name))
        .collect();
    append_lines(path, &lines)
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
    use super::*;

    #[test]
    fn host_entries_follow_what_the_image_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        fs::write(&path, "10.0.0.1 image").unwrap();
        let entry = |address: &str, name: &str| HostEntry {
            address: address.parse().unwrap(),
            name: name.into(),
        };
        add_hosts(
            &path,
            &[entry("192.168.0.2", "node"), entry("fe80::1", "six")],
        )
        .unwrap();
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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let entry = HostEntry {
            address: "10.0.0.2".parse().unwrap(),
            name: "node".into(),
        };
        let entries = [entry.clone(), entry];
        add_hosts(&path, &entries).unwrap();
        add_hosts(&path, &entries).unwrap();
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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(add_hosts(&path, &[]).is_err());
    }
}
