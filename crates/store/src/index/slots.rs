//! A slot for every key, which holds its latest record. A key keeps its slot while it is known. The orders refer to
//! slots, so a new state of a key changes only its position in the order by revision.
//!
//! ```text
//!   by hash   ┌ shard ┐ ┌ shard ┐      each a hash table of slots, so that none is large enough for its growth to be felt
//!             └───┬───┘ └───┬───┘
//!   slots     ┌───▼─────────▼──┐ ┌──────────┐   chunks, for the same reason
//!             └───┬─────────┬──┘ └──────────┘
//!                 ▼         ▼
//!               record    record
//! ```

use super::both::both;
use super::record::Record;
use hashbrown::HashTable;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The number of a slot.
pub(super) type Slot = u32;

/// The number of hash tables: with a million keys, each holds about a thousand.
const SHARDS: usize = 1024;

/// The number of slots of a chunk.
const CHUNK: usize = 4096;

/// The hash of a key, with the secret of the [`Slots`] that computed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    /// Returns its bits.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// Returns the shard, from bits that the tables themselves use least.
    const fn shard(self) -> usize {
        (self.0 >> 32) as usize % SHARDS
    }
}

/// The latest record of every key, found by key.
pub(super) struct Slots {
    hasher: RandomState,
    shards: Vec<HashTable<Slot>>,
    chunks: Vec<Vec<Option<Record>>>,
    /// The empty slots.
    free: Vec<Slot>,
    keys: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { hasher: RandomState::new(), shards, chunks: Vec::new(), free: Vec::new(), keys: 0 }
    }

    /// Adds a record in a new slot. Its key cannot be found before [`Slots::find_appended`].
    pub(super) fn append(&mut self, record: Record) -> Slot {
        let slot = append(&mut self.chunks);
        if let Some(place) = place(&mut self.chunks, slot) {
            *place = Some(record);
        }
        self.keys += 1;
        slot
    }

    /// Builds the hash tables from the hashes of all slots, which must all have been appended. Returns the slots
    /// whose keys also have a later slot.
    ///
    /// Two threads each fill half of the tables. They mostly read only the hashes: the records, which are
    /// scattered in memory, are compared only if two hashes are equal.
    pub(super) fn find_appended(&mut self, hashes: &[KeyHash]) -> Vec<Slot> {
        let Self { shards, chunks, .. } = self;
        let key = |slot: Slot| record(chunks, slot).map(Record::key).unwrap_or_default();
        let hash = |slot: Slot| hashes.get(slot as usize).copied();
        // Tables that get more keys grow at little cost, because the hashes are known.
        let each = hashes.len() / SHARDS;
        let fill = |first: usize, shards: &mut [HashTable<Slot>]| {
            let bits = |slot: &Slot| hash(*slot).map_or(0, KeyHash::get);
            shards.iter_mut().for_each(|shard| shard.reserve(each, bits));
            let mut overtaken = Vec::new();
            for (slot, its) in (0..).zip(hashes) {
                let number = its.shard().checked_sub(first);
                let Some(shard) = number.and_then(|number| shards.get_mut(number)) else { continue };
                let is_it = |other: &Slot| hash(*other) == Some(*its) && key(*other) == key(slot);
                match shard.find_mut(its.0, is_it) {
                    Some(found) => overtaken.push(std::mem::replace(found, slot)),
                    None => drop(shard.insert_unique(its.0, slot, bits)),
                }
            }
            overtaken
        };
        let (front, back) = shards.split_at_mut(SHARDS / 2);
        let (mut overtaken, others) = both(hashes.len(), || fill(0, front), || fill(SHARDS / 2, back));
        overtaken.extend(others);
        overtaken
    }

    /// Empties a slot whose key is found in another slot.
    pub(super) fn remove_overtaken(&mut self, slot: Slot) -> Option<Record> {
        let removed = place(&mut self.chunks, slot)?.take()?;
        self.free.push(slot);
        self.keys -= 1;
        Some(removed)
    }

    /// Returns the used slots, in the order of their numbers.
    pub(super) fn used(&self) -> impl Iterator<Item = Slot> {
        let all = 0..Slot::try_from(self.keys + self.free.len()).unwrap_or(Slot::MAX);
        all.filter(|slot| self.get(*slot).is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.keys
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hasher.hash_one(key))
    }

    /// Returns the slot of a key with this hash.
    pub(super) fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Slot> {
        let is_it = |slot: &Slot| self.get(*slot).is_some_and(|record| record.key() == key);
        self.shards.get(hash.shard())?.find(hash.0, is_it).copied()
    }

    /// Returns the slot that a key with this hash has, if it exists. It is nearly always the right one; the
    /// caller must compare the key.
    pub(super) fn guess(&self, hash: KeyHash) -> Option<Slot> {
        self.shards.get(hash.shard())?.iter_hash(hash.0).next().copied()
    }

    /// Returns the record of a slot.
    pub(super) fn get(&self, slot: Slot) -> Option<&Record> {
        record(&self.chunks, slot)
    }

    /// Returns the key of a slot.
    pub(super) fn key(&self, slot: Slot) -> &[u8] {
        self.get(slot).map(Record::key).unwrap_or_default()
    }

    /// Inserts a record. Returns its slot, and the record that it replaces. `hint` is the slot that its key had
    /// at an earlier lookup.
    pub(super) fn put(&mut self, hash: KeyHash, hint: Option<Slot>, next: Record) -> (Slot, Option<Record>) {
        let Self { hasher, shards, chunks, free, keys } = self;
        if let Some(slot) = hint
            && let Some(place) = place(chunks, slot)
            && place.as_ref().is_some_and(|before| before.key() == next.key())
        {
            return (slot, place.replace(next));
        }
        // Cannot happen: there are as many shards as a hash can name.
        let Some(shard) = shards.get_mut(hash.shard()) else { return (Slot::MAX, None) };
        let is_it = |slot: &Slot| record(chunks, *slot).is_some_and(|record| record.key() == next.key());
        if let Some(slot) = shard.find(hash.0, is_it).copied() {
            let before = place(chunks, slot).and_then(|place| place.replace(next));
            return (slot, before);
        }
        let slot = free.pop().unwrap_or_else(|| append(chunks));
        shard.insert_unique(hash.0, slot, |slot| {
            hasher.hash_one(record(chunks, *slot).map(Record::key).unwrap_or_default())
        });
        if let Some(place) = place(chunks, slot) {
            *place = Some(next);
        }
        *keys += 1;
        (slot, None)
    }

    /// Empties a slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Record> {
        let hash = self.hash(self.key(slot));
        self.shards.get_mut(hash.shard())?.find_entry(hash.0, |other| *other == slot).ok()?.remove();
        self.remove_overtaken(slot)
    }
}

fn record(chunks: &[Vec<Option<Record>>], slot: Slot) -> Option<&Record> {
    chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
}

fn place(chunks: &mut [Vec<Option<Record>>], slot: Slot) -> Option<&mut Option<Record>> {
    chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
}

/// Creates an empty slot.
fn append(chunks: &mut Vec<Vec<Option<Record>>>) -> Slot {
    if chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
        chunks.push(Vec::with_capacity(CHUNK));
    }
    let before = (chunks.len() - 1) * CHUNK;
    let Some(chunk) = chunks.last_mut() else { return Slot::MAX };
    chunk.push(None);
    // Cannot overflow: 4 billion records take more memory than any machine has.
    Slot::try_from(before + chunk.len() - 1).unwrap_or(Slot::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use syncline_wire::{Revision, Version};

    proptest! {
        #[test]
        fn agrees_with_a_model(steps in vec((0..6000_u16, 0..4_u8), 1..9000)) {
            let mut slots = Slots::new();
            let mut model: BTreeMap<u16, (Slot, u64)> = BTreeMap::new();
            for (revision, (key, action)) in (1..).zip(steps) {
                let bytes = key.to_be_bytes();
                if action == 0 {
                    let removed = slots.find(slots.hash(&bytes), &bytes).and_then(|slot| slots.remove(slot));
                    let expected = model.remove(&key).map(|(_, revision)| revision);
                    prop_assert_eq!(removed.map(|record| record.revision().get()), expected);
                } else {
                    let record = Record::value_at(Revision::new(revision), Version::new(1), &bytes, b"");
                    // The right slot, none, or a slot that belongs to another key.
                    let hint = match action {
                        1 => slots.find(slots.hash(&bytes), &bytes),
                        2 => None,
                        _ => Some(Slot::from(key)),
                    };
                    let (slot, before) = slots.put(slots.hash(&bytes), hint, record);
                    let expected = model.insert(key, (slot, revision));
                    prop_assert_eq!(before.as_ref().map(|record| record.revision().get()), expected.map(|(_, revision)| revision));
                    prop_assert!(expected.is_none_or(|(before, _)| before == slot), "a key moved to another slot");
                }
                prop_assert_eq!(slots.len(), model.len());
            }
            for key in 0..6000_u16 {
                let bytes = key.to_be_bytes();
                let found = slots.find(slots.hash(&bytes), &bytes);
                let found = found.map(|slot| (slot, slots.get(slot).unwrap().revision().get()));
                prop_assert_eq!(found, model.get(&key).copied());
            }
            let places: usize = slots.chunks.iter().map(Vec::len).sum();
            prop_assert_eq!(places, model.len() + slots.free.len());
        }
    }
}
