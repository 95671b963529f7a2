//! The name that somebody may have meant.

/// Names longer than this are nobody's typing errors.
const MAX_LEN: usize = 64;

/// Of `names` the one that differs least from `typed`, if that is little: at most
/// a third of its letters.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = typed.chars().count().min(MAX_LEN).div_ceil(3);
    names
        .into_iter()
        .filter(|name| name.len() <= MAX_LEN && typed.len() <= MAX_LEN)
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace to make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_another_word_none() {
        let names = ["virtio-blk", "virtio-net", "hello"];
        assert_eq!(nearest("virtio-nte", names), Some("virtio-net"));
        assert_eq!(nearest("helo", names), Some("hello"));
        assert_eq!(nearest("gpu", names), None);
        assert_eq!(nearest("", names), None);
    }
}
