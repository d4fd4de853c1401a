//! Frames, tags, versions and GET. Each test covers one sentence of the protocol, in raw bytes over a real socket.

use crate::support::prelude::*;
use serde_json::Value;

#[test]
fn the_worked_example_byte_for_byte() {
    let server = TestServer::start();
    let mut watcher = server.connected();
    let mut writer = server.connect();
    let request = b"\x01\x07\x00\x04\x00name\x04\x00tony\x01\0\0\0\0\0\0\0";
    writer.send_bytes(request);
    assert_eq!(writer.receive_bytes(request.len()), request, "the same PUT frame, tag included");
    let mut broadcast = request.to_vec();
    broadcast[1] = 0;
    assert_eq!(watcher.receive_bytes(request.len()), broadcast, "the same frame with tag 0");
    writer.send_bytes(b"\x00\x08\x00\x04\x00name");
    assert_eq!(writer.receive_bytes(request.len()), b"\x01\x08\x00\x04\x00name\x04\x00tony\x01\0\0\0\0\0\0\0");
    writer.send_bytes(request);
    assert_eq!(writer.receive_bytes(14), b"\x02\x07\x00\x09\x00stale put");
}

/// Returns the response of an empty server to a row of `base.json`, byte for byte.
fn response_to(row: &Value) -> Vec<u8> {
    // All bytes up to 0x1f are escaped, quotes are, and apostrophes are not. Truncated to 40 characters.
    const BINARY: &str = "\"\\0\\u{1}\\u{2}\\u{3}\\u{4}\\u{5}\\u{6}\\u{7}\\u{8}\\t\\n\\u{b}\\u{c}\\r\\u{e}\\u{f}\
        \\u{10}\\u{11}\\u{12}\\u{13}\\u{14}\\u{15}\\u{16}\\u{17}\\u{18}\\u{19}\\u{1a}\\u{1b}\\u{1c}\\u{1d}\\u{1e}\
        \\u{1f} !\\\"#$%&'…\": not found";
    let tag = u16::try_from(row["tag"].as_u64().unwrap()).unwrap();
    let text = match (row["kind"].as_str().unwrap(), row["name"].as_str().unwrap()) {
        ("GET", "get") => "\"name\": not found",
        ("GET", "get, empty key") => "\"\": not found",
        ("GET", "get, binary key") => BINARY,
        ("GET", "get, tag byte order") => "\"k\": not found",
        ("GET", name) if name.starts_with("get, 20 zero bytes") => {
            "\"\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\": not found"
        }
        ("GET", other) => panic!("a new row without an expected response: {other}"),
        ("PUT", _) => match row["version"].as_str().unwrap() {
            "0" => "stale put",
            "18446744073709551615" => "version exhausted",
            _ => return unhex(&row["frame_hex"]),
        },
        ("ERROR", _) => "messages of kind ERROR cannot be applied",
        ("AUTH", _) => "messages of kind AUTH cannot be applied",
        (kind, name) => panic!("a new kind: {kind}, {name}"),
    };
    encoded(&error(tag, text))
}

#[test]
fn every_vector_gets_the_response_of_the_protocol() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../wire/tests/vectors/base.json")).unwrap();
    assert!(rows.len() >= 19, "all vectors are present");
    for row in rows {
        let server = TestServer::start();
        let mut client = server.connect();
        client.send_bytes(&unhex(&row["frame_hex"]));
        let expected = response_to(&row);
        assert_eq!(client.receive_bytes(expected.len()), expected, "{row}");
        client.half_close();
        client.expect_end();
    }
}

#[test]
fn a_get_returns_what_was_put_byte_for_byte() {
    let server = TestServer::start();
    let mut client = server.connect();
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (key, value) in [(&[][..], &[][..]), (&all_bytes, &all_bytes), (b"\0", b"\xff\xfe"), (b"k", &[0; 60_000])] {
        let stored = |tag| Message::put(Tag::new(tag), key.to_vec(), value.to_vec(), Version::new(1));
        client.expect_echo(&stored(1));
        client.expect(&Message::get(Tag::new(2), key.to_vec()), &stored(2));
    }
}

// Tags

#[test]
fn a_response_carries_the_tag_of_its_request() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect_echo(&put(1, "k", "v", 1));
    for tag in [1, 2, 255, 256, 258, 32_768, 65_535] {
        client.expect(&get(tag, "k"), &put(tag, "k", "v", 1));
        client.expect(&get(tag, "none"), &error(tag, "\"none\": not found"));
        client.expect(&put(tag, "k", "v", 1), &error(tag, "stale put"));
    }
}

#[test]
fn a_request_with_tag_0_gets_a_response_with_tag_0() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect_echo(&put(0, "k", "v", 1));
    client.expect(&get(0, "k"), &put(0, "k", "v", 1));
    client.expect(&get(0, "none"), &error(0, "\"none\": not found"));
    client.expect(&put(0, "k", "v", 1), &error(0, "stale put"));
    client.expect(&error(0, "?"), &error(0, "messages of kind ERROR cannot be applied"));
    client.expect_silence();
}

#[test]
fn a_tag_may_be_used_several_times_at_once() {
    let server = TestServer::start();
    let mut client = server.connect();
    let requests = [put(7, "k", "a", 1), get(7, "k"), put(7, "k", "b", 2), put(7, "k", "c", 2), get(7, "k")];
    client.send_bytes(&all_encoded(&requests));
    for response in [&requests[0], &put(7, "k", "a", 1), &requests[2], &error(7, "stale put"), &put(7, "k", "b", 2)] {
        assert_eq!(client.receive(), *response);
    }
    client.expect_silence();
}

#[test]
fn a_server_never_sends_a_tag_that_it_was_not_sent() {
    let server = TestServer::start();
    let mut busy = server.connected();
    let mut other = server.connected();
    for version in 1..=100 {
        busy.expect_echo(&put(4_711, "k", "v", version));
    }
    for version in 1..=100 {
        assert_eq!(other.receive(), put(0, "k", "v", version), "tags of one connection are not sent to another");
    }
    other.expect_silence();
}

#[test]
fn responses_are_in_the_order_of_the_requests() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connect();
    store.close_gate();
    client.send(&put(1, "k", "v", 1));
    store.wait_for_commit();
    // All of these could get a response before the first, which is blocked.
    let later = [
        get(2, "other"),
        error(3, "?"),
        auth(4, "secret"),
        get(5, &"x".repeat(4097)),
        put(6, "k", "v", u64::MAX),
        put(7, &"x".repeat(4097), "v", 1),
    ];
    client.send_bytes(&all_encoded(&later));
    server.connect().expect_silence();
    store.open_gate();
    let tags: Vec<u16> = (0..7).map(|_| client.receive().tag().get()).collect();
    assert_eq!(tags, [1, 2, 3, 4, 5, 6, 7]);
}

// Versions

#[test]
fn a_put_is_accepted_only_at_the_current_version_plus_1() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect_echo(&put(1, "k", "v", 1));
    for current in 1..5 {
        for refused in (0..=current).chain([current + 2, current + 100, u64::MAX - 1]) {
            client.expect(&put(2, "k", "no", refused), &error(2, "stale put"));
        }
        client.expect(&get(3, "k"), &put(3, "k", "v", current));
        client.expect_echo(&put(4, "k", "v", current + 1));
    }
}

#[test]
fn the_first_put_of_a_key_may_carry_any_version_from_1_on() {
    let server = TestServer::start();
    let mut client = server.connect();
    for version in [1, 2, 666, 1 << 32, u64::MAX - 1] {
        let key = format!("from {version}");
        client.expect_echo(&put(1, &key, "v", version));
        client.expect(&get(2, &key), &put(2, &key, "v", version));
        client.expect(&put(3, &key, "v", version), &error(3, "stale put"));
    }
    client.expect_echo(&put(4, "from 666", "w", 667));
}

#[test]
fn version_0_in_a_put_is_always_stale() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect(&put(1, "k", "v", 0), &error(1, "stale put"));
    client.expect(&get(2, "k"), &error(2, "\"k\": not found"));
    client.expect_echo(&put(3, "k", "v", 1));
    client.expect(&put(4, "k", "v", 0), &error(4, "stale put"));
}

#[test]
fn a_put_of_the_last_version_is_refused() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect(&put(1, "new", "v", u64::MAX), &error(1, "version exhausted"));
    client.expect(&get(2, "new"), &error(2, "\"new\": not found"));
    client.expect_echo(&put(3, "k", "v", u64::MAX - 1));
    client.expect(&put(4, "k", "v", u64::MAX), &error(4, "version exhausted"));
    client.expect(&get(5, "k"), &put(5, "k", "v", u64::MAX - 1));
}

#[test]
fn a_stale_put_changes_nothing() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect_echo(&put(1, "k", "first", 1));
    client.expect(&put(2, "k", "second", 1), &error(2, "stale put"));
    client.expect(&get(3, "k"), &put(3, "k", "first", 1));
}

#[test]
fn after_a_stale_put_a_client_gets_and_puts_again() {
    let server = TestServer::start();
    let mut client = server.connect();
    server.connect().expect_echo(&put(1, "k", "theirs", 5));
    assert_eq!(client.ask(&put(1, "k", "mine", 5)), error(1, "stale put"));
    assert_eq!(client.ask(&get(2, "k")), put(2, "k", "theirs", 5));
    assert_eq!(client.ask(&put(3, "k", "mine", 6)), put(3, "k", "mine", 6));
}

#[test]
fn exactly_one_of_several_conflicting_puts_is_accepted() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    store.close_gate();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&put(9, "k", &format!("of {number}"), 1));
    }
    store.wait_for_commit();
    store.open_gate();
    let mut winners = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let response = client.receive_response();
        if response == put(9, "k", &format!("of {number}"), 1) {
            winners.push(response);
        } else {
            assert_eq!(response, error(9, "stale put"));
        }
    }
    assert_eq!(winners.len(), 1);
    let value = winners[0].value().unwrap().clone();
    let latest = Message::put(Tag::new(1), "k", value, Version::new(1));
    assert_eq!(server.connect().ask(&get(1, "k")), latest);
}

// Get

#[test]
fn a_get_returns_the_latest_value_and_version() {
    let server = TestServer::start();
    let mut client = server.connect();
    for (version, value) in [(1, "one"), (2, ""), (3, "three")] {
        client.expect_echo(&put(1, "k", value, version));
        client.expect(&get(2, "k"), &put(2, "k", value, version));
        server.connect().expect(&get(3, "k"), &put(3, "k", value, version));
    }
}

#[test]
fn the_response_for_a_missing_key_names_it_and_ends_in_not_found() {
    let server = TestServer::start();
    let mut client = server.connect();
    for (key, shown) in [
        (&b"surname"[..], "surname"),
        (b"", ""),
        (b"two words", "two words"),
        ("clé".as_bytes(), "clé"),
        (b"a\"b\\c\n\t\0", "a\\\"b\\\\c\\n\\t\\0"),
        (b"\xff\x80", "\\xff\\x80"),
        (b"\x1b[31m", "\\u{1b}[31m"),
    ] {
        let expected = error(1, &format!("\"{shown}\": not found"));
        client.expect(&Message::get(Tag::new(1), key.to_vec()), &expected);
    }
}

#[test]
fn a_key_in_a_response_is_truncated_to_40_characters() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.expect(&get(1, &"k".repeat(40)), &error(1, &format!("\"{}\": not found", "k".repeat(40))));
    for (key, shown) in [("k".repeat(41), "k".repeat(40)), ("é".repeat(2048), "é".repeat(40))] {
        client.expect(&get(2, &key), &error(2, &format!("\"{shown}…\": not found")));
    }
    let newlines = error(3, &format!("\"{}…\": not found", "\\n".repeat(40)));
    client.expect(&get(3, &"\n".repeat(4096)), &newlines);
    let no_text = error(4, &format!("\"{}…\": not found", "\\xff".repeat(40)));
    client.expect(&Message::get(Tag::new(4), vec![0xff; 4096]), &no_text);
}

#[test]
fn the_response_for_a_deleted_key_contains_the_version() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connected();
    client.expect_echo(&put(1, "k", "v", 6));
    store.write(Operation::Delete { key: "k".into(), version: Version::new(7) });
    assert_eq!(client.receive(), put(0, "k", "", 7), "a base connection receives a deletion as a PUT without a value");
    client.expect(&get(2, "k"), &error(2, "\"k\": deleted at version 7, not found"));
    client.expect(&put(3, "k", "again", 1), &error(3, "stale put"));
    client.expect_echo(&put(4, "k", "again", 8));
}

#[test]
fn a_get_sees_earlier_writes_of_its_connection() {
    let server = TestServer::start();
    let mut client = server.connect();
    for message in [get(1, "k"), put(2, "k", "one", 1), get(3, "k"), put(4, "k", "two", 2), get(5, "k")] {
        client.send(&message);
    }
    assert_eq!(client.receive(), error(1, "\"k\": not found"));
    assert_eq!(client.receive(), put(2, "k", "one", 1));
    assert_eq!(client.receive(), put(3, "k", "one", 1));
    assert_eq!(client.receive(), put(4, "k", "two", 2));
    assert_eq!(client.receive(), put(5, "k", "two", 2));
}

#[test]
fn a_get_does_not_see_a_later_write_of_its_own_connection() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connect();
    store.close_gate();
    client.send_bytes(&all_encoded(&[put(1, "k", "one", 1), get(2, "k"), put(3, "k", "two", 2), get(4, "k")]));
    store.wait_for_commit();
    store.open_gate();
    let responses: Vec<Message> = (0..4).map(|_| client.receive()).collect();
    assert_eq!(responses, [put(1, "k", "one", 1), put(2, "k", "one", 1), put(3, "k", "two", 2), put(4, "k", "two", 2)]);
}
