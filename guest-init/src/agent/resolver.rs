//! `/etc/resolv.conf`: whom the container's programs ask for names.

use std::fmt::Write;
use std::io;
use std::path::Path;

use guest_protocol::{FileWrite, Resolver};
use nix::unistd::{getegid, geteuid};

use super::files;
use crate::identity;

/// The file in the container.
pub const FILE: &str = "/etc/resolv.conf";

/// Puts a new file in place of what is there. Of a link that is the link itself:
/// what it leads to, as a rule below `/run`, is some daemon's, which would write
/// over it.
pub fn write(root: &Path, resolver: &Resolver) -> io::Result<()> {
    let file = FileWrite {
        path: FILE.into(),
        mode: 0o644,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
    };
    identity::make_etc(root)?;
    files::replace(root, &file, text(resolver).as_bytes())
}

fn text(resolver: &Resolver) -> String {
    let mut text = String::new();
    for server in &resolver.nameservers {
        // A String takes everything.
        let _ = writeln!(text, "nameserver {server}");
    }
    if !resolver.search.is_empty() {
        let _ = writeln!(text, "search {}", resolver.search.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn resolver() -> Resolver {
        Resolver {
            nameservers: vec!["1.1.1.1".parse().unwrap(), "fd00::53".parse().unwrap()],
            search: vec!["a.example".into(), "b.example".into()],
        }
    }

    const TEXT: &str = "nameserver 1.1.1.1\nnameserver fd00::53\nsearch a.example b.example\n";

    /// A root with an `/etc`.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        root
    }

    #[test]
    fn file_is_replaced_and_everybody_may_read_it() {
        let root = root();
        let file = root.path().join("etc/resolv.conf");
        fs::write(&file, "nameserver 9.9.9.9\n".repeat(100)).unwrap();
        write(root.path(), &resolver()).unwrap();
        write(root.path(), &resolver()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), TEXT);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(fs::read_dir(root.path().join("etc")).unwrap().count(), 1);
    }

    #[test]
    fn link_is_replaced_and_nothing_behind_it_is_touched() {
        let (root, outside) = (root(), tempfile::tempdir().unwrap());
        let (file, victim) = (
            root.path().join("etc/resolv.conf"),
            outside.path().join("x"),
        );
        fs::write(&victim, "keep").unwrap();
        for target in [
            victim.as_path(),
            Path::new("/run/nowhere"),
            Path::new("../../x"),
        ] {
            let _ = fs::remove_file(&file);
            symlink(target, &file).unwrap();
            write(root.path(), &resolver()).unwrap();
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            assert_eq!(fs::read_to_string(&file).unwrap(), TEXT);
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "keep");
    }

    #[test]
    fn folder_that_is_a_link_stays_inside_of_the_root() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join("etc")).unwrap();
        write(root.path(), &resolver()).unwrap_err();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // As the container sees it, a link to its own folder leads there.
        fs::remove_file(root.path().join("etc")).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        symlink("/real", root.path().join("etc")).unwrap();
        write(root.path(), &resolver()).unwrap();
        let text = fs::read_to_string(root.path().join("real/resolv.conf")).unwrap();
        assert_eq!(text, TEXT);
    }

    #[test]
    fn container_without_etc_is_given_one() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &resolver()).unwrap();
        let etc = root.path().join("etc");
        let mode = fs::metadata(&etc).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(fs::read_to_string(etc.join("resolv.conf")).unwrap(), TEXT);
    }

    #[test]
    fn nothing_is_made_where_a_link_in_place_of_etc_leads() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = outside.path().join("etc");
        symlink(&there, root.path().join("etc")).unwrap();
        write(root.path(), &resolver()).unwrap_err();
        assert!(!there.exists());
    }

    #[test]
    fn resolver_of_nobody_is_an_empty_file() {
        assert_eq!(text(&Resolver::default()), "");
    }
}
