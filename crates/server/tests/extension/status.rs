//! STATUS: a JSON object with the state of the server.

use crate::support::prelude::*;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[track_caller]
fn status_of(client: &mut Client) -> Value {
    match client.ask(&status(9)) {
        Message::Status(response) => {
            assert_eq!(response.tag, Tag::new(9));
            serde_json::from_slice(&response.text).unwrap()
        }
        other => panic!("{other} to STATUS"),
    }
}

#[test]
fn status_has_the_fields_of_the_protocol() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let status = status_of(&mut client);
        assert_eq!(status["store"], lab.store.id().to_string());
        assert_eq!(status["durability"], lab.store.stats().durability);
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&status["accepts_writes"], &status["reason"]), (&true.into(), &Value::Null));
        for field in [
            "head",
            "keys",
            "tombstones",
            "bytes",
            "connections",
            "base_connections",
            "log_lines_dropped",
            "uptime_seconds",
        ] {
            assert!(status[field].is_u64(), "{field}: {status}");
        }
        assert!(status["recent_log"]["bytes"].is_u64(), "{status}");
        assert!(status.get("slowest_cursor").is_some(), "{status}");
    });
}

#[test]
fn status_says_why_writes_are_refused_and_that_they_no_longer_are() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.extended();
    let mut health = || {
        let status = status_of(&mut client);
        (status["accepts_writes"].clone(), status["reason"].clone())
    };
    assert_eq!(health(), (true.into(), Value::Null));
    store.set_failure(Some("the disk is on fire"));
    assert_eq!(health(), (false.into(), "the disk is on fire".into()));
    store.set_failure(None);
    assert_eq!(health(), (true.into(), Value::Null));
}

#[test]
fn status_counts_connections_that_have_not_said_hello() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        assert_eq!(status_of(&mut client)["base_connections"], 0);
        let mut base = [Client::connected(lab.server.addr), Client::connected(lab.server.addr)];
        assert_eq!(status_of(&mut client)["base_connections"], 2);
        base[0].hello();
        // The server publishes it shortly after the response.
        while status_of(&mut client)["base_connections"] != 1 {}
        drop(base);
        while status_of(&mut client)["base_connections"] != 0 {}
    });
}

#[test]
fn status_shows_how_many_log_lines_were_lost() {
    let dropped = Arc::new(AtomicU64::new(0));
    let server = TestServer::with(|config| config.log_lines_dropped = dropped.clone());
    let mut client = server.extended();
    assert_eq!(status_of(&mut client)["log_lines_dropped"], 0);
    dropped.fetch_add(7, Ordering::Relaxed);
    assert_eq!(status_of(&mut client)["log_lines_dropped"], 7);
}

#[test]
fn status_includes_the_writes_before_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let empty = status_of(&mut client);
        assert_eq!((&empty["head"], &empty["keys"], &empty["bytes"]), (&0.into(), &0.into(), &0.into()));
        client.send(&put(1, "key", "value", 1));
        client.send(&put(2, "other", "", 1));
        client.send(&delete(3, "other", 2));
        client.send(&status(9));
        for tag in 1..=3 {
            assert_eq!(client.receive().tag(), Tag::new(tag));
        }
        let Message::Status(response) = client.receive() else { panic!("STATUS") };
        let status: Value = serde_json::from_slice(&response.text).unwrap();
        assert_eq!((&status["head"], &status["keys"], &status["tombstones"]), (&3.into(), &1.into(), &1.into()));
        assert!(status["bytes"].as_u64().unwrap() >= 8, "{status}");
        assert!(status["recent_log"]["bytes"].as_u64() > empty["recent_log"]["bytes"].as_u64(), "{status}");
    });
}

#[test]
fn status_counts_connections_and_shows_the_slowest_cursor() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let alone = status_of(&mut client);
        assert_eq!((&alone["connections"], &alone["slowest_cursor"]), (&1.into(), &Value::Null));
        let mut others: Vec<Client> = (0..3).map(|_| lab.server.watching("")).collect();
        client.expect_echo(&put(1, "k", "v", 1));
        assert_eq!(status_of(&mut client)["connections"], 4);
        for other in &mut others {
            assert_eq!(other.receive(), put(0, "k", "v", 1));
        }
        // The server publishes a cursor shortly after it moves.
        while status_of(&mut client)["slowest_cursor"] != 1 {}
        drop(others);
        while status_of(&mut client)["connections"] != 1 {}
        assert_eq!(status_of(&mut client)["slowest_cursor"], Value::Null);
    });
}

#[test]
fn the_recent_log_stays_within_its_bound() {
    on_each_engine_with(
        |config| config.recent_log = 10_000,
        |lab| {
            let mut client = lab.server.extended();
            for version in 1..=100 {
                client.expect_echo(&put(1, "k", &"v".repeat(1_000), version));
            }
            let status = status_of(&mut client);
            assert!(status["recent_log"]["bytes"].as_u64().unwrap() <= 10_000, "{status}");
            assert!(status["recent_log"]["since"].as_u64().unwrap() > 80, "{status}");
        },
    );
}
