//! What a connection may ask for once it has said HELLO, and how it is told then.

use crate::support::{
    ALL_TAKEN, History, OTHER, Peer, accepted, broadcast, commit, delete, deletion, entry, error, get, greeting, hello,
    mark, put, read, stale, tombstone, watch,
};
use bytes::{BufMut, BytesMut};
use syncline_core::server::{Access, Effect, Input, Limits};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Kind, List, Message, Revision, Tag, Version};

fn large(tag: u16, key: &'static str, length: usize, version: u64) -> Message {
    Message::put_large(Tag::new(tag), key, vec![b'v'; length], Version::new(version))
}

/// Limits that allow values which a PUT can't carry.
fn roomy() -> Limits {
    Limits { max_entry: 100_000, ..Limits::default() }
}

#[test]
fn hello_is_answered_and_ends_the_broadcasts() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    history.put(OTHER, "a", "1", 1);
    peer.send(&[hello(7)]);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(peer.shown(&history), [greeting(7, 12)], "what it was not sent yet it has not asked for");
    history.put(OTHER, "c", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.connection.cursor(), None);
}

#[test]
fn hello_is_answered_after_what_was_asked_before_it() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "mine", "1", 1), hello(2), get(3, "gone")]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)], "what comes after it waits for it");
    history.put(OTHER, "a", "1", 1);
    let own = history.put(Some(peer.connection.id()), "mine", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [broadcast("a", "1", 1), put(1, "mine", "1", 1), greeting(2, 12)]);
    assert_eq!(peer.effects(), [read("gone")]);
    peer.connection.handle_entry(Ok(Some(tombstone("gone", 7, Revision::new(3)))));
    let answer = Message::delete(Tag::new(3), "gone", Version::new(7));
    assert_eq!(peer.shown(&history), [answer], "told as after HELLO");
}

#[test]
fn hello_again_is_refused() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    assert_eq!(peer.send(&[hello(9)]), ALL_TAKEN);
    assert_eq!(peer.shown(&history), [error(9, "messages of kind HELLO cannot be applied")]);
}

#[test]
fn the_extension_is_refused_before_hello_and_the_connection_stays() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    let tag = Tag::new(5);
    let asked = [
        (Message::delete(tag, "k", Version::new(1)), "DELETE"),
        (watch(5, "", 0), "WATCH"),
        (mark(5, 0), "MARK"),
        (Message::list(tag, "", "", 1), "LIST"),
        (Message::txn(tag, vec![]), "TXN"),
        (large(5, "k", 70_000, 1), "PUTL"),
        (Message::status(tag, ""), "STATUS"),
    ];
    for (message, kind) in asked {
        assert_eq!(peer.send(&[message]), ALL_TAKEN);
        let text = format!("messages of kind {kind} cannot be applied before HELLO");
        assert_eq!(peer.shown(&history), [error(5, text)]);
        assert_eq!(peer.effects(), []);
    }
}

#[test]
fn a_stranger_can_not_say_hello() {
    let history = History::new();
    let mut peer = Peer::new(Access::Password, Limits::default());
    peer.send(&[hello(1), Message::list(Tag::new(2), "", "", 1)]);
    let expected = [1, 2].map(|tag| error(tag, "go away, bad message type"));
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn a_get_tells_all_that_there_is() {
    let history = History::new();
    let mut peer = Peer::extended_within(roomy(), &history);
    for (found, answer) in [
        (Some(entry("k", "v", 3, Revision::new(5))), put(2, "k", "v", 3)),
        (Some(tombstone("k", 4, Revision::new(5))), Message::delete(Tag::new(2), "k", Version::new(4))),
        (Some(entry("k", vec![b'v'; 65_524], 3, Revision::new(5))), put(2, "k", vec![b'v'; 65_524], 3)),
        (Some(entry("k", vec![b'v'; 65_525], 3, Revision::new(5))), large(2, "k", 65_525, 3)),
        (None, error(2, "\"k\": not found")),
    ] {
        peer.send(&[get(2, "k")]);
        assert_eq!(peer.effects(), [read("k")]);
        peer.connection.handle_entry(Ok(found));
        assert_eq!(peer.shown(&history), [answer]);
    }
}

#[test]
fn a_delete_is_accepted_as_a_put_is() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    let asked = Message::delete(Tag::new(2), "k", Version::new(5));
    peer.send(&[asked.clone(), Message::delete(Tag::new(3), "k", Version::new(5))]);
    let transaction = Transaction { origin: Some(peer.connection.id()), operations: [delete("k", 5)].into() };
    let effect = || Effect::Commit { transaction: transaction.clone() };
    assert_eq!(peer.effects(), [effect(), effect()]);
    let revision = history.commit([(Some(peer.connection.id()), vec![delete("k", 5)])]);
    peer.connection.handle_outcome(accepted(revision));
    peer.connection.handle_outcome(stale(revision));
    assert_eq!(peer.shown(&history), [asked, error(3, "stale put")]);
}

#[test]
fn the_last_version_is_left_for_a_delete() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[Message::delete(Tag::new(2), "k", Version::MAX), put(3, "k", "", u64::MAX)]);
    assert!(matches!(peer.effects()[..], [Effect::Commit { .. }]));
    let txn =
        Message::txn(Tag::new(4), vec![Operation::Put { key: "k".into(), value: "".into(), version: Version::MAX }]);
    peer.send(&[txn]);
    peer.connection.handle_outcome(stale(Revision::new(1)));
    let expected = [error(2, "stale put"), error(3, "version exhausted"), error(4, "version exhausted")];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn a_large_put_travels_as_putl_both_ways() {
    let mut history = History::new();
    let mut peer = Peer::extended_within(roomy(), &history);
    let asked = large(2, "k", 70_000, 1);
    peer.send(std::slice::from_ref(&asked));
    let [Effect::Commit { transaction }] = &peer.effects()[..] else { panic!("no commit") };
    assert!(matches!(&transaction.operations[..], [Operation::Put { value, .. }] if value.len() == 70_000));
    let revision = history.commit([(transaction.origin, transaction.operations.to_vec())]);
    peer.connection.handle_outcome(accepted(revision));
    assert_eq!(peer.shown(&history), [asked]);

    let mut watcher = Peer::watching("", &history);
    let mut base = Peer::following(&history);
    let revision = history.commit([(OTHER, transaction.operations.to_vec())]);
    assert_eq!(watcher.shown(&history), [large(0, "k", 70_000, 1), mark(0, revision)]);
    assert_eq!(base.shown(&history), []);
}

#[test]
fn each_size_has_one_frame() {
    let history = History::new();
    let mut peer = Peer::extended_within(roomy(), &history);
    peer.send(&[large(2, "k", 65_524, 1), put(3, "k", vec![b'v'; 65_525], 1), large(4, "k", 100_000, 1)]);
    assert_eq!(peer.effects(), []);
    let expected = [
        error(2, "key and value of 65525 bytes together: expected a PUT, and PUTL only above 65525 bytes"),
        error(3, "too large: key and value of 65526 bytes together, expected at most 65525"),
        error(4, "too large: key and value of 100001 bytes together, expected at most 100000"),
    ];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn by_default_no_putl_is_taken() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[large(2, "k", 65_525, 1)]);
    let text = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(peer.shown(&history), [error(2, text)]);
}

#[test]
fn a_frame_that_claims_gigabytes_is_passed_over() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    let claimed = 3_000_000_u32;
    let mut head = BytesMut::new();
    head.put_u8(Kind::PutLarge.byte());
    head.put_u16_le(2);
    head.put_slice(b"\x01\x00k");
    head.put_u32_le(claimed);
    assert!(matches!(peer.send_bytes(&head), Input::Wanted { .. }));
    let [Message::Error(told)] = &peer.shown(&history)[..] else { panic!("not told at once") };
    assert_eq!(told.tag, Tag::new(2));
    assert!(told.text.starts_with(b"too large: PUTL of 3000018 bytes, expected at most "), "{told:?}");
    // Nothing of it is kept, and what comes behind it is taken.
    let rest = vec![0; claimed as usize + 8];
    for piece in rest.chunks(100_000) {
        assert!(matches!(peer.send_bytes(piece), Input::Wanted { expected } if expected <= 8), "it is kept");
    }
    peer.send(&[get(3, "k")]);
    assert_eq!(peer.effects(), [read("k")]);
}

#[test]
fn an_operation_that_nobody_knows_ends_the_connection() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    assert_eq!(peer.send_bytes(b"\x09\x05\x00\x01\x00\x07\x01\x00k"), Input::Closed);
    let [Message::Error(told)] = &peer.shown(&history)[..] else { panic!("not told") };
    assert_eq!(told.tag, Tag::new(5));
    assert!(peer.connection.is_finished());
}

#[test]
fn status_is_answered_in_its_turn() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[put(2, "k", "1", 1), Message::status(Tag::new(3), "")]);
    assert_eq!(peer.effects(), [commit("k", "1", 1)]);
    let own = history.put(Some(peer.connection.id()), "k", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.effects(), [Effect::Status]);
    peer.connection.handle_status("{}");
    assert_eq!(peer.shown(&history), [put(2, "k", "1", 1), Message::status(Tag::new(3), "{}")]);
}

#[test]
fn limits_hold_for_what_the_extension_asks() {
    let history = History::new();
    let limits = Limits { max_key: 3, ..Limits::default() };
    let mut peer = Peer::extended_within(limits, &history);
    let tag = Tag::new(2);
    for message in [
        Message::delete(tag, "long", Version::new(1)),
        watch(2, "long", 0),
        Message::list(tag, "long", "", 1),
        Message::list(tag, "", "long", 1),
    ] {
        peer.send(&[message]);
        assert_eq!(peer.shown(&history), [error(2, "too large: key of 4 bytes, expected at most 3")]);
    }
    assert_eq!(peer.effects(), []);
}

#[test]
fn a_deletion_is_told_as_one() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    history.commit([(OTHER, vec![delete("k", 3)])]);
    assert_eq!(peer.shown(&history), [deletion("k", 3), mark(0, 11)]);
    let list = List { tag: Tag::new(3), prefix: "".into(), after: "".into(), limit: 0 };
    peer.send(&[Message::List(list)]);
    assert_eq!(peer.shown(&history), [mark(3, 11)], "a LIST of nothing is over at once");
}
