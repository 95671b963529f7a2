//! Which member an address was last heard from, as a switch learns it. Pure.

use std::collections::HashMap;

use crate::mac::GROUP;

/// Addresses that are remembered: a member may make them up. Beyond, all are forgotten
/// and learned anew, and frames go to everybody meanwhile.
const MAX_ADDRESSES: usize = 1024;

/// An Ethernet address.
pub type Address = [u8; 6];

/// Addresses and members.
#[derive(Default)]
pub struct Table {
    members: HashMap<Address, u64>,
}

impl Table {
    /// A frame of `source` came from `member`.
    pub fn learn(&mut self, source: Address, member: u64) {
        if source[0] & GROUP != 0 || self.members.get(&source) == Some(&member) {
            return;
        }
        if self.members.len() >= MAX_ADDRESSES {
            self.members.clear();
        }
        self.members.insert(source, member);
    }

    /// Who has `destination`; `None`: everybody may.
    pub fn member_of(&self, destination: Address) -> Option<u64> {
        self.members.get(&destination).copied()
    }

    /// `member` has left.
    pub fn forget(&mut self, member: u64) {
        self.members.retain(|_, known| *known != member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_where_it_was_last_heard_from() {
        let mut table = Table::default();
        let address = [2, 0, 0, 0, 0, 1];
        assert_eq!(table.member_of(address), None);
        table.learn(address, 1);
        assert_eq!(table.member_of(address), Some(1));
        table.learn(address, 2);
        assert_eq!(table.member_of(address), Some(2));
        table.forget(1);
        assert_eq!(table.member_of(address), Some(2));
        table.forget(2);
        assert_eq!(table.member_of(address), None);
    }

    #[test]
    fn groups_are_everybody() {
        let mut table = Table::default();
        table.learn([0xff; 6], 1);
        assert_eq!(table.member_of([0xff; 6]), None);
    }

    #[test]
    fn addresses_that_are_made_up_do_not_add_up() {
        let mut table = Table::default();
        for number in 0..100_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            table.learn([2, 0, a, b, c, d], 1);
            assert!(table.members.len() <= MAX_ADDRESSES);
        }
    }
}
