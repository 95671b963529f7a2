//! The blocks that were unpacked last, a fixed number of them.

use std::rc::Rc;

/// Unpacked blocks by their offset in the file. The one that was not asked for
/// the longest makes room.
pub(crate) struct Cache<T> {
    slots: Vec<Slot<T>>,
    capacity: usize,
    clock: u64,
}

struct Slot<T> {
    at: u64,
    used: u64,
    block: Rc<T>,
}

impl<T> Cache<T> {
    /// For `capacity` blocks, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            capacity,
            clock: 0,
        }
    }

    pub(crate) fn get(&mut self, at: u64) -> Option<Rc<T>> {
        self.clock += 1;
        let slot = self.slots.iter_mut().find(|slot| slot.at == at)?;
        slot.used = self.clock;
        Some(slot.block.clone())
    }

    pub(crate) fn insert(&mut self, at: u64, block: Rc<T>) {
        let slot = Slot {
            at,
            used: self.clock,
            block,
        };
        if self.slots.len() < self.capacity {
            self.slots.push(slot);
        } else if let Some(oldest) = self.slots.iter_mut().min_by_key(|slot| slot.used) {
            *oldest = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_unused_the_longest_makes_room() {
        let mut cache = Cache::new(2);
        cache.insert(1, Rc::new("one"));
        cache.insert(2, Rc::new("two"));
        assert_eq!(cache.get(1).as_deref(), Some(&"one"));
        cache.insert(3, Rc::new("three"));
        assert!(cache.get(2).is_none());
        assert!(cache.get(1).is_some() && cache.get(3).is_some());
        assert_eq!(cache.slots.len(), 2);
    }
}
