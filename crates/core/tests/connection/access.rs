//! Who is let in, and what they are told before.

use crate::support::{ALL_TAKEN, History, OTHER, Peer, auth, broadcast, error, get, put, read};
use bytes::Buf;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_core::server::{Access, Effect, Input, Limits};
use syncline_wire::{Message, Password, Tag};

fn verify(password: &'static str) -> Effect {
    Effect::Verify { password: Password::new(password) }
}

/// The verdict on a right password, of somebody who may do everything.
fn all() -> Option<Arc<Rights>> {
    Some(Arc::new(Rights::all()))
}

fn stranger() -> Peer {
    Peer::new(Access::Password, Limits::default())
}

#[test]
fn the_right_password_lets_in() {
    let history = History::new();
    let mut peer = stranger();
    assert_eq!(peer.send(&[auth(3, "secret")]), Input::Paused);
    assert_eq!(peer.effects(), [verify("secret")]);
    assert_eq!(peer.shown(&history), []);
    peer.connection.handle_verdict(all());
    assert_eq!(peer.shown(&history), [auth(3, "")]);
    assert_eq!(peer.send(&[get(4, "a")]), ALL_TAKEN);
    assert_eq!(peer.effects(), [read("a")]);
}

#[test]
fn a_wrong_password_is_sent_away_and_may_try_again() {
    let history = History::new();
    let mut peer = stranger();
    peer.send(&[auth(3, "wrong"), get(4, "a"), auth(5, "secret")]);
    assert_eq!(peer.effects(), [verify("wrong")]);
    peer.connection.handle_verdict(None);
    assert_eq!(peer.go_on(), Input::Paused);
    assert_eq!(peer.effects(), [verify("secret")]);
    let expected = [error(3, "go away, bad password"), error(4, "go away, bad message type")];
    assert_eq!(peer.shown(&history), expected);
    peer.connection.handle_verdict(all());
    assert_eq!(peer.shown(&history), [auth(5, "")]);
}

#[test]
fn anything_before_the_auth_is_a_bad_message_type() {
    let history = History::new();
    let mut peer = stranger();
    assert_eq!(peer.send(&[get(1, "a"), put(2, "a", "1", 1), error(3, "what?")]), ALL_TAKEN);
    assert_eq!(peer.effects(), [], "nothing is done for a stranger");
    let expected = [1, 2, 3].map(|tag| error(tag, "go away, bad message type"));
    assert_eq!(peer.shown(&history), expected);
    peer.send_bytes(b"\x0c\x09\x00\x00\x00");
    assert_eq!(peer.shown(&history), [error(9, "unknown message kind")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn requests_behind_an_auth_wait_for_the_verdict() {
    let history = History::new();
    let mut peer = stranger();
    assert_eq!(peer.send(&[auth(1, "secret"), get(2, "a"), auth(3, "secret")]), Input::Paused);
    assert_eq!(peer.effects(), [verify("secret")]);
    assert_eq!(peer.go_on(), Input::Paused);
    assert_eq!(peer.effects(), []);
    peer.connection.handle_verdict(all());
    assert_eq!(peer.go_on(), ALL_TAKEN);
    assert_eq!(peer.shown(&history), [auth(1, "")]);
    assert_eq!(peer.effects(), [read("a")]);
    peer.connection.handle_entry(Ok(None));
    let expected = [error(2, "\"a\": not found"), error(3, "messages of kind AUTH cannot be applied")];
    assert_eq!(peer.shown(&history), expected);
}

#[test]
fn an_auth_where_none_is_needed_cannot_be_applied() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    peer.send(&[auth(1, "secret")]);
    assert_eq!(peer.effects(), []);
    assert_eq!(peer.shown(&history), [error(1, "messages of kind AUTH cannot be applied")]);
}

#[test]
fn nothing_is_broadcast_before_authorization() {
    let mut history = History::new();
    let mut peer = stranger();
    history.put(OTHER, "key", "1", 1);
    assert_eq!(peer.shown(&history), []);
    peer.send(&[auth(1, "wrong")]);
    assert_eq!(peer.effects(), [verify("wrong")]);
    history.put(OTHER, "key", "2", 2);
    assert_eq!(peer.shown(&history), [], "a password is being checked");
    peer.connection.handle_verdict(None);
    history.put(OTHER, "key", "3", 3);
    assert_eq!(peer.shown(&history), [error(1, "go away, bad password")]);
    peer.send(&[auth(2, "secret")]);
    assert_eq!(peer.effects(), [verify("secret")]);
    peer.connection.handle_verdict(all());
    assert_eq!(peer.shown(&history), [auth(2, "")], "what came before is not made up for");
    history.put(OTHER, "key", "4", 4);
    assert_eq!(peer.shown(&history), [broadcast("key", "4", 4)]);
}

#[test]
fn a_stranger_is_never_asked_to_catch_up() {
    let mut history = History::keeping(0);
    let mut peer = stranger();
    for version in 1..=3 {
        history.put(OTHER, "key", "value", version);
        assert_eq!(peer.shown(&history), []);
        assert_eq!(peer.effects(), []);
    }
}

#[test]
fn an_auth_is_answered_though_its_client_has_ended_its_side() {
    let history = History::new();
    let mut peer = stranger();
    peer.send(&[auth(1, "secret")]);
    peer.connection.handle_end();
    assert_eq!(peer.effects(), [verify("secret")]);
    assert!(!peer.connection.is_finished(), "an answer is owed");
    peer.connection.handle_verdict(all());
    assert_eq!(peer.shown(&history), [auth(1, "")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn the_reason_for_closing_comes_after_the_verdict() {
    let history = History::new();
    let mut peer = stranger();
    peer.send(&[auth(1, "wrong")]);
    assert_eq!(peer.effects(), [verify("wrong")]);
    peer.connection.close("shutting down");
    let mut told = peer.shown(&history);
    assert!(!peer.connection.is_finished(), "an answer is owed");
    peer.connection.handle_verdict(None);
    told.extend(peer.shown(&history));
    assert_eq!(told, [error(1, "go away, bad password"), error(0, "unavailable: shutting down")]);
    assert!(peer.connection.is_finished());
}

#[test]
fn the_third_wrong_password_is_the_last() {
    let history = History::new();
    let mut peer = stranger();
    for tag in 1..=3 {
        peer.send(&[auth(tag, "wrong")]);
        assert_eq!(peer.effects(), [verify("wrong")]);
        peer.connection.handle_verdict(None);
        assert_eq!(peer.shown(&history), [error(tag, "go away, bad password")]);
        assert_eq!(peer.connection.is_finished(), tag == 3);
    }
    assert_eq!(peer.send(&[auth(4, "secret")]), Input::Closed);
    assert_eq!(peer.effects(), []);
}

#[test]
fn a_large_frame_of_a_stranger_is_passed_over_as_it_comes() {
    let history = History::new();
    let mut peer = stranger();
    let large = "v".repeat(60_000);
    for (tag, message) in (1..).zip([put(1, "a", large.clone(), 1), error(2, large.clone())]) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        for piece in frame.chunks(1000) {
            assert!(
                matches!(peer.send_bytes(piece), Input::Wanted { expected } if expected <= 1100),
                "no room is made"
            );
        }
        assert_eq!(peer.shown(&history), [error(tag, "go away, bad message type")]);
    }
    let mut frame = Vec::new();
    Message::auth(Tag::new(3), "p".repeat(1025)).encode(&mut frame).unwrap();
    peer.send_bytes(&frame);
    assert_eq!(peer.effects(), []);
    assert_eq!(peer.shown(&history), [error(3, "too large: AUTH of 1030 bytes, expected at most 1029")]);
    let longest = Box::leak("p".repeat(1024).into_boxed_str());
    peer.send(&[auth(4, longest)]);
    assert_eq!(peer.effects(), [verify(longest)], "and then it can still show who it is");
}

#[test]
fn a_stranger_who_takes_no_answers_is_not_read_from_for_long() {
    let history = History::new();
    let mut peer = stranger();
    let mut frame = Vec::new();
    get(1, "a").encode(&mut frame).unwrap();
    let mut sent = 0;
    while peer.send_bytes(&frame) == ALL_TAKEN {
        sent += 1;
        peer.connection.handle_log(&history.log);
        assert!(sent < 100, "it is read from on and on");
    }
    assert!(peer.connection.output().remaining() <= 2048 + 100);
    assert_eq!(peer.shown(&history).len(), sent + 1);
    assert_eq!(peer.go_on(), ALL_TAKEN, "it has taken them");
}

#[test]
fn a_verdict_that_comes_after_the_end_lets_nobody_in() {
    let history = History::new();
    let mut peer = stranger();
    peer.send(&[auth(1, "secret")]);
    assert_eq!(peer.effects(), [verify("secret")]);
    peer.connection.abandon("not authorized in time");
    peer.connection.handle_verdict(all());
    assert_eq!(peer.shown(&history), [error(0, "unavailable: not authorized in time")]);
    assert!(peer.connection.is_finished());
    assert_eq!(peer.connection.rights(), None);
}
