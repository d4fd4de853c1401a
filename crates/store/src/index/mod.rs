//! The latest state of every key, in memory, with three orders: by hash, by key, and by the revision of the latest
//! change. Both engines use it, so what is tested with one holds for the other.
//!
//! ```text
//!   by hash ──┐
//!   by key ───┼──▶ slots: the latest record of every key ──▶ records: [revision version | key | value]
//!   by rev. ──┘
//! ```

mod both;
mod by_key;
mod by_revision;
mod loading;
mod record;
mod slots;

pub(crate) use loading::Loading;
pub(crate) use record::Record;

use crate::{ChangedError, Stats};
use by_key::ByKey;
use by_revision::ByRevision;
use bytes::Bytes;
use slots::{KeyHash, Slot, Slots};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::path::PathBuf;
use syncline_core::{KeyPage, Page};
use syncline_wire::{Put, Revision, Version};

/// How many records are examined for one page, except that a transaction is never split. This bounds how long a page
/// keeps writers waiting.
const LOOKED_AT: usize = 4096;

/// The result of an earlier lookup of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) hash: KeyHash,
    slot: Option<Slot>,
    /// Its version at that time, or `None` if it was unknown.
    pub(crate) version: Option<Version>,
}

/// The latest state of every key.
pub(crate) struct Index {
    slots: Slots,
    /// `None` until everything that existed at the start is loaded.
    by_key: Option<ByKey>,
    by_revision: ByRevision,
    head: Revision,
    tombstones: usize,
    bytes: usize,
    /// Tombstones up to this revision may be forgotten.
    forgotten: Revision,
}

impl Index {
    /// Creates an empty index with this head.
    pub(crate) fn new(head: Revision) -> Self {
        Self {
            slots: Slots::new(),
            by_key: Some(ByKey::default()),
            by_revision: ByRevision::default(),
            head,
            tombstones: 0,
            bytes: 0,
            forgotten: Revision::ZERO,
        }
    }

    /// Builds the order by key, if it does not exist yet.
    pub(crate) fn order_keys(&mut self) {
        if self.by_key.is_none() {
            self.by_key = Some(ByKey::of(&self.slots));
        }
    }

    /// Returns the revision of the last transaction.
    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    /// Returns the number of keys, including deleted keys whose tombstones are remembered.
    pub(crate) fn keys(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many of the keys are deleted.
    pub(crate) fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// The bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the figures of an engine with this index.
    pub(crate) fn stats(&self, durability: &'static str, data: Option<PathBuf>) -> Stats {
        let keys = self.keys() - self.tombstones;
        Stats { keys, tombstones: self.tombstones, bytes: self.bytes, durability, data }
    }

    /// Returns the latest state of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Record> {
        self.slots.get(self.slots.find(self.slots.hash(key), key)?)
    }

    /// Looks up keys, in order. All keys take one step towards their records before any takes the next, so the
    /// processor fetches them from memory at the same time.
    pub(crate) fn find_all<'a>(&self, keys: impl Iterator<Item = &'a [u8]> + Clone, found: &mut Vec<Found>) {
        found.clear();
        found.extend(keys.clone().map(|key| Found { hash: self.slots.hash(key), slot: None, version: None }));
        let version = |slot: Option<Slot>| slot.and_then(|slot| self.slots.get(slot)).map(Record::version);
        for found in found.iter_mut() {
            found.slot = self.slots.guess(found.hash);
        }
        for found in found.iter_mut() {
            found.version = version(found.slot);
        }
        for (key, found) in keys.zip(found) {
            if found.slot.is_some_and(|slot| self.slots.key(slot) != key) {
                found.slot = self.slots.find(found.hash, key);
                found.version = version(found.slot);
            }
        }
    }

    /// Returns the latest states of the first of `keys`, in order: of the first key, and of further keys until
    /// keys and values fill `max_bytes`; the last may exceed that.
    pub(crate) fn get_all(&self, keys: &[Bytes], max_bytes: usize) -> Vec<Option<Record>> {
        let mut found = Vec::with_capacity(keys.len());
        self.find_all(keys.iter().map(Bytes::as_ref), &mut found);
        let records = found.iter().map(|found| found.slot.and_then(|slot| self.slots.get(slot)));
        let mut bytes = 0;
        let fits = |(number, record): &(usize, Option<&Record>)| {
            let has_room = *number == 0 || bytes < max_bytes;
            bytes += record.map_or(0, Record::entry_bytes);
            has_room
        };
        records.enumerate().take_while(fits).map(|(_, record)| record.cloned()).collect()
    }

    /// Inserts many states of keys. Revisions must be ascending.
    pub(crate) fn extend(&mut self, records: &mut Vec<Record>, found: &mut Vec<Found>) {
        self.find_all(records.iter().map(Record::key), found);
        for (record, found) in records.drain(..).zip(found) {
            self.insert_found(*found, record);
        }
    }

    /// Inserts the next state of a key that was looked up before, and returns the previous state. Revisions must
    /// be ascending.
    pub(crate) fn insert_found(&mut self, found: Found, record: Record) -> Option<Record> {
        debug_assert!(self.head <= record.revision(), "revisions are ascending");
        let revision = record.revision();
        self.head = revision;
        self.count(&record);
        let (slot, before) = self.slots.put(found.hash, found.slot, record);
        match &before {
            Some(before) => {
                self.discount(before);
                self.by_revision.remove(before.revision(), slot);
            }
            None => {
                if let Some(by_key) = &mut self.by_key {
                    by_key.insert(slot, &self.slots);
                }
            }
        }
        self.by_revision.push(revision, slot);
        before
    }

    /// Raises the head to a revision, even if nothing that it wrote remains or ever existed.
    pub(crate) fn advance(&mut self, head: Revision) {
        self.head = self.head.max(head);
    }

    /// Returns the records that changed after a revision, in the order of revisions.
    pub(crate) fn changed_since(&self, since: Revision) -> impl Iterator<Item = &Record> {
        self.by_revision.after(since).filter_map(|(_, slot)| self.slots.get(slot))
    }

    /// Calls `look` with about `most` records that changed after a revision, and ends between transactions.
    /// Returns where to continue, or `None` at the head.
    pub(crate) fn step(&self, since: Revision, most: usize, mut look: impl FnMut(&Record)) -> Option<Revision> {
        let mut last = since;
        for (looked_at, record) in self.changed_since(since).enumerate() {
            if looked_at >= most && last < record.revision() {
                return Some(last);
            }
            last = record.revision();
            look(record);
        }
        None
    }

    /// Returns the keys under a prefix that changed after a revision, up to the transaction that fills
    /// `max_bytes`, or to the head.
    ///
    /// # Errors
    /// Returns an error if tombstones have been forgotten since, or if the history has no such revision. Revision
    /// 0 is always valid: to a reader without any state, a deleted key is the same as one that never existed.
    pub(crate) fn page(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        let (head, forgotten) = (self.head, self.forgotten);
        if head < since {
            return Err(ChangedError::Unknown { since, head });
        }
        if Revision::ZERO < since && since < forgotten {
            return Err(ChangedError::Forgotten { since, forgotten });
        }
        let mut found = Vec::new();
        let mut through = head;
        let mut bytes = 0;
        let mut last = since;
        for (looked_at, record) in self.changed_since(since).enumerate() {
            if last < record.revision() {
                if (bytes >= max_bytes || looked_at >= LOOKED_AT) && since < last {
                    through = last;
                    break;
                }
                last = record.revision();
            }
            if record.key().starts_with(prefix) {
                bytes += Put::OVERHEAD + record.bytes();
                found.push(record);
            }
        }
        Ok(Page { entries: Record::entries(&found), through, head })
    }

    /// Returns the keys under a prefix that have a value, in the order of keys, beginning after `after`: at most
    /// `max_entries`, and until they fill `max_bytes`.
    pub(crate) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> KeyPage {
        let start = match after {
            Some(after) if prefix <= after => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = Vec::new();
        let mut next = None;
        let mut bytes = 0;
        let mut last: &[u8] = &[];
        let slots = self.by_key.iter().flat_map(|by_key| by_key.from(start, &self.slots));
        let records = slots.filter_map(|slot| self.slots.get(slot));
        for (looked_at, record) in records.take_while(|record| record.key().starts_with(prefix)).enumerate() {
            let is_full = !found.is_empty() && (found.len() >= max_entries.get() || bytes >= max_bytes);
            if is_full || looked_at >= LOOKED_AT {
                next = Some(Bytes::copy_from_slice(last));
                break;
            }
            last = record.key();
            if record.value().is_some() {
                bytes += Put::OVERHEAD + record.bytes();
                found.push(record);
            }
        }
        KeyPage { entries: Record::entries(&found), next, head: self.head }
    }

    /// Returns the revision up to which tombstones may be forgotten.
    pub(crate) fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// Records that tombstones up to a revision may be forgotten.
    pub(crate) fn set_forgotten(&mut self, through: Revision) {
        self.forgotten = self.forgotten.max(through);
    }

    /// Forgets a tombstone, if it is still the latest state of its key.
    pub(crate) fn forget(&mut self, tombstone: &Record) {
        let Some(slot) = self.slots.find(self.slots.hash(tombstone.key()), tombstone.key()) else { return };
        if self.slots.get(slot).is_some_and(|latest| latest.revision() == tombstone.revision()) {
            if let Some(by_key) = &mut self.by_key {
                by_key.remove(slot, &self.slots);
            }
            self.by_revision.remove(tombstone.revision(), slot);
            self.slots.remove(slot);
            self.discount(tombstone);
            self.set_forgotten(tombstone.revision());
        }
    }

    fn count(&mut self, record: &Record) {
        self.bytes += record.bytes();
        self.tombstones += usize::from(record.is_tombstone());
    }

    fn discount(&mut self, record: &Record) {
        self.bytes -= record.bytes();
        self.tombstones -= usize::from(record.is_tombstone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Index {
        fn insert(&mut self, record: Record) -> Option<Record> {
            let mut found = Vec::new();
            self.find_all(std::iter::once(record.key()), &mut found);
            self.insert_found(found[0], record)
        }
    }

    #[test]
    fn find_all_tells_keys_with_similar_hashes_apart() {
        // Enough keys that a few hundred have a neighbour in their table whose hash begins alike.
        const KEYS: u32 = 20_000;
        let mut index = Index::new(Revision::ZERO);
        for (key, revision) in (0..KEYS).zip(1..) {
            index.insert(Record::value_at(Revision::new(revision), Version::new(revision), &key.to_be_bytes(), b""));
        }
        let keys: Vec<_> = (0..2 * KEYS).map(u32::to_be_bytes).collect();
        let mut found = Vec::new();
        index.find_all(keys.iter().map(<[u8; 4]>::as_slice), &mut found);
        let found: Vec<_> = found.iter().map(|found| (found.slot, found.version.map(Version::get))).collect();
        let expected = (0..2 * KEYS).map(|key| {
            let slot = index.slots.find(index.slots.hash(&key.to_be_bytes()), &key.to_be_bytes());
            (slot, (key < KEYS).then_some(u64::from(key) + 1))
        });
        assert!(found.into_iter().eq(expected));
    }

    type Model = BTreeMap<Vec<u8>, (u64, bool)>;

    fn listed(index: &Index, prefix: &[u8], max_entries: usize) -> Vec<Vec<u8>> {
        let max_entries = NonZeroUsize::new(max_entries).unwrap();
        let mut keys = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let page = index.list(prefix, after.as_deref(), max_entries, usize::MAX);
            assert!(page.entries.len() <= max_entries.get());
            keys.extend(page.entries.into_iter().map(|entry| entry.key.to_vec()));
            assert!(page.next.is_none() || page.next > after, "a page without progress");
            after = page.next;
            if after.is_none() {
                return keys;
            }
        }
    }

    fn changed(index: &Index, since: u64, prefix: &[u8], max_bytes: usize) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut since = Revision::new(since);
        while since < index.head() {
            let page = index.page(since, prefix, max_bytes).unwrap();
            assert!(since < page.through, "a page without progress");
            found.extend(page.entries.into_iter().map(|entry| (entry.revision.get(), entry.key.to_vec())));
            since = page.through;
        }
        found
    }

    #[test]
    fn a_page_examines_a_bounded_number_of_records() {
        let mut index = Index::new(Revision::ZERO);
        let total = 2 * LOOKED_AT as u64 + 1;
        for revision in 1..=total {
            let key = revision.to_be_bytes();
            index.insert(Record::tombstone(Revision::new(revision), Version::new(1), &key, 0));
        }
        let page = index.page(Revision::ZERO, b"none", usize::MAX).unwrap();
        assert_eq!((page.entries.len(), page.through.get(), page.head.get()), (0, LOOKED_AT as u64, total));
        let page = index.list(b"", None, NonZeroUsize::MAX, usize::MAX);
        assert_eq!((page.entries.len(), page.next.as_deref()), (0, Some(&(LOOKED_AT as u64).to_be_bytes()[..])));
        assert_eq!(listed(&index, b"", 10), Vec::<Vec<u8>>::new());
    }

    proptest! {
        #[test]
        fn agrees_with_a_model(
            writes in vec((vec(0..4_u8, 0..5), 0..4_u8, 0..5_u8), 1..2000),
            forgotten in 0..2000_u64,
            since in any::<prop::sample::Index>(),
            prefix in vec(0..4_u8, 0..3),
            page in 1..100_usize,
        ) {
            let mut index = Index::new(Revision::ZERO);
            let mut model = Model::new();
            let mut revision = 1;
            let mut in_this: std::collections::BTreeSet<Vec<u8>> = std::collections::BTreeSet::new();
            for (key, step, kind) in writes {
                // Several keys may share a revision, each once.
                if step > 0 || in_this.contains(&key) {
                    revision += u64::from(step.max(1));
                    in_this.clear();
                }
                in_this.insert(key.clone());
                let (at, version) = (Revision::new(revision), Version::new(revision));
                let before = index.insert(match kind {
                    0 => Record::tombstone(at, version, &key, revision),
                    _ => Record::value_at(at, version, &key, &revision.to_be_bytes()),
                });
                let expected = model.insert(key, (revision, kind > 0));
                prop_assert_eq!(before.map(|record| record.revision().get()), expected.map(|(revision, _)| revision));
            }
            let old: Vec<_> = index.changed_since(Revision::ZERO).filter(|record| record.deleted_at().is_some_and(|time| time < forgotten)).cloned().collect();
            old.iter().for_each(|tombstone| index.forget(tombstone));
            let mut last_forgotten = 0;
            model.retain(|_, (revision, is_there)| {
                let is_kept = *is_there || *revision >= forgotten;
                last_forgotten = if is_kept { last_forgotten } else { last_forgotten.max(*revision) };
                is_kept
            });
            prop_assert_eq!(index.forgotten().get(), last_forgotten);
            prop_assert_eq!(index.keys(), model.len());
            prop_assert_eq!(index.tombstones(), model.values().filter(|(_, is_there)| !is_there).count());
            prop_assert_eq!(index.bytes(), model.keys().map(|key| key.len() + 8).sum::<usize>());
            for (key, (revision, _)) in &model {
                prop_assert_eq!(index.get(key).map(|record| record.revision().get()), Some(*revision));
            }
            let expected: Vec<_> = model.iter().filter(|(key, (_, is_there))| *is_there && key.starts_with(&prefix)).map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(listed(&index, &prefix, page), expected);
            let since = since.index(usize::try_from(revision).unwrap() + 1) as u64;
            if since == 0 || since >= last_forgotten {
                let mut expected: Vec<_> = model.iter().filter(|(key, (revision, _))| *revision > since && key.starts_with(&prefix)).map(|(key, (revision, _))| (*revision, key.clone())).collect();
                // From the start on, the second page may be refused.
                let max_bytes = if since < last_forgotten { usize::MAX } else { page * 10 };
                let mut found = changed(&index, since, &prefix, max_bytes);
                prop_assert!(found.is_sorted_by_key(|(revision, _)| *revision));
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            } else {
                let (since, forgotten) = (Revision::new(since), Revision::new(last_forgotten));
                prop_assert_eq!(index.page(since, b"", 0), Err(ChangedError::Forgotten { since, forgotten }));
            }
        }
    }
}
