//! The records of a pax extended header: `LENGTH KEY=VALUE\n` each
//! (POSIX.1-2017, pax extended header).

/// One record. A value may hold any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Record<'_> {
    /// The value as a decimal number; a fraction is cut off.
    pub(crate) fn number(&self) -> Option<u64> {
        let whole = self.value.split(|byte| *byte == b'.').next()?;
        std::str::from_utf8(whole).ok()?.parse().ok()
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        // A space, "=" and a newline; and the digits of the length itself,
        // which can make the length one digit longer.
        let body = self.key.len() + self.value.len() + 3;
        let mut len = body + digits(body);
        len = body + digits(len);
        out.extend_from_slice(format!("{len} ").as_bytes());
        out.extend_from_slice(self.key);
        out.push(b'=');
        out.extend_from_slice(self.value);
        out.push(b'\n');
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Splits `data` into its records; ends with `None` where it is not made of
/// records. They are not collected: a list of short ones takes several times
/// the memory of `data`.
pub(crate) fn records(mut data: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let first = record(data);
        data = first.map_or(&[], |(_, rest)| rest);
        Some(first.map(|(record, _)| record))
    })
}

/// The first record in `data`, and what is behind it.
fn record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let record = Record {
        key: &record[..equals],
        value: &record[equals + 1..],
    };
    Some((record, &data[len..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(data: &[u8]) -> Option<Vec<Record<'_>>> {
        records(data).collect()
    }

    #[test]
    fn length_counts_its_own_digits() {
        for len in [88, 89, 90, 91, 988, 989, 990] {
            let mut out = Vec::new();
            let value = vec![b'v'; len];
            Record {
                key: b"k",
                value: &value,
            }
            .write_to(&mut out);
            assert_eq!(all(&out).unwrap()[0].value, value);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_written_back_the_same(data: Vec<u8>) {
            if let Some(found) = all(&data) {
                let mut out = Vec::new();
                found.iter().for_each(|record| record.write_to(&mut out));
                prop_assert_eq!(all(&out), Some(found));
            }
        }
    }
}
