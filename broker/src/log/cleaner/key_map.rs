//! The last offset of each key, in a table of fixed size.
//!
//! In: keys with their offsets, in order. Out: the last offset of a key, or that no further key finds room. The table
//! keeps 128 bits of a hash instead of the key, under secrets of its own: that two keys of a log meet is as unlikely as
//! a broken checksum, and nobody outside can look for such keys.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a slot: two hashes and an offset.
const SLOT_BYTES: usize = size_of::<Slot>();
/// The smallest table.
const SLOTS_MIN: usize = 16;

type Slot = [u64; 3];

/// Keys and the last offset of each.
#[derive(Debug)]
pub(super) struct KeyMap {
    secrets: (RandomState, RandomState),
    /// Two hashes and the offset plus one; 0 there means "empty". Zeroed memory costs nothing until it is touched.
    slots: Vec<Slot>,
    keys: usize,
    keys_max: usize,
    latest_offset: i64,
}

impl KeyMap {
    /// A table for the keys of `offsets` offsets, within `buffer_bytes` and filled to `load_factor` at most.
    pub fn new(offsets: i64, buffer_bytes: usize, load_factor: f64) -> KeyMap {
        let load_factor = load_factor.clamp(0.01, 0.99);
        let bound = (buffer_bytes / SLOT_BYTES).max(SLOTS_MIN);
        let wanted = (offsets.max(0) as f64 / load_factor) as usize;
        let slots = wanted.saturating_add(1).clamp(SLOTS_MIN, bound);
        KeyMap {
            secrets: (RandomState::new(), RandomState::new()),
            slots: vec![[0; 3]; slots],
            keys: 0,
            // One slot stays empty, so that every search ends.
            keys_max: ((slots as f64 * load_factor) as usize).clamp(1, slots - 1),
            latest_offset: -1,
        }
    }

    /// The last offset that was put or passed; -1 before the first.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// What lies up to `offset` needs no key here.
    pub fn pass(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// Remembers that `key` is at `offset`. False, and nothing is remembered, when there is no room for another key.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let (hash, place) = self.find(key);
        let full = self.keys >= self.keys_max;
        let Some(slot) = self.slots.get_mut(place) else {
            return false;
        };
        if slot[2] == 0 {
            if full {
                return false;
            }
            self.keys += 1;
        }
        *slot = [hash.0, hash.1, offset.saturating_add(1).unsigned_abs()];
        self.pass(offset);
        true
    }

    /// The last offset of `key`, if it was put.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let (_, place) = self.find(key);
        let offset = self.slots.get(place)?[2];
        i64::try_from(offset).ok()?.checked_sub(1).filter(|offset| *offset >= 0)
    }

    /// The slot of `key`, or the empty one where it would go.
    fn find(&self, key: &[u8]) -> ((u64, u64), usize) {
        let hash = (self.secrets.0.hash_one(key), self.secrets.1.hash_one(key));
        // The high half of the product spreads the hashes evenly over any number of slots.
        let mut place = ((u128::from(hash.0) * self.slots.len() as u128) >> 64) as usize;
        loop {
            match self.slots.get(place) {
                Some(slot) if slot[2] == 0 || (slot[0], slot[1]) == hash => return (hash, place),
                Some(_) => place += 1,
                None => place = 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(map: &KeyMap) -> usize {
        map.slots.capacity() * SLOT_BYTES
    }

    #[test]
    fn the_last_offset_of_each_key_is_found_and_no_other_key_is() {
        let mut map = KeyMap::new(5_000, 1 << 20, 0.9);
        for offset in 0..5_000_i64 {
            assert!(map.put(format!("key {}", offset % 1_000).as_bytes(), offset));
        }
        for key in 0..1_000 {
            assert_eq!(map.get(format!("key {key}").as_bytes()), Some(4_000 + key));
        }
        assert_eq!(map.get(b"key 1000"), None);
        assert_eq!(map.latest_offset(), 4_999);
    }

    #[test]
    fn a_full_table_takes_known_keys_and_refuses_new_ones() {
        let mut map = KeyMap::new(i64::MAX, 100 * SLOT_BYTES, 0.5);
        assert_eq!(bytes(&map), 100 * SLOT_BYTES);
        for offset in 0..50_i64 {
            assert!(map.put(&offset.to_be_bytes(), offset));
        }
        assert!(!map.put(b"new", 50));
        assert_eq!((map.get(b"new"), map.latest_offset()), (None, 49));
        assert!(map.put(&7_i64.to_be_bytes(), 50));
        assert_eq!(map.get(&7_i64.to_be_bytes()), Some(50));
    }

    #[test]
    fn the_table_is_no_larger_than_the_offsets_need() {
        assert!(bytes(&KeyMap::new(10, 128 << 20, 0.9)) <= SLOTS_MIN * SLOT_BYTES);
        let mut one = KeyMap::new(0, 0, 0.0);
        assert!(one.put(b"a", 0));
    }
}
