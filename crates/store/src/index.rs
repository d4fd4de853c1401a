//! The latest state of every key, in memory, in both orders: by key, and by the revision of its latest change.
//!
//! ```text
//!   by key        ┌ shard ┐ ┌ shard ┐        each a hash table of its own, so that none is large enough for its growth
//!                 └───┬───┘ └───┬───┘        to be felt
//!                     ▼         ▼
//!   record        [revision version | key | value]      one allocation, shared with the order below
//!                     ▲         ▲
//!   by revision   ┌───┴──┐ ┌────┴─┐ ┌──────┐  blocks in the order of revisions; a record that was overtaken is gone
//!                 └──────┘ └──────┘ └──────┘  from them at once
//! ```

use crate::Unavailable;
use bytes::Bytes;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use syncline_core::{Entry, Operation, Page};
use syncline_wire::{Put, Revision, Version};
use triomphe::ThinArc;

/// Hash tables: of a million keys, each holds about a thousand.
const SHARDS: usize = 1024;

/// The most records of a block of the order by revision, but for the writes of one transaction, which stay together.
const BLOCK: usize = 128;

/// What a [`Record`] holds beside its key and value.
#[derive(Debug)]
struct Head {
    revision: Revision,
    version: Version,
    key_length: u32,
    deleted: bool,
}

/// The state of a key at some revision. Cheap to share, and never changed.
#[derive(Clone, Debug)]
pub(crate) struct Record(ThinArc<Head, u8>);

impl Record {
    /// A key that has a value.
    pub(crate) fn value_at(revision: Revision, version: Version, key: &[u8], value: &[u8]) -> Self {
        Self::new(Head { revision, version, key_length: length(key), deleted: false }, key, value)
    }

    /// A key that was deleted, and when: milliseconds since 1970.
    pub(crate) fn tombstone(revision: Revision, version: Version, key: &[u8], time: u64) -> Self {
        Self::new(Head { revision, version, key_length: length(key), deleted: true }, key, &time.to_le_bytes())
    }

    fn new(head: Head, key: &[u8], rest: &[u8]) -> Self {
        // The allocation is made of one slice; of short ones, without another allocation.
        let mut short = [0; SHORT];
        Self(match short.get_mut(..key.len() + rest.len()) {
            Some(both) => {
                let (of_key, of_rest) = both.split_at_mut(key.len());
                of_key.copy_from_slice(key);
                of_rest.copy_from_slice(rest);
                ThinArc::from_header_and_slice(head, both)
            }
            None => ThinArc::from_header_and_slice(head, &[key, rest].concat()),
        })
    }

    /// The state after an operation of a transaction that was accepted at `time`; none after one that writes nothing.
    pub(crate) fn after(revision: Revision, operation: &Operation, time: u64) -> Option<Self> {
        match operation {
            Operation::Check { .. } => None,
            Operation::Put { key, value, version } => Some(Self::value_at(revision, *version, key, value)),
            Operation::Delete { key, version } => Some(Self::tombstone(revision, *version, key, time)),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.0.header.header.revision
    }

    pub(crate) fn version(&self) -> Version {
        self.0.header.header.version
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.slice.get(..self.key_length()).unwrap_or_default()
    }

    /// What the key holds; none where it was deleted.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if self.0.header.header.deleted { None } else { self.0.slice.get(self.key_length()..) }
    }

    /// When the key was deleted; none where it has a value.
    pub(crate) fn deleted_at(&self) -> Option<u64> {
        if !self.0.header.header.deleted {
            return None;
        }
        self.0.slice.get(self.key_length()..)?.first_chunk().map(|time| u64::from_le_bytes(*time))
    }

    /// The bytes of key and value.
    pub(crate) fn bytes(&self) -> usize {
        self.0.slice.len()
    }

    pub(crate) fn entry(&self) -> Entry {
        Entry {
            key: Bytes::copy_from_slice(self.key()),
            value: self.value().map(Bytes::copy_from_slice),
            version: self.version(),
            revision: self.revision(),
        }
    }

    fn key_length(&self) -> usize {
        self.0.header.header.key_length as usize
    }

    /// Whether both are the same allocation.
    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const self.0.header, &raw const other.0.header)
    }
}

fn length(key: &[u8]) -> u32 {
    // Cannot be more: no frame holds a longer key.
    u32::try_from(key.len()).unwrap_or(u32::MAX)
}

/// Keys and values of up to this length together need no allocation beside the record's own.
const SHORT: usize = 256;

/// The latest state of every key.
pub(crate) struct Index {
    hasher: RandomState,
    shards: Vec<HashTable<Record>>,
    /// By the revision of the first record that the block ever held.
    blocks: BTreeMap<Revision, Vec<Record>>,
    head: Revision,
    keys: usize,
    bytes: usize,
    /// Tombstones up to here may be forgotten.
    forgotten: Revision,
}

impl Index {
    /// Nothing, as of a revision.
    pub(crate) fn new(head: Revision) -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self {
            hasher: RandomState::new(),
            shards,
            blocks: BTreeMap::new(),
            head,
            keys: 0,
            bytes: 0,
            forgotten: Revision::ZERO,
        }
    }

    /// The revision of the last transaction.
    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    /// How many keys there are, those counted too whose tombstones are not forgotten.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// The bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The latest state of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Record> {
        let hash = self.hasher.hash_one(key);
        self.shards.get(shard(hash))?.find(hash, |record| record.key() == key)
    }

    /// The current version of a key.
    pub(crate) fn version(&self, key: &[u8]) -> Option<Version> {
        self.get(key).map(Record::version)
    }

    /// Takes in the next state of a key. Revisions only grow.
    pub(crate) fn insert(&mut self, record: Record) {
        debug_assert!(self.head <= record.revision(), "revisions grow");
        self.head = record.revision();
        self.bytes += record.bytes();
        let hash = self.hasher.hash_one(record.key());
        if let Some(shard) = self.shards.get_mut(shard(hash)) {
            match shard.find_mut(hash, |other| other.key() == record.key()) {
                Some(latest) => {
                    let before = std::mem::replace(latest, record.clone());
                    self.bytes -= before.bytes();
                    self.remove_from_order(&before);
                }
                None => {
                    shard.insert_unique(hash, record.clone(), |record| self.hasher.hash_one(record.key()));
                    self.keys += 1;
                }
            }
        }
        match self.blocks.last_entry() {
            Some(mut last)
                if last.get().len() < BLOCK || last.get().last().is_some_and(|r| r.revision() == record.revision()) =>
            {
                last.get_mut().push(record);
            }
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                let first = record.revision();
                block.push(record);
                self.blocks.insert(first, block);
            }
        }
    }

    /// The head is at this revision, though nothing that it wrote is left, or was ever there.
    pub(crate) fn advance(&mut self, head: Revision) {
        self.head = self.head.max(head);
    }

    /// The records that changed after a revision, in the order of revisions.
    pub(crate) fn changed_since(&self, since: Revision) -> impl Iterator<Item = &Record> {
        let first = self.blocks.range(..=since).next_back().map_or(since, |(first, _)| *first);
        self.blocks.range(first..).flat_map(|(_, block)| block).filter(move |record| since < record.revision())
    }

    /// What changed after a revision, up to the transaction that fills `max_bytes` of PUT frames, or the head.
    ///
    /// # Errors
    /// Where that is not known any more, for tombstones were forgotten since. From the very start on it is always known:
    /// a key that was deleted is as one that never was.
    pub(crate) fn page(&self, since: Revision, max_bytes: usize) -> Result<Page, Unavailable> {
        if Revision::ZERO < since && since < self.forgotten {
            let text =
                format!("what changed since revision {since} is forgotten: tombstones up to {} are", self.forgotten);
            return Err(Unavailable(text.into()));
        }
        let mut page = Page { entries: Vec::new(), through: self.head };
        let mut bytes = 0;
        let mut last = since;
        for record in self.changed_since(since) {
            if last < record.revision() {
                if bytes >= max_bytes && since < last {
                    page.through = last;
                    break;
                }
                last = record.revision();
            }
            bytes += Put::OVERHEAD + record.bytes();
            page.entries.push(record.entry());
        }
        Ok(page)
    }

    /// Tombstones up to which revision may be forgotten.
    pub(crate) fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// Tombstones up to this revision may be forgotten.
    pub(crate) fn set_forgotten(&mut self, through: Revision) {
        self.forgotten = self.forgotten.max(through);
    }

    /// Forgets a tombstone, where it is still the latest of its key.
    pub(crate) fn forget(&mut self, tombstone: &Record) {
        let hash = self.hasher.hash_one(tombstone.key());
        let Some(shard) = self.shards.get_mut(shard(hash)) else { return };
        if let Ok(latest) = shard.find_entry(hash, |record| record.is(tombstone)) {
            latest.remove();
            self.keys -= 1;
            self.bytes -= tombstone.bytes();
            self.remove_from_order(tombstone);
            self.set_forgotten(tombstone.revision());
        }
    }

    fn remove_from_order(&mut self, record: &Record) {
        let Some((&first, block)) = self.blocks.range_mut(..=record.revision()).next_back() else {
            return debug_assert!(false, "every record is in the order");
        };
        if let Some(place) = block.iter().position(|other| other.is(record)) {
            block.remove(place);
        } else {
            debug_assert!(false, "every record is in its block");
        }
        let length = block.len();
        if length == 0 {
            self.blocks.remove(&first);
        } else if length == BLOCK / 4 {
            self.merge(first);
        }
    }

    /// Joins a block that has become small with the one before it, where both fit in one.
    fn merge(&mut self, first: Revision) {
        let Some(length) = self.blocks.get(&first).map(Vec::len) else { return };
        if self.blocks.range(..first).next_back().is_some_and(|(_, before)| before.len() + length <= BLOCK)
            && let Some(block) = self.blocks.remove(&first)
            && let Some((_, before)) = self.blocks.range_mut(..first).next_back()
        {
            before.extend(block);
        } else if let Some(block) = self.blocks.get_mut(&first) {
            block.shrink_to(BLOCK / 2);
        }
    }
}

/// The shard of a hash: of bits that the tables themselves use least.
const fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn record(revision: u64, key: u16, value: &[u8]) -> Record {
        Record::value_at(Revision::new(revision), Version::new(revision), &key.to_be_bytes(), value)
    }

    #[test]
    fn records_hold_what_they_are_given() {
        for (key, value) in
            [(&b""[..], &b""[..]), (b"key", b""), (b"", b"value"), (b"k", &[7; SHORT]), (b"k", &[7; SHORT - 1])]
        {
            let record = Record::value_at(Revision::new(7), Version::new(3), key, value);
            assert_eq!((record.key(), record.value(), record.bytes()), (key, Some(value), key.len() + value.len()));
            assert_eq!((record.revision().get(), record.version().get()), (7, 3));
            let tombstone = Record::tombstone(Revision::new(8), Version::new(4), key, 1234);
            assert_eq!((tombstone.key(), tombstone.value()), (key, None));
            assert_eq!((record.deleted_at(), tombstone.deleted_at()), (None, Some(1234)));
        }
    }

    #[test]
    fn blocks_stay_few_and_hold_only_the_latest() {
        let mut index = Index::new(Revision::ZERO);
        let mut revision = 0;
        // A fixed walk that touches all keys, in an order that mixes old and new.
        for step in 0..200_000_u64 {
            revision += 1;
            index.insert(record(revision, (step.wrapping_mul(40_503) % 5000) as u16, b"value"));
        }
        assert_eq!(index.keys(), 5000);
        assert_eq!(index.bytes(), 5000 * 7);
        let held: usize = index.blocks.values().map(Vec::len).sum();
        assert_eq!(held, 5000);
        assert!(index.blocks.len() < 4 * 5000 / (BLOCK / 4), "{} blocks for 5000 keys", index.blocks.len());
    }

    proptest! {
        #[test]
        fn agrees_with_a_model(writes in vec((0..300u16, 0..4u8), 1..2000), since in any::<prop::sample::Index>()) {
            let mut index = Index::new(Revision::ZERO);
            let mut model: BTreeMap<u16, u64> = BTreeMap::new();
            let mut revision = 1;
            let mut in_this: std::collections::BTreeSet<u16> = std::collections::BTreeSet::new();
            for (key, step) in writes {
                // Several keys may share a revision, each once.
                if step > 0 || in_this.contains(&key) {
                    revision += u64::from(step.max(1));
                    in_this.clear();
                }
                in_this.insert(key);
                index.insert(record(revision, key, &revision.to_be_bytes()));
                model.insert(key, revision);
            }
            prop_assert_eq!(index.keys(), model.len());
            for (key, revision) in &model {
                prop_assert_eq!(index.get(&key.to_be_bytes()).map(|r| r.revision().get()), Some(*revision));
            }
            let since = since.index(usize::try_from(revision).unwrap() + 1) as u64;
            let mut expected: Vec<_> = model.iter().filter(|(_, revision)| **revision > since).map(|(key, revision)| (*revision, *key)).collect();
            expected.sort_unstable();
            let found: Vec<_> = index.changed_since(Revision::new(since)).map(|r| r.revision().get()).collect();
            prop_assert!(found.is_sorted());
            let mut found: Vec<_> = index.changed_since(Revision::new(since))
                .map(|r| (r.revision().get(), u16::from_be_bytes(r.key().try_into().unwrap()))).collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
