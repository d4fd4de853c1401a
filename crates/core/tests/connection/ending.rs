//! The end of a connection: at the end of its input, closed by the server, or abandoned.

use crate::support::{
    Harness, History, ME, OTHER, accepted, broadcast, commit_effect, entry, error, get, get_effect, page, put,
    put_operation,
};
use syncline_core::Outcome;
use syncline_core::server::{Effect, Input, PageRequest};
use syncline_wire::Revision;

#[test]
fn an_unknown_kind_is_refused_in_order_and_ends_decoding() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(1, "a"), put(2, "b", "1", 1)]);
    // An unknown kind, and bytes that would be a GET.
    assert_eq!(harness.send_bytes(b"\x0c\x09\x00\x00\x00\x00\x0a\x00\x01\x00k"), Input::Closed);
    assert_eq!(harness.send(&[get(11, "k")]), Input::Closed);
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects(), [commit_effect("b", "1", 1)]);
    harness.connection.handle_outcome(accepted(Revision::new(10)));
    assert!(!harness.connection.is_finished(), "the responses are not sent");
    let expected = [error(1, "\"a\": not found"), put(2, "b", "1", 1), error(9, "unknown message kind")];
    assert_eq!(harness.show_log(&history), expected);
    assert!(harness.connection.is_finished());
}

#[test]
fn every_kind_from_12_on_is_unknown() {
    for kind in 12..=u8::MAX {
        let history = History::new();
        let mut harness = Harness::following(&history);
        assert_eq!(harness.send_bytes(&[kind, 0x34, 0x12]), Input::Closed);
        assert_eq!(harness.show_log(&history), [error(0x1234, "unknown message kind")]);
        assert!(harness.connection.is_finished());
    }
}

#[test]
fn an_idle_connection_is_finished_at_the_end_of_its_input() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    assert!(!harness.connection.is_finished());
    harness.connection.handle_end();
    history.put(OTHER, "key", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert!(harness.connection.is_finished());
}

#[test]
fn requests_are_completed_after_the_end_of_the_input() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "mine", "1", 1), get(2, "mine")]);
    harness.connection.handle_end();
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    history.put(OTHER, "key", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "key", "2", 2);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.effects(), [get_effect("mine")]);
    harness.connection.handle_entry(Ok(Some(entry("mine", "1", 1, own))));
    assert_eq!(harness.show_log(&history), [broadcast("key", "1", 1), put(1, "mine", "1", 1), put(2, "mine", "1", 1)]);
    assert!(harness.connection.is_finished(), "later broadcasts do not keep the connection");
    history.put(OTHER, "key", "3", 3);
    assert_eq!(harness.show_log(&history), []);
}

#[test]
fn the_reason_for_closing_comes_after_the_responses() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "mine", "1", 1), get(2, "a")]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    harness.connection.close("shutting down");
    harness.connection.close("again");
    assert_eq!(harness.send(&[get(3, "a")]), Input::Closed);
    assert_eq!(harness.show_log(&history), []);
    assert!(!harness.connection.is_finished());
    history.put(OTHER, "key", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Ok(None));
    history.put(OTHER, "key", "2", 2);
    let expected = [
        broadcast("key", "1", 1),
        put(1, "mine", "1", 1),
        error(2, "\"a\": not found"),
        error(0, "unavailable: shutting down"),
    ];
    assert_eq!(harness.show_log(&history), expected);
    assert!(harness.connection.is_finished());
}

#[test]
fn an_abandoned_connection_is_sent_known_responses_and_the_reason() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "mine", "1", 1), get(2, "a"), error(3, "?")]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    history.put(OTHER, "key", "1", 1);
    harness.connection.handle_outcome(accepted(Revision::new(12)));
    harness.connection.abandon("too slow");
    assert_eq!(harness.send(&[get(4, "a")]), Input::Closed);
    assert_eq!(harness.effects(), []);
    assert!(!harness.connection.is_finished());
    assert_eq!(harness.show_log(&history), [put(1, "mine", "1", 1), error(0, "unavailable: too slow")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn a_connection_is_finished_when_its_last_byte_is_written() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.connection.close("shutting down");
    harness.connection.handle_log(&history.log);
    while harness.read(1) == 1 {
        let has_output = !harness.connection.output().is_empty();
        assert_eq!(harness.connection.is_finished(), !has_output);
    }
    assert_eq!(harness.frames(), [error(0, "unavailable: shutting down")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn requests_are_completed_after_the_end_during_catch_up() {
    let mut history = History::keeping(0);
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "mine", "1", 1), get(2, "a")]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    history.put(OTHER, "a", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    harness.connection.handle_end();
    assert_eq!(harness.show_log(&history), []);
    harness.connection.handle_outcome(accepted(own));
    let since = Revision::new(10);
    assert!(
        matches!(harness.effects()[..], [Effect::Page(PageRequest::Changes { since: asked, .. })] if asked == since)
    );
    let entries = [entry("a", "1", 1, Revision::new(11)), entry("mine", "1", 1, own)];
    harness.handle_changes(Ok(page(entries, own)));
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Ok(Some(entry("a", "1", 1, Revision::new(11)))));
    history.commit([(OTHER, vec![put_operation("a", "2", 2)])]);
    let expected = [broadcast("a", "1", 1), put(1, "mine", "1", 1), put(2, "a", "1", 1)];
    assert_eq!(harness.show_log(&history), expected);
    assert!(harness.connection.is_finished());
}

#[test]
fn a_write_with_an_unknown_outcome_ends_the_connection() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "a", "1", 1), put(2, "b", "1", 1), get(3, "a")]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1), commit_effect("b", "1", 1)]);
    for _ in 0..2 {
        harness.connection.handle_outcome(Outcome::Unknown { reason: "the disk has failed".into() });
    }
    assert_eq!(harness.effects(), []);
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: the disk has failed")]);
    assert!(harness.connection.is_finished());
}
