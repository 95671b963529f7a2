//! What extended headers say of the entry after them, in place of its header
//! (POSIX.1-2017 pax; GNU's long names and sparse files; the extended
//! attributes of star and of libarchive).

use super::entry::EntryError;
use super::pax::{self, Record};
use super::sparse::SparseRecords;
use crate::squashfs::{MAX_XATTR_NAME, MAX_XATTR_TOTAL, MAX_XATTR_VALUE, Xattr};

/// Bytes of all names of a file's extended attributes (Linux XATTR_LIST_MAX).
const MAX_XATTR_NAMES: usize = 64 << 10;
/// Ways of writing an extended attribute, of which both may be there.
const FORMS: usize = 2;
/// Names of extended attributes that squashfs has a place for.
const STORABLE: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// What is not as in the header.
#[derive(Clone, Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(super) mtime: Option<u32>,
    pub(super) sparse: SparseRecords,
    xattrs: Vec<Found>,
    /// Bytes of their names, each with its end, and of their values.
    xattr_names: usize,
    xattr_values: usize,
    /// Why no more of them are taken, if so.
    excess: Option<Excess>,
}

/// What Linux does not let a file have.
#[derive(Clone)]
enum Excess {
    LongName(Vec<u8>),
    LongValue(Vec<u8>),
    Names,
    Total,
}

#[derive(Clone)]
struct Found {
    xattr: Xattr,
    /// libarchive writes both forms; star's is the plain one and wins.
    plain: bool,
}

impl Extended {
    /// Takes what `data` says of one entry; `None` when it is no records.
    pub(crate) fn read(&mut self, data: &[u8]) -> Option<()> {
        pax::records(data).try_for_each(|record| self.take(record?))
    }

    /// Takes what `data` says of all entries after it: whose they are and of
    /// when. Git and others leave a comment here; anything else no program
    /// writes.
    pub(super) fn read_global(&mut self, data: &[u8]) -> Option<()> {
        pax::records(data).try_for_each(|record| match record? {
            record if matches!(record.key, b"uid" | b"gid" | b"mtime") => self.take(record),
            _ => Some(()),
        })
    }

    fn take(&mut self, record: Record<'_>) -> Option<()> {
        match record.key {
            // An empty value takes back what was said; the header counts.
            b"path" => self.path = own(record, |record| Some(record.value.to_vec()))?,
            b"linkpath" => self.link = own(record, |record| Some(record.value.to_vec()))?,
            b"uid" => self.uid = own(record, |record| record.number())?,
            b"gid" => self.gid = own(record, |record| record.number())?,
            b"size" => self.size = own(record, |record| record.number())?,
            b"mtime" => self.mtime = own(record, |record| seconds(record.value))?,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.add_xattr(name.to_vec(), record.value.to_vec(), true);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.add_xattr(from_url(name)?, from_base64(record.value)?, false);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(Record { key, ..record })?;
                }
            }
        }
        Some(())
    }

    /// Keeps an extended attribute, unless there are too many already.
    fn add_xattr(&mut self, name: Vec<u8>, value: Vec<u8>, plain: bool) {
        self.xattr_names += name.len() + 1;
        self.xattr_values += value.len();
        let excess = match () {
            _ if name.len() > MAX_XATTR_NAME => Excess::LongName(name),
            _ if value.len() > MAX_XATTR_VALUE => Excess::LongValue(name),
            _ if self.xattr_names > FORMS * MAX_XATTR_NAMES => Excess::Names,
            _ if self.xattr_names + self.xattr_values > FORMS * MAX_XATTR_TOTAL => Excess::Total,
            _ => return self.keep_xattr(name, value, plain),
        };
        self.excess.get_or_insert(excess);
    }

    fn keep_xattr(&mut self, name: Vec<u8>, value: Vec<u8>, plain: bool) {
        self.xattrs.push(Found {
            xattr: Xattr { name, value },
            plain,
        });
    }

    /// The extended attributes by name, each once; and the names of those that
    /// squashfs cannot store.
    pub(super) fn take_xattrs(&mut self) -> Result<(Vec<Xattr>, Vec<Vec<u8>>), EntryError> {
        let mut found = std::mem::take(&mut self.xattrs);
        if let Some(excess) = self.excess.take() {
            return Err(excess.into());
        }
        // The last of the plain ones goes first, and what follows it goes.
        found.reverse();
        found.sort_by(|a, b| (&a.xattr.name, b.plain).cmp(&(&b.xattr.name, a.plain)));
        found.dedup_by(|later, first| later.xattr.name == first.xattr.name);
        let sum = |len: fn(&Found) -> usize| found.iter().map(len).sum::<usize>();
        let names = sum(|found| found.xattr.name.len() + 1);
        if names > MAX_XATTR_NAMES {
            return Err(Excess::Names.into());
        }
        if names + sum(|found| found.xattr.value.len()) > MAX_XATTR_TOTAL {
            return Err(Excess::Total.into());
        }
        let (kept, left): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(|found| found.xattr)
            .partition(|xattr| storable(&xattr.name));
        Ok((kept, left.into_iter().map(|xattr| xattr.name).collect()))
    }
}

/// What `record` says, read by `read`: nothing, if it is empty.
fn own<'a, T>(record: Record<'a>, read: impl FnOnce(Record<'a>) -> Option<T>) -> Option<Option<T>> {
    match record.value {
        [] => Some(None),
        _ => read(record).map(Some),
    }
}

impl From<Excess> for EntryError {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::LongName(name) => Self::XattrName { name },
            Excess::LongValue(name) => Self::XattrValue { name },
            Excess::Names => Self::Xattrs {
                max: MAX_XATTR_NAMES,
            },
            Excess::Total => Self::XattrTotal,
        }
    }
}

fn storable(name: &[u8]) -> bool {
    let known = |prefix: &&[u8]| name.starts_with(prefix) && name.len() > prefix.len();
    STORABLE.iter().any(known) && !name.contains(&0) && !name.contains(&b'=')
}

/// Whole seconds since 1970, the nearest that squashfs can store.
fn seconds(value: &[u8]) -> Option<u32> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next()?;
    let fraction = parts.next().unwrap_or_default();
    let all_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let add = |sum: u32, digit: &u8| {
        sum.saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
    };
    Some(if negative {
        0
    } else {
        whole.iter().fold(0, add)
    })
}

/// libarchive writes names as in a URL: `%XX` is a byte.
fn from_url(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// Base 64 (RFC 4648, section 4), with or without the padding.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text[..end.unwrap_or(text.len())].chunks(4) {
        let mut bits = 0;
        for letter in group {
            bits = bits << 6 | u32::from(sextet(*letter)?);
        }
        match group.len() {
            4 => bytes.extend_from_slice(&bits.to_be_bytes()[1..]),
            3 => bytes.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
            2 => bytes.push((bits >> 4) as u8),
            _ => return None,
        }
    }
    Some(bytes)
}

fn sextet(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_nearest_whole_seconds_that_can_be_stored() {
        for (text, expected) in [
            ("12", 12),
            ("12.999999999", 12),
            ("-1.5", 0),
            ("4294967295", u32::MAX),
            ("99999999999999999999", u32::MAX),
        ] {
            assert_eq!(seconds(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "-", ".5", "1e3", "+1", "1.2.3"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn attributes_of_both_forms_are_kept_once_and_the_plain_one_wins() {
        let mut extended = Extended::default();
        let mut data = Vec::new();
        let records: [(&[u8], &[u8]); 6] = [
            (b"LIBARCHIVE.xattr.user.a%3Ab", b"bGli"),
            (b"SCHILY.xattr.user.both", b"old"),
            (b"SCHILY.xattr.user.both", b"star"),
            (b"LIBARCHIVE.xattr.user.both", b"bGlicw"),
            (b"SCHILY.xattr.system.posix_acl_access", b"x"),
            (b"SCHILY.xattr.security.capability", b"\x01\0\n="),
        ];
        for (key, value) in records {
            Record { key, value }.write_to(&mut data);
        }
        extended.read(&data).unwrap();
        let (kept, left) = extended.take_xattrs().unwrap();
        let kept: Vec<_> = kept
            .iter()
            .map(|xattr| (&xattr.name[..], &xattr.value[..]))
            .collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"security.capability", b"\x01\0\n="),
            (b"user.a:b", b"lib"),
            (b"user.both", b"star"),
        ];
        assert_eq!(kept, expected);
        assert_eq!(left, [b"system.posix_acl_access"]);
    }

    #[test]
    fn empty_values_leave_it_to_the_header() {
        let mut extended = Extended::default();
        for value in [&b"7"[..], b""] {
            for key in [&b"path"[..], b"linkpath", b"uid", b"gid", b"size", b"mtime"] {
                let mut data = Vec::new();
                Record { key, value }.write_to(&mut data);
                extended.read(&data).unwrap();
            }
            let numbers = [extended.uid, extended.gid, extended.size];
            let names = [extended.path.as_deref(), extended.link.as_deref()];
            let expected = (!value.is_empty()).then_some(7);
            assert_eq!(numbers, [expected; 3]);
            assert_eq!(extended.mtime.map(u64::from), expected);
            assert_eq!(names, [expected.map(|_| value); 2]);
        }
    }

    #[test]
    fn base_64_of_any_length_is_read() {
        for (text, bytes) in [
            ("", ""),
            ("YQ", "a"),
            ("YQ==", "a"),
            ("YWI=", "ab"),
            ("YWJj", "abc"),
        ] {
            assert_eq!(from_base64(text.as_bytes()).unwrap(), bytes.as_bytes());
        }
        assert_eq!(from_base64(b"Y"), None);
        assert_eq!(from_base64(b"Y*=="), None);
    }
}
