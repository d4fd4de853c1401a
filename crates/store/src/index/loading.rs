//! Loading an index from many records at once, as a checkpoint holds them: nearly every key has only one.
//!
//! No key is looked up while records arrive: each gets a slot of its own. When all are there, two threads fill the
//! hash tables, and find the few records that later ones replaced.

use super::slots::KeyHash;
use super::{Index, Record};
use syncline_wire::Revision;

/// An index that cannot be queried yet.
pub(crate) struct Loading {
    index: Index,
    /// The hash of each slot's key.
    hashes: Vec<KeyHash>,
}

impl Loading {
    /// Creates an empty index, with memory for about this many records.
    pub(crate) fn new(records: usize) -> Self {
        let mut index = Index::new(Revision::ZERO);
        index.by_key = None;
        Self { index, hashes: Vec::with_capacity(records) }
    }

    /// Adds a record. Revisions must be ascending.
    pub(crate) fn push(&mut self, record: Record) {
        let revision = record.revision();
        debug_assert!(self.index.head <= revision, "revisions are ascending");
        self.index.head = revision;
        self.index.count(&record);
        self.hashes.push(self.index.slots.hash(record.key()));
        let slot = self.index.slots.append(record);
        self.index.by_revision.push(revision, slot);
    }

    /// Returns the index, which has no order by key before [`Index::order_keys`].
    pub(crate) fn finish(self) -> Index {
        let Self { mut index, hashes } = self;
        for slot in index.slots.find_appended(&hashes) {
            if let Some(overtaken) = index.slots.remove_overtaken(slot) {
                index.discount(&overtaken);
                index.by_revision.remove(overtaken.revision(), slot);
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::super::Found;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use syncline_wire::Version;

    /// Checks that loading records makes the same index as inserting them one after the other.
    fn agree(records: Vec<Record>) {
        let (mut loading, mut expected) = (Loading::new(records.len()), Index::new(Revision::ZERO));
        records.iter().cloned().for_each(|record| loading.push(record));
        let mut found: Vec<Found> = Vec::new();
        for record in records {
            expected.extend(&mut vec![record], &mut found);
        }
        let mut index = loading.finish();
        index.order_keys();
        let told = |index: &Index| (index.head(), index.keys(), index.tombstones(), index.bytes());
        assert_eq!(told(&index), told(&expected));
        let by_revision = |index: &Index| -> Vec<_> {
            index.changed_since(Revision::ZERO).map(|record| (record.revision(), record.key().to_vec())).collect()
        };
        assert_eq!(by_revision(&index), by_revision(&expected));
        let by_key = |index: &Index| -> Vec<_> {
            let slots = index.by_key.iter().flat_map(|order| order.from(std::ops::Bound::Unbounded, &index.slots));
            slots.map(|slot| index.slots.key(slot).to_vec()).collect()
        };
        assert_eq!(by_key(&index), by_key(&expected));
        for record in expected.changed_since(Revision::ZERO) {
            assert_eq!(index.get(record.key()).map(Record::revision), Some(record.revision()));
        }
        // The loaded index continues like any other: replaced slots are reused.
        for (key, revision) in (0..300_u32).zip(index.head().get() + 1..) {
            let record = Record::value_at(Revision::new(revision), Version::new(1), &key.to_be_bytes(), b"next");
            index.extend(&mut vec![record.clone()], &mut found);
            expected.extend(&mut vec![record], &mut found);
        }
        assert_eq!((told(&index), by_revision(&index)), (told(&expected), by_revision(&expected)));
        assert_eq!(by_key(&index), by_key(&expected));
    }

    fn record(revision: u64, key: &[u8], is_there: bool) -> Record {
        let (revision, version) = (Revision::new(revision), Version::new(1));
        if is_there {
            Record::value_at(revision, version, key, b"value")
        } else {
            Record::tombstone(revision, version, key, 7)
        }
    }

    #[test]
    fn many_records_are_loaded_by_two_threads() {
        // A tenth of them replaces others.
        let number = |revision: u64| if revision.is_multiple_of(10) { revision / 2 } else { revision };
        let key = |revision| number(revision).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        agree((1..60_000).map(|revision| record(revision, &key(revision), revision % 7 > 0)).collect());
    }

    proptest! {
        #[test]
        fn loading_equals_inserting_one_after_the_other(keys in vec((0..200_u32, any::<bool>()), 0..600)) {
            agree((1..).zip(keys).map(|(revision, (key, is_there))| record(revision, &key.to_be_bytes(), is_there)).collect());
        }
    }
}
