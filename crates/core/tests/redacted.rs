//! No `Debug` output contains a value or a password: it ends up in logs, panics and error reports.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use std::fmt::Debug;
use std::time::Duration;
use syncline_core::client::{self, Handshake, Replicas, Request, Versioned};
use syncline_core::server::{Access, Effect, Limits, ServerConnection, ServerParameters};
use syncline_core::{
    CommitBatch, Committed, ConnId, Entry, KeyPage, Operation, Outcome, Output, Page, RecentLog, StoreId, Transaction,
};
use syncline_wire::{Message, Password, PutLarge, Revision, Tag, Txn, Version, decode};

const SECRET: &str = "s3cr3t";

/// Panics if the `Debug` output of `value` contains the secret, as text or as the numbers of its bytes.
#[track_caller]
fn hides(value: &impl Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}").split_whitespace().collect()] {
        let numbers = |separator| SECRET.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(separator);
        assert!(!text.contains(SECRET), "{text}");
        assert!(!text.contains(&numbers(", ")) && !text.contains(&numbers(",")), "{text}");
    }
}

const VERSION: Version = Version::new(1);

fn operation() -> Operation {
    Operation::Put { key: "k".into(), value: SECRET.into(), version: VERSION }
}

fn transaction() -> Transaction {
    Transaction { origin: None, operations: [operation()].into() }
}

fn entry() -> Entry {
    Entry { key: "k".into(), value: Some(SECRET.into()), version: VERSION, revision: Revision::new(1) }
}

/// Returns a log with one transaction.
fn log() -> RecentLog {
    let committed = Committed { revision: Revision::new(1), origin: None, operations: [operation()].into() };
    hides(&committed);
    let batch = CommitBatch::encode(&[committed]);
    hides(&batch);
    let mut log = RecentLog::new(Revision::ZERO, usize::MAX);
    log.append(batch);
    log
}

#[test]
fn messages_hide_values_and_passwords() {
    let put = Operation::Put { key: "k".into(), value: SECRET.into(), version: VERSION };
    for message in [
        Message::put(Tag::new(1), "k", SECRET, VERSION),
        Message::auth(Tag::new(1), SECRET),
        Message::PutLarge(PutLarge { tag: Tag::new(1), key: "k".into(), value: SECRET.into(), version: VERSION }),
        Message::Txn(Txn { tag: Tag::new(1), operations: vec![put] }),
    ] {
        hides(&message);
        assert!(!message.redacted().to_string().contains(SECRET), "{}", message.redacted());
        let mut frame = BytesMut::new();
        message.encode(&mut frame).unwrap();
        hides(&decode(&mut frame));
    }
}

#[test]
fn entries_pages_effects_and_responses_hide_values() {
    hides(&transaction());
    hides(&entry());
    hides(&Page { entries: vec![entry()], through: Revision::new(1), head: Revision::new(1) });
    hides(&KeyPage { entries: vec![entry()], next: None, head: Revision::new(1) });
    hides(&log());
    hides(&log().after(Revision::ZERO).unwrap().collect::<Vec<_>>());
    hides(&Effect::Commit { transaction: transaction() });
    hides(&Effect::Verify { password: Password::new(SECRET) });
    let versioned = Versioned { value: SECRET.into(), version: VERSION };
    hides(&client::Response::Value(versioned.clone()));
    hides(&client::Response::Listed { entries: vec![("k".into(), versioned)] });
    hides(&Request::Put { key: "k".into(), value: SECRET.into(), version: VERSION });
}

#[test]
fn a_server_connection_hides_what_it_holds() {
    let limits = Limits::default();
    let parameters = ServerParameters { limits, store: StoreId::new([0; 16]), heartbeat: Duration::from_secs(1) };
    let mut input = BytesMut::new();
    let mut send = |connection: &mut ServerConnection, message: &Message| {
        message.encode(&mut input).unwrap();
        connection.handle_input(&mut input);
    };
    let mut connection = ServerConnection::new(ConnId::new(1), parameters, Access::open());
    connection.handle_log(&RecentLog::new(Revision::ZERO, 0));
    send(&mut connection, &Message::put(Tag::new(1), "k", SECRET, VERSION));
    hides(&connection);
    hides(&connection.poll_effect());
    connection.handle_outcome(Outcome::Accepted { revision: Revision::new(2) });
    hides(&connection);
    // The output holds a broadcast and the response.
    connection.handle_log(&log());
    assert!(!connection.output().is_empty());
    hides(&connection);
    let mut unauthenticated = ServerConnection::new(ConnId::new(2), parameters, Access::Password);
    send(&mut unauthenticated, &Message::auth(Tag::new(1), SECRET));
    hides(&unauthenticated);
    hides(&unauthenticated.poll_effect());
    hides(&unauthenticated);
}

#[test]
fn a_client_connection_hides_what_it_holds() {
    let mut handshake = Handshake::new(Some(&Password::new(SECRET))).unwrap();
    assert!(!handshake.output().is_empty());
    hides(&handshake);
    let mut connection = client::ClientConnection::base(Replicas::new(), Vec::new());
    let put = Request::Put { key: "k".into(), value: SECRET.into(), version: VERSION };
    connection.request(put, ()).unwrap();
    hides(&connection);
    let mut broadcast = BytesMut::new();
    Message::put(Tag::BROADCAST, "other", SECRET, VERSION).encode(&mut broadcast).unwrap();
    hides(&connection.handle_input(&mut broadcast));
    // A response to no request.
    Message::put(Tag::new(9), "k", SECRET, VERSION).encode(&mut broadcast).unwrap();
    let error = connection.handle_input(&mut broadcast).unwrap_err();
    hides(&error);
    assert!(!error.to_string().contains(SECRET), "{error}");
    hides(&connection.into_lost());
    hides(&Output::new());
}
