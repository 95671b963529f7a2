//! What takes very many files or names.

use super::entries::{check_lasting, fill, listed_during};
use super::{Case, entries};
use crate::calls::*;
use crate::check::{is, ok};

pub const CASES: &[Case] = &[(
    "ten thousand entries come once while a third goes",
    ten_thousand,
)];

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
