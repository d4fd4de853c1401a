//! What somebody may do who may not do everything.

use crate::support::{
    ALL_TAKEN, History, OTHER, Peer, auth, broadcast, commit, deletion, entry, error, get, greeting, hello, mark, page,
    put, read, tombstone, watch, write,
};
use bytes::Bytes;
use std::sync::Arc;
use syncline_core::server::{Access, Effect, Limits, PageRequest};
use syncline_core::{Operation, Rights};
use syncline_wire::{Delete, Message, PutLarge, Revision, Tag, Txn, Version};

fn rights(read: &[&'static str], write: &[&'static str]) -> Arc<Rights> {
    let prefixes = |prefixes: &[&'static str]| prefixes.iter().map(|prefix| Bytes::from(*prefix)).collect::<Vec<_>>();
    Arc::new(Rights::new(prefixes(read), prefixes(write)))
}

/// A base connection of somebody who may read and write so much.
fn peer(read: &[&'static str], write: &[&'static str], history: &History) -> Peer {
    let mut peer = Peer::new(Access::Granted(rights(read, write)), Limits::default());
    peer.connection.handle_log(&history.log);
    peer
}

/// The same, which has said HELLO.
fn extended(read: &[&'static str], write: &[&'static str], history: &History) -> Peer {
    let mut peer = peer(read, write, history);
    peer.send(&[hello(1)]);
    assert_eq!(peer.shown(history), [greeting(1, history.log.head().get())]);
    peer
}

const TAG: Tag = Tag::new(7);

fn version(version: u64) -> Version {
    Version::new(version)
}

/// Every request that names a key, made of one; and the text that refuses it.
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
fn every_request_needs_its_right_and_no_other() {
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
            let mut peer = Peer::new(Access::Granted(granted.clone()), limits);
            peer.connection.handle_log(&history.log);
            peer.send(&[hello(1)]);
            peer.shown(&history);
            peer.send(std::slice::from_ref(&request));
            let told = peer.shown(&history);
            if is_enough {
                assert_eq!((told.len(), peer.effects().len()), (0, 1), "{request} of {granted:?}");
            } else {
                let text = format!("not permitted: expected the right {missing}");
                assert_eq!(told, [error(7, text)], "{request} of {granted:?}");
                assert_eq!(peer.effects(), [], "nothing is looked up: whether the key is there can't be told");
            }
        }
    }
}

#[test]
fn how_the_server_is_only_an_admin_is_told() {
    let history = History::new();
    let mut other = extended(&[""], &[""], &history);
    other.send(&[Message::status(TAG, "")]);
    assert_eq!(other.effects(), []);
    assert_eq!(other.shown(&history), [error(7, "not permitted: expected the rights of an admin")]);
    let mut admin = Peer::extended(&history);
    admin.send(&[Message::status(TAG, "")]);
    assert_eq!(admin.effects(), [Effect::Status]);
}

#[test]
fn whoever_may_do_nothing_may_still_say_hello_and_wait() {
    let history = History::new();
    let mut peer = extended(&[], &[], &history);
    peer.send(&[Message::mark(Tag::new(2), Revision::ZERO)]);
    assert_eq!(peer.shown(&history), [mark(2, 10)]);
    assert_eq!(peer.connection.cursor(), None);
}

#[test]
fn a_transaction_needs_the_rights_of_all_its_operations_and_names_the_first_that_is_missing() {
    let history = History::new();
    let check = |key: &'static str| Operation::Check { key: key.into(), version: version(1) };
    let put = |key: &'static str| Operation::Put { key: key.into(), value: "v".into(), version: version(1) };
    let mut peer = extended(&["r"], &["w"], &history);
    for (operations, missing) in [
        (vec![check("r"), put("w"), check("w2"), put("r2")], "read \"w2\""),
        (vec![check("r"), put("w"), put("r2"), check("w2")], "write \"r2\""),
        (vec![put("elsewhere")], "write \"elsewhere\""),
    ] {
        peer.send(&[Message::Txn(Txn { tag: TAG, operations })]);
        assert_eq!(peer.effects(), []);
        assert_eq!(peer.shown(&history), [error(7, format!("not permitted: expected the right to {missing}"))]);
    }
    peer.send(&[Message::Txn(Txn { tag: TAG, operations: vec![check("r"), put("w")] })]);
    assert!(matches!(peer.effects()[..], [Effect::Commit { .. }]));
}

#[test]
fn what_is_refused_keeps_its_place_among_the_answers() {
    let history = History::new();
    let mut peer = peer(&["a"], &[], &history);
    assert_eq!(peer.send(&[get(1, "a"), put(2, "a", "v", 1), get(3, "b"), get(4, "a")]), ALL_TAKEN);
    assert_eq!(peer.effects(), [read("a"), read("a")]);
    peer.connection.handle_entry(Ok(None));
    let refused = [
        error(2, "not permitted: expected the right to write \"a\""),
        error(3, "not permitted: expected the right to read \"b\""),
    ];
    let [second, third] = refused;
    assert_eq!(peer.shown(&history), [error(1, "\"a\": not found"), second, third]);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.shown(&history), [error(4, "\"a\": not found")]);
}

#[test]
fn a_base_connection_is_sent_what_it_may_read() {
    let mut history = History::new();
    let mut some = peer(&["a/", "c"], &[], &history);
    let mut none = peer(&[], &["a/"], &history);
    history.commit([
        (OTHER, vec![write("a/1", "1", 1), write("b", "1", 1), write("c", "1", 1)]),
        (OTHER, vec![write("a", "1", 1)]),
        (OTHER, vec![Operation::Delete { key: "a/1".into(), version: version(2) }, write("d", "1", 1)]),
    ]);
    assert_eq!(some.shown(&history), [broadcast("a/1", "1", 1), broadcast("c", "1", 1), broadcast("a/1", "", 2)]);
    assert_eq!(none.shown(&history), []);
    assert_eq!(none.connection.cursor(), None, "it follows nothing");
    let everything_later = history.put(OTHER, "b", "2", 2);
    assert_eq!(some.shown(&history), []);
    assert_eq!(some.connection.cursor(), Some(everything_later));
}

#[test]
fn a_base_connection_is_sent_what_it_may_read_when_it_catches_up() {
    let mut history = History::keeping(0);
    let mut some = peer(&["a/", "c"], &[], &history);
    let first = history.put(OTHER, "a/1", "1", 1);
    let second = history.put(OTHER, "b", "1", 1);
    let third = history.put(OTHER, "c", "1", 1);
    assert_eq!(some.shown(&history), []);
    let asked =
        Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: Revision::new(10), max_bytes: 128 * 1024 });
    assert_eq!(some.effects(), [asked]);
    let entries = [entry("a/1", "1", 1, first), entry("b", "1", 1, second), tombstone("c", 1, third)];
    some.handle_changes(Ok(page(entries, third)));
    assert_eq!(some.shown(&history), [broadcast("a/1", "1", 1), broadcast("c", "", 1)]);
    // Where all that it may read is under one prefix, the store is asked for no more.
    let mut one = peer(&["a/"], &[], &history);
    history.put(OTHER, "a/1", "2", 2);
    one.shown(&history);
    let asked = Effect::Page(PageRequest::Changes { prefix: "a/".into(), since: third, max_bytes: 128 * 1024 });
    assert_eq!(one.effects(), [asked]);
}

#[test]
fn after_hello_only_what_is_watched_is_sent() {
    let mut history = History::new();
    let mut peer = extended(&["a/", "b/"], &[], &history);
    peer.send(&[watch(2, "a/x", 9)]);
    peer.shown(&history);
    assert!(matches!(peer.effects()[..], [Effect::Page(PageRequest::Changes { .. })]));
    peer.handle_changes(Ok(page([], Revision::new(10))));
    assert_eq!(peer.shown(&history), [mark(2, 10)]);
    peer.send(&[watch(3, "a", 0), watch(4, "", 0)]);
    let everything = |prefix| format!("not permitted: expected the right to read everything under \"{prefix}\"");
    assert_eq!(peer.shown(&history), [error(3, everything("a")), error(4, everything(""))]);
    let last = history
        .commit([(OTHER, vec![write("a/x", "1", 1), write("a/y", "1", 1), write("b/x", "1", 1), write("c", "1", 1)])]);
    assert_eq!(peer.shown(&history), [broadcast("a/x", "1", 1), mark(0, last)]);
    let last = history.commit([(OTHER, vec![Operation::Delete { key: "a/x".into(), version: version(2) }])]);
    assert_eq!(peer.shown(&history), [deletion("a/x", 2), mark(0, last)]);
}

#[test]
fn a_password_gives_the_rights_that_the_verdict_says() {
    let mut history = History::new();
    let mut peer = Peer::new(Access::Password, Limits::default());
    peer.send(&[auth(1, "tony:secret")]);
    peer.effects();
    assert_eq!(peer.connection.rights(), None);
    let granted = rights(&["a/"], &["b/"]);
    peer.connection.handle_verdict(Some(granted.clone()));
    assert_eq!(peer.connection.rights(), Some(&granted));
    assert_eq!(peer.shown(&history), [auth(1, "")]);
    history.commit([(OTHER, vec![write("a/1", "1", 1), write("c", "1", 1)])]);
    assert_eq!(peer.shown(&history), [broadcast("a/1", "1", 1)]);
    peer.send(&[put(2, "b/1", "1", 1), put(3, "a/1", "2", 2)]);
    assert_eq!(peer.effects(), [commit("b/1", "1", 1)]);
}

#[test]
fn whose_rights_are_taken_away_is_told_of_nothing_that_came_later() {
    let mut history = History::new();
    let mut peer = peer(&["a/"], &[], &history);
    history.put(OTHER, "a/1", "1", 1);
    peer.connection.abandon("the rights of this user have changed");
    assert_eq!(peer.shown(&history), [error(0, "unavailable: the rights of this user have changed")]);
    assert!(peer.connection.is_finished());
}
