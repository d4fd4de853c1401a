//! Where answers and broadcasts stand in one timeline.

use crate::support::{
    History, ME, OTHER, OUTPUT_ROOM, Peer, accepted, broadcast, commit, delete, entry, error, get, put, put_bytes,
    read, stale, write,
};
use bytes::Buf;
use syncline_core::server::{Access, Limits};
use syncline_wire::Revision;

#[test]
fn writes_of_others_are_broadcast_in_the_order_of_the_commits() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    history.put(OTHER, "a", "1", 1);
    history.commit([(None, vec![write("b", "1", 1), write("c", "1", 1)]), (OTHER, vec![write("a", "2", 2)])]);
    let expected = [broadcast("a", "1", 1), broadcast("b", "1", 1), broadcast("c", "1", 1), broadcast("a", "2", 2)];
    assert_eq!(peer.shown(&history), expected);
    assert_eq!(peer.shown(&history), [], "each once");
}

#[test]
fn what_was_committed_before_the_connection_came_is_not_broadcast() {
    let mut history = History::new();
    history.put(OTHER, "a", "1", 1);
    let mut peer = Peer::following(&history);
    history.put(OTHER, "a", "2", 2);
    assert_eq!(peer.shown(&history), [broadcast("a", "2", 2)]);
}

#[test]
fn what_changes_before_the_log_is_first_shown_is_not_missed() {
    let mut history = History::new();
    let mut peer = Peer::new(Access::open(), Limits::default());
    peer.send(&[get(1, "key")]);
    assert_eq!(peer.effects(), [], "a value told now would not be kept up to date");
    let revision = history.put(OTHER, "key", "new", 2);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [read("key")]);
    peer.connection.handle_entry(Ok(Some(entry("key", "new", 2, revision))));
    assert_eq!(peer.shown(&history), [put(1, "key", "new", 2)]);
}

#[test]
fn an_own_write_is_answered_in_its_place_and_not_broadcast() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    history.put(OTHER, "before", "1", 1);
    let revision = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "after", "1", 1);
    peer.connection.handle_outcome(accepted(revision));
    let expected = [broadcast("before", "1", 1), put(7, "mine", "1", 1), broadcast("after", "1", 1)];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn own_writes_of_one_batch_keep_their_places() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(1, "a", "1", 1), put(2, "b", "no", 3), put(3, "a", "3", 3)]);
    assert_eq!(peer.effects().len(), 3);
    let last = history.commit([
        (ME, vec![write("a", "1", 1)]),
        (OTHER, vec![write("b", "1", 1)]),
        (OTHER, vec![write("a", "2", 2)]),
        (ME, vec![write("a", "3", 3)]),
        (OTHER, vec![write("c", "1", 1)]),
    ]);
    peer.connection.handle_outcome(accepted(Revision::new(11)));
    peer.connection.handle_outcome(stale(Revision::new(12)));
    peer.connection.handle_outcome(accepted(Revision::new(14)));
    assert_eq!(last, Revision::new(15));
    let expected = [
        put(1, "a", "1", 1),
        broadcast("b", "1", 1),
        error(2, "stale put"),
        broadcast("a", "2", 2),
        put(3, "a", "3", 3),
        broadcast("c", "1", 1),
    ];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn an_own_write_that_is_in_the_log_before_its_outcome_holds_back_what_follows() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(7, "mine", "1", 1), put(8, "mine", "2", 2)]);
    assert_eq!(peer.effects().len(), 2);
    history.put(OTHER, "before", "1", 1);
    let (first, between) = (history.put(ME, "mine", "1", 1), broadcast("between", "1", 1));
    history.put(OTHER, "between", "1", 1);
    let second = history.put(ME, "mine", "2", 2);
    history.put(OTHER, "after", "1", 1);
    assert_eq!(peer.shown(&history), [broadcast("before", "1", 1)]);
    assert_eq!(peer.shown(&history), []);
    peer.connection.handle_outcome(accepted(first));
    assert_eq!(peer.shown(&history), [put(7, "mine", "1", 1), between]);
    peer.connection.handle_outcome(accepted(second));
    assert_eq!(peer.shown(&history), [put(8, "mine", "2", 2), broadcast("after", "1", 1)]);
}

#[test]
fn an_outcome_that_comes_before_the_log_waits_for_it() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    peer.connection.handle_outcome(accepted(Revision::new(12)));
    assert_eq!(peer.shown(&history), [], "what came before it is not there yet");
    history.put(OTHER, "before", "1", 1);
    assert_eq!(peer.shown(&history), [broadcast("before", "1", 1)]);
    history.put(ME, "mine", "1", 1);
    assert_eq!(peer.shown(&history), [put(7, "mine", "1", 1)]);
}

#[test]
fn stale_put_comes_after_the_write_that_won() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[put(7, "key", "mine", 2)]);
    assert_eq!(peer.effects(), [commit("key", "mine", 2)]);
    // Refused at 12, where `key` had just been written; the outcome is known before the log is seen.
    peer.connection.handle_outcome(stale(Revision::new(12)));
    assert_eq!(peer.shown(&history), []);
    history.put(OTHER, "else", "1", 1);
    assert_eq!(peer.shown(&history), [broadcast("else", "1", 1)]);
    history.commit([(OTHER, vec![write("key", "theirs", 2)]), (OTHER, vec![write("key", "later", 3)])]);
    let expected = [broadcast("key", "theirs", 2), error(7, "stale put"), broadcast("key", "later", 3)];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn the_answer_of_a_get_comes_after_the_broadcast_of_what_it_tells() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(7, "key"), get(8, "old")]);
    assert_eq!(peer.effects(), [read("key"), read("old")]);
    // The store shows what it has committed before the log does.
    peer.connection.handle_entry(Ok(Some(entry("key", "new", 2, Revision::new(12)))));
    peer.connection.handle_entry(Ok(Some(entry("old", "old", 1, Revision::new(4)))));
    assert_eq!(peer.shown(&history), []);
    history.put(OTHER, "else", "1", 1);
    assert_eq!(peer.shown(&history), [broadcast("else", "1", 1)]);
    history.put(OTHER, "key", "new", 2);
    history.put(OTHER, "key", "newer", 3);
    let expected = [broadcast("key", "new", 2), put(7, "key", "new", 2), put(8, "old", "old", 1)];
    let sent = peer.shown(&history);
    assert_eq!(sent[..3], expected);
    assert_eq!(sent[3..], [broadcast("key", "newer", 3)]);
}

#[test]
fn a_value_that_was_read_before_a_broadcast_is_not_told_after_it() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[get(7, "key")]);
    assert_eq!(peer.effects(), [read("key")]);
    // The store has answered already, and the answer is still on its way.
    let read = entry("key", "old", 1, Revision::new(9));
    history.put(OTHER, "key", "new", 2);
    let mut sent = peer.shown(&history);
    peer.connection.handle_entry(Ok(Some(read)));
    sent.extend(peer.shown(&history));
    assert_eq!(sent, [put(7, "key", "old", 1), broadcast("key", "new", 2)]);
}

#[test]
fn a_deletion_is_broadcast_as_a_put_of_nothing() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    history.commit([(OTHER, vec![delete("key", 5)])]);
    assert_eq!(peer.shown(&history), [broadcast("key", "", 5)]);
}

#[test]
fn what_kills_16_bit_decoders_is_not_broadcast() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    let most = vec![b'v'; 65_525 - 3];
    history.put(None, "key", most.clone(), 1);
    // Both strings could be encoded; old clients could not read them together.
    history.put(None, "key", vec![b'v'; 65_525 - 2], 2);
    history.put(None, "key", "small", 3);
    assert_eq!(peer.shown(&history), [broadcast("key", most, 1), broadcast("key", "small", 3)]);
}

#[test]
fn broadcasts_wait_for_room_and_go_on_as_output_is_taken() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    let value = vec![b'v'; 10_000];
    for version in 1..=100 {
        history.put(OTHER, "key", value.clone(), version);
    }
    let mut received = Vec::new();
    while received.len() < 100 {
        peer.connection.handle_log(&history.log);
        let there = peer.take(7000);
        assert!(there > 0, "stuck after {} of 100", received.len());
        let unsent = peer.connection.output().remaining() + there;
        assert!(unsent < OUTPUT_ROOM + put_bytes("key", 10_000), "{unsent} bytes of output");
        received.extend(peer.received());
    }
    let versions: Vec<_> = received.iter().map(|message| message.version().unwrap().get()).collect();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
}

#[test]
fn answers_keep_their_places_where_the_output_is_full() {
    let mut history = History::new();
    let mut peer = Peer::following(&history);
    let large = vec![b'v'; 60_000];
    peer.send(&[put(1, "mine", "1", 1), put(2, "theirs", "no", 1)]);
    assert_eq!(peer.effects().len(), 2);
    for version in 1..=3 {
        history.put(OTHER, "theirs", large.clone(), version);
    }
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "theirs", large.clone(), 4);
    peer.connection.handle_outcome(accepted(own));
    peer.connection.handle_outcome(stale(own));
    // The third fills the output: the answer waits for room, and nothing overtakes it.
    let full: Vec<_> = (1..=3).map(|version| broadcast("theirs", large.clone(), version)).collect();
    assert_eq!(peer.shown(&history), full);
    let rest = [put(1, "mine", "1", 1), error(2, "stale put"), broadcast("theirs", large, 4)];
    assert_eq!(peer.shown(&history), rest);
}
