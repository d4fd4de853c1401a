//! The extension: what a connection may request after HELLO, and which frames it is sent then.

use crate::support::{
    ALL_DECODED, Harness, History, OTHER, accepted, broadcast, commit_effect, delete_operation, deletion, entry, error,
    get, get_effect, hello, mark, put, server_hello, stale, tombstone, watch,
};
use bytes::{BufMut, BytesMut};
use syncline_core::server::{Access, Effect, Input, Limits, StatusScope};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Kind, List, Message, Revision, Tag, Version};

fn large(tag: u16, key: &'static str, length: usize, version: u64) -> Message {
    Message::put_large(Tag::new(tag), key, vec![b'v'; length], Version::new(version))
}

/// Returns limits that allow values which need a PUTL.
fn large_limits() -> Limits {
    Limits { max_entry: 100_000, ..Limits::default() }
}

#[test]
fn hello_ends_the_broadcasts() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    history.put(OTHER, "a", "1", 1);
    harness.send(&[hello(7)]);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(
        harness.show_log(&history),
        [server_hello(7, 12)],
        "commits that were not broadcast before HELLO are not broadcast"
    );
    history.put(OTHER, "c", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.connection.cursor(), None);
}

#[test]
fn hello_waits_for_earlier_requests_and_delays_later_ones() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "mine", "1", 1), hello(2), get(3, "gone")]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)], "requests after HELLO wait for it");
    history.put(OTHER, "a", "1", 1);
    let own = history.put(Some(harness.connection.id()), "mine", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [broadcast("a", "1", 1), put(1, "mine", "1", 1), server_hello(2, 12)]);
    assert_eq!(harness.effects(), [get_effect("gone")]);
    harness.connection.handle_entry(Ok(Some(tombstone("gone", 7, Revision::new(3)))));
    let response = Message::delete(Tag::new(3), "gone", Version::new(7));
    assert_eq!(harness.show_log(&history), [response], "a DELETE, because it follows HELLO");
}

#[test]
fn a_second_hello_is_refused() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    assert_eq!(harness.send(&[hello(9)]), ALL_DECODED);
    assert_eq!(harness.show_log(&history), [error(9, "messages of kind HELLO cannot be applied")]);
}

#[test]
fn the_extension_is_refused_before_hello_and_the_connection_stays() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    let tag = Tag::new(5);
    let requests = [
        (Message::delete(tag, "k", Version::new(1)), "DELETE"),
        (watch(5, "", 0), "WATCH"),
        (mark(5, 0), "MARK"),
        (Message::list(tag, "", "", 1), "LIST"),
        (Message::txn(tag, vec![]), "TXN"),
        (large(5, "k", 70_000, 1), "PUTL"),
        (Message::status(tag, ""), "STATUS"),
    ];
    for (message, kind) in requests {
        assert_eq!(harness.send(&[message]), ALL_DECODED);
        let text = format!("messages of kind {kind} cannot be applied before HELLO");
        assert_eq!(harness.show_log(&history), [error(5, text)]);
        assert_eq!(harness.effects(), []);
    }
}

#[test]
fn an_unauthenticated_connection_cannot_send_hello() {
    let history = History::new();
    let mut harness = Harness::new(Access::Password, Limits::default());
    harness.send(&[hello(1), Message::list(Tag::new(2), "", "", 1)]);
    let expected = [1, 2].map(|tag| error(tag, "go away, bad message type"));
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn a_get_after_hello_returns_tombstones_and_large_values() {
    let history = History::new();
    let mut harness = Harness::extended_within(large_limits(), &history);
    for (found, response) in [
        (Some(entry("k", "v", 3, Revision::new(5))), put(2, "k", "v", 3)),
        (Some(tombstone("k", 4, Revision::new(5))), Message::delete(Tag::new(2), "k", Version::new(4))),
        (Some(entry("k", vec![b'v'; 65_524], 3, Revision::new(5))), put(2, "k", vec![b'v'; 65_524], 3)),
        (Some(entry("k", vec![b'v'; 65_525], 3, Revision::new(5))), large(2, "k", 65_525, 3)),
        (None, error(2, "\"k\": not found")),
    ] {
        harness.send(&[get(2, "k")]);
        assert_eq!(harness.effects(), [get_effect("k")]);
        harness.connection.handle_entry(Ok(found));
        assert_eq!(harness.show_log(&history), [response]);
    }
}

#[test]
fn a_delete_is_accepted_or_stale_as_a_put_is() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    let request = Message::delete(Tag::new(2), "k", Version::new(5));
    harness.send(&[request.clone(), Message::delete(Tag::new(3), "k", Version::new(5))]);
    let transaction =
        Transaction { origin: Some(harness.connection.id()), operations: [delete_operation("k", 5)].into() };
    let effect = || Effect::Commit { transaction: transaction.clone() };
    assert_eq!(harness.effects(), [effect(), effect()]);
    let revision = history.commit([(Some(harness.connection.id()), vec![delete_operation("k", 5)])]);
    harness.connection.handle_outcome(accepted(revision));
    harness.connection.handle_outcome(stale(revision));
    assert_eq!(harness.show_log(&history), [request, error(3, "stale put")]);
}

#[test]
fn the_last_version_is_left_for_a_delete() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[Message::delete(Tag::new(2), "k", Version::MAX), put(3, "k", "", u64::MAX)]);
    assert!(matches!(harness.effects()[..], [Effect::Commit { .. }]));
    let txn =
        Message::txn(Tag::new(4), vec![Operation::Put { key: "k".into(), value: "".into(), version: Version::MAX }]);
    harness.send(&[txn]);
    harness.connection.handle_outcome(stale(Revision::new(1)));
    let expected = [error(2, "stale put"), error(3, "version exhausted"), error(4, "version exhausted")];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn a_large_value_is_sent_as_putl_in_both_directions() {
    let mut history = History::new();
    let mut harness = Harness::extended_within(large_limits(), &history);
    let request = large(2, "k", 70_000, 1);
    harness.send(std::slice::from_ref(&request));
    let [Effect::Commit { transaction }] = &harness.effects()[..] else { panic!("no commit") };
    assert!(matches!(&transaction.operations[..], [Operation::Put { value, .. }] if value.len() == 70_000));
    let revision = history.commit([(transaction.origin, transaction.operations.to_vec())]);
    harness.connection.handle_outcome(accepted(revision));
    assert_eq!(harness.show_log(&history), [request]);

    let mut watcher = Harness::watching("", &history);
    let mut base = Harness::following(&history);
    let revision = history.commit([(OTHER, transaction.operations.to_vec())]);
    assert_eq!(watcher.show_log(&history), [large(0, "k", 70_000, 1), mark(0, revision)]);
    assert_eq!(base.show_log(&history), []);
}

#[test]
fn each_size_has_one_frame() {
    let history = History::new();
    let mut harness = Harness::extended_within(large_limits(), &history);
    harness.send(&[large(2, "k", 65_524, 1), put(3, "k", vec![b'v'; 65_525], 1), large(4, "k", 100_000, 1)]);
    assert_eq!(harness.effects(), []);
    let expected = [
        error(2, "key and value of 65525 bytes together: expected a PUT, and PUTL only above 65525 bytes"),
        error(3, "too large: key and value of 65526 bytes together, expected at most 65525"),
        error(4, "too large: key and value of 100001 bytes together, expected at most 100000"),
    ];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn no_putl_is_accepted_by_default() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[large(2, "k", 65_525, 1)]);
    let text = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(harness.show_log(&history), [error(2, text)]);
}

#[test]
fn a_frame_with_a_length_of_megabytes_is_skipped() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    let claimed = 3_000_000_u32;
    let mut head = BytesMut::new();
    head.put_u8(Kind::PutLarge.byte());
    head.put_u16_le(2);
    head.put_slice(b"\x01\x00k");
    head.put_u32_le(claimed);
    assert!(matches!(harness.send_bytes(&head), Input::Wanted { .. }));
    let [Message::Error(error)] = &harness.show_log(&history)[..] else {
        panic!("expected an ERROR before the frame is complete")
    };
    assert_eq!(error.tag, Tag::new(2));
    assert!(
        error.text.starts_with(b"too large: PUTL of 3000018 bytes, expected key and value of at most "),
        "{error:?}"
    );
    // The frame is skipped as it arrives, and the next frame is decoded.
    let rest = vec![0; claimed as usize + 8];
    for piece in rest.chunks(100_000) {
        assert!(matches!(harness.send_bytes(piece), Input::Wanted { expected } if expected <= 8), "the bytes are kept");
    }
    harness.send(&[get(3, "k")]);
    assert_eq!(harness.effects(), [get_effect("k")]);
}

#[test]
fn an_unknown_operation_ends_the_connection() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    assert_eq!(harness.send_bytes(b"\x09\x05\x00\x01\x00\x07\x01\x00k"), Input::Closed);
    let [Message::Error(error)] = &harness.show_log(&history)[..] else { panic!("expected an ERROR") };
    assert_eq!(error.tag, Tag::new(5));
    assert!(harness.connection.is_finished());
}

#[test]
fn status_is_completed_in_the_order_of_the_requests() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[put(2, "k", "1", 1), Message::status(Tag::new(3), "")]);
    assert_eq!(harness.effects(), [commit_effect("k", "1", 1)]);
    let own = history.put(Some(harness.connection.id()), "k", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.effects(), [Effect::Status(StatusScope::Everything)]);
    harness.connection.handle_status("{}");
    assert_eq!(harness.show_log(&history), [put(2, "k", "1", 1), Message::status(Tag::new(3), "{}")]);
}

#[test]
fn limits_apply_to_the_requests_of_the_extension() {
    let history = History::new();
    let limits = Limits { max_key: 3, ..Limits::default() };
    let mut harness = Harness::extended_within(limits, &history);
    let tag = Tag::new(2);
    for message in [
        Message::delete(tag, "long", Version::new(1)),
        watch(2, "long", 0),
        Message::list(tag, "long", "", 1),
        Message::list(tag, "", "long", 1),
    ] {
        harness.send(&[message]);
        assert_eq!(harness.show_log(&history), [error(2, "too large: key of 4 bytes, expected at most 3")]);
    }
    assert_eq!(harness.effects(), []);
}

#[test]
fn a_watcher_is_sent_a_deletion_as_a_delete() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    history.commit([(OTHER, vec![delete_operation("k", 3)])]);
    assert_eq!(harness.show_log(&history), [deletion("k", 3), mark(0, 11)]);
    let list = List { tag: Tag::new(3), prefix: "".into(), after: "".into(), limit: 0 };
    harness.send(&[Message::List(list)]);
    assert_eq!(harness.show_log(&history), [mark(3, 11)], "a LIST of no keys completes at once");
}
