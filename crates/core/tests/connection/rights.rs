//! Restricted rights: which requests are refused, and which changes a connection is sent.

use crate::support::{
    ALL_DECODED, Harness, History, OTHER, auth, broadcast, commit_effect, deletion, entry, error, get, get_effect,
    hello, mark, page, put, put_operation, server_hello, tombstone, watch,
};
use bytes::Bytes;
use std::sync::Arc;
use syncline_core::server::{Access, Effect, Limits, PageRequest, StatusScope};
use syncline_core::{Operation, Rights};
use syncline_wire::{Delete, Message, PutLarge, Revision, Tag, Txn, Version};

fn rights(read: &[&'static str], write: &[&'static str]) -> Arc<Rights> {
    let prefixes = |prefixes: &[&'static str]| prefixes.iter().map(|prefix| Bytes::from(*prefix)).collect::<Vec<_>>();
    Arc::new(Rights::new(prefixes(read), prefixes(write)))
}

/// Returns a base connection that may read and write keys under these prefixes.
fn restricted(read: &[&'static str], write: &[&'static str], history: &History) -> Harness {
    let mut harness = Harness::new(Access::Granted(rights(read, write)), Limits::default());
    harness.connection.handle_log(&history.log);
    harness
}

/// Returns the same connection after HELLO.
fn extended(read: &[&'static str], write: &[&'static str], history: &History) -> Harness {
    let mut harness = restricted(read, write, history);
    harness.send(&[hello(1)]);
    assert_eq!(harness.show_log(history), [server_hello(1, history.log.head().get())]);
    harness
}

const TAG: Tag = Tag::new(7);

fn version(version: u64) -> Version {
    Version::new(version)
}

/// Returns one request of each kind that names a key, each with the end of the text that refuses it.
fn requests(key: &'static str) -> [(Message, String); 9] {
    let (to_read, to_write) = (format!("to read \"{key}\""), format!("to write \"{key}\""));
    let under = format!("to read everything under \"{key}\"");
    let txn = |operation| Message::Txn(Txn { tag: TAG, operations: vec![operation] });
    let large = Bytes::from(vec![b'v'; 70_000]);
    [
        (Message::get(TAG, key), to_read.clone()),
        (Message::put(TAG, key, "v", version(1)), to_write.clone()),
        (Message::Delete(Delete { tag: TAG, key: key.into(), version: version(1) }), to_write.clone()),
        (
            Message::PutLarge(PutLarge { tag: TAG, key: key.into(), value: large, version: version(1) }),
            to_write.clone(),
        ),
        (txn(Operation::Check { key: key.into(), version: version(1) }), to_read),
        (txn(Operation::Put { key: key.into(), value: "v".into(), version: version(1) }), to_write.clone()),
        (txn(Operation::Delete { key: key.into(), version: version(1) }), to_write),
        (watch(7, key, 0), under.clone()),
        (Message::list(TAG, key, "", 9), under),
    ]
}

#[test]
fn each_request_needs_its_right_and_no_other() {
    let history = History::new();
    let limits = Limits { max_entry: 100_000, ..Limits::default() };
    for (request, missing) in requests("a/key") {
        let needs_to_write = missing.contains("write");
        for (granted, is_enough) in [
            (rights(&[], &[]), false),
            (rights(&["a/"], &[]), !needs_to_write),
            (rights(&[], &["a/"]), needs_to_write),
            (rights(&["a/key/"], &["a/key/"]), false),
            (rights(&["b", "a/kex", "a/kez"], &["b", "a/kex", "a/kez"]), false),
            (rights(&["b", "a/key"], &["b", "a/key"]), true),
            (rights(&[""], &[""]), true),
            (Arc::new(Rights::all()), true),
        ] {
            let mut harness = Harness::new(Access::Granted(granted.clone()), limits);
            harness.connection.handle_log(&history.log);
            harness.send(&[hello(1)]);
            harness.show_log(&history);
            harness.send(std::slice::from_ref(&request));
            let sent = harness.show_log(&history);
            if is_enough {
                assert_eq!((sent.len(), harness.effects().len()), (0, 1), "{request} of {granted:?}");
            } else {
                let text = format!("not permitted: expected the right {missing}");
                assert_eq!(sent, [error(7, text)], "{request} of {granted:?}");
                assert_eq!(harness.effects(), [], "no effect, so the refusal does not depend on the store");
            }
        }
    }
}

#[test]
fn without_the_rights_of_an_admin_the_status_is_health_alone() {
    let history = History::new();
    for (read, write) in [(&[][..], &[][..]), (&["a"], &["a"]), (&[""], &[""])] {
        let mut other = extended(read, write, &history);
        other.send(&[Message::status(TAG, "")]);
        assert_eq!(other.effects(), [Effect::Status(StatusScope::Health)], "{read:?} {write:?}");
        other.connection.handle_status("{}");
        assert_eq!(other.show_log(&history), [Message::status(TAG, "{}")]);
    }
    let mut admin = Harness::extended(&history);
    admin.send(&[Message::status(TAG, "")]);
    assert_eq!(admin.effects(), [Effect::Status(StatusScope::Everything)]);
}

#[test]
fn a_connection_is_base_from_authentication_to_hello() {
    let history = History::new();
    let mut harness = Harness::new(Access::Password, Limits::default());
    assert!(!harness.connection.is_base(), "it is not authenticated");
    harness.send(&[auth(1, "secret")]);
    harness.effects();
    harness.connection.handle_verdict(Some(Arc::new(Rights::all())));
    harness.show_log(&history);
    assert!(harness.connection.is_base());
    harness.send(&[hello(2)]);
    harness.show_log(&history);
    assert!(!harness.connection.is_base());
}

#[test]
fn a_client_without_rights_may_send_hello_and_a_barrier() {
    let history = History::new();
    let mut harness = extended(&[], &[], &history);
    harness.send(&[Message::mark(Tag::new(2), Revision::ZERO)]);
    assert_eq!(harness.show_log(&history), [mark(2, 10)]);
    assert_eq!(harness.connection.cursor(), None);
}

#[test]
fn a_txn_needs_the_rights_of_all_its_operations() {
    let history = History::new();
    let check = |key: &'static str| Operation::Check { key: key.into(), version: version(1) };
    let put = |key: &'static str| Operation::Put { key: key.into(), value: "v".into(), version: version(1) };
    let mut harness = extended(&["r"], &["w"], &history);
    for (operations, missing) in [
        (vec![check("r"), put("w"), check("w2"), put("r2")], "read \"w2\""),
        (vec![check("r"), put("w"), put("r2"), check("w2")], "write \"r2\""),
        (vec![put("elsewhere")], "write \"elsewhere\""),
    ] {
        harness.send(&[Message::Txn(Txn { tag: TAG, operations })]);
        assert_eq!(harness.effects(), []);
        assert_eq!(harness.show_log(&history), [error(7, format!("not permitted: expected the right to {missing}"))]);
    }
    harness.send(&[Message::Txn(Txn { tag: TAG, operations: vec![check("r"), put("w")] })]);
    assert!(matches!(harness.effects()[..], [Effect::Commit { .. }]));
}

#[test]
fn refusals_are_sent_in_the_order_of_the_requests() {
    let history = History::new();
    let mut harness = restricted(&["a"], &[], &history);
    assert_eq!(harness.send(&[get(1, "a"), put(2, "a", "v", 1), get(3, "b"), get(4, "a")]), ALL_DECODED);
    assert_eq!(harness.effects(), [get_effect("a"), get_effect("a")]);
    harness.connection.handle_entry(Ok(None));
    let refused = [
        error(2, "not permitted: expected the right to write \"a\""),
        error(3, "not permitted: expected the right to read \"b\""),
    ];
    let [second, third] = refused;
    assert_eq!(harness.show_log(&history), [error(1, "\"a\": not found"), second, third]);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.show_log(&history), [error(4, "\"a\": not found")]);
}

#[test]
fn a_base_connection_is_sent_only_what_it_may_read() {
    let mut history = History::new();
    let mut some = restricted(&["a/", "c"], &[], &history);
    let mut none = restricted(&[], &["a/"], &history);
    history.commit([
        (OTHER, vec![put_operation("a/1", "1", 1), put_operation("b", "1", 1), put_operation("c", "1", 1)]),
        (OTHER, vec![put_operation("a", "1", 1)]),
        (OTHER, vec![Operation::Delete { key: "a/1".into(), version: version(2) }, put_operation("d", "1", 1)]),
    ]);
    assert_eq!(some.show_log(&history), [broadcast("a/1", "1", 1), broadcast("c", "1", 1), broadcast("a/1", "", 2)]);
    assert_eq!(none.show_log(&history), []);
    assert_eq!(none.connection.cursor(), None, "the connection follows nothing");
    let last = history.put(OTHER, "b", "2", 2);
    assert_eq!(some.show_log(&history), []);
    assert_eq!(some.connection.cursor(), Some(last));
}

#[test]
fn catch_up_sends_a_base_connection_only_what_it_may_read() {
    let mut history = History::keeping(0);
    let mut some = restricted(&["a/", "c"], &[], &history);
    let first = history.put(OTHER, "a/1", "1", 1);
    let second = history.put(OTHER, "b", "1", 1);
    let third = history.put(OTHER, "c", "1", 1);
    assert_eq!(some.show_log(&history), []);
    let page_request =
        Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: Revision::new(10), max_bytes: 128 * 1024 });
    assert_eq!(some.effects(), [page_request]);
    let entries = [entry("a/1", "1", 1, first), entry("b", "1", 1, second), tombstone("c", 1, third)];
    some.handle_changes(Ok(page(entries, third)));
    assert_eq!(some.show_log(&history), [broadcast("a/1", "1", 1), broadcast("c", "", 1)]);
    // If everything that it may read has one prefix, the page has that prefix.
    let mut one = restricted(&["a/"], &[], &history);
    history.put(OTHER, "a/1", "2", 2);
    one.show_log(&history);
    let page_request = Effect::Page(PageRequest::Changes { prefix: "a/".into(), since: third, max_bytes: 128 * 1024 });
    assert_eq!(one.effects(), [page_request]);
}

#[test]
fn after_hello_only_watched_keys_are_sent() {
    let mut history = History::new();
    let mut harness = extended(&["a/", "b/"], &[], &history);
    harness.send(&[watch(2, "a/x", 9)]);
    harness.show_log(&history);
    assert!(matches!(harness.effects()[..], [Effect::Page(PageRequest::Changes { .. })]));
    harness.handle_changes(Ok(page([], Revision::new(10))));
    assert_eq!(harness.show_log(&history), [mark(2, 10)]);
    harness.send(&[watch(3, "a", 0), watch(4, "", 0)]);
    let everything = |prefix| format!("not permitted: expected the right to read everything under \"{prefix}\"");
    assert_eq!(harness.show_log(&history), [error(3, everything("a")), error(4, everything(""))]);
    let last = history.commit([(
        OTHER,
        vec![
            put_operation("a/x", "1", 1),
            put_operation("a/y", "1", 1),
            put_operation("b/x", "1", 1),
            put_operation("c", "1", 1),
        ],
    )]);
    assert_eq!(harness.show_log(&history), [broadcast("a/x", "1", 1), mark(0, last)]);
    let last = history.commit([(OTHER, vec![Operation::Delete { key: "a/x".into(), version: version(2) }])]);
    assert_eq!(harness.show_log(&history), [deletion("a/x", 2), mark(0, last)]);
}

#[test]
fn a_password_gives_the_rights_of_its_verdict() {
    let mut history = History::new();
    let mut harness = Harness::new(Access::Password, Limits::default());
    harness.send(&[auth(1, "tony:secret")]);
    harness.effects();
    assert_eq!(harness.connection.rights(), None);
    let granted = rights(&["a/"], &["b/"]);
    harness.connection.handle_verdict(Some(granted.clone()));
    assert_eq!(harness.connection.rights(), Some(&granted));
    assert_eq!(harness.show_log(&history), [auth(1, "")]);
    history.commit([(OTHER, vec![put_operation("a/1", "1", 1), put_operation("c", "1", 1)])]);
    assert_eq!(harness.show_log(&history), [broadcast("a/1", "1", 1)]);
    harness.send(&[put(2, "b/1", "1", 1), put(3, "a/1", "2", 2)]);
    assert_eq!(harness.effects(), [commit_effect("b/1", "1", 1)]);
}

#[test]
fn an_abandoned_connection_is_sent_no_later_commits() {
    let mut history = History::new();
    let mut harness = restricted(&["a/"], &[], &history);
    history.put(OTHER, "a/1", "1", 1);
    harness.connection.abandon("the rights of this user have changed");
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: the rights of this user have changed")]);
    assert!(harness.connection.is_finished());
}
