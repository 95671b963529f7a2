//! What takes very many files or names.

use super::entries::{check_lasting, fill, listed_during};
use super::{Case, entries};
use crate::calls::*;
use crate::check::{fails, is, ok, skip};

pub const CASES: &[Case] = &[
    (
        "ten thousand entries come once while a third goes",
        ten_thousand,
    ),
    ("EMLINK for one name too many", links_of_a_file),
];

fn ten_thousand() {
    fill(20 * entries::SOME);
    let listed = listed_during(|| {
        for (number, entry) in std::fs::read_dir(".").expect("a folder").enumerate() {
            if number % 3 == 0 {
                ok(unlink(&*entry.expect("an entry").file_name()));
            }
        }
    });
    check_lasting(&listed);
    is(listed.len() > 13 * entries::SOME, true);
}

fn links_of_a_file() {
    /// ext4's limit. A file system that takes more has none to be reached.
    const MOST: usize = 65_000;
    /// An emulated guest takes more than the usual limit for so many.
    const LIMIT_SECONDS: u32 = 1500;
    nix::unistd::alarm::set(LIMIT_SECONDS);
    file("f", 0o644, b"");
    for number in 1..MOST {
        if let Err(errno) = link("f", format!("l{number}")) {
            return fails(Err::<(), _>(errno), Errno::MLINK);
        }
    }
    match link("f", "one-more") {
        Ok(()) => skip(),
        outcome => fails(outcome, Errno::MLINK),
    }
}
