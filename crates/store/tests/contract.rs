//! The contract of [`Store`], which every engine must pass. A new engine is added at the end of this file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use pollster::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use syncline_core::{Committed, ConnId, Entry, Operation, Outcome, Transaction};
use syncline_store::{ChangedError, DiskOptions, DiskStore, Durability, MemoryStore, Store};
use syncline_wire::{Put, Revision, Version};
use tempfile::TempDir;

fn put(key: &str, value: &str, version: u64) -> Operation {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Operation::Put { key, value, version: Version::new(version) }
}

fn delete(key: &str, version: u64) -> Operation {
    Operation::Delete { key: Bytes::copy_from_slice(key.as_bytes()), version: Version::new(version) }
}

fn check(key: &str, version: u64) -> Operation {
    Operation::Check { key: Bytes::copy_from_slice(key.as_bytes()), version: Version::new(version) }
}

fn transaction(operations: impl Into<Vec<Operation>>) -> Transaction {
    Transaction { origin: None, operations: operations.into().into() }
}

fn commit(store: &impl Store, operations: impl Into<Vec<Operation>>) -> Outcome {
    let outcomes = store.commit(vec![transaction(operations)]);
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().unwrap()
}

#[track_caller]
fn accepted(outcome: &Outcome) -> Revision {
    match outcome {
        Outcome::Accepted { revision } => *revision,
        other => panic!("not accepted: {other:?}"),
    }
}

#[track_caller]
fn stale(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Stale { operation, .. } => *operation,
        other => panic!("not stale: {other:?}"),
    }
}

fn get(store: &impl Store, key: &str) -> Option<Entry> {
    block_on(store.get(key.as_bytes())).unwrap()
}

fn value(store: &impl Store, key: &str) -> Option<(String, u64)> {
    let entry = get(store, key)?;
    assert_eq!(entry.key, key);
    Some((String::from_utf8(entry.value?.into()).unwrap(), entry.version.get()))
}

/// Reads all pages since a revision, each of about `max_bytes`.
fn changed_since(store: &impl Store, since: Revision, max_bytes: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut since = since;
    while since < store.head() {
        let page = block_on(store.changed_since(since, b"", max_bytes)).unwrap();
        assert!(page.through > since, "a page without progress");
        assert!(page.entries.iter().all(|entry| since < entry.revision && entry.revision <= page.through));
        assert!(page.entries.is_sorted_by_key(|entry| entry.revision));
        entries.extend(page.entries);
        since = page.through;
    }
    entries
}

/// Returns the keys of entries, in order.
fn keys(entries: &[Entry]) -> String {
    entries.iter().map(|entry| str::from_utf8(&entry.key).unwrap()).collect::<Vec<_>>().join(" ")
}

/// Everything that a store feeds, batch by batch.
#[derive(Clone, Default)]
struct Fed(Arc<Mutex<Vec<Vec<Committed>>>>);

impl Fed {
    /// Follows a store, and returns the head after which it does.
    fn follow(store: &impl Store) -> (Self, Revision) {
        let fed = Self::default();
        let sink = fed.clone();
        let head = store.follow(Box::new(move |committed| sink.0.lock().unwrap().push(committed.to_vec())));
        (fed, head)
    }

    fn committed(&self) -> Vec<Committed> {
        self.0.lock().unwrap().concat()
    }

    fn revisions(&self) -> Vec<u64> {
        self.committed().iter().map(|transaction| transaction.revision.get()).collect()
    }
}

mod checks {
    use super::*;

    pub(super) fn a_new_store_is_empty_and_has_an_id_of_its_own<S: Store>(open: impl Fn() -> S) {
        let store = open();
        assert_eq!(store.head(), Revision::ZERO);
        assert_eq!(get(&store, "key"), None);
        assert_eq!(block_on(store.changed_since(Revision::ZERO, b"", 1000)).unwrap().entries, []);
        assert_ne!(store.id(), open().id());
        assert_eq!(store.id(), store.id());
    }

    pub(super) fn get_all_reads_keys_up_to_max_bytes<S: Store>(open: impl Fn() -> S) {
        let store = open();
        commit(&store, [put("a", "one", 1), put("gone", "x", 1), put("b", "two", 1)]);
        commit(&store, [delete("gone", 2)]);
        let keys = ["b", "none", "a", "gone", "a"].map(Bytes::from);
        let one_by_one: Vec<_> = keys.iter().map(|key| block_on(store.get(key)).unwrap()).collect();
        assert_eq!(block_on(store.get_all(&keys, usize::MAX)).unwrap(), one_by_one);
        // The first has 4 bytes, the second is not there, the third has 4, and so has the tombstone.
        for (max_bytes, expected) in [(0, 1), (4, 1), (5, 3), (8, 3), (9, 4), (12, 4), (13, 5)] {
            let read = block_on(store.get_all(&keys, max_bytes)).unwrap();
            assert_eq!(read, one_by_one[..expected], "{max_bytes} bytes");
        }
        assert_eq!(block_on(store.get_all(&[], 100)).unwrap(), []);
    }

    pub(super) fn a_put_is_accepted_at_the_next_version_only<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let first = accepted(&commit(&store, [put("key", "one", 1)]));
        assert_eq!(value(&store, "key"), Some(("one".into(), 1)));
        for version in [0, 1, 3, u64::MAX] {
            assert_eq!(stale(&commit(&store, [put("key", "no", version)])), 0, "version {version}");
        }
        assert_eq!(value(&store, "key"), Some(("one".into(), 1)));
        assert_eq!(store.head(), first, "a refused write takes no revision");
        let second = accepted(&commit(&store, [put("key", "two", 2)]));
        assert!(second > first);
        assert_eq!(get(&store, "key").unwrap().revision, second);
    }

    pub(super) fn a_first_put_may_carry_any_version_from_1_on<S: Store>(open: impl Fn() -> S) {
        let store = open();
        assert_eq!(stale(&commit(&store, [put("zero", "", 0)])), 0);
        accepted(&commit(&store, [put("imported", "value", 666)]));
        assert_eq!(value(&store, "imported"), Some(("value".into(), 666)));
        assert_eq!(stale(&commit(&store, [put("imported", "value", 1)])), 0);
        accepted(&commit(&store, [put("imported", "next", 667)]));
        accepted(&commit(&store, [put("last", "value", u64::MAX)]));
        assert_eq!(stale(&commit(&store, [put("last", "value", 0)])), 0);
    }

    pub(super) fn the_cause_of_a_conflict_is_visible<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let outcomes = store.commit(vec![transaction([put("key", "one", 1)]), transaction([put("key", "two", 1)])]);
        let revision = accepted(&outcomes[0]);
        assert_eq!(outcomes[1], Outcome::Stale { operation: 0, at: revision });
        assert_eq!(value(&store, "key"), Some(("one".into(), 1)));
    }

    pub(super) fn a_batch_sees_its_own_earlier_transactions<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let batch = (1..=100).map(|version| transaction([put("key", &version.to_string(), version)])).collect();
        let revisions: Vec<_> = store.commit(batch).iter().map(accepted).collect();
        assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
        assert_eq!(value(&store, "key"), Some(("100".into(), 100)));
        assert_eq!(changed_since(&store, Revision::ZERO, 1000).len(), 1, "each key once");
    }

    pub(super) fn a_transaction_is_written_completely_or_not_at_all<S: Store>(open: impl Fn() -> S) {
        let store = open();
        accepted(&commit(&store, [put("a", "1", 1), put("b", "1", 1)]));
        assert_eq!(stale(&commit(&store, [put("a", "2", 2), put("b", "2", 3), put("c", "2", 1)])), 1);
        assert_eq!(value(&store, "a"), Some(("1".into(), 1)));
        assert_eq!(get(&store, "c"), None);
        let revision = accepted(&commit(&store, [check("a", 1), put("b", "2", 2), put("c", "2", 1), check("x", 0)]));
        assert_eq!(value(&store, "b"), Some(("2".into(), 2)));
        assert_eq!(get(&store, "b").unwrap().revision, revision);
        assert_eq!(get(&store, "c").unwrap().revision, revision);
        assert_eq!(stale(&commit(&store, [put("b", "3", 3), check("a", 2)])), 1);
        assert_eq!(value(&store, "b"), Some(("2".into(), 2)));
    }

    pub(super) fn a_deletion_keeps_the_version<S: Store>(open: impl Fn() -> S) {
        let store = open();
        accepted(&commit(&store, [put("key", "one", 1)]));
        assert_eq!(stale(&commit(&store, [delete("key", 1)])), 0);
        let revision = accepted(&commit(&store, [delete("key", 2)]));
        let tombstone = Entry { key: "key".into(), value: None, version: Version::new(2), revision };
        assert_eq!(get(&store, "key"), Some(tombstone.clone()));
        assert_eq!(changed_since(&store, Revision::ZERO, 1000), [tombstone]);
        assert_eq!(stale(&commit(&store, [put("key", "again", 1)])), 0, "versions never start over");
        accepted(&commit(&store, [check("key", 2)]));
        accepted(&commit(&store, [put("key", "again", 3)]));
        assert_eq!(value(&store, "key"), Some(("again".into(), 3)));
    }

    pub(super) fn keys_are_any_bytes<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let keys: [&[u8]; 5] = [b"", b"\0", b"\xff\xfe", &[7; 4096], b"k"];
        for (index, key) in keys.iter().enumerate() {
            let value = Bytes::from(index.to_string());
            let put = Operation::Put { key: Bytes::copy_from_slice(key), value, version: Version::new(1) };
            accepted(&commit(&store, [put]));
        }
        for (index, key) in keys.iter().enumerate() {
            let entry = block_on(store.get(key)).unwrap().unwrap();
            assert_eq!((entry.key.as_ref(), entry.value), (*key, Some(index.to_string().into())));
        }
    }

    pub(super) fn commits_are_fed_in_order_with_their_origin<S: Store>(open: impl Fn() -> S) {
        let store = open();
        accepted(&commit(&store, [put("before", "", 1)]));
        let (fed, head) = Fed::follow(&store);
        assert_eq!(head, store.head());
        let of = |origin, operations: Vec<_>| Transaction {
            origin: Some(ConnId::new(origin)),
            operations: operations.into(),
        };
        let first = of(7, vec![put("a", "1", 1), put("b", "1", 1), check("c", 0)]);
        let stale = of(8, vec![put("a", "no", 1)]);
        let second = of(9, vec![delete("a", 2)]);
        let third = transaction([put("c", "1", 1)]);
        let mut outcomes = store.commit(vec![first.clone(), stale, second.clone()]);
        outcomes.remove(1);
        outcomes.extend(store.commit(vec![third.clone()]));
        let expected = [first, second, third].into_iter().zip(&outcomes).map(|(transaction, outcome)| Committed {
            revision: accepted(outcome),
            origin: transaction.origin,
            operations: transaction.operations,
        });
        assert_eq!(fed.committed(), expected.collect::<Vec<_>>());
    }

    pub(super) fn a_refused_batch_feeds_nothing<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let (fed, _) = Fed::follow(&store);
        stale(&commit(&store, [put("key", "", 0)]));
        assert_eq!(store.commit(Vec::new()), []);
        assert_eq!(fed.0.lock().unwrap().len(), 0, "not even an empty batch");
    }

    pub(super) fn commits_are_visible_then_fed_then_answered<S: Store>(open: impl Fn() -> S) {
        // Readers on other threads follow the feed: whatever was fed must be readable.
        let store = Arc::new(open());
        let fed_head = Arc::new(Mutex::new(Revision::ZERO));
        let sink = fed_head.clone();
        store.follow(Box::new(move |committed| *sink.lock().unwrap() = committed.last().unwrap().revision));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let fed = *fed_head.lock().unwrap();
                        let read = get(&*store, "key").map_or(Revision::ZERO, |entry| entry.revision);
                        assert!(read >= fed && store.head() >= fed, "fed up to {fed}, read at {read}");
                        if fed == Revision::new(2000) {
                            return;
                        }
                        std::thread::yield_now();
                    }
                });
            }
            for version in 1..=2000 {
                let revision = accepted(&commit(&*store, [put("key", "value", version)]));
                assert_eq!(*fed_head.lock().unwrap(), revision, "answered before it was fed");
            }
        });
    }

    pub(super) fn pages_end_between_transactions<S: Store>(open: impl Fn() -> S) {
        let store = open();
        for n in 0..10 {
            accepted(&commit(&store, [put(&format!("a{n}"), "0123456789", 1), put(&format!("b{n}"), "0123456789", 1)]));
        }
        // Two entries of 2 + 10 bytes each.
        let frames = 2 * (Put::OVERHEAD + 12);
        for max_bytes in [0, 1, frames - 1, frames, frames + 1, 9 * frames, 1000] {
            let page = block_on(store.changed_since(Revision::ZERO, b"", max_bytes)).unwrap();
            let expected = max_bytes.div_ceil(frames).clamp(1, 10);
            assert_eq!(page.entries.len(), 2 * expected, "pages of {max_bytes}");
            assert_eq!(page.through, Revision::new(expected as u64));
            assert_eq!(changed_since(&store, Revision::ZERO, max_bytes).len(), 20);
        }
    }

    pub(super) fn changes_are_filtered_by_prefix<S: Store>(open: impl Fn() -> S) {
        let store = open();
        for key in ["a", "ab", "abc", "b", "ac"] {
            accepted(&commit(&store, [put(key, "value", 1)]));
        }
        accepted(&commit(&store, [delete("ab", 2)]));
        let page = |since, prefix: &str| block_on(store.changed_since(since, prefix.as_bytes(), usize::MAX)).unwrap();
        for (prefix, expected) in
            [("", "a abc b ac ab"), ("a", "a abc ac ab"), ("ab", "abc ab"), ("b", "b"), ("c", ""), ("abcd", "")]
        {
            let page = page(Revision::ZERO, prefix);
            assert_eq!(keys(&page.entries), expected, "under {prefix:?}");
            assert_eq!((page.through, page.head), (store.head(), store.head()));
        }
        assert_eq!(keys(&page(Revision::new(3), "a").entries), "ac ab");
    }

    pub(super) fn a_revision_after_the_head_is_unknown<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let head = accepted(&commit(&store, [put("key", "value", 1)]));
        let page = block_on(store.changed_since(head, b"", 1000)).unwrap();
        assert_eq!((page.entries, page.through, page.head), (Vec::new(), head, head));
        let since = head.next().unwrap();
        let error = block_on(store.changed_since(since, b"", 1000)).unwrap_err();
        assert_eq!(error, ChangedError::Unknown { since, head });
    }

    pub(super) fn keys_are_listed_in_order<S: Store>(open: impl Fn() -> S) {
        let store = open();
        for key in ["b", "ab", "", "abc", "gone", "a", "ac"] {
            accepted(&commit(&store, [put(key, "value", 1)]));
        }
        accepted(&commit(&store, [delete("gone", 2)]));
        let list = |prefix: &str, after: Option<&str>, max_entries, max_bytes| {
            let after = after.map(str::as_bytes);
            block_on(store.list(prefix.as_bytes(), after, NonZeroUsize::new(max_entries).unwrap(), max_bytes)).unwrap()
        };
        for (prefix, after, expected) in [
            ("", None, " a ab abc ac b"),
            ("", Some(""), "a ab abc ac b"),
            ("", Some("abb"), "abc ac b"),
            ("", Some("b"), ""),
            ("a", None, "a ab abc ac"),
            ("a", Some(""), "a ab abc ac"),
            ("a", Some("a"), "ab abc ac"),
            ("a", Some("ac"), ""),
            ("a", Some("b"), ""),
            ("go", None, ""),
        ] {
            let page = list(prefix, after, 100, usize::MAX);
            assert_eq!(keys(&page.entries), expected, "under {prefix:?} after {after:?}");
            assert_eq!((page.next, page.head), (None, store.head()));
            for (max_entries, max_bytes) in [(1, usize::MAX), (2, usize::MAX), (3, 0), (100, 1), (2, 50)] {
                let mut found = Vec::new();
                let mut next = after.map(|after| Bytes::copy_from_slice(after.as_bytes()));
                loop {
                    let after = next.as_ref().map(|after| str::from_utf8(after).unwrap());
                    let page = list(prefix, after, max_entries, max_bytes);
                    assert!(page.entries.len() <= max_entries);
                    found.extend(page.entries);
                    assert!(page.next.is_none() || page.next > next, "a page without progress");
                    next = page.next;
                    if next.is_none() {
                        break;
                    }
                }
                assert_eq!(keys(&found), expected, "under {prefix:?} after {after:?}, {max_entries} at once");
            }
        }
        let entry = list("abc", None, 1, 0).entries.remove(0);
        assert_eq!(Some(entry), get(&store, "abc"), "whole");
    }

    pub(super) fn stats_count_keys_tombstones_and_bytes<S: Store>(open: impl Fn() -> S) {
        let store = open();
        let counted = || {
            let stats = store.stats();
            (stats.keys, stats.tombstones)
        };
        assert_eq!((counted(), store.stats().bytes), ((0, 0), 0));
        accepted(&commit(&store, [put("key", "value", 1), put("other", "", 1)]));
        assert_eq!((counted(), store.stats().bytes), ((2, 0), 3 + 5 + 5));
        accepted(&commit(&store, [delete("key", 2)]));
        assert_eq!(counted(), (1, 1));
        accepted(&commit(&store, [put("key", "v", 3)]));
        assert_eq!((counted(), store.stats().bytes), ((2, 0), 3 + 1 + 5));
    }

    pub(super) fn writers_on_many_threads_lose_no_update<S: Store>(open: impl Fn() -> S) {
        let store = Arc::new(open());
        let (fed, _) = Fed::follow(&*store);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut written = 0;
                    while written < 250 {
                        let count = value(&*store, "counter").map_or(0, |(value, _)| value.parse::<u64>().unwrap());
                        let next = (count + 1).to_string();
                        if let Outcome::Accepted { .. } = commit(&*store, [put("counter", &next, count + 1)]) {
                            written += 1;
                        }
                    }
                });
            }
        });
        assert_eq!(value(&*store, "counter"), Some(("1000".into(), 1000)));
        let revisions = fed.revisions();
        assert_eq!(revisions.len(), 1000);
        assert!(revisions.is_sorted_by(|a, b| a < b), "fed out of order");
    }

    pub(super) fn random_transactions_agree_with_a_model<S: Store>(open: impl Fn() -> S) {
        let operation = (0..8u8, 0..4u64, 0..3u8).prop_map(|(key, skew, kind)| (format!("key{key}"), skew, kind));
        let transactions = vec(vec(operation, 1..4), 1..40);
        proptest!(ProptestConfig::with_cases(100), |(transactions in transactions, batch in 1..7usize, page in 0..60usize)| {
            let store = open();
            let (fed, _) = Fed::follow(&store);
            let mut model: BTreeMap<String, (Option<String>, u64, u64)> = BTreeMap::new();
            let mut accepted_writes = Vec::new();
            for (number, chosen) in transactions.chunks(batch).enumerate() {
                // Usually the right version (skew 0, 1 and 2), otherwise one too many.
                let mut batch = Vec::new();
                let mut expected = Vec::new();
                for (place, operations) in chosen.iter().enumerate() {
                    let mut keys = BTreeSet::new();
                    let operations: Vec<_> = operations.iter().filter(|(key, ..)| keys.insert(key.clone())).map(|(key, skew, kind)| {
                        let current = model.get(key).map_or(0, |latest| latest.1);
                        let version = current + u64::from(*skew == 3) + u64::from(*kind > 0);
                        let value = format!("{number}.{place}");
                        match kind {
                            0 => check(key, version),
                            1 => put(key, &value, version),
                            _ => delete(key, version),
                        }
                    }).collect();
                    let version_of = |key: &[u8]| model.get(str::from_utf8(key).unwrap()).map(|latest| Version::new(latest.1));
                    let verdict = transaction(operations.clone()).check(version_of);
                    if verdict.is_ok() {
                        let revision = accepted_writes.last().map_or(0, |(revision, _)| *revision) + 1;
                        for operation in &operations {
                            let key = String::from_utf8(operation.key().to_vec()).unwrap();
                            match operation {
                                Operation::Check { .. } => {}
                                Operation::Put { value, version, .. } => {
                                    let value = String::from_utf8(value.to_vec()).unwrap();
                                    model.insert(key, (Some(value), version.get(), revision));
                                }
                                Operation::Delete { version, .. } => {
                                    model.insert(key, (None, version.get(), revision));
                                }
                            }
                        }
                        accepted_writes.push((revision, operations.clone()));
                    }
                    expected.push(verdict);
                    batch.push(transaction(operations));
                }
                let found: Vec<_> = store.commit(batch).iter().map(|outcome| match outcome {
                    Outcome::Accepted { .. } => Ok(()),
                    Outcome::Stale { operation, .. } => Err(*operation),
                    Outcome::Unavailable { reason } | Outcome::Unknown { reason } => panic!("unavailable: {reason}"),
                }).collect();
                prop_assert_eq!(found, expected);
            }
            // Reads every key one by one, and by what changed since every revision.
            let entry = |key: &str, (value, version, revision): &(Option<String>, u64, u64)| Entry {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: value.clone().map(Bytes::from),
                version: Version::new(*version),
                revision: Revision::new(*revision),
            };
            for (key, latest) in &model {
                prop_assert_eq!(get(&store, key), Some(entry(key, latest)));
            }
            for since in 0..=store.head().get() {
                let mut expected: Vec<_> = model.iter().filter(|(_, latest)| latest.2 > since).map(|(key, latest)| entry(key, latest)).collect();
                expected.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
                let mut found = changed_since(&store, Revision::new(since), page);
                found.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(fed.revisions().len(), accepted_writes.len());
        });
    }
}

/// Opens a disk engine in a new directory within `root`, with small segments, so that they are often full.
fn open_disk(root: &TempDir, durability: Durability) -> DiskStore {
    let directory = TempDir::new_in(root).unwrap().keep();
    let options = DiskOptions { durability, segment_size: 16 * 1024, ..DiskOptions::default() };
    DiskStore::open(&directory, options).unwrap()
}

/// Runs every check against an engine, as a module of tests with its name. Its stores live below a temporary directory.
macro_rules! contract {
    ($engine:ident, $open:expr, [$($check:ident),* $(,)?]) => {
        mod $engine {
            use super::*;
            $(#[test] fn $check() {
                let root = TempDir::new().unwrap();
                checks::$check(|| $open(&root));
            })*
        }
    };
    ($engine:ident, $open:expr) => {
        contract!($engine, $open, [
            a_new_store_is_empty_and_has_an_id_of_its_own,
            a_put_is_accepted_at_the_next_version_only,
            get_all_reads_keys_up_to_max_bytes,
            a_first_put_may_carry_any_version_from_1_on,
            the_cause_of_a_conflict_is_visible,
            a_batch_sees_its_own_earlier_transactions,
            a_transaction_is_written_completely_or_not_at_all,
            a_deletion_keeps_the_version,
            keys_are_any_bytes,
            commits_are_fed_in_order_with_their_origin,
            a_refused_batch_feeds_nothing,
            commits_are_visible_then_fed_then_answered,
            pages_end_between_transactions,
            changes_are_filtered_by_prefix,
            a_revision_after_the_head_is_unknown,
            keys_are_listed_in_order,
            stats_count_keys_tombstones_and_bytes,
            writers_on_many_threads_lose_no_update,
            random_transactions_agree_with_a_model,
        ]);
    };
}

contract!(memory, |_: &TempDir| MemoryStore::new().unwrap());
contract!(disk, |root: &TempDir| open_disk(root, Durability::Os));
contract!(disk_synced, |root: &TempDir| open_disk(root, Durability::Fsync));
