//! What is answered, in which order, and what waits for what.

use crate::support::{
    ALL_TAKEN, History, ME, OTHER, Peer, accepted, commit, entry, error, get, put, read, stale, tombstone,
};
use syncline_core::Outcome;
use syncline_core::server::Input;
use syncline_wire::Revision;

#[test]
fn answers_keep_the_order_of_the_requests() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    // The second is refused without asking anybody.
    let requests = [get(7, "a"), put(8, "b", "no", u64::MAX), get(9, "c"), put(3, "d", "new", 1), get(5, "d")];
    assert_eq!(peer.send(&requests), ALL_TAKEN);
    assert_eq!(peer.effects(), [read("a"), read("c")]);
    assert_eq!(peer.shown(&history), []);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.shown(&history), [error(7, "\"a\": not found"), error(8, "version exhausted")]);
    peer.connection.handle_entry(Ok(Some(entry("c", "value", 4, Revision::new(3)))));
    assert_eq!(peer.effects(), [commit("d", "new", 1)]);
    let revision = history.put(ME, "d", "new", 1);
    peer.connection.handle_outcome(accepted(revision));
    assert_eq!(peer.effects(), [read("d")]);
    peer.connection.handle_entry(Ok(Some(entry("d", "new", 1, revision))));
    let answers = [put(9, "c", "value", 4), put(3, "d", "new", 1), put(5, "d", "new", 1)];
    assert_eq!(peer.shown(&history), answers);
}

#[test]
fn a_read_waits_for_the_writes_before_it() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "a", "1", 1), put(2, "b", "1", 1), get(3, "a"), get(4, "b")]);
    assert_eq!(peer.effects(), [commit("a", "1", 1), commit("b", "1", 1)]);
    let revision = history.commit([(ME, vec![]), (ME, vec![])]);
    peer.connection.handle_outcome(accepted(Revision::new(11)));
    assert_eq!(peer.effects(), [], "one write is undecided");
    peer.connection.handle_outcome(accepted(revision));
    assert_eq!(peer.effects(), [read("a"), read("b")]);
}

#[test]
fn a_write_waits_for_the_reads_before_it() {
    let mut peer = Peer::following(&History::new());
    peer.send(&[get(1, "a"), get(2, "b"), put(3, "a", "1", 1), put(4, "a", "2", 2)]);
    assert_eq!(peer.effects(), [read("a"), read("b")]);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects(), [], "one read is unanswered");
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects(), [commit("a", "1", 1), commit("a", "2", 2)]);
}

#[test]
fn reads_can_be_done_together_and_what_is_not_done_is_asked_for_again() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    // The second is refused without asking anybody.
    let refused = put(2, "no", "no", u64::MAX);
    peer.send(&[get(1, "a"), refused, get(3, "b"), get(4, "c"), put(5, "d", "1", 1), get(6, "e")]);
    assert_eq!(peer.connection.poll_effect(), Some(read("a")));
    let more: Vec<_> = std::iter::from_fn(|| peer.connection.poll_get()).collect();
    assert_eq!(more, ["b", "c"], "up to the write");
    assert_eq!(peer.effects(), []);
    peer.connection.handle_entry(Ok(None));
    peer.connection.requeue_reads();
    assert_eq!(peer.shown(&history), [error(1, "\"a\": not found"), error(2, "version exhausted")]);
    assert_eq!(peer.effects(), [read("b"), read("c")]);
    peer.connection.handle_entry(Ok(Some(entry("b", "1", 1, Revision::new(3)))));
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.connection.poll_get(), None, "a write is next");
    assert_eq!(peer.effects(), [commit("d", "1", 1)]);
    assert_eq!(peer.connection.poll_get(), None, "the write is undecided");
    assert_eq!(peer.shown(&history), [put(3, "b", "1", 1), error(4, "\"c\": not found")]);
}

#[test]
fn pipelined_writes_are_given_out_without_waiting() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "a", "1", 1), put(2, "a", "2", 2)]);
    assert_eq!(peer.effects(), [commit("a", "1", 1), commit("a", "2", 2)]);
    // Neither what is refused at once nor what comes later holds them up.
    peer.send(&[error(3, "what?"), put(4, "a", "3", 3)]);
    assert_eq!(peer.effects(), [commit("a", "3", 3)]);
    for _ in 0..3 {
        peer.connection.handle_outcome(stale(Revision::new(10)));
    }
    let answers = [
        error(1, "stale put"),
        error(2, "stale put"),
        error(3, "messages of kind ERROR cannot be applied"),
        error(4, "stale put"),
    ];
    assert_eq!(peer.shown(&history), answers);
}

#[test]
fn requests_may_come_in_any_pieces() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    let put_frame = b"\x01\x07\x00\x04\x00name\x04\x00tony\x01\0\0\0\0\0\0\0";
    for byte in &put_frame[..22] {
        assert!(matches!(peer.send_bytes(&[*byte]), Input::Wanted { .. }));
        assert_eq!(peer.effects(), []);
    }
    assert_eq!(peer.send_bytes(&put_frame[22..]), ALL_TAKEN);
    assert_eq!(peer.effects(), [commit("name", "tony", 1)]);
}

#[test]
fn a_request_with_tag_0_is_answered_with_tag_0() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(0, "a")]);
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.shown(&history), [error(0, "\"a\": not found")]);
}

#[test]
fn an_error_of_a_client_cannot_be_applied() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    assert_eq!(peer.send(&[error(9, "stale put"), get(10, "a")]), ALL_TAKEN);
    assert_eq!(peer.shown(&history), [error(9, "messages of kind ERROR cannot be applied")]);
    assert_eq!(peer.effects(), [read("a")], "the connection stays");
}

#[test]
fn a_get_of_a_deleted_key_tells_the_version_and_ends_in_not_found() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(1, "gone")]);
    assert_eq!(peer.effects(), [read("gone")]);
    peer.connection.handle_entry(Ok(Some(tombstone("gone", 4, Revision::new(9)))));
    assert_eq!(peer.shown(&history), [error(1, "\"gone\": deleted at version 4, not found")]);
}

#[test]
fn a_get_of_an_entry_that_no_put_carries_is_too_large() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(1, "key"), get(2, "key")]);
    assert_eq!(peer.effects(), [read("key"), read("key")]);
    let most = vec![b'v'; 65_525 - 3];
    peer.connection.handle_entry(Ok(Some(entry("key", most.clone(), 1, Revision::new(9)))));
    assert_eq!(peer.shown(&history), [put(1, "key", most, 1)]);
    let larger = vec![b'v'; 65_525 - 2];
    let revision = history.put(OTHER, "key", larger.clone(), 2);
    peer.connection.handle_entry(Ok(Some(entry("key", larger, 2, revision))));
    let text = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(peer.shown(&history), [error(2, text)]);
}

#[test]
fn trouble_of_the_store_is_told_to_each_request_and_the_connection_stays() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "a", "1", 1), get(2, "a"), put(3, "a", "1", 1)]);
    assert_eq!(peer.effects(), [commit("a", "1", 1)]);
    peer.connection.handle_outcome(Outcome::Unavailable { reason: "disk full".into() });
    assert_eq!(peer.shown(&history), [error(1, "unavailable: disk full")]);
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Err("engine away".into()));
    assert_eq!(peer.shown(&history), [error(2, "unavailable: engine away")]);
    assert_eq!(peer.effects(), [commit("a", "1", 1)]);
    assert!(!peer.connection.is_finished());
}
