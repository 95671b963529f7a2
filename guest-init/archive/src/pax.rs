//! Extended headers (POSIX.1-2017 pax): records `LENGTH KEY=VALUE\n` before an
//! entry, for what its header has no room for.

use crate::entry::{Entry, Kind, Time, Xattr};
use crate::header::{self, BLOCK, Header, NAME_LEN};

/// What comes before the name of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// GNU's forms of files with holes, whose data is not as long as the file.
const SPARSE: &[u8] = b"GNU.sparse.";

const NANOS: u32 = 1_000_000_000;

/// What extended headers and long names say in place of the header.
#[derive(Default)]
pub(crate) struct Overrides {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(crate) modified: Option<Time>,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) sparse: bool,
}

impl Overrides {
    /// Takes the records in `data`; `None` when it is not made of any.
    pub(crate) fn take(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ')?;
            let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
            let record = data.get(space + 1..len)?;
            data = &data[len..];
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            self.take_record(&record[..equals], &record[equals + 1..])?;
        }
        Some(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let number = || std::str::from_utf8(value).ok()?.parse().ok();
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"size" => self.size = Some(number()?),
            b"mtime" => self.modified = Some(parse_time(std::str::from_utf8(value).ok()?)?),
            key => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
                // What else there is changes nothing that is kept.
                self.sparse |= key.starts_with(SPARSE);
            }
        }
        Some(())
    }
}

/// The blocks before an entry's data: its header and, where that has no room, an
/// extended one. `None` when there is no form for it.
pub(crate) fn blocks(entry: &Entry) -> Option<Vec<u8>> {
    let mut records = Vec::new();
    let mut header = Header::new(entry.kind.to_byte());
    let mut path = entry.path.clone();
    if entry.kind == Kind::Folder {
        path.push(b'/');
    }
    for (key, field, bytes) in [
        ("path", header::NAME, &path),
        ("linkpath", header::LINK, &entry.link),
    ] {
        if bytes.len() > NAME_LEN {
            record(&mut records, key.as_bytes(), bytes);
        }
        header.set_bytes(field, bytes);
    }
    header.set_number(header::MODE, u64::from(entry.mode));
    for (key, field, value) in [
        ("uid", header::UID, u64::from(entry.uid)),
        ("gid", header::GID, u64::from(entry.gid)),
        ("size", header::SIZE, entry.size),
    ] {
        if Header::fits(&field, value) {
            header.set_number(field, value);
        } else {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(entry.modified.seconds)
        .ok()
        .filter(|seconds| Header::fits(&header::MODIFIED, *seconds));
    header.set_number(header::MODIFIED, seconds.unwrap_or(0));
    if seconds.is_none() || entry.modified.nanos != 0 {
        record(&mut records, b"mtime", show_time(entry.modified).as_bytes());
    }
    for (field, value) in [
        (header::MAJOR, entry.device.0),
        (header::MINOR, entry.device.1),
    ] {
        if !Header::fits(&field, value.into()) {
            return None;
        }
        header.set_number(field, value.into());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[XATTR, name].concat(), value);
    }
    header.seal();
    if records.is_empty() {
        return Some(header.0.to_vec());
    }
    let len = u64::try_from(records.len()).ok()?;
    if len > crate::MAX_EXTENDED {
        return None;
    }
    let mut extended = Header::new(b'x');
    extended.set_bytes(header::NAME, b"pax");
    extended.set_number(header::SIZE, len);
    extended.seal();
    records.resize(records.len().next_multiple_of(BLOCK), 0);
    Some([&extended.0, records.as_slice(), &header.0].concat())
}

/// Appends a record, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, an equals sign and a line feed.
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A decimal number of seconds; digits below a nanosecond do not count.
fn parse_time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    Some(match (negative, nanos) {
        (true, 1..) => Time {
            seconds: seconds.checked_sub(1)?,
            nanos: NANOS - nanos,
        },
        _ => Time { seconds, nanos },
    })
}

fn show_time(time: Time) -> String {
    let Time { seconds, nanos } = time;
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), NANOS - nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_either_sign_come_back_as_they_went() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (5, 1, "5.000000001"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.500000000"),
            (-2, 999_999_999, "-1.000000001"),
        ] {
            let time = Time { seconds, nanos };
            assert_eq!(show_time(time), text);
            assert_eq!(parse_time(text), Some(time), "{text}");
        }
        for bad in ["", ".", "x", "1.x", "1e5", "1.-5", "99999999999999999999"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn record_counts_its_own_length() {
        for len in [0, 90, 91, 92, 93, 989, 990, 991, 992] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; len]);
            let mut overrides = Overrides::default();
            overrides.take(&records).unwrap();
            assert_eq!(overrides.path.unwrap().len(), len);
        }
    }

    #[test]
    fn what_is_no_record_is_told() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"6 abcd\n",
            b"0 a=b\n",
            b"2 ",
            b"-1 a=b\n",
            b"18446744073709551615 a=b\n",
            b"9 uid=-1\n",
        ] {
            let taken = Overrides::default().take(bad);
            assert_eq!(taken, None, "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
