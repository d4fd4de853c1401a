//! What a watcher is sent as things change, and when a MARK may stand behind it.

use crate::support::{
    History, ME, OTHER, OUTPUT_ROOM, Peer, accepted, commit, entry, error, get, keys, mark, page, page_read_at, put,
    read, tombstone, watch, write,
};
use bytes::{Buf, Bytes};
use syncline_core::server::{Effect, Limits, PageRequest};
use syncline_wire::{Message, Revision};

const fn at(revision: u64) -> Revision {
    Revision::new(revision)
}

#[test]
fn changes_under_the_prefix_come_with_a_mark_behind_each_group() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/", &history);
    history.put(OTHER, "a/1", "1", 1);
    history.put(OTHER, "b", "1", 1);
    history.commit([(OTHER, vec![write("a/2", "1", 1), write("c", "1", 1)]), (OTHER, vec![write("a/1", "2", 2)])]);
    let expected = [put(0, "a/1", "1", 1), put(0, "a/2", "1", 1), put(0, "a/1", "2", 2), mark(0, 14)];
    assert_eq!(peer.shown(&history), expected);
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), [], "nothing that it watches has changed");
    history.put(OTHER, "a/", "1", 1);
    assert_eq!(peer.shown(&history), [put(0, "a/", "1", 1), mark(0, 16)]);
}

#[test]
fn a_change_under_two_prefixes_comes_once() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/b", &history);
    for (tag, prefix) in [(3, "a/"), (4, "a/b/c"), (5, "x")] {
        peer.send(&[watch(tag, prefix, 0)]);
        assert_eq!(peer.shown(&history), []);
        assert_eq!(peer.effects().len(), 1);
        peer.handle_keys(Ok(keys([], None, history.log.head())));
        assert_eq!(peer.shown(&history), [mark(tag, 10)]);
    }
    for key in ["a/b/c/d", "a/b", "a/c", "x", "b", ""] {
        history.put(OTHER, key, "1", 1);
    }
    let told = ["a/b/c/d", "a/b", "a/c", "x"].map(|key| put(0, key, "1", 1));
    assert_eq!(peer.shown(&history), [&told[..], &[mark(0, 16)]].concat());
}

#[test]
fn an_own_write_comes_as_its_answer_with_a_mark_behind_it() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    peer.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    history.put(OTHER, "before", "1", 1);
    let own = history.put(ME, "mine", "1", 1);
    history.put(OTHER, "after", "1", 1);
    assert_eq!(peer.shown(&history), [put(0, "before", "1", 1), mark(0, 11)], "its answer is not there yet");
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [put(7, "mine", "1", 1), put(0, "after", "1", 1), mark(0, 13)]);
}

#[test]
fn an_own_write_outside_of_the_prefix_is_answered_once_too() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/", &history);
    peer.send(&[put(7, "mine", "1", 1)]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    let own = history.put(ME, "mine", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [put(7, "mine", "1", 1), mark(0, 11)]);
}

#[test]
fn a_value_that_was_read_comes_after_the_change_that_it_tells() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    peer.send(&[get(3, "k")]);
    assert_eq!(peer.effects(), [read("k")]);
    let revision = history.put(OTHER, "k", "1", 1);
    history.put(OTHER, "k", "2", 2);
    peer.connection.handle_entry(Ok(Some(entry("k", "1", 1, revision))));
    assert_eq!(peer.shown(&history), [put(0, "k", "1", 1), put(3, "k", "1", 1), put(0, "k", "2", 2), mark(0, 12)]);
}

#[test]
fn a_barrier_is_answered_when_all_that_was_committed_before_it_is_sent() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    history.put(OTHER, "a", "1", 1);
    peer.send(&[mark(7, 0)]);
    assert_eq!(peer.shown(&history), [put(0, "a", "1", 1), mark(7, 11)]);
    peer.send(&[mark(8, 0)]);
    assert_eq!(peer.shown(&history), [mark(8, 11)], "also where nothing has changed");
}

#[test]
fn a_barrier_comes_after_the_writes_before_it_and_before_those_behind_it() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    peer.send(&[put(3, "a", "1", 1), mark(4, 0), put(5, "a", "2", 2)]);
    assert_eq!(peer.effects(), [commit("a", "1", 1)]);
    assert_eq!(peer.shown(&history), []);
    let own = history.put(ME, "a", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [put(3, "a", "1", 1), mark(4, 11)]);
    assert_eq!(peer.effects(), [commit("a", "2", 2)]);
}

#[test]
fn a_barrier_of_one_who_watches_nothing_tells_the_head() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    history.put(OTHER, "a", "1", 1);
    peer.send(&[mark(4, 0)]);
    assert_eq!(peer.shown(&history), [mark(4, 11)]);
}

#[test]
fn a_heartbeat_comes_where_nothing_changes() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/", &history);
    let beat = |peer: &mut Peer, history: &History| {
        peer.connection.handle_beat();
        peer.shown(history)
    };
    assert_eq!(beat(&mut peer, &history), [], "a MARK was sent just now");
    assert_eq!(beat(&mut peer, &history), [mark(0, 10)]);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(beat(&mut peer, &history), []);
    assert_eq!(beat(&mut peer, &history), [mark(0, 11)], "the newest revision, though nothing of it was watched");
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(beat(&mut peer, &history), [put(0, "a/1", "1", 1), mark(0, 12)]);
    assert_eq!(beat(&mut peer, &history), []);
    assert_eq!(beat(&mut peer, &history), [mark(0, 12)]);
}

#[test]
fn no_heartbeat_is_sent_to_one_who_watches_nothing() {
    let history = History::new();
    for mut peer in [Peer::following(&history), Peer::extended(&history)] {
        for _ in 0..4 {
            peer.connection.handle_beat();
            assert_eq!(peer.shown(&history), []);
        }
    }
}

#[test]
fn heartbeats_do_not_pile_up_for_one_who_does_not_read() {
    let mut history = History::new();
    let mut peer = Peer::watching("", &history);
    history.put(OTHER, "a", "1", 1);
    peer.connection.handle_log(&history.log);
    let unsent = peer.connection.output().remaining();
    for _ in 0..10 {
        peer.connection.handle_beat();
        peer.connection.handle_log(&history.log);
    }
    assert_eq!(peer.connection.output().remaining(), unsent);
    assert_eq!(peer.shown(&history), [put(0, "a", "1", 1), mark(0, 11)]);
    assert_eq!(peer.shown(&history), [mark(0, 11)], "it is due when there is room");
}

/// A watcher at 10, and a history of which the log holds nothing any more.
fn left_behind(prefix: &'static str) -> (Peer, History) {
    let mut history = History::keeping(0);
    let mut peer = Peer::watching(prefix, &history);
    for (key, version) in [("a/1", 1), ("b", 1), ("a/2", 1), ("a/1", 2)] {
        history.put(OTHER, key, "value", version);
    }
    assert_eq!(peer.shown(&history), []);
    (peer, history)
}

fn changes(prefix: &'static str, since: u64) -> Effect {
    Effect::Page(PageRequest::Changes { prefix: Bytes::from(prefix), since: at(since), max_bytes: OUTPUT_ROOM })
}

#[test]
fn one_who_is_behind_is_told_each_key_once_and_a_mark_when_it_is_true() {
    let (mut peer, history) = left_behind("a/");
    assert_eq!(peer.effects(), [changes("a/", 10)]);
    let entries = [tombstone("a/2", 2, at(13))];
    peer.handle_changes(Ok(page_read_at(entries, at(13), at(14))));
    let deleted = Message::delete(syncline_wire::Tag::BROADCAST, "a/2", syncline_wire::Version::new(2));
    assert_eq!(peer.shown(&history), [deleted], "no state of the store was like that");
    assert_eq!(peer.effects(), [changes("a/", 13)]);
    peer.handle_changes(Ok(page([entry("a/1", "value", 2, at(14))], at(14))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "value", 2), mark(0, 14)]);
}

#[test]
fn no_mark_is_sent_before_the_head_of_the_last_page_also_where_the_log_tells_the_rest() {
    let size = {
        let mut history = History::new();
        history.put(OTHER, "a/1", "value", 1);
        history.log.bytes()
    };
    let mut history = History::keeping(2 * size);
    let mut peer = Peer::watching("", &history);
    for version in 1..=4 {
        history.put(OTHER, "a/1", "value", version);
    }
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("", 10)]);
    // The page was read at 16, when the log had got to 14.
    peer.handle_changes(Ok(page_read_at([entry("b", "1", 1, at(12))], at(12), at(16))));
    let told = [put(0, "b", "1", 1), put(0, "a/1", "value", 3), put(0, "a/1", "value", 4)];
    assert_eq!(peer.shown(&history), told, "15 and 16 may have changed what the page did not tell for that");
    history.put(OTHER, "c", "value", 1);
    history.put(OTHER, "d", "value", 1);
    assert_eq!(peer.shown(&history), [put(0, "c", "value", 1), put(0, "d", "value", 1), mark(0, 16)]);
}

#[test]
fn barriers_and_heartbeats_wait_for_one_who_is_behind() {
    let (mut peer, history) = left_behind("");
    peer.send(&[mark(7, 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("", 10)]);
    peer.handle_changes(Ok(page_read_at([entry("b", "value", 1, at(12))], at(12), at(14))));
    for _ in 0..3 {
        peer.connection.handle_beat();
    }
    assert_eq!(peer.shown(&history), [put(0, "b", "value", 1)]);
    assert_eq!(peer.effects(), [changes("", 12)]);
    let entries = [entry("a/2", "value", 1, at(13)), entry("a/1", "value", 2, at(14))];
    peer.handle_changes(Ok(page(entries, at(14))));
    assert_eq!(peer.shown(&history), [put(0, "a/2", "value", 1), put(0, "a/1", "value", 2), mark(7, 14)]);
}

#[test]
fn the_own_writes_of_one_who_is_behind_are_answered_in_their_places() {
    let mut history = History::keeping(0);
    let mut peer = Peer::watching("a/", &history);
    peer.send(&[put(3, "a/1", "mine", 1), put(4, "elsewhere", "mine", 1)]);
    assert_eq!(peer.effects().len(), 2);
    history.put(OTHER, "a/0", "1", 1);
    let first = history.put(ME, "a/1", "mine", 1);
    let second = history.put(ME, "elsewhere", "mine", 1);
    history.put(OTHER, "a/2", "1", 1);
    peer.connection.handle_outcome(accepted(first));
    peer.connection.handle_outcome(accepted(second));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("a/", 10)]);
    let entries = [entry("a/0", "1", 1, at(11)), entry("a/1", "mine", 1, first), entry("a/2", "1", 1, at(14))];
    peer.handle_changes(Ok(page(entries, at(14))));
    let expected = [
        put(0, "a/0", "1", 1),
        put(3, "a/1", "mine", 1),
        put(4, "elsewhere", "mine", 1),
        put(0, "a/2", "1", 1),
        mark(0, 14),
    ];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn what_is_not_watched_is_left_out_of_a_page() {
    let mut history = History::keeping(0);
    let mut peer = Peer::watching("a/", &history);
    peer.send(&[watch(3, "c/", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects().len(), 1);
    peer.handle_keys(Ok(keys([], None, at(10))));
    assert_eq!(peer.shown(&history), [mark(3, 10)]);
    history.put(OTHER, "x", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("", 10)], "there is no one prefix to ask for");
    let entries = [entry("a/1", "1", 1, at(11)), entry("b/1", "1", 1, at(12)), entry("c/1", "1", 1, at(13))];
    peer.handle_changes(Ok(page(entries, at(13))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "1", 1), put(0, "c/1", "1", 1), mark(0, 13)]);
}

#[test]
fn one_who_watches_nothing_never_falls_behind() {
    let mut history = History::keeping(0);
    let mut peer = Peer::extended_within(Limits::default(), &history);
    peer.send(&[put(3, "a", "mine", 1)]);
    assert_eq!(peer.effects().len(), 1);
    history.put(OTHER, "b", "1", 1);
    assert_eq!(peer.shown(&history), []);
    let own = history.put(ME, "a", "mine", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [put(3, "a", "mine", 1)]);
    assert_eq!(peer.effects(), []);
}

#[test]
fn the_bell_rings_for_those_only_who_wait_for_the_log() {
    let mut history = History::new();
    let mut base = Peer::following(&history);
    assert!(base.connection.waits_for_log());
    let mut watcher = Peer::watching("a", &history);
    assert!(watcher.connection.waits_for_log());
    let mut peer = Peer::extended(&history);
    assert!(!peer.connection.waits_for_log());
    peer.send(&[put(3, "k", "1", 1)]);
    assert_eq!(peer.effects().len(), 1);
    assert!(!peer.connection.waits_for_log(), "it waits for the outcome");
    let own = history.put(ME, "k", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert!(peer.connection.waits_for_log(), "its answer is true from there on");
    assert_eq!(peer.shown(&history), [put(3, "k", "1", 1)]);
    assert!(!peer.connection.waits_for_log());
}

#[test]
fn a_page_that_the_store_can_not_tell_any_more_ends_the_connection_so_that_it_resumes() {
    let (mut peer, history) = left_behind("");
    assert_eq!(peer.effects(), [changes("", 10)]);
    peer.handle_changes(Err(syncline_core::PageError::Untold("forgotten".into())));
    assert_eq!(peer.shown(&history), [error(0, "unavailable: forgotten")]);
    assert!(peer.connection.is_finished());
}
