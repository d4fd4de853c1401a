//! Catch-up: a connection whose position the recent log no longer holds reads the store.

use crate::support::{
    Harness, History, MAX_UNSENT_BEFORE_PAGE, MAX_UNSENT_OUTPUT, ME, OTHER, accepted, broadcast, commit_effect, entry,
    error, get, get_effect, page, put, put_operation, stale, tombstone,
};
use bytes::{Buf, Bytes};
use syncline_core::PageError;
use syncline_core::server::{Effect, Input, PageRequest};
use syncline_wire::Revision;

fn catch_up(since: u64) -> Effect {
    Effect::Page(PageRequest::Changes {
        prefix: Bytes::new(),
        since: Revision::new(since),
        max_bytes: MAX_UNSENT_OUTPUT,
    })
}

const fn at(revision: u64) -> Revision {
    Revision::new(revision)
}

/// Returns a connection at revision 10, and a history whose log holds nothing.
fn left_behind() -> (Harness, History) {
    let history = History::keeping(0);
    (Harness::following(&history), history)
}

#[test]
fn catch_up_reads_each_changed_key_once_from_the_store() {
    let (mut harness, mut history) = left_behind();
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    assert_eq!(harness.effects(), [], "the connection was not shown the log yet");
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    assert_eq!(harness.effects(), [], "the page is requested once");
    harness.handle_changes(Ok(page([tombstone("b", 7, at(12)), entry("a", "value", 3, at(13))], at(13))));
    assert_eq!(harness.show_log(&history), [broadcast("b", "", 7), broadcast("a", "value", 3)]);
    assert_eq!(harness.effects(), []);
}

#[test]
fn after_catch_up_changes_are_sent_from_the_log() {
    let size = {
        let mut history = History::new();
        history.put(OTHER, "a", "value", 1);
        history.log.bytes()
    };
    let mut history = History::keeping(2 * size);
    let mut harness = Harness::following(&history);
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    // The page was read before the last commit. The log holds the rest, and some changes of the page.
    harness.handle_changes(Ok(page([entry("a", "value", 2, at(12))], at(12))));
    assert_eq!(harness.show_log(&history), [broadcast("a", "value", 2), broadcast("a", "value", 3)]);
    history.put(OTHER, "a", "value", 4);
    assert_eq!(harness.show_log(&history), [broadcast("a", "value", 4)]);
    assert_eq!(harness.effects(), []);
}

#[test]
fn changes_of_a_page_ahead_of_the_log_are_not_sent_again() {
    let (mut harness, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    // The store returns a commit before the log holds it.
    harness.handle_changes(Ok(page([entry("a", "1", 1, at(11)), entry("b", "1", 1, at(12))], at(12))));
    let mut later = History::new();
    later.put(OTHER, "a", "1", 1);
    later.commit([(OTHER, vec![put_operation("b", "1", 1)]), (OTHER, vec![put_operation("c", "1", 1)])]);
    assert_eq!(harness.show_log(&later), [broadcast("a", "1", 1), broadcast("b", "1", 1), broadcast("c", "1", 1)]);
}

#[test]
fn a_long_catch_up_takes_several_pages() {
    let (mut harness, mut history) = left_behind();
    for version in 1..=3 {
        history.put(OTHER, "a", "value", version);
    }
    harness.show_log(&history);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Ok(page([entry("b", "1", 1, at(11))], at(11))));
    assert_eq!(harness.show_log(&history), [broadcast("b", "1", 1)]);
    assert_eq!(harness.effects(), [catch_up(11)]);
    // Everything up to 12 was overwritten later: the page is empty, but the position advances.
    harness.handle_changes(Ok(page([], at(12))));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(12)]);
}

#[test]
fn a_page_of_a_catch_up_is_read_when_there_is_room_for_it() {
    let (mut harness, mut history) = left_behind();
    let large = vec![b'v'; 60_000];
    history.put(OTHER, "a", large.clone(), 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    let entries = ["a", "b", "c"].map(|key| entry(key, large.clone(), 1, at(11)));
    harness.handle_changes(Ok(page(entries, at(11))));
    history.put(OTHER, "d", "1", 1);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), [], "the output is full");
    harness.read(usize::MAX);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), [catch_up(11)]);
    harness.handle_changes(Ok(page([entry("d", vec![b'v'; 1000], 1, at(12))], at(12))));
    history.put(OTHER, "e", "1", 1);
    harness.connection.handle_log(&history.log);
    let unsent = harness.connection.output().remaining();
    assert_eq!(
        harness.effects(),
        [Effect::Page(PageRequest::Changes {
            prefix: Bytes::new(),
            since: at(12),
            max_bytes: MAX_UNSENT_OUTPUT - unsent
        })]
    );
}

#[test]
fn a_page_waits_while_responses_fill_the_output() {
    let (mut harness, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    // Refused on arrival, so that no page must be read before the responses.
    let refused: Vec<_> = (1..=4000).map(|tag| error(tag, "?")).collect();
    harness.send(&refused);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), []);
    let unsent = harness.connection.output().remaining();
    harness.read(unsent - MAX_UNSENT_BEFORE_PAGE - 1);
    assert_eq!(harness.effects(), []);
    harness.read(1);
    assert!(matches!(harness.effects()[..], [Effect::Page(PageRequest::Changes { .. })]));
}

#[test]
fn own_responses_are_merged_into_a_page_by_revision() {
    let (mut harness, mut history) = left_behind();
    harness.send(&[put(1, "a", "mine", 1), put(2, "b", "no", 2), put(3, "b", "mine", 2), put(4, "c", "mine", 1)]);
    assert_eq!(harness.effects().len(), 4);
    history.commit([
        (ME, vec![put_operation("a", "mine", 1)]),
        (OTHER, vec![put_operation("b", "theirs", 1)]),
        (ME, vec![put_operation("b", "mine", 2)]),
        (OTHER, vec![put_operation("a", "theirs", 2)]),
        (ME, vec![put_operation("c", "mine", 1)]),
        (OTHER, vec![put_operation("d", "theirs", 1)]),
    ]);
    harness.connection.handle_outcome(accepted(at(11)));
    harness.connection.handle_outcome(stale(at(12)));
    harness.connection.handle_outcome(accepted(at(13)));
    harness.connection.handle_outcome(accepted(at(15)));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    let entries = [
        entry("b", "mine", 2, at(13)),
        entry("a", "theirs", 2, at(14)),
        entry("c", "mine", 1, at(15)),
        entry("d", "theirs", 1, at(16)),
    ];
    harness.handle_changes(Ok(page(entries, at(16))));
    let expected = [
        put(1, "a", "mine", 1),
        error(2, "stale put"),
        put(3, "b", "mine", 2),
        broadcast("a", "theirs", 2),
        put(4, "c", "mine", 1),
        broadcast("d", "theirs", 1),
    ];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn an_own_response_beyond_the_page_waits_for_the_next() {
    let (mut harness, mut history) = left_behind();
    harness.send(&[put(1, "a", "mine", 1)]);
    assert_eq!(harness.effects().len(), 1);
    history.put(OTHER, "b", "1", 1);
    history.put(OTHER, "c", "1", 1);
    let own = history.put(ME, "a", "mine", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Ok(page([entry("b", "1", 1, at(11))], at(11))));
    assert_eq!(harness.show_log(&history), [broadcast("b", "1", 1)]);
    assert_eq!(harness.effects(), [catch_up(11)]);
    harness.handle_changes(Ok(page([entry("c", "1", 1, at(12)), entry("a", "mine", 1, own)], own)));
    assert_eq!(harness.show_log(&history), [broadcast("c", "1", 1), put(1, "a", "mine", 1)]);
}

#[test]
fn a_value_that_was_read_is_sent_before_its_successor() {
    let (mut harness, mut history) = left_behind();
    harness.send(&[get(1, "a")]);
    assert_eq!(harness.effects(), [get_effect("a")]);
    let revision = history.put(OTHER, "a", "1", 1);
    harness.connection.handle_entry(Ok(Some(entry("a", "1", 1, revision))));
    history.put(OTHER, "a", "2", 2);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Ok(page([entry("a", "2", 2, at(12))], at(12))));
    assert_eq!(harness.show_log(&history), [put(1, "a", "1", 1), broadcast("a", "2", 2)]);
}

#[test]
fn catch_up_waits_for_writes_in_flight_and_requests_for_catch_up() {
    let (mut harness, mut history) = left_behind();
    harness.send(&[put(1, "a", "mine", 1), put(2, "b", "mine", 1)]);
    assert_eq!(harness.effects().len(), 2);
    history.put(OTHER, "c", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    harness.send(&[get(3, "c")]);
    assert_eq!(harness.effects(), [], "a page does not say which writes are the connection's own");
    let first = history.put(ME, "a", "mine", 1);
    harness.connection.handle_outcome(accepted(first));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [], "one write is still in flight");
    harness.connection.handle_outcome(stale(first));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Ok(page([entry("c", "1", 1, at(11)), entry("a", "mine", 1, first)], first)));
    assert_eq!(harness.show_log(&history), [broadcast("c", "1", 1), put(1, "a", "mine", 1), error(2, "stale put")]);
    assert_eq!(harness.effects(), [get_effect("c")]);
}

#[test]
fn refusals_are_sent_while_a_page_is_read() {
    let (mut harness, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.send(&[error(1, "?"), put(2, "a", "2", 2)]);
    assert_eq!(harness.effects(), []);
    assert_eq!(harness.show_log(&history), [error(1, "messages of kind ERROR cannot be applied")]);
    harness.handle_changes(Ok(page([entry("a", "1", 1, at(11))], at(11))));
    assert_eq!(harness.show_log(&history), [broadcast("a", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("a", "2", 2)]);
}

#[test]
fn an_entry_too_large_for_a_put_is_left_out_of_a_page() {
    let (mut harness, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    let (most, larger) = (vec![b'v'; 65_525 - 1], vec![b'v'; 65_525]);
    let entries = [entry("a", most.clone(), 1, at(11)), entry("b", larger, 1, at(12)), entry("c", "1", 1, at(13))];
    harness.handle_changes(Ok(page(entries, at(13))));
    assert_eq!(harness.read_all(), [broadcast("a", most, 1), broadcast("c", "1", 1)]);
}

#[test]
fn a_page_without_progress_closes_the_connection() {
    let (mut harness, mut history) = left_behind();
    history.put(OTHER, "a", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Ok(page([], at(10))));
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: the store has lost track of what changed")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn a_failed_catch_up_closes_the_connection() {
    let (mut harness, mut history) = left_behind();
    harness.send(&[put(1, "mine", "1", 1)]);
    assert_eq!(harness.effects(), [commit_effect("mine", "1", 1)]);
    let own = history.put(ME, "mine", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    harness.send(&[get(2, "a")]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [catch_up(10)]);
    harness.handle_changes(Err(PageError::Unavailable("engine away".into())));
    assert_eq!(harness.send(&[get(3, "a")]), Input::Closed);
    let sent = [put(1, "mine", "1", 1), error(0, "unavailable: engine away")];
    assert_eq!(harness.show_log(&history), sent, "what became of a write is told in any case");
    assert!(harness.connection.is_finished());
    assert_eq!(harness.effects(), []);
}
