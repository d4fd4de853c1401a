//! How a connection ends.

use crate::support::{
    History, ME, OTHER, Peer, accepted, broadcast, commit, entry, error, get, page, put, read, write,
};
use syncline_core::Outcome;
use syncline_core::server::{Effect, Input, PageRequest};
use syncline_wire::Revision;

#[test]
fn an_unknown_kind_is_answered_in_order_and_what_follows_is_not_taken_for_frames() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(1, "a"), put(2, "b", "1", 1)]);
    // What nobody knows, and what would be a GET.
    assert_eq!(peer.send_bytes(b"\x0c\x09\x00\x00\x00\x00\x0a\x00\x01\x00k"), Input::Closed);
    assert_eq!(peer.send(&[get(11, "k")]), Input::Closed);
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects(), [commit("b", "1", 1)]);
    peer.connection.handle_outcome(accepted(Revision::new(10)));
    assert!(!peer.connection.is_finished(), "the answers are not sent");
    let expected = [error(1, "\"a\": not found"), put(2, "b", "1", 1), error(9, "unknown message kind")];
    assert_eq!(peer.shown(&history), expected);
    assert!(peer.connection.is_finished());
}

#[test]
fn every_kind_from_12_on_is_unknown() {
    for kind in 12..=u8::MAX {
        let history = History::new();
        let mut peer = Peer::following(&history);
        assert_eq!(peer.send_bytes(&[kind, 0x34, 0x12]), Input::Closed);
        assert_eq!(peer.shown(&history), [error(0x1234, "unknown message kind")]);
        assert!(peer.connection.is_finished());
    }
}

#[test]
fn a_connection_without_requests_is_finished_at_its_end() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    assert!(!peer.connection.is_finished());
    peer.connection.handle_end();
    history.put(OTHER, "key", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert!(peer.connection.is_finished());
}

#[test]
fn what_was_asked_is_answered_after_the_end_though_broadcasts_keep_coming() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "mine", "1", 1), get(2, "mine")]);
    peer.connection.handle_end();
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    history.put(OTHER, "key", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "key", "2", 2);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.effects(), [read("mine")]);
    peer.connection.handle_entry(Ok(Some(entry("mine", "1", 1, own))));
    assert_eq!(peer.shown(&history), [broadcast("key", "1", 1), put(1, "mine", "1", 1), put(2, "mine", "1", 1)]);
    assert!(peer.connection.is_finished(), "no broadcast keeps it");
    history.put(OTHER, "key", "3", 3);
    assert_eq!(peer.shown(&history), []);
}

#[test]
fn a_reason_for_closing_comes_after_the_answers() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "mine", "1", 1), get(2, "a")]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    peer.connection.close("shutting down");
    peer.connection.close("again");
    assert_eq!(peer.send(&[get(3, "a")]), Input::Closed);
    assert_eq!(peer.shown(&history), []);
    assert!(!peer.connection.is_finished());
    history.put(OTHER, "key", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Ok(None));
    history.put(OTHER, "key", "2", 2);
    let expected = [
        broadcast("key", "1", 1),
        put(1, "mine", "1", 1),
        error(2, "\"a\": not found"),
        error(0, "unavailable: shutting down"),
    ];
    assert_eq!(peer.shown(&history), expected);
    assert!(peer.connection.is_finished());
}

#[test]
fn an_abandoned_connection_is_told_what_is_known_and_why_and_nothing_more() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "mine", "1", 1), get(2, "a"), error(3, "?")]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    history.put(OTHER, "key", "1", 1);
    peer.connection.handle_outcome(accepted(Revision::new(12)));
    peer.connection.abandon("too slow");
    assert_eq!(peer.send(&[get(4, "a")]), Input::Closed);
    assert_eq!(peer.effects(), []);
    assert!(!peer.connection.is_finished());
    assert_eq!(peer.shown(&history), [put(1, "mine", "1", 1), error(0, "unavailable: too slow")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn it_is_not_finished_before_the_last_byte_is_taken() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.connection.close("shutting down");
    peer.connection.handle_log(&history.log);
    while peer.take(1) == 1 {
        let left = !peer.connection.output().is_empty();
        assert_eq!(peer.connection.is_finished(), !left);
    }
    assert_eq!(peer.received(), [error(0, "unavailable: shutting down")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn one_that_ends_while_behind_still_gets_its_answers() {
    let mut history = History::keeping(0);
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "mine", "1", 1), get(2, "a")]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    history.put(OTHER, "a", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    peer.connection.handle_end();
    assert_eq!(peer.shown(&history), []);
    peer.connection.handle_outcome(accepted(own));
    let since = Revision::new(10);
    assert!(matches!(peer.effects()[..], [Effect::Page(PageRequest::Changes { since: asked, .. })] if asked == since));
    let entries = [entry("a", "1", 1, Revision::new(11)), entry("mine", "1", 1, own)];
    peer.handle_changes(Ok(page(entries, own)));
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Ok(Some(entry("a", "1", 1, Revision::new(11)))));
    history.commit([(OTHER, vec![write("a", "2", 2)])]);
    let expected = [broadcast("a", "1", 1), put(1, "mine", "1", 1), put(2, "a", "1", 1)];
    assert_eq!(peer.shown(&history), expected);
    assert!(peer.connection.is_finished());
}

#[test]
fn a_write_of_which_nothing_is_known_is_not_answered_and_ends_the_connection() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "a", "1", 1), put(2, "b", "1", 1), get(3, "a")]);
    assert_eq!(peer.effects(), [commit("a", "1", 1), commit("b", "1", 1)]);
    for _ in 0..2 {
        peer.connection.handle_outcome(Outcome::Unknown { reason: "the disk has failed".into() });
    }
    assert_eq!(peer.effects(), []);
    assert_eq!(peer.shown(&history), [error(0, "unavailable: the disk has failed")]);
    assert!(peer.connection.is_finished());
}
