//! STATUS: a JSON object that tells how the server is.

use crate::support::{Client, delete, on_each_engine, on_each_engine_with, put, status};
use serde_json::Value;
use syncline_store::Store;
use syncline_wire::{Message, Tag};

#[track_caller]
fn told(client: &mut Client) -> Value {
    match client.ask(&status(9)) {
        Message::Status(answer) => {
            assert_eq!(answer.tag, Tag::new(9));
            serde_json::from_slice(&answer.text).unwrap()
        }
        other => panic!("{other} to STATUS"),
    }
}

#[test]
fn the_fields_that_the_protocol_names_are_there() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let told = told(&mut client);
        assert_eq!(told["store"], lab.store.id().to_string());
        assert_eq!(told["durability"], lab.store.stats().durability);
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
        for field in ["head", "keys", "tombstones", "bytes", "connections", "uptime_seconds"] {
            assert!(told[field].is_u64(), "{field}: {told}");
        }
        assert!(told["recent_log"]["bytes"].is_u64(), "{told}");
        assert!(told.get("slowest_cursor").is_some(), "{told}");
    });
}

#[test]
fn it_is_true_as_of_the_writes_before_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let empty = told(&mut client);
        assert_eq!((&empty["head"], &empty["keys"], &empty["bytes"]), (&0.into(), &0.into(), &0.into()));
        client.send(&put(1, "key", "value", 1));
        client.send(&put(2, "other", "", 1));
        client.send(&delete(3, "other", 2));
        client.send(&status(9));
        for tag in 1..=3 {
            assert_eq!(client.receive().tag(), Tag::new(tag));
        }
        let Message::Status(answer) = client.receive() else { panic!("STATUS") };
        let told: Value = serde_json::from_slice(&answer.text).unwrap();
        assert_eq!((&told["head"], &told["keys"], &told["tombstones"]), (&3.into(), &1.into(), &1.into()));
        assert!(told["bytes"].as_u64().unwrap() >= 8, "{told}");
        assert!(told["recent_log"]["bytes"].as_u64() > empty["recent_log"]["bytes"].as_u64(), "{told}");
    });
}

#[test]
fn connections_are_counted_and_the_slowest_cursor_is_that_of_one_who_follows() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let alone = told(&mut client);
        assert_eq!((&alone["connections"], &alone["slowest_cursor"]), (&1.into(), &Value::Null));
        let mut others: Vec<Client> = (0..3).map(|_| lab.server.watching("")).collect();
        client.expect(&put(1, "k", "v", 1), &put(1, "k", "v", 1));
        assert_eq!(told(&mut client)["connections"], 4);
        for other in &mut others {
            assert_eq!(other.receive(), put(0, "k", "v", 1));
        }
        // A cursor is told of a little later than it moves.
        while told(&mut client)["slowest_cursor"] != 1 {}
        drop(others);
        while told(&mut client)["connections"] != 1 {}
        assert_eq!(told(&mut client)["slowest_cursor"], Value::Null);
    });
}

#[test]
fn the_recent_log_stays_within_its_bound() {
    on_each_engine_with(
        |config| config.recent_log = 10_000,
        |lab| {
            let mut client = lab.server.extended();
            for version in 1..=100 {
                client.expect(&put(1, "k", &"v".repeat(1_000), version), &put(1, "k", &"v".repeat(1_000), version));
            }
            let told = told(&mut client);
            assert!(told["recent_log"]["bytes"].as_u64().unwrap() <= 10_000, "{told}");
            assert!(told["recent_log"]["since"].as_u64().unwrap() > 80, "{told}");
        },
    );
}
