//! The one timeline of responses and broadcasts.

use crate::support::{
    Harness, History, MAX_UNSENT_OUTPUT, ME, OTHER, accepted, broadcast, commit_effect, delete_operation, entry, error,
    get, get_effect, put, put_bytes, put_operation, stale,
};
use bytes::Buf;
use syncline_core::server::{Access, Limits};
use syncline_wire::Revision;

#[test]
fn writes_of_others_are_broadcast_in_the_order_of_the_commits() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    history.put(OTHER, "a", "1", 1);
    history.commit([
        (None, vec![put_operation("b", "1", 1), put_operation("c", "1", 1)]),
        (OTHER, vec![put_operation("a", "2", 2)]),
    ]);
    let expected = [broadcast("a", "1", 1), broadcast("b", "1", 1), broadcast("c", "1", 1), broadcast("a", "2", 2)];
    assert_eq!(harness.show_log(&history), expected);
    assert_eq!(harness.show_log(&history), [], "each once");
}

#[test]
fn commits_before_the_connection_are_not_broadcast() {
    let mut history = History::new();
    history.put(OTHER, "a", "1", 1);
    let mut harness = Harness::following(&history);
    history.put(OTHER, "a", "2", 2);
    assert_eq!(harness.show_log(&history), [broadcast("a", "2", 2)]);
}

#[test]
fn no_request_starts_before_the_connection_follows_the_log() {
    let mut history = History::new();
    let mut harness = Harness::new(Access::open(), Limits::default());
    harness.send(&[get(1, "key")]);
    assert_eq!(harness.effects(), [], "a value that is sent now could be outdated without a broadcast");
    let revision = history.put(OTHER, "key", "new", 2);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [get_effect("key")]);
    harness.connection.handle_entry(Ok(Some(entry("key", "new", 2, revision))));
    assert_eq!(harness.show_log(&history), [put(1, "key", "new", 2)]);
}

#[test]
fn the_response_to_a_write_takes_the_place_of_its_broadcast() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    history.put(OTHER, "before", "1", 1);
    let revision = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "after", "1", 1);
    harness.connection.handle_outcome(accepted(revision));
    let expected = [broadcast("before", "1", 1), put(7, "mine", "1", 1), broadcast("after", "1", 1)];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn responses_to_writes_of_one_batch_keep_the_commit_order() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(1, "a", "1", 1), put(2, "b", "no", 3), put(3, "a", "3", 3)]);
    assert_eq!(harness.effects().len(), 3);
    let last = history.commit([
        (ME, vec![put_operation("a", "1", 1)]),
        (OTHER, vec![put_operation("b", "1", 1)]),
        (OTHER, vec![put_operation("a", "2", 2)]),
        (ME, vec![put_operation("a", "3", 3)]),
        (OTHER, vec![put_operation("c", "1", 1)]),
    ]);
    harness.connection.handle_outcome(accepted(Revision::new(11)));
    harness.connection.handle_outcome(stale(Revision::new(12)));
    harness.connection.handle_outcome(accepted(Revision::new(14)));
    assert_eq!(last, Revision::new(15));
    let expected = [
        put(1, "a", "1", 1),
        broadcast("b", "1", 1),
        error(2, "stale put"),
        broadcast("a", "2", 2),
        put(3, "a", "3", 3),
        broadcast("c", "1", 1),
    ];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn an_own_write_in_the_log_holds_back_later_commits() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(7, "mine", "1", 1), put(8, "mine", "2", 2)]);
    assert_eq!(harness.effects().len(), 2);
    history.put(OTHER, "before", "1", 1);
    let (first, between) = (history.put(ME, "mine", "1", 1), broadcast("between", "1", 1));
    history.put(OTHER, "between", "1", 1);
    let second = history.put(ME, "mine", "2", 2);
    history.put(OTHER, "after", "1", 1);
    assert_eq!(harness.show_log(&history), [broadcast("before", "1", 1)]);
    assert_eq!(harness.show_log(&history), []);
    harness.connection.handle_outcome(accepted(first));
    assert_eq!(harness.show_log(&history), [put(7, "mine", "1", 1), between]);
    harness.connection.handle_outcome(accepted(second));
    assert_eq!(harness.show_log(&history), [put(8, "mine", "2", 2), broadcast("after", "1", 1)]);
}

#[test]
fn an_outcome_waits_for_the_log() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    harness.connection.handle_outcome(accepted(Revision::new(12)));
    assert_eq!(harness.show_log(&history), [], "earlier commits are not in the log yet");
    history.put(OTHER, "before", "1", 1);
    assert_eq!(harness.show_log(&history), [broadcast("before", "1", 1)]);
    history.put(ME, "mine", "1", 1);
    assert_eq!(harness.show_log(&history), [put(7, "mine", "1", 1)]);
}

#[test]
fn stale_put_comes_after_the_write_that_won() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[put(7, "key", "mine", 2)]);
    assert_eq!(harness.effects(), [commit_effect("key", "mine", 2)]);
    // Refused at 12, when `key` had just been written. The outcome arrives before the log is shown.
    harness.connection.handle_outcome(stale(Revision::new(12)));
    assert_eq!(harness.show_log(&history), []);
    history.put(OTHER, "else", "1", 1);
    assert_eq!(harness.show_log(&history), [broadcast("else", "1", 1)]);
    history.commit([(OTHER, vec![put_operation("key", "theirs", 2)]), (OTHER, vec![put_operation("key", "later", 3)])]);
    let expected = [broadcast("key", "theirs", 2), error(7, "stale put"), broadcast("key", "later", 3)];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn a_get_response_comes_after_the_broadcast_of_its_value() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(7, "key"), get(8, "old")]);
    assert_eq!(harness.effects(), [get_effect("key"), get_effect("old")]);
    // The store returns a commit before the log holds it.
    harness.connection.handle_entry(Ok(Some(entry("key", "new", 2, Revision::new(12)))));
    harness.connection.handle_entry(Ok(Some(entry("old", "old", 1, Revision::new(4)))));
    assert_eq!(harness.show_log(&history), []);
    history.put(OTHER, "else", "1", 1);
    assert_eq!(harness.show_log(&history), [broadcast("else", "1", 1)]);
    history.put(OTHER, "key", "new", 2);
    history.put(OTHER, "key", "newer", 3);
    let expected = [broadcast("key", "new", 2), put(7, "key", "new", 2), put(8, "old", "old", 1)];
    let sent = harness.show_log(&history);
    assert_eq!(sent[..3], expected);
    assert_eq!(sent[3..], [broadcast("key", "newer", 3)]);
}

#[test]
fn a_value_read_before_a_commit_is_sent_before_its_broadcast() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[get(7, "key")]);
    assert_eq!(harness.effects(), [get_effect("key")]);
    // The store has read the entry, and the connection is not handed it yet.
    let read = entry("key", "old", 1, Revision::new(9));
    history.put(OTHER, "key", "new", 2);
    let mut sent = harness.show_log(&history);
    harness.connection.handle_entry(Ok(Some(read)));
    sent.extend(harness.show_log(&history));
    assert_eq!(sent, [put(7, "key", "old", 1), broadcast("key", "new", 2)]);
}

#[test]
fn a_deletion_is_broadcast_as_a_put_of_an_empty_value() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    history.commit([(OTHER, vec![delete_operation("key", 5)])]);
    assert_eq!(harness.show_log(&history), [broadcast("key", "", 5)]);
}

#[test]
fn an_entry_that_breaks_16_bit_decoders_is_not_broadcast() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    let most = vec![b'v'; 65_525 - 3];
    history.put(None, "key", most.clone(), 1);
    // Both strings can be encoded, but old clients cannot decode them together.
    history.put(None, "key", vec![b'v'; 65_525 - 2], 2);
    history.put(None, "key", "small", 3);
    assert_eq!(harness.show_log(&history), [broadcast("key", most, 1), broadcast("key", "small", 3)]);
}

#[test]
fn broadcasts_wait_for_room_in_the_output() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    let value = vec![b'v'; 10_000];
    for version in 1..=100 {
        history.put(OTHER, "key", value.clone(), version);
    }
    let mut received = Vec::new();
    while received.len() < 100 {
        harness.connection.handle_log(&history.log);
        let count = harness.read(7000);
        assert!(count > 0, "stuck after {} of 100", received.len());
        let unsent = harness.connection.output().remaining() + count;
        assert!(unsent < MAX_UNSENT_OUTPUT + put_bytes("key", 10_000), "{unsent} bytes of output");
        received.extend(harness.frames());
    }
    let versions: Vec<_> = received.iter().map(|message| message.version().unwrap().get()).collect();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
}

#[test]
fn responses_keep_their_order_when_the_output_is_full() {
    let mut history = History::new();
    let mut harness = Harness::following(&history);
    let large = vec![b'v'; 60_000];
    harness.send(&[put(1, "mine", "1", 1), put(2, "theirs", "no", 1)]);
    assert_eq!(harness.effects().len(), 2);
    for version in 1..=3 {
        history.put(OTHER, "theirs", large.clone(), version);
    }
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "theirs", large.clone(), 4);
    harness.connection.handle_outcome(accepted(own));
    harness.connection.handle_outcome(stale(own));
    // The third broadcast fills the output. The response waits for room, and nothing overtakes it.
    let full: Vec<_> = (1..=3).map(|version| broadcast("theirs", large.clone(), version)).collect();
    assert_eq!(harness.show_log(&history), full);
    let rest = [put(1, "mine", "1", 1), error(2, "stale put"), broadcast("theirs", large, 4)];
    assert_eq!(harness.show_log(&history), rest);
}
