//! Extended attributes. The folders for temporary files of Linux machines have them.

use rustix::fs::XattrFlags;

use super::*;

const RECORD: &CStr = c"user.containers.override_stat";

fn names(share: &Share, node: Node) -> Vec<Vec<u8>> {
    let list = share.listxattr(node).unwrap();
    let parts = list
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let mut names: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    names.sort();
    names
}

fn host_value(share: &Share, at: &str, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 4096];
    let len = rustix::fs::getxattr(share.path(at), name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

#[test]
fn attributes_of_users_are_the_hosts() {
    for ownership in [MAPPED, SQUASH] {
        let share = Share::new(ownership);
        let (node, _) = share.file(c"f");
        share.setxattr(node, c"user.x", b"one", 0).unwrap();
        assert_eq!(share.getxattr(node, c"user.x").unwrap(), b"one");
        assert_eq!(host_value(&share, "f", "user.x").unwrap(), b"one");
        assert_eq!(names(&share, node), [b"user.x"]);
        share.removexattr(node, c"user.x").unwrap();
        assert_eq!(share.getxattr(node, c"user.x"), Err(Errno::NODATA));
        assert_eq!(share.removexattr(node, c"user.x"), Err(Errno::NODATA));
    }
}

#[test]
fn flags_of_setxattr_are_kept_and_unknown_ones_refused() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let set = |flags: u32| share.setxattr(node, c"user.x", b"1", flags);
    assert_eq!(set(XattrFlags::REPLACE.bits()), Err(Errno::NODATA));
    set(XattrFlags::CREATE.bits()).unwrap();
    assert_eq!(set(XattrFlags::CREATE.bits()), Err(Errno::EXIST));
    assert_eq!(set(4), Err(Errno::INVAL));
}

#[test]
fn long_values_and_many_names_are_read_whole() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let value = vec![7; 2000];
    share.setxattr(node, c"user.long", &value, 0).unwrap();
    assert_eq!(share.getxattr(node, c"user.long").unwrap(), value);
    for at in 0..40 {
        let name = CString::new(format!("user.attribute-number-{at}")).unwrap();
        share.setxattr(node, &name, b"", 0).unwrap();
    }
    assert_eq!(names(&share, node).len(), 41);
    let most = vec![0; 70_000];
    share.setxattr(node, c"user.most", &most, 0).unwrap_err();
}

#[test]
fn our_own_attributes_are_neither_seen_nor_touched() {
    for ownership in [MAPPED, SQUASH] {
        let share = Share::new(ownership);
        let (node, _) = share.file(c"f");
        let real = "0:0:0644:file";
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(share.path("f"), RECORD, real.as_bytes(), flags).unwrap();
        for name in [RECORD, c"user.shem.x", c"user.shem.user.x"] {
            assert_eq!(share.getxattr(node, name), Err(Errno::NODATA));
            assert_eq!(share.setxattr(node, name, b"0:0:4777", 0), Err(Errno::PERM));
            assert_eq!(share.removexattr(node, name), Err(Errno::PERM));
        }
        assert!(names(&share, node).is_empty());
        let kept = host_value(&share, "f", RECORD.to_str().unwrap());
        assert_eq!(kept.unwrap(), real.as_bytes());
    }
}

#[test]
fn privileged_attributes_are_kept_beside_the_hosts_own() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    for name in [c"security.capability", c"trusted.overlay.opaque"] {
        share.setxattr(node, name, b"value", 0).unwrap();
        assert_eq!(share.getxattr(node, name).unwrap(), b"value");
        let name = name.to_str().unwrap();
        assert_eq!(host_value(&share, "f", name), Err(Errno::NODATA));
        let kept = host_value(&share, "f", &format!("user.shem.{name}"));
        assert_eq!(kept.unwrap(), b"value");
    }
    let listed = [&b"security.capability"[..], b"trusted.overlay.opaque"];
    assert_eq!(names(&share, node), listed);
    share.removexattr(node, c"security.capability").unwrap();
    let gone = share.getxattr(node, c"security.capability");
    assert_eq!(gone, Err(Errno::NODATA));
}

#[test]
fn attributes_that_cannot_be_offered_are_refused() {
    for ownership in [MAPPED, SQUASH] {
        let share = Share::new(ownership);
        let (node, _) = share.file(c"f");
        let acl = c"system.posix_acl_access";
        assert_eq!(share.getxattr(node, acl), Err(Errno::OPNOTSUPP));
        assert_eq!(share.setxattr(node, acl, b"", 0), Err(Errno::OPNOTSUPP));
        assert_eq!(share.removexattr(node, acl), Err(Errno::OPNOTSUPP));
        share.setxattr(node, c"nonsense", b"", 0).unwrap_err();
    }
    let share = Share::new(SQUASH);
    let (node, _) = share.file(c"f");
    let set = share.setxattr(node, c"security.capability", b"", 0);
    assert_eq!(set, Err(Errno::OPNOTSUPP));
}
