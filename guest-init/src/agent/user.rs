//! Who a process runs as: `uid`, `uid:gid`, `name`, `name:group` and mixtures.
//!
//! Names and groups are those of the image's `/etc/passwd` and `/etc/group`,
//! read as they are at that moment; there is no other source of names.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Largest user or group file that is read; what lies behind is not seen.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Most supplementary groups; the kernel's limit is `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65_536;

/// Identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id, real, effective and saved.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory, `/` for a user the image does not know.
    pub home: OsString,
}

/// The files that know names, as bytes: nothing says they are UTF-8.
#[derive(Default)]
pub struct Names {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl Names {
    /// Reads both files of a root; one that is missing knows no names.
    pub fn load(root: &Path) -> Self {
        let read = |name| read_limited(&root.join(name)).unwrap_or_default();
        Self {
            passwd: read("etc/passwd"),
            group: read("etc/group"),
        }
    }

    /// Resolves a specification; `None` is root.
    ///
    /// A known name goes before a number. A user without an explicit group has
    /// the group of its entry, or 0, and is member of the groups that list it.
    ///
    /// # Errors
    /// The part that is not known, as a sentence.
    pub fn resolve(&self, spec: Option<&str>) -> Result<User, String> {
        let spec = spec.filter(|spec| !spec.is_empty()).unwrap_or("0");
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (spec, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let entry = self.find_user(user);
        let uid = entry
            .as_ref()
            .map(|entry| entry.uid)
            .or_else(|| number(user.as_bytes()));
        let uid = uid.ok_or_else(|| format!("no user {user} in the image"))?;
        let home = entry
            .as_ref()
            .map(|e| e.home)
            .filter(|h| !h.is_empty())
            .unwrap_or(b"/");
        let home = OsString::from_vec(home.to_vec());
        let (gid, groups) = match group {
            Some(group) => (self.find_group(group)?, Vec::new()),
            None => match &entry {
                Some(entry) => (entry.gid, self.groups_of(entry.name)),
                None => (0, Vec::new()),
            },
        };
        // The primary group too: a process that changes its group must not be
        // able to shed what the group may not do.
        let others = groups.into_iter().filter(|group| *group != gid);
        Ok(User {
            uid,
            gid,
            groups: std::iter::once(gid).chain(others).collect(),
            home,
        })
    }

    fn find_user(&self, user: &str) -> Option<PasswdEntry<'_>> {
        let by_name = self.users().find(|entry| entry.name == user.as_bytes());
        by_name.or_else(|| {
            let uid = number(user.as_bytes())?;
            self.users().find(|entry| entry.uid == uid)
        })
    }

    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        lines(&self.passwd).filter_map(|line| {
            let mut fields = line.split(|&b| b == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
            let home = fields.nth(1).unwrap_or_default();
            Some(PasswdEntry {
                name,
                uid: number(uid)?,
                gid: number(gid)?,
                home,
            })
        })
    }

    fn find_group(&self, group: &str) -> Result<u32, String> {
        let by_name = self.groups().find(|(name, ..)| *name == group.as_bytes());
        by_name
            .map(|(_, gid, _)| gid)
            .or_else(|| number(group.as_bytes()))
            .ok_or_else(|| format!("no group {group} in the image"))
    }

    fn groups_of(&self, user: &[u8]) -> Vec<u32> {
        let mut of_user: Vec<u32> = self
            .groups()
            .filter(|(.., members)| members.split(|&b| b == b',').any(|member| member == user))
            .map(|(_, gid, _)| gid)
            .take(MAX_GROUPS)
            .collect();
        of_user.sort_unstable();
        of_user.dedup();
        of_user
    }

    /// Name, id and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
        lines(&self.group).filter_map(|line| {
            let mut fields = line.split(|&b| b == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let (_password, gid) = (fields.next()?, fields.next()?);
            Some((name, number(gid)?, fields.next().unwrap_or_default()))
        })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.starts_with(b"#"))
}

/// An id; the largest number means "no change" to the kernel and is none.
fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (id != u32::MAX).then_some(id)
}

/// Reads a regular file; a FIFO in its place must not make anybody wait.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MAX_FILE).read_to_end(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let passwd = b"root:x:0:0:root:/root:/bin/sh
# comment:x:9:9::/:
broken line
app:x:1000:1001:App,,,:/home/app:/bin/sh
2000:x:7:7::/seven:
homeless:x:1002:1002::
";
        let group = b"root:x:0:
wheel:x:10:root,app
audio:x:63:app
apps:x:1001:
dup:x:63:app
";
        Names {
            passwd: passwd.to_vec(),
            group: group.to_vec(),
        }
    }

    fn user(uid: u32, gid: u32, others: &[u32], home: &str) -> User {
        User {
            uid,
            gid,
            groups: [&[gid], others].concat(),
            home: home.into(),
        }
    }

    #[test]
    fn every_form_of_a_specification_resolves() {
        let cases = [
            (None, user(0, 0, &[10], "/root")),
            (Some(""), user(0, 0, &[10], "/root")),
            (Some("app"), user(1000, 1001, &[10, 63], "/home/app")),
            (Some("1000"), user(1000, 1001, &[10, 63], "/home/app")),
            (Some("app:wheel"), user(1000, 10, &[], "/home/app")),
            (Some("app:5"), user(1000, 5, &[], "/home/app")),
            (Some("1000:audio"), user(1000, 63, &[], "/home/app")),
            (Some("77"), user(77, 0, &[], "/")),
            (Some("77:88"), user(77, 88, &[], "/")),
            (Some("app:"), user(1000, 1001, &[10, 63], "/home/app")),
            (Some("homeless"), user(1002, 1002, &[], "/")),
            (Some("2000"), user(7, 7, &[], "/seven")),
        ];
        for (spec, expected) in cases {
            assert_eq!(names().resolve(spec), Ok(expected), "{spec:?}");
        }
    }

    #[test]
    fn unknown_names_are_named() {
        let error = |spec| names().resolve(Some(spec)).unwrap_err();
        assert_eq!(error("nobody"), "no user nobody in the image");
        assert_eq!(error("app:nogroup"), "no group nogroup in the image");
        assert_eq!(error("-1"), "no user -1 in the image");
        assert_eq!(error("4294967295"), "no user 4294967295 in the image");
        assert_eq!(error("99999999999"), "no user 99999999999 in the image");
    }

    #[test]
    fn image_without_user_files_has_numbers_and_root() {
        let names = Names::default();
        assert_eq!(names.resolve(None), Ok(user(0, 0, &[], "/")));
        assert_eq!(names.resolve(Some("5:6")), Ok(user(5, 6, &[], "/")));
        assert!(names.resolve(Some("root")).is_err());
    }

    #[test]
    fn fifo_in_place_of_a_file_knows_no_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let path = dir.path().join("etc/passwd");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Names::load(dir.path()).resolve(Some("root")).is_err());
    }
}
