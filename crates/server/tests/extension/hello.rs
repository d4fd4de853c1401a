//! HELLO: what it is answered with, and what it changes. One sentence of the protocol a test, in raw bytes.

use crate::support::{
    Lab, Watcher, all_encoded, delete, encoded, error, get, hello, list, mark, on_each_engine, on_each_engine_with,
    on_each_gated_engine, put, put_large, status, txn, unhex, watch,
};
use serde_json::Value;
use std::time::Duration;
use syncline_store::Store;
use syncline_wire::{Message, Revision, Tag};

/// One request of each kind of the extension but HELLO.
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
fn hello_is_answered_with_what_the_server_is_byte_for_byte() {
    on_each_engine_with(
        |config| config.heartbeat = Duration::from_millis(0x0403_0201),
        |lab| {
            let mut writer = lab.server.connect();
            for version in 1..=3 {
                writer.expect(&put(1, "k", "v", version), &put(1, "k", "v", version));
            }
            let mut client = lab.server.connect();
            client.send_bytes(b"\x04\x01\x02\x00\x00");
            let answer = client.receive_bytes(45);
            assert_eq!(answer[..3], *b"\x04\x01\x02", "kind and tag");
            assert_eq!(answer[3..5], 40_u16.to_le_bytes(), "the length of the string");
            assert_eq!(answer[5..7], 1_u16.to_le_bytes(), "protocol");
            assert_eq!(answer[7..11], 0_u32.to_le_bytes(), "features");
            assert_eq!(answer[11..27], lab.store.id().bytes(), "store id");
            assert_eq!(answer[27..35], 3_u64.to_le_bytes(), "head");
            assert_eq!(answer[35..39], 0x0403_0201_u32.to_le_bytes(), "heartbeat");
            assert_eq!(answer[39..41], 4096_u16.to_le_bytes(), "max key");
            assert_eq!(answer[41..45], 65_525_u32.to_le_bytes(), "max entry");
            client.expect_silence();
        },
    );
}

#[test]
fn the_limits_that_are_told_are_those_that_are_set() {
    on_each_engine_with(
        |config| (config.limits.max_key, config.limits.max_entry) = (100, 16 * 1024 * 1024),
        |lab| {
            let greeting = lab.server.connect().greet();
            assert_eq!((greeting.max_key, greeting.max_entry), (100, 16 * 1024 * 1024));
        },
    );
}

#[test]
fn the_head_that_is_told_is_the_newest_revision() {
    on_each_engine(|lab| {
        let mut writer = lab.server.connect();
        assert_eq!(lab.server.connect().greet().head, Revision::ZERO);
        for revision in 1..=5 {
            writer.expect(&put(1, "k", "v", revision), &put(1, "k", "v", revision));
            writer.expect(&put(2, "k", "v", revision), &error(2, "stale put"));
            assert_eq!(lab.server.connect().greet().head.get(), revision, "what is refused has no revision");
        }
    });
}

#[test]
fn before_hello_the_extension_can_not_be_spoken_and_the_connection_stays() {
    on_each_engine(|lab| {
        let mut client = lab.server.connect();
        for (request, kind) in one_of_each() {
            client.expect(&request, &error(7, &format!("messages of kind {kind} cannot be applied before HELLO")));
        }
        client.expect_service("k", 1);
        client.greet();
        client.expect(&mark(7, 0), &mark(7, 1));
    });
}

#[test]
fn hello_again_cannot_be_applied() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&hello(9), &error(9, "messages of kind HELLO cannot be applied"));
        client.expect(&mark(7, 0), &mark(7, 0));
    });
}

#[test]
fn what_was_asked_before_hello_in_one_piece_is_answered_before_it() {
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
fn after_hello_there_are_no_unasked_broadcasts() {
    on_each_engine(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.connected();
        let mut writer = lab.server.connected();
        writer.expect(&put(1, "k", "before", 1), &put(1, "k", "before", 1));
        assert_eq!(client.receive(), put(0, "k", "before", 1), "it has not said HELLO yet");
        client.greet();
        for version in 2..=20 {
            writer.expect(&put(1, "k", "after", version), &put(1, "k", "after", version));
            client.expect_silence();
        }
        for version in 1..=20 {
            assert_eq!(base.receive().version().unwrap().get(), version, "others are told as before");
        }
    });
}

#[test]
fn after_hello_base_requests_are_answered_as_before() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&get(1, "k"), &error(1, "\"k\": not found"));
        client.expect(&put(2, "k", "v", 1), &put(2, "k", "v", 1));
        client.expect(&put(3, "k", "v", 1), &error(3, "stale put"));
        client.expect(&get(4, "k"), &put(4, "k", "v", 1));
        client.expect(&put(5, "k", "v", u64::MAX), &error(5, "version exhausted"));
        client.expect(&error(6, "?"), &error(6, "messages of kind ERROR cannot be applied"));
        let auth = Message::auth(Tag::new(7), "secret");
        client.expect(&auth, &error(7, "messages of kind AUTH cannot be applied"));
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

/// What an empty server answers to a row of `extension.json` after HELLO.
fn answers_to(row: &Value) -> Vec<Message> {
    let tag = u16::try_from(row["tag"].as_u64().unwrap()).unwrap();
    match row["kind"].as_str().unwrap() {
        "HELLO" => vec![error(tag, "messages of kind HELLO cannot be applied")],
        "DELETE" => vec![delete(tag, "k", 7)],
        "WATCH" if row["since"] == "0" => vec![mark(tag, 0)],
        // Unknown: everything is forgotten first.
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
fn every_vector_is_answered_as_the_protocol_demands() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../wire/tests/vectors/extension.json")).unwrap();
    assert!(rows.len() >= 11, "the vectors are there");
    for row in rows {
        on_each_engine(|lab| {
            let mut client = lab.server.extended();
            client.send_bytes(&unhex(&row["frame_hex"]));
            let answers = answers_to(&row);
            if answers.is_empty() {
                assert_eq!(client.receive().kind().to_string(), "STATUS", "{row}");
            }
            for answer in answers {
                let expected = encoded(&answer);
                assert_eq!(client.receive_bytes(expected.len()), expected, "{row}");
            }
            client.half_close();
            client.expect_end();
        });
    }
}

#[test]
fn every_vector_before_hello_is_told_so() {
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
fn the_pieces_in_which_frames_come_do_not_matter() {
    on_each_engine(|lab| {
        let mut writer = lab.server.extended();
        writer.expect(&put(1, "a/1", "v", 1), &put(1, "a/1", "v", 1));
        let mut client = lab.server.connect();
        let operations =
            [crate::support::checks("a/1", 1), crate::support::puts("a/2", "v", 1), crate::support::deletes("a/1", 2)];
        let requests = [hello(1), txn(2, [operations[0].clone(), operations[1].clone()]), delete(3, "a/1", 2)];
        for byte in all_encoded(&requests) {
            client.send_bytes(&[byte]);
        }
        assert_eq!(client.receive().tag(), Tag::new(1));
        client.expect_all(&[put(2, "a/2", "v", 1), mark(2, 2), delete(3, "a/1", 2)]);
        for (request, answers) in [
            (watch(4, "a/", 0), &[put(0, "a/2", "v", 1), mark(4, 3)][..]),
            (list(5, "a/", "", 10), &[put(5, "a/2", "v", 1), mark(5, 3)]),
            (mark(6, 0), &[mark(6, 3)]),
        ] {
            for byte in encoded(&request) {
                client.send_bytes(&[byte]);
            }
            client.expect_all(answers);
        }
    });
}

#[test]
fn a_connection_that_says_hello_while_others_write_is_sent_what_it_asks_for_and_no_more() {
    on_each_engine(|lab: &Lab| {
        std::thread::scope(|scope| {
            let mut writer = lab.server.extended();
            scope.spawn(move || {
                for version in 1..=500 {
                    writer.expect(&put(1, "k", "v", version), &put(1, "k", "v", version));
                }
            });
            for _ in 0..20 {
                let mut client = lab.server.connect();
                client.greet();
                client.expect_silence();
                let mut watcher = Watcher::of(lab.server.addr, lab.history(), "k");
                watcher.until_marked(watcher.marked);
            }
        });
    });
}
