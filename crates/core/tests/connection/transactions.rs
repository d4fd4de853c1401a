//! TXN: several writes under one revision, or none.

use crate::support::{ALL_TAKEN, History, OTHER, Peer, accepted, broadcast, delete, error, mark, put, stale, write};
use syncline_core::server::{Effect, Limits};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Message, Revision, Tag, Version};

fn check(key: &'static str, version: u64) -> Operation {
    Operation::Check { key: key.into(), version: Version::new(version) }
}

fn put_operation(key: &'static str, value: impl Into<bytes::Bytes>, version: u64) -> Operation {
    Operation::Put { key: key.into(), value: value.into(), version: Version::new(version) }
}

fn delete_operation(key: &'static str, version: u64) -> Operation {
    Operation::Delete { key: key.into(), version: Version::new(version) }
}

fn txn(tag: u16, operations: impl Into<Vec<Operation>>) -> Message {
    Message::txn(Tag::new(tag), operations.into())
}

/// A transaction of three kinds of operations.
fn three(tag: u16) -> Message {
    txn(tag, [check("dir", 4), put_operation("a", "1", 1), delete_operation("b", 8)])
}

/// The same, as the store is given it.
fn three_operations() -> Vec<Operation> {
    vec![Operation::Check { key: "dir".into(), version: Version::new(4) }, write("a", "1", 1), delete("b", 8)]
}

#[test]
fn an_accepted_one_is_told_by_its_writes_and_its_revision() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    let me = Some(peer.connection.id());
    peer.send(&[three(7)]);
    let transaction = Transaction { origin: me, operations: three_operations().into() };
    assert_eq!(peer.effects(), [Effect::Commit { transaction }]);
    let revision = history.commit([(me, three_operations())]);
    history.put(OTHER, "a", "2", 2);
    peer.connection.handle_outcome(accepted(revision));
    let deleted = Message::delete(Tag::new(7), "b", Version::new(8));
    assert_eq!(peer.shown(&history), [put(7, "a", "1", 1), deleted, mark(7, revision)]);
}

#[test]
fn a_refused_one_names_the_key_at_fault() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    for (at_fault, key) in [(0, "dir"), (1, "a"), (2, "b")] {
        peer.send(&[three(7)]);
        assert_eq!(peer.effects().len(), 1);
        let outcome = match stale(Revision::new(9)) {
            syncline_core::Outcome::Stale { at, .. } => syncline_core::Outcome::Stale { operation: at_fault, at },
            other => other,
        };
        peer.connection.handle_outcome(outcome);
        assert_eq!(peer.shown(&history), [error(7, format!("stale put: \"{key}\""))]);
    }
}

#[test]
fn its_writes_stand_between_the_same_two_marks() {
    let mut history = History::new();
    let mut watcher = Peer::watching("", &history);
    let mut base = Peer::following(&history);
    history.put(OTHER, "before", "1", 1);
    history.commit([(OTHER, three_operations())]);
    let deleted = Message::delete(Tag::BROADCAST, "b", Version::new(8));
    assert_eq!(
        watcher.shown(&history),
        [put(0, "before", "1", 1), put(0, "a", "1", 1), deleted, mark(0, 12)],
        "no mark within"
    );
    let expected = [broadcast("before", "1", 1), broadcast("a", "1", 1), broadcast("b", "", 8)];
    assert_eq!(base.shown(&history), expected);
}

#[test]
fn an_own_one_of_a_watcher_stands_in_its_place() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    let me = Some(peer.connection.id());
    peer.send(&[txn(7, [put_operation("a", "1", 1), put_operation("b", "1", 1)])]);
    assert_eq!(peer.effects().len(), 1);
    history.put(OTHER, "x", "1", 1);
    let own = history.commit([(me, vec![write("a", "1", 1), write("b", "1", 1)])]);
    history.put(OTHER, "a", "2", 2);
    peer.connection.handle_outcome(accepted(own));
    let expected =
        [put(0, "x", "1", 1), put(7, "a", "1", 1), put(7, "b", "1", 1), mark(7, own), put(0, "a", "2", 2), mark(0, 13)];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn what_the_protocol_does_not_allow_is_refused_with_a_reason() {
    let history = History::new();
    let mut peer = Peer::extended_within(Limits { max_key: 4, max_entry: 10, ..Limits::default() }, &history);
    for (operations, text) in [
        (vec![check("k", 1), put_operation("k", "", 2)], "\"k\": expected once in a transaction, found twice"),
        (vec![check("longer", 1)], "too large: key of 6 bytes, expected at most 4"),
        (vec![delete_operation("longer", 1)], "too large: key of 6 bytes, expected at most 4"),
        (
            vec![put_operation("k", "0123456789", 1)],
            "too large: key and value of 11 bytes together, expected at most 10",
        ),
    ] {
        peer.send(&[txn(7, operations)]);
        assert_eq!(peer.effects(), []);
        assert_eq!(peer.shown(&history), [error(7, text)]);
    }
}

/// Transactions of `count` puts of `length` bytes, key included.
fn many(count: usize, length: usize) -> Message {
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
fn operations_and_bytes_are_bounded() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    // 1,025 CHECKs of the empty key.
    let too_many = [&b"\x09\x07\x00\x01\x04"[..], &[0; 1025 * 11]].concat();
    let mut too_large = bytes::BytesMut::new();
    many(1024, 1025).encode(&mut too_large).unwrap();
    for (accepted, refused, text) in [
        (many(1024, 5), &too_many[..], "too large: TXN of 1025 operations, expected at most 1024"),
        (
            many(1024, 1024),
            &too_large[..],
            "too large: keys and values of 1049600 bytes in a transaction, expected at most 1048576",
        ),
    ] {
        assert_eq!(peer.send_bytes(refused), ALL_TAKEN);
        assert_eq!(peer.shown(&history), [error(7, text)]);
        peer.send(&[accepted]);
        assert!(matches!(peer.effects()[..], [Effect::Commit { .. }]));
        peer.connection.handle_outcome(stale(Revision::new(1)));
        assert_eq!(peer.shown(&history).len(), 1);
    }
}

#[test]
fn one_of_checks_alone_is_told_its_revision() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    let me = Some(peer.connection.id());
    peer.send(&[txn(7, [check("k", 4)])]);
    assert_eq!(peer.effects().len(), 1);
    let own = history.commit([(me, vec![Operation::Check { key: "k".into(), version: Version::new(4) }])]);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [mark(7, own), mark(0, own)]);
}
