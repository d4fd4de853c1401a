//! HELLO: its response, and what it changes. Each test covers one sentence of the protocol, in raw bytes.

use crate::support::prelude::*;
use serde_json::Value;

/// Returns a request of each kind of the extension, except HELLO.
fn one_of_each() -> [(Message, &'static str); 7] {
    [
        (delete(7, "k", 1), "DELETE"),
        (watch(7, "", 0), "WATCH"),
        (mark(7, 0), "MARK"),
        (list(7, "", "", 10), "LIST"),
        (txn(7, []), "TXN"),
        (put_large(7, "k", &"v".repeat(70_000), 1), "PUTL"),
        (status(7), "STATUS"),
    ]
}

#[test]
fn the_response_to_hello_byte_for_byte() {
    on_each_engine_with(
        |config| config.heartbeat = Duration::from_millis(0x0403_0201),
        |lab| {
            let mut writer = lab.server.connect();
            for version in 1..=3 {
                writer.expect_echo(&put(1, "k", "v", version));
            }
            let mut client = lab.server.connect();
            client.send_bytes(b"\x04\x01\x02\x00\x00");
            let response = client.receive_bytes(45);
            assert_eq!(response[..3], *b"\x04\x01\x02", "kind and tag");
            assert_eq!(response[3..5], 40_u16.to_le_bytes(), "the length of the string");
            assert_eq!(response[5..7], 1_u16.to_le_bytes(), "protocol");
            assert_eq!(response[7..11], 0_u32.to_le_bytes(), "features");
            assert_eq!(response[11..27], lab.store.id().bytes(), "store id");
            assert_eq!(response[27..35], 3_u64.to_le_bytes(), "head");
            assert_eq!(response[35..39], 0x0403_0201_u32.to_le_bytes(), "heartbeat");
            assert_eq!(response[39..41], 4096_u16.to_le_bytes(), "max key");
            assert_eq!(response[41..45], 65_525_u32.to_le_bytes(), "max entry");
            client.expect_silence();
        },
    );
}

#[test]
fn hello_contains_the_configured_limits() {
    on_each_engine_with(
        |config| (config.limits.max_key, config.limits.max_entry) = (100, 16 * 1024 * 1024),
        |lab| {
            let hello = lab.server.connect().hello();
            assert_eq!((hello.max_key, hello.max_entry), (100, 16 * 1024 * 1024));
        },
    );
}

#[test]
fn hello_contains_the_newest_revision() {
    on_each_engine(|lab| {
        let mut writer = lab.server.connect();
        assert_eq!(lab.server.connect().hello().head, Revision::ZERO);
        for revision in 1..=5 {
            writer.expect_echo(&put(1, "k", "v", revision));
            writer.expect(&put(2, "k", "v", revision), &error(2, "stale put"));
            assert_eq!(lab.server.connect().hello().head.get(), revision, "a refused write gets no revision");
        }
    });
}

#[test]
fn before_hello_requests_of_the_extension_are_refused() {
    on_each_engine(|lab| {
        let mut client = lab.server.connect();
        for (request, kind) in one_of_each() {
            client.expect(&request, &error(7, &format!("messages of kind {kind} cannot be applied before HELLO")));
        }
        client.expect_service("k", 1);
        client.hello();
        client.expect(&mark(7, 0), &mark(7, 1));
    });
}

#[test]
fn hello_again_cannot_be_applied() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&hello(9), &error(9, "messages of kind HELLO cannot be applied"));
        client.expect_echo(&mark(7, 0));
    });
}

#[test]
fn requests_sent_before_hello_get_their_responses_before_it() {
    on_each_gated_engine(|lab| {
        let mut client = lab.server.connect();
        lab.store.close_gate();
        client.send_bytes(&all_encoded(&[put(1, "k", "v", 1), get(2, "k"), hello(3), delete(4, "k", 2), get(5, "k")]));
        lab.store.wait_for_commit();
        lab.store.open_gate();
        assert_eq!(client.receive(), put(1, "k", "v", 1));
        assert_eq!(client.receive(), put(2, "k", "v", 1));
        assert_eq!(client.receive().tag(), Tag::new(3));
        assert_eq!(client.receive(), delete(4, "k", 2));
        assert_eq!(client.receive(), delete(5, "k", 2));
        client.expect_silence();
    });
}

#[test]
fn after_hello_there_are_no_broadcasts_without_a_watch() {
    on_each_engine(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.connected();
        let mut writer = lab.server.connected();
        writer.expect_echo(&put(1, "k", "before", 1));
        assert_eq!(client.receive(), put(0, "k", "before", 1), "the connection has not sent HELLO yet");
        client.hello();
        for version in 2..=20 {
            writer.expect_echo(&put(1, "k", "after", version));
            client.expect_silence();
        }
        for version in 1..=20 {
            assert_eq!(base.receive().version().unwrap().get(), version, "other connections still receive broadcasts");
        }
    });
}

#[test]
fn after_hello_base_requests_work_as_before() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&get(1, "k"), &error(1, "\"k\": not found"));
        client.expect_echo(&put(2, "k", "v", 1));
        client.expect(&put(3, "k", "v", 1), &error(3, "stale put"));
        client.expect(&get(4, "k"), &put(4, "k", "v", 1));
        client.expect(&put(5, "k", "v", u64::MAX), &error(5, "version exhausted"));
        client.expect(&error(6, "?"), &error(6, "messages of kind ERROR cannot be applied"));
        client.expect(&auth(7, "secret"), &error(7, "messages of kind AUTH cannot be applied"));
        client.expect_silence();
    });
}

#[test]
fn kinds_12_to_31_are_unknown_after_hello_too() {
    on_each_engine(|lab| {
        for kind in 12..=31 {
            let mut client = lab.server.extended();
            client.send_bytes(&[kind, 5, 0, 0, 0]);
            assert_eq!(client.receive_to_end(), [error(5, "unknown message kind")], "kind {kind}");
        }
    });
}

/// Returns the responses of an empty server to a row of `extension.json` after HELLO.
fn responses_to(row: &Value) -> Vec<Message> {
    let tag = u16::try_from(row["tag"].as_u64().unwrap()).unwrap();
    match row["kind"].as_str().unwrap() {
        "HELLO" => vec![error(tag, "messages of kind HELLO cannot be applied")],
        "DELETE" => vec![delete(tag, "k", 7)],
        "WATCH" if row["since"] == "0" => vec![mark(tag, 0)],
        // The revision is unknown, so the watch starts over.
        "WATCH" => vec![mark(tag, 0), mark(tag, 0)],
        "MARK" | "LIST" => vec![mark(tag, 0)],
        "PUTL" => {
            let text = "key and value of 8 bytes together: expected a PUT, and PUTL only above 65525 bytes";
            vec![error(tag, text)]
        }
        "TXN" => vec![error(tag, "stale put: \"dir\"")],
        "STATUS" => Vec::new(),
        other => panic!("a new kind: {other}"),
    }
}

#[test]
fn every_vector_gets_the_response_of_the_protocol() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../wire/tests/vectors/extension.json")).unwrap();
    assert!(rows.len() >= 11, "all vectors are present");
    for row in rows {
        on_each_engine(|lab| {
            let mut client = lab.server.extended();
            client.send_bytes(&unhex(&row["frame_hex"]));
            let responses = responses_to(&row);
            if responses.is_empty() {
                assert_eq!(client.receive().kind().to_string(), "STATUS", "{row}");
            }
            for response in responses {
                let expected = encoded(&response);
                assert_eq!(client.receive_bytes(expected.len()), expected, "{row}");
            }
            client.half_close();
            client.expect_end();
        });
    }
}

#[test]
fn every_vector_is_refused_before_hello() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../wire/tests/vectors/extension.json")).unwrap();
    on_each_engine(|lab| {
        let mut client = lab.server.connect();
        for row in rows.iter().filter(|row| row["kind"] != "HELLO") {
            client.send_bytes(&unhex(&row["frame_hex"]));
            let tag = u16::try_from(row["tag"].as_u64().unwrap()).unwrap();
            let kind = row["kind"].as_str().unwrap();
            let text = format!("messages of kind {kind} cannot be applied before HELLO");
            assert_eq!(client.receive(), error(tag, &text), "{row}");
        }
    });
}

#[test]
fn frames_may_arrive_one_byte_at_a_time() {
    on_each_engine(|lab| {
        let mut writer = lab.server.extended();
        writer.expect_echo(&put(1, "a/1", "v", 1));
        let mut client = lab.server.connect();
        let operations = [checks("a/1", 1), puts("a/2", "v", 1), deletes("a/1", 2)];
        let requests = [hello(1), txn(2, [operations[0].clone(), operations[1].clone()]), delete(3, "a/1", 2)];
        for byte in all_encoded(&requests) {
            client.send_bytes(&[byte]);
        }
        assert_eq!(client.receive().tag(), Tag::new(1));
        client.expect_all(&[put(2, "a/2", "v", 1), mark(2, 2), delete(3, "a/1", 2)]);
        for (request, responses) in [
            (watch(4, "a/", 0), &[put(0, "a/2", "v", 1), mark(4, 3)][..]),
            (list(5, "a/", "", 10), &[put(5, "a/2", "v", 1), mark(5, 3)]),
            (mark(6, 0), &[mark(6, 3)]),
        ] {
            for byte in encoded(&request) {
                client.send_bytes(&[byte]);
            }
            client.expect_all(responses);
        }
    });
}

#[test]
fn after_a_hello_amid_writes_only_requested_frames_arrive() {
    on_each_engine(|lab: &Lab| {
        thread::scope(|scope| {
            let mut writer = lab.server.extended();
            scope.spawn(move || {
                for version in 1..=500 {
                    writer.expect_echo(&put(1, "k", "v", version));
                }
            });
            for _ in 0..20 {
                let mut client = lab.server.connect();
                client.hello();
                client.expect_silence();
                let mut watcher = Watcher::of(lab.server.addr, lab.history(), "k");
                watcher.until_marked(watcher.marked);
            }
        });
    });
}
