//! Responses: their order, and which request waits for which.

use crate::support::{
    ALL_DECODED, Harness, History, ME, OTHER, accepted, commit_effect, entry, error, get, get_effect, put, stale,
    tombstone,
};
use syncline_core::Outcome;
use syncline_core::server::Input;
use syncline_wire::Revision;

#[test]
fn responses_are_sent_in_the_order_of_the_requests() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    // The second request is refused on arrival.
    let requests = [get(7, "a"), put(8, "b", "no", u64::MAX), get(9, "c"), put(3, "d", "new", 1), get(5, "d")];
    assert_eq!(harness.send(&requests), ALL_DECODED);
    assert_eq!(harness.effects(), [get_effect("a"), get_effect("c")]);
    assert_eq!(harness.show_log(&history), []);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.show_log(&history), [error(7, "\"a\": not found"), error(8, "version exhausted")]);
    harness.connection.handle_entry(Ok(Some(entry("c", "value", 4, Revision::new(3)))));
    assert_eq!(harness.effects(), [commit_effect("d", "new", 1)]);
    let revision = history.put(ME, "d", "new", 1);
    harness.connection.handle_outcome(accepted(revision));
    assert_eq!(harness.effects(), [get_effect("d")]);
    harness.connection.handle_entry(Ok(Some(entry("d", "new", 1, revision))));
    let responses = [put(9, "c", "value", 4), put(3, "d", "new", 1), put(5, "d", "new", 1)];
    assert_eq!(harness.show_log(&history), responses);
}

#[test]
fn a_read_waits_for_the_writes_before_it() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "a", "1", 1), put(2, "b", "1", 1), get(3, "a"), get(4, "b")]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1), commit_effect("b", "1", 1)]);
    let revision = history.commit([(ME, vec![]), (ME, vec![])]);
    harness.connection.handle_outcome(accepted(Revision::new(11)));
    assert_eq!(harness.effects(), [], "one write is in flight");
    harness.connection.handle_outcome(accepted(revision));
    assert_eq!(harness.effects(), [get_effect("a"), get_effect("b")]);
}

#[test]
fn a_write_waits_for_the_reads_before_it() {
    let mut harness = Harness::following(&History::new());
    harness.send(&[get(1, "a"), get(2, "b"), put(3, "a", "1", 1), put(4, "a", "2", 2)]);
    assert_eq!(harness.effects(), [get_effect("a"), get_effect("b")]);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects(), [], "one read is in flight");
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1), commit_effect("a", "2", 2)]);
}

#[test]
fn gets_are_polled_together_and_requeued_reads_are_polled_again() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    // Refused on arrival.
    let refused = put(2, "no", "no", u64::MAX);
    harness.send(&[get(1, "a"), refused, get(3, "b"), get(4, "c"), put(5, "d", "1", 1), get(6, "e")]);
    assert_eq!(harness.connection.poll_effect(), Some(get_effect("a")));
    let more: Vec<_> = std::iter::from_fn(|| harness.connection.poll_get()).collect();
    assert_eq!(more, ["b", "c"], "up to the write");
    assert_eq!(harness.effects(), []);
    harness.connection.handle_entry(Ok(None));
    harness.connection.requeue_reads();
    assert_eq!(harness.show_log(&history), [error(1, "\"a\": not found"), error(2, "version exhausted")]);
    assert_eq!(harness.effects(), [get_effect("b"), get_effect("c")]);
    harness.connection.handle_entry(Ok(Some(entry("b", "1", 1, Revision::new(3)))));
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.connection.poll_get(), None, "a write is next");
    assert_eq!(harness.effects(), [commit_effect("d", "1", 1)]);
    assert_eq!(harness.connection.poll_get(), None, "the write is in flight");
    assert_eq!(harness.show_log(&history), [put(3, "b", "1", 1), error(4, "\"c\": not found")]);
}

#[test]
fn pipelined_writes_start_without_waiting() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "a", "1", 1), put(2, "a", "2", 2)]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1), commit_effect("a", "2", 2)]);
    // A request that is refused on arrival does not delay later writes.
    harness.send(&[error(3, "what?"), put(4, "a", "3", 3)]);
    assert_eq!(harness.effects(), [commit_effect("a", "3", 3)]);
    for _ in 0..3 {
        harness.connection.handle_outcome(stale(Revision::new(10)));
    }
    let responses = [
        error(1, "stale put"),
        error(2, "stale put"),
        error(3, "messages of kind ERROR cannot be applied"),
        error(4, "stale put"),
    ];
    assert_eq!(harness.show_log(&history), responses);
}

#[test]
fn requests_may_arrive_in_any_pieces() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    let put_frame = b"\x01\x07\x00\x04\x00name\x04\x00tony\x01\0\0\0\0\0\0\0";
    for byte in &put_frame[..22] {
        assert!(matches!(harness.send_bytes(&[*byte]), Input::Wanted { .. }));
        assert_eq!(harness.effects(), []);
    }
    assert_eq!(harness.send_bytes(&put_frame[22..]), ALL_DECODED);
    assert_eq!(harness.effects(), [commit_effect("name", "tony", 1)]);
}

#[test]
fn a_request_with_tag_0_gets_a_response_with_tag_0() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(0, "a")]);
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.show_log(&history), [error(0, "\"a\": not found")]);
}

#[test]
fn an_error_from_a_client_cannot_be_applied() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    assert_eq!(harness.send(&[error(9, "stale put"), get(10, "a")]), ALL_DECODED);
    assert_eq!(harness.show_log(&history), [error(9, "messages of kind ERROR cannot be applied")]);
    assert_eq!(harness.effects(), [get_effect("a")], "the connection stays");
}

#[test]
fn a_get_of_a_deleted_key_returns_its_version_and_not_found() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(1, "gone")]);
    assert_eq!(harness.effects(), [get_effect("gone")]);
    harness.connection.handle_entry(Ok(Some(tombstone("gone", 4, Revision::new(9)))));
    assert_eq!(harness.show_log(&history), [error(1, "\"gone\": deleted at version 4, not found")]);
}

#[test]
fn a_get_of_an_entry_too_large_for_a_put_is_refused() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(1, "key"), get(2, "key")]);
    assert_eq!(harness.effects(), [get_effect("key"), get_effect("key")]);
    let most = vec![b'v'; 65_525 - 3];
    harness.connection.handle_entry(Ok(Some(entry("key", most.clone(), 1, Revision::new(9)))));
    assert_eq!(harness.show_log(&history), [put(1, "key", most, 1)]);
    let larger = vec![b'v'; 65_525 - 2];
    let revision = history.put(OTHER, "key", larger.clone(), 2);
    harness.connection.handle_entry(Ok(Some(entry("key", larger, 2, revision))));
    let text = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(harness.show_log(&history), [error(2, text)]);
}

#[test]
fn an_unavailable_store_fails_each_request_but_not_the_connection() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "a", "1", 1), get(2, "a"), put(3, "a", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1)]);
    harness.connection.handle_outcome(Outcome::Unavailable { reason: "disk full".into() });
    assert_eq!(harness.show_log(&history), [error(1, "unavailable: disk full")]);
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Err("engine away".into()));
    assert_eq!(harness.show_log(&history), [error(2, "unavailable: engine away")]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1)]);
    assert!(!harness.connection.is_finished());
}
