//! The changes and MARKs that a watcher is sent, barriers and heartbeats.

use crate::support::{
    Harness, History, MAX_UNSENT_OUTPUT, ME, OTHER, accepted, commit_effect, entry, error, get, get_effect, keys, mark,
    page, page_read_at, put, put_operation, tombstone, watch,
};
use bytes::{Buf, Bytes};
use syncline_core::server::{Effect, Limits, PageRequest};
use syncline_wire::{Message, Revision};

const fn at(revision: u64) -> Revision {
    Revision::new(revision)
}

#[test]
fn a_mark_follows_each_group_of_changes_under_the_prefix() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/", &history);
    history.put(OTHER, "a/1", "1", 1);
    history.put(OTHER, "b", "1", 1);
    history.commit([
        (OTHER, vec![put_operation("a/2", "1", 1), put_operation("c", "1", 1)]),
        (OTHER, vec![put_operation("a/1", "2", 2)]),
    ]);
    let expected = [put(0, "a/1", "1", 1), put(0, "a/2", "1", 1), put(0, "a/1", "2", 2), mark(0, 14)];
    assert_eq!(harness.show_log(&history), expected);
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), [], "no watched key has changed");
    history.put(OTHER, "a/", "1", 1);
    assert_eq!(harness.show_log(&history), [put(0, "a/", "1", 1), mark(0, 16)]);
}

#[test]
fn a_change_under_two_prefixes_is_sent_once() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/b", &history);
    for (tag, prefix) in [(3, "a/"), (4, "a/b/c"), (5, "x")] {
        harness.send(&[watch(tag, prefix, 0)]);
        assert_eq!(harness.show_log(&history), []);
        assert_eq!(harness.effects().len(), 1);
        harness.handle_keys(Ok(keys([], None, history.log.head())));
        assert_eq!(harness.show_log(&history), [mark(tag, 10)]);
    }
    for key in ["a/b/c/d", "a/b", "a/c", "x", "b", ""] {
        history.put(OTHER, key, "1", 1);
    }
    let sent = ["a/b/c/d", "a/b", "a/c", "x"].map(|key| put(0, key, "1", 1));
    assert_eq!(harness.show_log(&history), [&sent[..], &[mark(0, 16)]].concat());
}

#[test]
fn an_own_write_is_sent_as_its_response_and_a_mark_follows() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    harness.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    history.put(OTHER, "before", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "after", "1", 1);
    assert_eq!(
        harness.show_log(&history),
        [put(0, "before", "1", 1), mark(0, 11)],
        "the outcome of the own write is not known yet"
    );
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [put(7, "mine", "1", 1), put(0, "after", "1", 1), mark(0, 13)]);
}

#[test]
fn an_own_write_outside_the_prefix_gets_one_response() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/", &history);
    harness.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    let own = history.put(ME, "mine", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [put(7, "mine", "1", 1), mark(0, 11)]);
}

#[test]
fn a_value_that_was_read_is_sent_after_its_change() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    harness.send(&[get(3, "k")]);
    assert_eq!(harness.effects(), [get_effect("k")]);
    let revision = history.put(OTHER, "k", "1", 1);
    history.put(OTHER, "k", "2", 2);
    harness.connection.handle_entry(Ok(Some(entry("k", "1", 1, revision))));
    assert_eq!(
        harness.show_log(&history),
        [put(0, "k", "1", 1), put(3, "k", "1", 1), put(0, "k", "2", 2), mark(0, 12)]
    );
}

#[test]
fn a_barrier_completes_when_every_earlier_commit_was_sent() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    history.put(OTHER, "a", "1", 1);
    harness.send(&[mark(7, 0)]);
    assert_eq!(harness.show_log(&history), [put(0, "a", "1", 1), mark(7, 11)]);
    harness.send(&[mark(8, 0)]);
    assert_eq!(harness.show_log(&history), [mark(8, 11)], "also when nothing has changed");
}

#[test]
fn a_barrier_waits_for_earlier_writes_and_delays_later_ones() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    harness.send(&[put(3, "a", "1", 1), mark(4, 0), put(5, "a", "2", 2)]);
    assert_eq!(harness.effects(), [commit_effect("a", "1", 1)]);
    assert_eq!(harness.show_log(&history), []);
    let own = history.put(ME, "a", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [put(3, "a", "1", 1), mark(4, 11)]);
    assert_eq!(harness.effects(), [commit_effect("a", "2", 2)]);
}

#[test]
fn a_barrier_without_a_watch_returns_the_head() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    history.put(OTHER, "a", "1", 1);
    harness.send(&[mark(4, 0)]);
    assert_eq!(harness.show_log(&history), [mark(4, 11)]);
}

#[test]
fn a_heartbeat_is_sent_when_nothing_changes() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/", &history);
    let beat = |harness: &mut Harness, history: &History| {
        harness.connection.handle_beat();
        harness.show_log(history)
    };
    assert_eq!(beat(&mut harness, &history), [], "a MARK was sent in this heartbeat");
    assert_eq!(beat(&mut harness, &history), [mark(0, 10)]);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(beat(&mut harness, &history), []);
    assert_eq!(beat(&mut harness, &history), [mark(0, 11)], "the latest revision, although it changed no watched key");
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(beat(&mut harness, &history), [put(0, "a/1", "1", 1), mark(0, 12)]);
    assert_eq!(beat(&mut harness, &history), []);
    assert_eq!(beat(&mut harness, &history), [mark(0, 12)]);
}

#[test]
fn no_heartbeat_is_sent_without_a_watch() {
    let history = History::new();
    for mut harness in [Harness::following(&history), Harness::extended(&history)] {
        for _ in 0..4 {
            harness.connection.handle_beat();
            assert_eq!(harness.show_log(&history), []);
        }
    }
}

#[test]
fn heartbeats_do_not_accumulate_for_a_client_that_does_not_read() {
    let mut history = History::new();
    let mut harness = Harness::watching("", &history);
    history.put(OTHER, "a", "1", 1);
    harness.connection.handle_log(&history.log);
    let unsent = harness.connection.output().remaining();
    for _ in 0..10 {
        harness.connection.handle_beat();
        harness.connection.handle_log(&history.log);
    }
    assert_eq!(harness.connection.output().remaining(), unsent);
    assert_eq!(harness.show_log(&history), [put(0, "a", "1", 1), mark(0, 11)]);
    assert_eq!(harness.show_log(&history), [mark(0, 11)], "one heartbeat is due when there is room");
}

/// Returns a watcher at revision 10, and a later history whose log holds nothing.
fn left_behind(prefix: &'static str) -> (Harness, History) {
    let mut history = History::keeping(0);
    let mut harness = Harness::watching(prefix, &history);
    for (key, version) in [("a/1", 1), ("b", 1), ("a/2", 1), ("a/1", 2)] {
        history.put(OTHER, key, "value", version);
    }
    assert_eq!(harness.show_log(&history), []);
    (harness, history)
}

fn changes(prefix: &'static str, since: u64) -> Effect {
    Effect::Page(PageRequest::Changes { prefix: Bytes::from(prefix), since: at(since), max_bytes: MAX_UNSENT_OUTPUT })
}

#[test]
fn catch_up_sends_a_watcher_each_key_once_and_then_a_mark() {
    let (mut harness, history) = left_behind("a/");
    assert_eq!(harness.effects(), [changes("a/", 10)]);
    let entries = [tombstone("a/2", 2, at(13))];
    harness.handle_changes(Ok(page_read_at(entries, at(13), at(14))));
    let deleted = Message::delete(syncline_wire::Tag::BROADCAST, "a/2", syncline_wire::Version::new(2));
    assert_eq!(harness.show_log(&history), [deleted], "no MARK: the store was never in this state");
    assert_eq!(harness.effects(), [changes("a/", 13)]);
    harness.handle_changes(Ok(page([entry("a/1", "value", 2, at(14))], at(14))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "value", 2), mark(0, 14)]);
}

#[test]
fn no_mark_is_sent_below_the_head_of_the_last_page() {
    let size = {
        let mut history = History::new();
        history.put(OTHER, "a/1", "value", 1);
        history.log.bytes()
    };
    let mut history = History::keeping(2 * size);
    let mut harness = Harness::watching("", &history);
    for version in 1..=4 {
        history.put(OTHER, "a/1", "value", version);
    }
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("", 10)]);
    // The page was read at 16, when the head of the log was 14.
    harness.handle_changes(Ok(page_read_at([entry("b", "1", 1, at(12))], at(12), at(16))));
    let sent = [put(0, "b", "1", 1), put(0, "a/1", "value", 3), put(0, "a/1", "value", 4)];
    assert_eq!(
        harness.show_log(&history),
        sent,
        "15 and 16 may have replaced earlier changes that the page then leaves out"
    );
    history.put(OTHER, "c", "value", 1);
    history.put(OTHER, "d", "value", 1);
    assert_eq!(harness.show_log(&history), [put(0, "c", "value", 1), put(0, "d", "value", 1), mark(0, 16)]);
}

#[test]
fn barriers_and_heartbeats_wait_for_catch_up() {
    let (mut harness, history) = left_behind("");
    harness.send(&[mark(7, 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("", 10)]);
    harness.handle_changes(Ok(page_read_at([entry("b", "value", 1, at(12))], at(12), at(14))));
    for _ in 0..3 {
        harness.connection.handle_beat();
    }
    assert_eq!(harness.show_log(&history), [put(0, "b", "value", 1)]);
    assert_eq!(harness.effects(), [changes("", 12)]);
    let entries = [entry("a/2", "value", 1, at(13)), entry("a/1", "value", 2, at(14))];
    harness.handle_changes(Ok(page(entries, at(14))));
    assert_eq!(harness.show_log(&history), [put(0, "a/2", "value", 1), put(0, "a/1", "value", 2), mark(7, 14)]);
}

#[test]
fn catch_up_of_a_watcher_merges_its_own_responses() {
    let mut history = History::keeping(0);
    let mut harness = Harness::watching("a/", &history);
    harness.send(&[put(3, "a/1", "mine", 1), put(4, "elsewhere", "mine", 1)]);
    assert_eq!(harness.effects().len(), 2);
    history.put(OTHER, "a/0", "1", 1);
    let first = history.put(ME, "a/1", "mine", 1);
    let second = history.put(ME, "elsewhere", "mine", 1);
    history.put(OTHER, "a/2", "1", 1);
    harness.connection.handle_outcome(accepted(first));
    harness.connection.handle_outcome(accepted(second));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("a/", 10)]);
    let entries = [entry("a/0", "1", 1, at(11)), entry("a/1", "mine", 1, first), entry("a/2", "1", 1, at(14))];
    harness.handle_changes(Ok(page(entries, at(14))));
    let expected = [
        put(0, "a/0", "1", 1),
        put(3, "a/1", "mine", 1),
        put(4, "elsewhere", "mine", 1),
        put(0, "a/2", "1", 1),
        mark(0, 14),
    ];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn keys_that_are_not_watched_are_left_out_of_a_page() {
    let mut history = History::keeping(0);
    let mut harness = Harness::watching("a/", &history);
    harness.send(&[watch(3, "c/", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects().len(), 1);
    harness.handle_keys(Ok(keys([], None, at(10))));
    assert_eq!(harness.show_log(&history), [mark(3, 10)]);
    history.put(OTHER, "x", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("", 10)], "the watched prefixes have no prefix in common");
    let entries = [entry("a/1", "1", 1, at(11)), entry("b/1", "1", 1, at(12)), entry("c/1", "1", 1, at(13))];
    harness.handle_changes(Ok(page(entries, at(13))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "1", 1), put(0, "c/1", "1", 1), mark(0, 13)]);
}

#[test]
fn a_connection_without_a_watch_never_falls_behind() {
    let mut history = History::keeping(0);
    let mut harness = Harness::extended_within(Limits::default(), &history);
    harness.send(&[put(3, "a", "mine", 1)]);
    assert_eq!(harness.effects().len(), 1);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    let own = history.put(ME, "a", "mine", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [put(3, "a", "mine", 1)]);
    assert_eq!(harness.effects(), []);
}

#[test]
fn only_connections_that_need_the_log_wait_for_it() {
    let mut history = History::new();
    let mut base = Harness::following(&history);
    assert!(base.connection.waits_for_log());
    let mut watcher = Harness::watching("a", &history);
    assert!(watcher.connection.waits_for_log());
    let mut harness = Harness::extended(&history);
    assert!(!harness.connection.waits_for_log());
    harness.send(&[put(3, "k", "1", 1)]);
    assert_eq!(harness.effects().len(), 1);
    assert!(!harness.connection.waits_for_log(), "the connection waits for the outcome");
    let own = history.put(ME, "k", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert!(harness.connection.waits_for_log(), "the response is true at that revision");
    assert_eq!(harness.show_log(&history), [put(3, "k", "1", 1)]);
    assert!(!harness.connection.waits_for_log());
}

#[test]
fn catch_up_from_a_forgotten_revision_ends_the_connection() {
    let (mut harness, history) = left_behind("");
    assert_eq!(harness.effects(), [changes("", 10)]);
    harness.handle_changes(Err(syncline_core::PageError::Untold("forgotten".into())));
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: forgotten")]);
    assert!(harness.connection.is_finished());
}
