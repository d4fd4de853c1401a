//! A connection that has fallen behind what the log holds, and is served from the store.

use crate::support::{
    History, ME, OTHER, OUTPUT_ROOM, Peer, UNSENT_BEFORE_PAGE, accepted, broadcast, commit, entry, error, get, page,
    put, read, stale, tombstone, write,
};
use bytes::{Buf, Bytes};
use syncline_core::PageError;
use syncline_core::server::{Effect, Input, PageRequest};
use syncline_wire::Revision;

fn catch_up(since: u64) -> Effect {
    Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: Revision::new(since), max_bytes: OUTPUT_ROOM })
}

const fn at(revision: u64) -> Revision {
    Revision::new(revision)
}

/// A connection that stands at 10, and a history of which the log holds nothing.
fn left_behind() -> (Peer, History) {
    let history = History::keeping(0);
    (Peer::following(&history), history)
}

#[test]
fn what_the_log_no_longer_holds_comes_from_the_store_each_key_once() {
    let (mut peer, mut history) = left_behind();
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    assert_eq!(peer.effects(), [], "before it is shown the log, it does not know");
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    assert_eq!(peer.effects(), [], "asked once");
    peer.handle_changes(Ok(page([tombstone("b", 7, at(12)), entry("a", "value", 3, at(13))], at(13))));
    assert_eq!(peer.shown(&history), [broadcast("b", "", 7), broadcast("a", "value", 3)]);
    assert_eq!(peer.effects(), []);
}

#[test]
fn back_in_the_log_it_is_served_from_there() {
    let size = {
        let mut history = History::new();
        history.put(OTHER, "a", "value", 1);
        history.log.bytes()
    };
    let mut history = History::keeping(2 * size);
    let mut peer = Peer::following(&history);
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    // The page was read before the last commit: the log holds the rest, and some of what the page tells.
    peer.handle_changes(Ok(page([entry("a", "value", 2, at(12))], at(12))));
    assert_eq!(peer.shown(&history), [broadcast("a", "value", 2), broadcast("a", "value", 3)]);
    history.put(OTHER, "a", "value", 4);
    assert_eq!(peer.shown(&history), [broadcast("a", "value", 4)]);
    assert_eq!(peer.effects(), []);
}

#[test]
fn a_page_that_is_ahead_of_the_log_is_not_repeated_from_it() {
    let (mut peer, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    // The store shows what it has committed before the log does.
    peer.handle_changes(Ok(page([entry("a", "1", 1, at(11)), entry("b", "1", 1, at(12))], at(12))));
    let mut later = History::new();
    later.put(OTHER, "a", "1", 1);
    later.commit([(OTHER, vec![write("b", "1", 1)]), (OTHER, vec![write("c", "1", 1)])]);
    assert_eq!(peer.shown(&later), [broadcast("a", "1", 1), broadcast("b", "1", 1), broadcast("c", "1", 1)]);
}

#[test]
fn a_long_way_takes_page_after_page() {
    let (mut peer, mut history) = left_behind();
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    peer.shown(&history);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Ok(page([entry("b", "1", 1, at(11))], at(11))));
    assert_eq!(peer.shown(&history), [broadcast("b", "1", 1)]);
    assert_eq!(peer.effects(), [catch_up(11)]);
    // Nothing that is still the latest, and yet progress.
    peer.handle_changes(Ok(page([], at(12))));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(12)]);
}

#[test]
fn a_page_is_asked_for_when_there_is_room_for_it() {
    let (mut peer, mut history) = left_behind();
    let large = vec![b'v'; 60_000];
    history.put(OTHER, "a", large.clone(), 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    let entries = ["a", "b", "c"].map(|key| entry(key, large.clone(), 1, at(11)));
    peer.handle_changes(Ok(page(entries, at(11))));
    history.put(OTHER, "d", "1", 1);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), [], "the output is full");
    peer.take(usize::MAX);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), [catch_up(11)]);
    peer.handle_changes(Ok(page([entry("d", vec![b'v'; 1000], 1, at(12))], at(12))));
    history.put(OTHER, "e", "1", 1);
    peer.connection.handle_log(&history.log);
    let unsent = peer.connection.output().remaining();
    assert_eq!(
        peer.effects(),
        [Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: at(12), max_bytes: OUTPUT_ROOM - unsent })]
    );
}

#[test]
fn a_page_waits_for_answers_that_fill_the_output() {
    let (mut peer, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), []);
    // Refused at once, so that no earlier page is needed to answer them.
    let refused: Vec<_> = (1..=4000).map(|tag| error(tag, "?")).collect();
    peer.send(&refused);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), []);
    let unsent = peer.connection.output().remaining();
    peer.take(unsent - UNSENT_BEFORE_PAGE - 1);
    assert_eq!(peer.effects(), []);
    peer.take(1);
    assert!(matches!(peer.effects()[..], [Effect::Page(PageRequest::Changes { .. })]));
}

#[test]
fn own_answers_are_merged_in_by_revision() {
    let (mut peer, mut history) = left_behind();
    peer.send(&[put(1, "a", "mine", 1), put(2, "b", "no", 2), put(3, "b", "mine", 2), put(4, "c", "mine", 1)]);
    assert_eq!(peer.effects().len(), 4);
    history.commit([
        (ME, vec![write("a", "mine", 1)]),
        (OTHER, vec![write("b", "theirs", 1)]),
        (ME, vec![write("b", "mine", 2)]),
        (OTHER, vec![write("a", "theirs", 2)]),
        (ME, vec![write("c", "mine", 1)]),
        (OTHER, vec![write("d", "theirs", 1)]),
    ]);
    peer.connection.handle_outcome(accepted(at(11)));
    peer.connection.handle_outcome(stale(at(12)));
    peer.connection.handle_outcome(accepted(at(13)));
    peer.connection.handle_outcome(accepted(at(15)));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    let entries = [
        entry("b", "mine", 2, at(13)),
        entry("a", "theirs", 2, at(14)),
        entry("c", "mine", 1, at(15)),
        entry("d", "theirs", 1, at(16)),
    ];
    peer.handle_changes(Ok(page(entries, at(16))));
    let expected = [
        put(1, "a", "mine", 1),
        error(2, "stale put"),
        put(3, "b", "mine", 2),
        broadcast("a", "theirs", 2),
        put(4, "c", "mine", 1),
        broadcast("d", "theirs", 1),
    ];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn an_own_answer_beyond_the_page_waits_for_the_next() {
    let (mut peer, mut history) = left_behind();
    peer.send(&[put(1, "a", "mine", 1)]);
    assert_eq!(peer.effects().len(), 1);
    history.put(OTHER, "b", "1", 1);
    history.put(OTHER, "c", "1", 1);
    let own = history.put(ME, "a", "mine", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Ok(page([entry("b", "1", 1, at(11))], at(11))));
    assert_eq!(peer.shown(&history), [broadcast("b", "1", 1)]);
    assert_eq!(peer.effects(), [catch_up(11)]);
    peer.handle_changes(Ok(page([entry("c", "1", 1, at(12)), entry("a", "mine", 1, own)], own)));
    assert_eq!(peer.shown(&history), [broadcast("c", "1", 1), put(1, "a", "mine", 1)]);
}

#[test]
fn a_value_that_was_read_comes_before_what_has_replaced_it() {
    let (mut peer, mut history) = left_behind();
    peer.send(&[get(1, "a")]);
    assert_eq!(peer.effects(), [read("a")]);
    let revision = history.put(OTHER, "a", "1", 1);
    peer.connection.handle_entry(Ok(Some(entry("a", "1", 1, revision))));
    history.put(OTHER, "a", "2", 2);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Ok(page([entry("a", "2", 2, at(12))], at(12))));
    assert_eq!(peer.shown(&history), [put(1, "a", "1", 1), broadcast("a", "2", 2)]);
}

#[test]
fn no_page_is_asked_for_while_a_write_is_undecided_and_nothing_is_given_out_until_it_is_there() {
    let (mut peer, mut history) = left_behind();
    peer.send(&[put(1, "a", "mine", 1), put(2, "b", "mine", 1)]);
    assert_eq!(peer.effects().len(), 2);
    history.put(OTHER, "c", "1", 1);
    assert_eq!(peer.shown(&history), []);
    peer.send(&[get(3, "c")]);
    assert_eq!(peer.effects(), [], "a page can't say which writes are its own");
    let first = history.put(ME, "a", "mine", 1);
    peer.connection.handle_outcome(accepted(first));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [], "one is still undecided");
    peer.connection.handle_outcome(stale(first));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Ok(page([entry("c", "1", 1, at(11)), entry("a", "mine", 1, first)], first)));
    assert_eq!(peer.shown(&history), [broadcast("c", "1", 1), put(1, "a", "mine", 1), error(2, "stale put")]);
    assert_eq!(peer.effects(), [read("c")]);
}

#[test]
fn refused_requests_are_answered_while_a_page_is_on_its_way() {
    let (mut peer, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.send(&[error(1, "?"), put(2, "a", "2", 2)]);
    assert_eq!(peer.effects(), []);
    assert_eq!(peer.shown(&history), [error(1, "messages of kind ERROR cannot be applied")]);
    peer.handle_changes(Ok(page([entry("a", "1", 1, at(11))], at(11))));
    assert_eq!(peer.shown(&history), [broadcast("a", "1", 1)]);
    assert_eq!(peer.effects(), [commit("a", "2", 2)]);
}

#[test]
fn an_entry_that_no_put_carries_is_left_out_of_a_page() {
    let (mut peer, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    let (most, larger) = (vec![b'v'; 65_525 - 1], vec![b'v'; 65_525]);
    let entries = [entry("a", most.clone(), 1, at(11)), entry("b", larger, 1, at(12)), entry("c", "1", 1, at(13))];
    peer.handle_changes(Ok(page(entries, at(13))));
    assert_eq!(peer.sent(), [broadcast("a", most, 1), broadcast("c", "1", 1)]);
}

#[test]
fn a_page_that_is_no_progress_closes_the_connection() {
    let (mut peer, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Ok(page([], at(10))));
    assert_eq!(peer.shown(&history), [error(0, "unavailable: the store has lost track of what changed")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn a_page_that_the_store_cannot_tell_closes_the_connection() {
    let (mut peer, mut history) = left_behind();
    peer.send(&[put(1, "mine", "1", 1)]);
    assert_eq!(peer.effects(), [commit("mine", "1", 1)]);
    let own = history.put(ME, "mine", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    peer.send(&[get(2, "a")]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [catch_up(10)]);
    peer.handle_changes(Err(PageError::Unavailable("engine away".into())));
    assert_eq!(peer.send(&[get(3, "a")]), Input::Closed);
    let told = [put(1, "mine", "1", 1), error(0, "unavailable: engine away")];
    assert_eq!(peer.shown(&history), told, "what became of a write is told in any case");
    assert!(peer.connection.is_finished());
    assert_eq!(peer.effects(), []);
}
