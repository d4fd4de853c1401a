//! WATCH and LIST: what they are answered with, page by page, beside everything else.

use crate::support::{
    History, ME, OTHER, OUTPUT_ROOM, Peer, UNSENT_BEFORE_PAGE, accepted, commit, deletion, entry, error, get, keys,
    mark, page, page_read_at, put, read, tombstone, watch,
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

/// What is asked for a WATCH from the start.
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
fn a_watch_from_the_start_is_told_every_key_and_then_a_mark() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "a/", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("a/", None)]);
    assert_eq!(peer.effects(), [], "asked once");
    let first = [entry("a/1", "1", 1, at(3)), entry("a/2", "1", 4, at(2))];
    peer.handle_keys(Ok(keys(first, Some("a/2"), at(10))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "1", 1), put(0, "a/2", "1", 4)]);
    assert_eq!(peer.effects(), [all_keys("a/", Some("a/2"))]);
    peer.handle_keys(Ok(keys([entry("a/3", "1", 1, at(10))], None, at(10))));
    assert_eq!(peer.shown(&history), [put(0, "a/3", "1", 1), mark(2, 10)]);
    assert_eq!(peer.effects(), []);
}

#[test]
fn what_changes_while_it_is_told_comes_as_it_commits_and_not_twice() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("", None)]);
    peer.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    history.put(OTHER, "a", "2", 2);
    history.put(OTHER, "c", "1", 1);
    assert_eq!(peer.shown(&history), [put(0, "a", "1", 1)], "the next page goes before the log");
    assert_eq!(peer.effects(), [all_keys("", Some("a"))]);
    let rest = [entry("b", "1", 1, at(4)), entry("c", "1", 1, at(12))];
    peer.handle_keys(Ok(keys(rest, None, at(12))));
    let expected = [put(0, "a", "2", 2), put(0, "c", "1", 1), put(0, "b", "1", 1), mark(2, 12)];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn a_page_is_sent_in_its_place_in_the_order() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("", None)]);
    history.put(OTHER, "a", "2", 2);
    // The page was read after that, and before this.
    history.put(OTHER, "b", "2", 2);
    peer.handle_keys(Ok(keys([entry("b", "1", 1, at(4))], None, at(11))));
    let expected = [put(0, "a", "2", 2), put(0, "b", "1", 1), mark(2, 11), put(0, "b", "2", 2), mark(0, 12)];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn a_page_waits_for_the_log_to_get_to_where_it_was_read() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("", None)]);
    peer.handle_keys(Ok(keys([entry("b", "1", 1, at(4)), entry("new", "1", 1, at(11))], None, at(11))));
    assert_eq!(peer.shown(&history), []);
    assert!(peer.connection.waits_for_log());
    history.put(OTHER, "new", "1", 1);
    assert_eq!(peer.shown(&history), [put(0, "new", "1", 1), put(0, "b", "1", 1), mark(2, 11)]);
}

#[test]
fn a_resume_is_told_what_changed_since() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "a/", 7)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("a/", 7)]);
    peer.handle_changes(Ok(page_read_at([tombstone("a/1", 3, at(8))], at(8), at(10))));
    assert_eq!(peer.shown(&history), [deletion("a/1", 3)]);
    assert_eq!(peer.effects(), [changes("a/", 8)]);
    history.put(OTHER, "a/2", "2", 2);
    let entries = [entry("a/3", "1", 1, at(10)), entry("a/2", "2", 2, at(11))];
    peer.handle_changes(Ok(page_read_at(entries, at(11), at(11))));
    assert_eq!(peer.shown(&history), [put(0, "a/2", "2", 2), put(0, "a/3", "1", 1), mark(2, 11)]);
}

#[test]
fn a_resume_at_the_head_is_told_that_nothing_has_changed() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "", 10)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("", 10)]);
    peer.handle_changes(Ok(page([], at(10))));
    assert_eq!(peer.shown(&history), [mark(2, 10)]);
}

#[test]
fn a_resume_that_can_not_be_told_begins_afresh() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "a/", 7)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("a/", 7)]);
    peer.handle_changes(Err(PageError::Untold("forgotten".into())));
    assert_eq!(peer.shown(&history), [mark(2, 0)]);
    assert_eq!(peer.effects(), [all_keys("a/", None)]);
    peer.handle_keys(Ok(keys([entry("a/1", "1", 1, at(3))], None, at(10))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "1", 1), mark(2, 10)]);
}

#[test]
fn what_was_sent_before_it_begins_afresh_is_sent_again() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "a/", 7)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("a/", 7)]);
    peer.handle_changes(Ok(page_read_at([], at(8), at(10))));
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("a/", 8)]);
    peer.handle_changes(Ok(page_read_at([], at(9), at(11))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "1", 1), mark(0, 11)]);
    assert_eq!(peer.effects(), [changes("a/", 9)]);
    peer.handle_changes(Err(PageError::Untold("forgotten meanwhile".into())));
    assert_eq!(peer.shown(&history), [mark(2, 0)]);
    assert_eq!(peer.effects(), [all_keys("a/", None)]);
    peer.handle_keys(Ok(keys([entry("a/1", "1", 1, at(11))], None, at(11))));
    assert_eq!(peer.shown(&history), [put(0, "a/1", "1", 1), mark(2, 11)]);
}

#[test]
fn a_store_in_trouble_is_told_to_the_one_who_asks_and_the_rest_goes_on() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/", &history);
    peer.send(&[watch(3, "b/", 7), list(4, "", "", 5)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [changes("b/", 7)]);
    peer.handle_changes(Err(PageError::Unavailable("engine away".into())));
    assert_eq!(peer.shown(&history), [error(3, "unavailable: engine away")]);
    assert_eq!(peer.effects(), [some_keys("", Some(""), 5)]);
    peer.handle_keys(Err("engine away".into()));
    history.put(OTHER, "a/1", "1", 1);
    assert_eq!(peer.shown(&history), [error(4, "unavailable: engine away"), put(0, "a/1", "1", 1), mark(0, 11)]);
}

#[test]
fn a_watch_that_was_refused_tells_nothing_afterwards() {
    let mut history = History::new();
    let mut peer = Peer::watching("a/", &history);
    peer.send(&[watch(3, "", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("", None)]);
    peer.handle_keys(Err("engine away".into()));
    history.put(OTHER, "b", "1", 1);
    history.put(OTHER, "a/1", "1", 1);
    let told = peer.shown(&history);
    assert_eq!(told, [error(3, "unavailable: engine away"), put(0, "a/1", "1", 1), mark(0, 12)], "of a/ only");
}

#[test]
fn a_list_is_answered_with_its_tag_up_to_its_limit() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[list(2, "a/", "a/m", 3)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [some_keys("a/", Some("a/m"), 3)]);
    let entries = [entry("a/n", "1", 1, at(3)), entry("a/o", "1", 1, at(4))];
    peer.handle_keys(Ok(keys(entries, Some("a/o"), at(10))));
    assert_eq!(peer.shown(&history), [put(2, "a/n", "1", 1), put(2, "a/o", "1", 1)]);
    assert_eq!(peer.effects(), [some_keys("a/", Some("a/o"), 1)]);
    peer.handle_keys(Ok(keys([entry("a/p", "1", 1, at(5))], Some("a/p"), at(10))));
    assert_eq!(peer.shown(&history), [put(2, "a/p", "1", 1), mark(2, 10)]);
    assert_eq!(peer.effects(), []);
}

#[test]
fn a_list_sees_the_writes_before_it() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[put(2, "k", "1", 1), list(3, "", "", 9)]);
    assert_eq!(peer.effects(), [commit("k", "1", 1)]);
    assert_eq!(peer.shown(&history), []);
    let own = history.put(ME, "k", "1", 1);
    peer.connection.handle_outcome(accepted(own));
    assert_eq!(peer.shown(&history), [put(2, "k", "1", 1)]);
    assert_eq!(peer.effects(), [some_keys("", Some(""), 9)]);
}

#[test]
fn a_long_answer_delays_nobody() {
    let mut history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[watch(2, "", 0), list(3, "", "", 9), get(4, "k")]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("", None), read("k")]);
    peer.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    peer.connection.handle_entry(Ok(Some(entry("k", "1", 1, at(3)))));
    assert_eq!(peer.shown(&history), [put(4, "k", "1", 1), put(0, "a", "1", 1)]);
    assert_eq!(peer.effects(), [some_keys("", Some(""), 9)], "they take turns");
    peer.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], None, at(10))));
    history.put(OTHER, "z", "1", 1);
    assert_eq!(peer.shown(&history), [put(3, "a", "1", 1), mark(3, 10)]);
    assert_eq!(peer.effects(), [all_keys("", Some("a"))]);
    peer.handle_keys(Ok(keys([], None, at(11))));
    assert_eq!(peer.shown(&history), [put(0, "z", "1", 1), mark(2, 11)]);
}

#[test]
fn a_page_is_read_when_there_is_room_for_it() {
    let mut history = History::new();
    let mut peer = Peer::watching("a", &history);
    peer.send(&[watch(3, "b", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("b", None)]);
    let large = vec![b'v'; 60_000];
    let entries = [entry("b1", large.clone(), 1, at(1)), entry("b2", large.clone(), 1, at(2))];
    peer.handle_keys(Ok(keys(entries, Some("b2"), at(10))));
    history.put(OTHER, "a1", large, 1);
    peer.connection.handle_log(&history.log);
    // Nor anything else, or it would never have its turn.
    let unsent = peer.connection.output().remaining();
    assert!((2 * 60_000..OUTPUT_ROOM).contains(&unsent), "{unsent} bytes");
    peer.take(unsent - UNSENT_BEFORE_PAGE - 1);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), [], "what was before it has not left");
    peer.take(1);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), [all_keys("b", Some("b2"))]);
}

#[test]
fn one_who_is_behind_while_it_is_told_gets_a_mark_when_all_is_true() {
    let mut history = History::keeping(0);
    let mut peer = Peer::watching("a", &history);
    peer.send(&[watch(3, "b", 0)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects(), [all_keys("b", None)]);
    history.put(OTHER, "b1", "2", 2);
    history.put(OTHER, "a1", "1", 1);
    peer.handle_keys(Ok(keys([entry("b2", "1", 1, at(2))], None, at(11))));
    assert_eq!(peer.shown(&history), []);
    assert_eq!(
        peer.effects(),
        [Effect::Page(PageRequest::Changes { prefix: Bytes::new(), since: at(10), max_bytes: OUTPUT_ROOM })]
    );
    let entries = [entry("b1", "2", 2, at(11)), entry("a1", "1", 1, at(12))];
    peer.handle_changes(Ok(page_read_at(entries, at(12), at(12))));
    let expected = [put(0, "b1", "2", 2), put(0, "b2", "1", 1), put(0, "a1", "1", 1), mark(3, 12)];
    assert_eq!(peer.shown(&history), expected, "the mark is true at the head of the page only");
}

#[test]
fn the_prefixes_of_a_connection_are_bounded() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    let names: Vec<&'static str> = (0..257).map(|number| &*format!("{number:03}").leak()).collect();
    let (last, first) = names.split_last().unwrap();
    for name in first {
        peer.send(&[watch(2, name, 0)]);
        assert_eq!(peer.shown(&history), []);
        assert_eq!(peer.effects().len(), 1);
        peer.handle_keys(Ok(keys([], None, at(10))));
        assert_eq!(peer.shown(&history), [mark(2, 10)]);
    }
    peer.send(&[watch(2, last, 0)]);
    let text = "too large: expected at most 256 prefixes watched on one connection";
    assert_eq!(peer.shown(&history), [error(2, text)]);
}

#[test]
fn scans_count_as_requests_in_flight() {
    let history = History::new();
    let mut peer = Peer::extended_within(Limits { max_requests: 2, ..Limits::default() }, &history);
    peer.send(&[list(2, "", "", 1), list(3, "", "", 1)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.send(&[get(4, "k")]), syncline_core::server::Input::Paused);
}

#[test]
fn a_server_that_shuts_down_does_not_finish_what_is_listed() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[list(2, "", "", 9)]);
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects().len(), 1);
    peer.connection.close("shutting down");
    peer.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], Some("a"), at(10))));
    assert_eq!(peer.shown(&history), [error(0, "unavailable: shutting down")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn a_client_that_has_ended_its_side_is_still_told_what_it_has_asked_for() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    peer.send(&[list(2, "", "", 9)]);
    peer.connection.handle_end();
    assert_eq!(peer.shown(&history), []);
    assert_eq!(peer.effects().len(), 1);
    peer.handle_keys(Ok(keys([entry("a", "1", 1, at(3))], None, at(10))));
    assert_eq!(peer.shown(&history), [put(2, "a", "1", 1), mark(2, 10)]);
    assert!(peer.connection.is_finished());
}
