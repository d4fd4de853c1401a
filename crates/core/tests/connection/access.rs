//! Authentication: what an unauthenticated connection is sent, and what it may send.

use crate::support::{ALL_DECODED, Harness, History, OTHER, auth, broadcast, error, get, get_effect, put};
use bytes::Buf;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_core::server::{Access, Effect, Input, Limits};
use syncline_wire::{Message, Password, Tag};

fn verify(password: &'static str) -> Effect {
    Effect::Verify { password: Password::new(password) }
}

/// Returns the verdict on a right password that gives all rights.
fn all() -> Option<Arc<Rights>> {
    Some(Arc::new(Rights::all()))
}

/// Returns a connection that must send AUTH first.
fn unauthenticated() -> Harness {
    Harness::new(Access::Password, Limits::default())
}

#[test]
fn the_right_password_authenticates() {
    let history = History::new();
    let mut harness = unauthenticated();
    assert_eq!(harness.send(&[auth(3, "secret")]), Input::Paused);
    assert_eq!(harness.effects(), [verify("secret")]);
    assert_eq!(harness.show_log(&history), []);
    harness.connection.handle_verdict(all());
    assert_eq!(harness.show_log(&history), [auth(3, "")]);
    assert_eq!(harness.send(&[get(4, "a")]), ALL_DECODED);
    assert_eq!(harness.effects(), [get_effect("a")]);
}

#[test]
fn after_a_wrong_password_a_client_may_try_again() {
    let history = History::new();
    let mut harness = unauthenticated();
    harness.send(&[auth(3, "wrong"), get(4, "a"), auth(5, "secret")]);
    assert_eq!(harness.effects(), [verify("wrong")]);
    harness.connection.handle_verdict(None);
    assert_eq!(harness.decode_rest(), Input::Paused);
    assert_eq!(harness.effects(), [verify("secret")]);
    let expected = [error(3, "go away, bad password"), error(4, "go away, bad message type")];
    assert_eq!(harness.show_log(&history), expected);
    harness.connection.handle_verdict(all());
    assert_eq!(harness.show_log(&history), [auth(5, "")]);
}

#[test]
fn before_auth_every_other_message_is_a_bad_message_type() {
    let history = History::new();
    let mut harness = unauthenticated();
    assert_eq!(harness.send(&[get(1, "a"), put(2, "a", "1", 1), error(3, "what?")]), ALL_DECODED);
    assert_eq!(harness.effects(), [], "an unauthenticated connection has no effects");
    let expected = [1, 2, 3].map(|tag| error(tag, "go away, bad message type"));
    assert_eq!(harness.show_log(&history), expected);
    harness.send_bytes(b"\x0c\x09\x00\x00\x00");
    assert_eq!(harness.show_log(&history), [error(9, "unknown message kind")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn requests_behind_an_auth_wait_for_the_verdict() {
    let history = History::new();
    let mut harness = unauthenticated();
    assert_eq!(harness.send(&[auth(1, "secret"), get(2, "a"), auth(3, "secret")]), Input::Paused);
    assert_eq!(harness.effects(), [verify("secret")]);
    assert_eq!(harness.decode_rest(), Input::Paused);
    assert_eq!(harness.effects(), []);
    harness.connection.handle_verdict(all());
    assert_eq!(harness.decode_rest(), ALL_DECODED);
    assert_eq!(harness.show_log(&history), [auth(1, "")]);
    assert_eq!(harness.effects(), [get_effect("a")]);
    harness.connection.handle_entry(Ok(None));
    let expected = [error(2, "\"a\": not found"), error(3, "messages of kind AUTH cannot be applied")];
    assert_eq!(harness.show_log(&history), expected);
}

#[test]
fn an_auth_on_an_open_server_cannot_be_applied() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    harness.send(&[auth(1, "secret")]);
    assert_eq!(harness.effects(), []);
    assert_eq!(harness.show_log(&history), [error(1, "messages of kind AUTH cannot be applied")]);
}

#[test]
fn nothing_is_broadcast_before_authentication() {
    let mut history = History::new();
    let mut harness = unauthenticated();
    history.put(OTHER, "key", "1", 1);
    assert_eq!(harness.show_log(&history), []);
    harness.send(&[auth(1, "wrong")]);
    assert_eq!(harness.effects(), [verify("wrong")]);
    history.put(OTHER, "key", "2", 2);
    assert_eq!(harness.show_log(&history), [], "a password is being checked");
    harness.connection.handle_verdict(None);
    history.put(OTHER, "key", "3", 3);
    assert_eq!(harness.show_log(&history), [error(1, "go away, bad password")]);
    harness.send(&[auth(2, "secret")]);
    assert_eq!(harness.effects(), [verify("secret")]);
    harness.connection.handle_verdict(all());
    assert_eq!(harness.show_log(&history), [auth(2, "")], "earlier commits are not broadcast");
    history.put(OTHER, "key", "4", 4);
    assert_eq!(harness.show_log(&history), [broadcast("key", "4", 4)]);
}

#[test]
fn an_unauthenticated_connection_does_not_catch_up() {
    let mut history = History::keeping(0);
    let mut harness = unauthenticated();
    for version in 1..=3 {
        history.put(OTHER, "key", "value", version);
        assert_eq!(harness.show_log(&history), []);
        assert_eq!(harness.effects(), []);
    }
}

#[test]
fn an_auth_is_completed_after_the_client_has_ended_its_side() {
    let history = History::new();
    let mut harness = unauthenticated();
    harness.send(&[auth(1, "secret")]);
    harness.connection.handle_end();
    assert_eq!(harness.effects(), [verify("secret")]);
    assert!(!harness.connection.is_finished(), "a response is due");
    harness.connection.handle_verdict(all());
    assert_eq!(harness.show_log(&history), [auth(1, "")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn the_reason_for_closing_comes_after_the_verdict() {
    let history = History::new();
    let mut harness = unauthenticated();
    harness.send(&[auth(1, "wrong")]);
    assert_eq!(harness.effects(), [verify("wrong")]);
    harness.connection.close("shutting down");
    let mut sent = harness.show_log(&history);
    assert!(!harness.connection.is_finished(), "a response is due");
    harness.connection.handle_verdict(None);
    sent.extend(harness.show_log(&history));
    assert_eq!(sent, [error(1, "go away, bad password"), error(0, "unavailable: shutting down")]);
    assert!(harness.connection.is_finished());
}

#[test]
fn the_third_wrong_password_is_the_last() {
    let history = History::new();
    let mut harness = unauthenticated();
    for tag in 1..=3 {
        harness.send(&[auth(tag, "wrong")]);
        assert_eq!(harness.effects(), [verify("wrong")]);
        harness.connection.handle_verdict(None);
        assert_eq!(harness.show_log(&history), [error(tag, "go away, bad password")]);
        assert_eq!(harness.connection.is_finished(), tag == 3);
    }
    assert_eq!(harness.send(&[auth(4, "secret")]), Input::Closed);
    assert_eq!(harness.effects(), []);
}

#[test]
fn a_large_frame_before_authentication_is_skipped_as_it_arrives() {
    let history = History::new();
    let mut harness = unauthenticated();
    let large = "v".repeat(60_000);
    for (tag, message) in (1..).zip([put(1, "a", large.clone(), 1), error(2, large.clone())]) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        for piece in frame.chunks(1000) {
            assert!(
                matches!(harness.send_bytes(piece), Input::Wanted { expected } if expected <= 1100),
                "no buffer is reserved for the frame"
            );
        }
        assert_eq!(harness.show_log(&history), [error(tag, "go away, bad message type")]);
    }
    let mut frame = Vec::new();
    Message::auth(Tag::new(3), "p".repeat(1025)).encode(&mut frame).unwrap();
    harness.send_bytes(&frame);
    assert_eq!(harness.effects(), []);
    assert_eq!(harness.show_log(&history), [error(3, "too large: AUTH of 1030 bytes, expected at most 1029")]);
    let longest = Box::leak("p".repeat(1024).into_boxed_str());
    harness.send(&[auth(4, longest)]);
    assert_eq!(harness.effects(), [verify(longest)], "the client can still authenticate");
}

#[test]
fn input_is_paused_when_refusals_before_authentication_are_not_read() {
    let history = History::new();
    let mut harness = unauthenticated();
    let mut frame = Vec::new();
    get(1, "a").encode(&mut frame).unwrap();
    let mut sent = 0;
    while harness.send_bytes(&frame) == ALL_DECODED {
        sent += 1;
        harness.connection.handle_log(&history.log);
        assert!(sent < 100, "the input is never paused");
    }
    assert!(harness.connection.output().remaining() <= 2048 + 100);
    assert_eq!(harness.show_log(&history).len(), sent + 1);
    assert_eq!(harness.decode_rest(), ALL_DECODED, "the client has read the refusals");
}

#[test]
fn a_verdict_after_the_connection_was_abandoned_is_ignored() {
    let history = History::new();
    let mut harness = unauthenticated();
    harness.send(&[auth(1, "secret")]);
    assert_eq!(harness.effects(), [verify("secret")]);
    harness.connection.abandon("not authorized in time");
    harness.connection.handle_verdict(all());
    assert_eq!(harness.show_log(&history), [error(0, "unavailable: not authorized in time")]);
    assert!(harness.connection.is_finished());
    assert_eq!(harness.connection.rights(), None);
}
