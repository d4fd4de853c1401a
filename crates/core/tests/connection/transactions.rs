//! TXN: several writes with one revision, or none at all.

use crate::support::{
    ALL_DECODED, Harness, History, OTHER, accepted, broadcast, delete_operation, error, mark, put, put_operation, stale,
};
use syncline_core::server::{Effect, Limits};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Message, Revision, Tag, Version};

fn check(key: &'static str, version: u64) -> Operation {
    Operation::Check { key: key.into(), version: Version::new(version) }
}

fn txn(tag: u16, operations: impl Into<Vec<Operation>>) -> Message {
    Message::txn(Tag::new(tag), operations.into())
}

/// Returns a TXN with one operation of each kind.
fn mixed_txn(tag: u16) -> Message {
    txn(tag, mixed_operations())
}

/// Returns the operations of [`mixed_txn`].
fn mixed_operations() -> Vec<Operation> {
    vec![check("dir", 4), put_operation("a", "1", 1), delete_operation("b", 8)]
}

#[test]
fn an_accepted_txn_returns_its_writes_and_its_revision() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    let me = Some(harness.connection.id());
    harness.send(&[mixed_txn(7)]);
    let transaction = Transaction { origin: me, operations: mixed_operations().into() };
    assert_eq!(harness.effects(), [Effect::Commit { transaction }]);
    let revision = history.commit([(me, mixed_operations())]);
    history.put(OTHER, "a", "2", 2);
    harness.connection.handle_outcome(accepted(revision));
    let deleted = Message::delete(Tag::new(7), "b", Version::new(8));
    assert_eq!(harness.show_log(&history), [put(7, "a", "1", 1), deleted, mark(7, revision)]);
}

#[test]
fn a_stale_txn_names_the_key_at_fault() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    for (at_fault, key) in [(0, "dir"), (1, "a"), (2, "b")] {
        harness.send(&[mixed_txn(7)]);
        assert_eq!(harness.effects().len(), 1);
        let outcome = match stale(Revision::new(9)) {
            syncline_core::Outcome::Stale { at, .. } => syncline_core::Outcome::Stale { operation: at_fault, at },
            other => other,
        };
        harness.connection.handle_outcome(outcome);
        assert_eq!(harness.show_log(&history), [error(7, format!("stale put: \"{key}\""))]);
    }
}

#[test]
fn no_mark_is_sent_within_a_transaction() {
    let mut history = History::new();
    let mut watcher = Harness::watching("", &history);
    let mut base = Harness::following(&history);
    history.put(OTHER, "before", "1", 1);
    history.commit([(OTHER, mixed_operations())]);
    let deleted = Message::delete(Tag::BROADCAST, "b", Version::new(8));
    assert_eq!(
        watcher.show_log(&history),
        [put(0, "before", "1", 1), put(0, "a", "1", 1), deleted, mark(0, 12)],
        "no MARK within the transaction"
    );
    let expected = [broadcast("before", "1", 1), broadcast("a", "1", 1), broadcast("b", "", 8)];
    assert_eq!(base.show_log(&history), expected);
}

#[test]
fn a_watcher_gets_its_own_txn_in_the_order_of_the_commits() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    let me = Some(harness.connection.id());
    harness.send(&[txn(7, [put_operation("a", "1", 1), put_operation("b", "1", 1)])]);
    assert_eq!(harness.effects().len(), 1);
    history.put(OTHER, "x", "1", 1);
    let own = history.commit([(me, vec![put_operation("a", "1", 1), put_operation("b", "1", 1)])]);
    history.put(OTHER, "a", "2", 2);
    harness.connection.handle_outcome(accepted(own));
    let expected =
        [put(0, "x", "1", 1), put(7, "a", "1", 1), put(7, "b", "1", 1), mark(7, own), put(0, "a", "2", 2), mark(0, 13)];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn an_invalid_txn_is_refused_with_a_reason() {
    let history = History::new();
    let mut harness = Harness::extended_within(Limits { max_key: 4, max_entry: 10, ..Limits::default() }, &history);
    for (operations, text) in [
        (vec![check("k", 1), put_operation("k", "", 2)], "\"k\": expected once in a transaction, found twice"),
        (vec![check("longer", 1)], "too large: key of 6 bytes, expected at most 4"),
        (vec![delete_operation("longer", 1)], "too large: key of 6 bytes, expected at most 4"),
        (
            vec![put_operation("k", "0123456789", 1)],
            "too large: key and value of 11 bytes together, expected at most 10",
        ),
    ] {
        harness.send(&[txn(7, operations)]);
        assert_eq!(harness.effects(), []);
        assert_eq!(harness.show_log(&history), [error(7, text)]);
    }
}

/// Returns a TXN of `count` PUTs of `length` bytes each, key included.
fn txn_of_puts(count: usize, length: usize) -> Message {
    let operations: Vec<_> = (0..count)
        .map(|number| Operation::Put {
            key: format!("{number:05}").into(),
            value: vec![b'v'; length - 5].into(),
            version: Version::new(1),
        })
        .collect();
    Message::txn(Tag::new(7), operations)
}

#[test]
fn operations_and_bytes_of_a_txn_are_bounded() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    // 1,025 CHECKs of the empty key.
    let too_many = [&b"\x09\x07\x00\x01\x04"[..], &[0; 1025 * 11]].concat();
    let mut too_large = bytes::BytesMut::new();
    txn_of_puts(1024, 1025).encode(&mut too_large).unwrap();
    for (accepted, refused, text) in [
        (txn_of_puts(1024, 5), &too_many[..], "too large: TXN of 1025 operations, expected at most 1024"),
        (
            txn_of_puts(1024, 1024),
            &too_large[..],
            "too large: keys and values of 1049600 bytes in a transaction, expected at most 1048576",
        ),
    ] {
        assert_eq!(harness.send_bytes(refused), ALL_DECODED);
        assert_eq!(harness.show_log(&history), [error(7, text)]);
        harness.send(&[accepted]);
        assert!(matches!(harness.effects()[..], [Effect::Commit { .. }]));
        harness.connection.handle_outcome(stale(Revision::new(1)));
        assert_eq!(harness.show_log(&history).len(), 1);
    }
}

#[test]
fn a_txn_of_checks_alone_returns_its_revision() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    let me = Some(harness.connection.id());
    harness.send(&[txn(7, [check("k", 4)])]);
    assert_eq!(harness.effects().len(), 1);
    let own = history.commit([(me, vec![check("k", 4)])]);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [mark(7, own), mark(0, own)]);
}
