//! WATCH and LIST: the pages that they send, between all other frames.

use crate::support::{
    Harness, History, MAX_UNSENT_BEFORE_PAGE, MAX_UNSENT_OUTPUT, ME, OTHER, accepted, commit_effect, deletion, entry,
    error, get, get_effect, keys, mark, page, page_read_at, put, tombstone, watch,
};
use bytes::{Buf, Bytes};
use std::num::NonZeroUsize;
use syncline_core::PageError;
use syncline_core::server::{Effect, Limits, PageRequest};
use syncline_wire::{Message, Revision, Tag};

const PAGE: usize = 64 * 1024;

const fn at(revision: u64) -> Revision {
    Revision::new(revision)
}

fn list(tag: u16, prefix: &'static str, after: &'static str, limit: u32) -> Message {
    Message::list(Tag::new(tag), prefix, after, limit)
}

/// Returns the effect of a WATCH from the start.
fn all_keys(prefix: &'static str, after: Option<&'static str>) -> Effect {
    some_keys(prefix, after, u32::MAX as usize)
}

fn some_keys(prefix: &'static str, after: Option<&'static str>, max_entries: usize) -> Effect {
    Effect::Page(PageRequest::Keys {
        prefix: prefix.into(),
        after: after.map(Bytes::from),
        max_entries: NonZeroUsize::new(max_entries).unwrap(),
        max_bytes: PAGE,
    })
}

fn changes(prefix: &'static str, since: u64) -> Effect {
    Effect::Page(PageRequest::Changes { prefix: prefix.into(), since: at(since), max_bytes: PAGE })
}

#[test]
fn a_watch_from_the_start_sends_every_key_and_then_a_mark() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "a/", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("a/", None)]);
    assert_eq!(harness.effects(), [], "the page is requested once");
    let first = [entry("a/1", "1", 1, at(3)), entry("a/2", "1", 4, at(2))];
    harness.handle_keys(Ok(keys(first, Some("a/2"), at(10))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "1", 1), put(0, "a/2", "1", 4)]);
    assert_eq!(harness.effects(), [all_keys("a/", Some("a/2"))]);
    harness.handle_keys(Ok(keys([entry("a/3", "1", 1, at(10))], None, at(10))));
    assert_eq!(harness.show_log(&history), [put(0, "a/3", "1", 1), mark(2, 10)]);
    assert_eq!(harness.effects(), []);
}

#[test]
fn changes_during_a_scan_are_sent_once() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("", None)]);
    harness.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    history.put(OTHER, "a", "2", 2);
    history.put(OTHER, "c", "1", 1);
    assert_eq!(harness.show_log(&history), [put(0, "a", "1", 1)], "the next page is read before the log is followed");
    assert_eq!(harness.effects(), [all_keys("", Some("a"))]);
    let rest = [entry("b", "1", 1, at(4)), entry("c", "1", 1, at(12))];
    harness.handle_keys(Ok(keys(rest, None, at(12))));
    let expected = [put(0, "a", "2", 2), put(0, "c", "1", 1), put(0, "b", "1", 1), mark(2, 12)];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn a_page_is_sent_at_the_revision_at_which_it_was_read() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("", None)]);
    history.put(OTHER, "a", "2", 2);
    // The page was read at 11: after the first commit and before the second.
    history.put(OTHER, "b", "2", 2);
    harness.handle_keys(Ok(keys([entry("b", "1", 1, at(4))], None, at(11))));
    let expected = [put(0, "a", "2", 2), put(0, "b", "1", 1), mark(2, 11), put(0, "b", "2", 2), mark(0, 12)];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn a_page_waits_for_the_log_to_reach_its_revision() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("", None)]);
    harness.handle_keys(Ok(keys([entry("b", "1", 1, at(4)), entry("new", "1", 1, at(11))], None, at(11))));
    assert_eq!(harness.show_log(&history), []);
    assert!(harness.connection.waits_for_log());
    history.put(OTHER, "new", "1", 1);
    assert_eq!(harness.show_log(&history), [put(0, "new", "1", 1), put(0, "b", "1", 1), mark(2, 11)]);
}

#[test]
fn a_resume_sends_what_changed_since() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "a/", 7)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("a/", 7)]);
    harness.handle_changes(Ok(page_read_at([tombstone("a/1", 3, at(8))], at(8), at(10))));
    assert_eq!(harness.show_log(&history), [deletion("a/1", 3)]);
    assert_eq!(harness.effects(), [changes("a/", 8)]);
    history.put(OTHER, "a/2", "2", 2);
    let entries = [entry("a/3", "1", 1, at(10)), entry("a/2", "2", 2, at(11))];
    harness.handle_changes(Ok(page_read_at(entries, at(11), at(11))));
    assert_eq!(harness.show_log(&history), [put(0, "a/2", "2", 2), put(0, "a/3", "1", 1), mark(2, 11)]);
}

#[test]
fn a_resume_at_the_head_sends_only_a_mark() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "", 10)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("", 10)]);
    harness.handle_changes(Ok(page([], at(10))));
    assert_eq!(harness.show_log(&history), [mark(2, 10)]);
}

#[test]
fn a_resume_from_a_forgotten_revision_starts_over() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "a/", 7)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("a/", 7)]);
    harness.handle_changes(Err(PageError::Untold("forgotten".into())));
    assert_eq!(harness.show_log(&history), [mark(2, 0)]);
    assert_eq!(harness.effects(), [all_keys("a/", None)]);
    harness.handle_keys(Ok(keys([entry("a/1", "1", 1, at(3))], None, at(10))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "1", 1), mark(2, 10)]);
}

#[test]
fn a_resume_that_starts_over_sends_everything_again() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "a/", 7)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("a/", 7)]);
    harness.handle_changes(Ok(page_read_at([], at(8), at(10))));
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("a/", 8)]);
    harness.handle_changes(Ok(page_read_at([], at(9), at(11))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "1", 1), mark(0, 11)]);
    assert_eq!(harness.effects(), [changes("a/", 9)]);
    harness.handle_changes(Err(PageError::Untold("forgotten meanwhile".into())));
    assert_eq!(harness.show_log(&history), [mark(2, 0)]);
    assert_eq!(harness.effects(), [all_keys("a/", None)]);
    harness.handle_keys(Ok(keys([entry("a/1", "1", 1, at(11))], None, at(11))));
    assert_eq!(harness.show_log(&history), [put(0, "a/1", "1", 1), mark(2, 11)]);
}

#[test]
fn an_unavailable_store_fails_only_the_scan_that_needs_it() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/", &history);
    harness.send(&[watch(3, "b/", 7), list(4, "", "", 5)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [changes("b/", 7)]);
    harness.handle_changes(Err(PageError::Unavailable("engine away".into())));
    assert_eq!(harness.show_log(&history), [error(3, "unavailable: engine away")]);
    assert_eq!(harness.effects(), [some_keys("", Some(""), 5)]);
    harness.handle_keys(Err("engine away".into()));
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(harness.show_log(&history), [error(4, "unavailable: engine away"), put(0, "a/1", "1", 1), mark(0, 11)]);
}

#[test]
fn a_failed_watch_sends_nothing_afterwards() {
    let mut history = History::new();
    let mut harness = Harness::watching("a/", &history);
    harness.send(&[watch(3, "", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("", None)]);
    harness.handle_keys(Err("engine away".into()));
    history.put(OTHER, "b", "1", 1);
    history.put(OTHER, "a/1", "1", 1);
    let sent = harness.show_log(&history);
    assert_eq!(
        sent,
        [error(3, "unavailable: engine away"), put(0, "a/1", "1", 1), mark(0, 12)],
        "only changes under a/"
    );
}

#[test]
fn a_list_returns_keys_with_its_tag_up_to_its_limit() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[list(2, "a/", "a/m", 3)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [some_keys("a/", Some("a/m"), 3)]);
    let entries = [entry("a/n", "1", 1, at(3)), entry("a/o", "1", 1, at(4))];
    harness.handle_keys(Ok(keys(entries, Some("a/o"), at(10))));
    assert_eq!(harness.show_log(&history), [put(2, "a/n", "1", 1), put(2, "a/o", "1", 1)]);
    assert_eq!(harness.effects(), [some_keys("a/", Some("a/o"), 1)]);
    harness.handle_keys(Ok(keys([entry("a/p", "1", 1, at(5))], Some("a/p"), at(10))));
    assert_eq!(harness.show_log(&history), [put(2, "a/p", "1", 1), mark(2, 10)]);
    assert_eq!(harness.effects(), []);
}

#[test]
fn a_list_sees_the_writes_before_it() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[put(2, "k", "1", 1), list(3, "", "", 9)]);
    assert_eq!(harness.effects(), [commit_effect("k", "1", 1)]);
    assert_eq!(harness.show_log(&history), []);
    let own = history.put(ME, "k", "1", 1);
    harness.connection.handle_outcome(accepted(own));
    assert_eq!(harness.show_log(&history), [put(2, "k", "1", 1)]);
    assert_eq!(harness.effects(), [some_keys("", Some(""), 9)]);
}

#[test]
fn a_long_scan_delays_neither_requests_nor_other_scans() {
    let mut history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[watch(2, "", 0), list(3, "", "", 9), get(4, "k")]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("", None), get_effect("k")]);
    harness.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    harness.connection.handle_entry(Ok(Some(entry("k", "1", 1, at(3)))));
    assert_eq!(harness.show_log(&history), [put(4, "k", "1", 1), put(0, "a", "1", 1)]);
    assert_eq!(harness.effects(), [some_keys("", Some(""), 9)], "scans take turns, page by page");
    harness.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], None, at(10))));
    history.put(OTHER, "z", "1", 1);
    assert_eq!(harness.show_log(&history), [put(3, "a", "1", 1), mark(3, 10)]);
    assert_eq!(harness.effects(), [all_keys("", Some("a"))]);
    harness.handle_keys(Ok(keys([], None, at(11))));
    assert_eq!(harness.show_log(&history), [put(0, "z", "1", 1), mark(2, 11)]);
}

#[test]
fn a_page_of_a_scan_is_read_when_there_is_room_for_it() {
    let mut history = History::new();
    let mut harness = Harness::watching("a", &history);
    harness.send(&[watch(3, "b", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("b", None)]);
    let large = vec![b'v'; 60_000];
    let entries = [entry("b1", large.clone(), 1, at(1)), entry("b2", large.clone(), 1, at(2))];
    harness.handle_keys(Ok(keys(entries, Some("b2"), at(10))));
    history.put(OTHER, "a1", large, 1);
    harness.connection.handle_log(&history.log);
    // Nothing else is added to the output either, or the page would never be read.
    let unsent = harness.connection.output().remaining();
    assert!((2 * 60_000..MAX_UNSENT_OUTPUT).contains(&unsent), "{unsent} bytes");
    harness.read(unsent - MAX_UNSENT_BEFORE_PAGE - 1);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), [], "too much earlier output is unsent");
    harness.read(1);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), [all_keys("b", Some("b2"))]);
}

#[test]
fn a_scan_during_catch_up_ends_with_a_mark_that_is_true() {
    let mut history = History::keeping(0);
    let mut harness = Harness::watching("a", &history);
    harness.send(&[watch(3, "b", 0)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects(), [all_keys("b", None)]);
    history.put(OTHER, "b1", "2", 2);
    history.put(OTHER, "a1", "1", 1);
    harness.handle_keys(Ok(keys([entry("b2", "1", 1, at(2))], None, at(11))));
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(
        harness.effects(),
        [Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: at(10), max_bytes: MAX_UNSENT_OUTPUT })]
    );
    let entries = [entry("b1", "2", 2, at(11)), entry("a1", "1", 1, at(12))];
    harness.handle_changes(Ok(page_read_at(entries, at(12), at(12))));
    let expected = [put(0, "b1", "2", 2), put(0, "b2", "1", 1), put(0, "a1", "1", 1), mark(3, 12)];
    assert_eq!(harness.show_log(&history), expected, "the MARK is true only at the head of the page");
}

#[test]
fn the_watched_prefixes_of_a_connection_are_bounded() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    let names: Vec<&'static str> = (0..257).map(|number| &*format!("{number:03}").leak()).collect();
    let (last, first) = names.split_last().unwrap();
    for name in first {
        harness.send(&[watch(2, name, 0)]);
        assert_eq!(harness.show_log(&history), []);
        assert_eq!(harness.effects().len(), 1);
        harness.handle_keys(Ok(keys([], None, at(10))));
        assert_eq!(harness.show_log(&history), [mark(2, 10)]);
    }
    harness.send(&[watch(2, last, 0)]);
    let text = "too large: expected at most 256 prefixes watched on one connection";
    assert_eq!(harness.show_log(&history), [error(2, text)]);
}

#[test]
fn scans_count_as_requests_in_flight() {
    let history = History::new();
    let mut harness = Harness::extended_within(Limits { max_requests: 2, ..Limits::default() }, &history);
    harness.send(&[list(2, "", "", 1), list(3, "", "", 1)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.send(&[get(4, "k")]), syncline_core::server::Input::Paused);
}

#[test]
fn closing_does_not_finish_a_list() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[list(2, "", "", 9)]);
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects().len(), 1);
    harness.connection.close("shutting down");
    harness.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: shutting down")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn a_list_is_completed_after_the_client_has_ended_its_side() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
    harness.send(&[list(2, "", "", 9)]);
    harness.connection.handle_end();
    assert_eq!(harness.show_log(&history), []);
    assert_eq!(harness.effects().len(), 1);
    harness.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], None, at(10))));
    assert_eq!(harness.show_log(&history), [put(2, "a", "1", 1), mark(2, 10)]);
    assert!(harness.connection.is_finished());
}
