//! What the server refuses: kinds, sizes, and requests during a failure of the store. Each test covers one sentence of the
//! protocol, in raw bytes.

use crate::support::prelude::*;
use serde_json::Value;
use syncline_server::{BindError, LimitError, Limits, Server};

fn too_large_key(tag: u16, found: usize) -> Message {
    error(tag, &format!("too large: key of {found} bytes, expected at most 4096"))
}

fn too_large_entry(tag: u16, found: usize) -> Message {
    error(tag, &format!("too large: key and value of {found} bytes together, expected at most 65525"))
}

// Kinds

#[test]
fn auth_cannot_be_applied_without_access_control() {
    let server = TestServer::start();
    let mut client = server.connect();
    for password in ["secret", "", &"p".repeat(65_535)] {
        client.expect(&auth(9, password), &error(9, "messages of kind AUTH cannot be applied"));
    }
    client.expect_service("k", 1);
}

#[test]
fn error_sent_by_a_client_cannot_be_applied() {
    let server = TestServer::start();
    let mut client = server.connect();
    for text in ["stale put", "", &"t".repeat(65_535)] {
        client.expect(&error(9, text), &error(9, "messages of kind ERROR cannot be applied"));
    }
    client.expect_service("k", 1);
}

#[test]
fn an_unknown_kind_gets_an_error_with_its_tag_and_closes() {
    let server = TestServer::start();
    // 12 to 31 are reserved.
    for kind in 12..=u8::MAX {
        let mut client = server.connect();
        let [low, high] = (u16::from(kind) * 257).to_le_bytes();
        client.send_bytes(&[kind, low, high]);
        assert_eq!(client.receive_to_end(), [error(u16::from(kind) * 257, "unknown message kind")], "kind {kind}");
    }
}

#[test]
fn bytes_after_an_unknown_kind_are_not_decoded() {
    let server = TestServer::start();
    let mut other = server.connected();
    for kind in [12, 31, 32, 255] {
        let mut client = server.connect();
        let mut bytes = vec![kind, 3, 0];
        // More PUTs than one read takes.
        let written = put(2, "must not be", "there", 1);
        bytes.extend_from_slice(&all_encoded(&vec![written; 2_000]));
        client.send_bytes(&bytes);
        assert_eq!(client.receive_to_end(), [error(3, "unknown message kind")], "kind {kind}");
    }
    other.expect(&get(1, "must not be"), &error(1, "\"must not be\": not found"));
}

#[test]
fn requests_before_an_unknown_kind_get_their_responses() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connect();
    store.close_gate();
    let mut bytes = all_encoded(&[put(1, "k", "v", 1), get(2, "k"), put(3, "k", "v", 1)]);
    bytes.extend_from_slice(b"\x0c\x04\x00\x00\x00");
    client.send_bytes(&bytes);
    store.wait_for_commit();
    store.open_gate();
    let expected = [put(1, "k", "v", 1), put(2, "k", "v", 1), error(3, "stale put"), error(4, "unknown message kind")];
    assert_eq!(client.receive_to_end(), expected);
}

#[test]
fn every_malformed_vector_gets_the_response_of_the_protocol() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../wire/tests/vectors/malformed.json")).unwrap();
    assert!(rows.len() >= 10, "all vectors are present");
    let server = TestServer::start();
    for row in rows {
        let bytes = unhex(&row["input_hex"]);
        let mut client = server.connect();
        client.send_bytes(&bytes);
        match row["expect"].as_str().unwrap() {
            // The server waits for the rest. At a half-close it closes the connection without a response.
            "incomplete" => {
                client.half_close();
                assert_eq!(client.receive_to_end(), [], "{row}");
            }
            "unknown kind" => {
                let tag = u16::from_le_bytes([bytes[1], bytes[2]]);
                assert_eq!(client.receive_to_end(), [error(tag, "unknown message kind")], "{row}");
            }
            other => panic!("a new expectation: {other}"),
        }
        server.connect().expect_silence();
    }
}

// Sizes

#[test]
fn a_key_may_have_4096_bytes_and_not_one_more() {
    let server = TestServer::start();
    let mut client = server.connect();
    let (longest, too_long) = ("k".repeat(4096), "k".repeat(4097));
    client.expect_echo(&put(1, &longest, "v", 1));
    client.expect(&get(2, &longest), &put(2, &longest, "v", 1));
    client.expect(&put(3, &too_long, "v", 1), &too_large_key(3, 4097));
    client.expect(&get(4, &too_long), &too_large_key(4, 4097));
    client.expect(&get(5, &"k".repeat(65_535)), &too_large_key(5, 65_535));
    client.expect(&get(6, &longest), &put(6, &longest, "v", 1));
}

#[test]
fn an_entry_may_have_65525_bytes_and_not_one_more() {
    let server = TestServer::start();
    let mut client = server.connect();
    for key in ["", "k", &"k".repeat(4096)] {
        let (largest, too_large) = ("v".repeat(65_525 - key.len()), "v".repeat(65_526 - key.len()));
        client.expect_echo(&put(1, key, &largest, 1));
        client.expect(&put(2, key, &too_large, 2), &too_large_entry(2, 65_526));
        client.expect(&get(3, key), &put(3, key, &largest, 1));
    }
}

#[test]
fn a_frame_that_is_too_large_is_skipped_and_the_connection_stays() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut client = server.connect();
    let largest_frame = put(1, &"k".repeat(65_535), &"v".repeat(65_535), 1);
    let largest_value = put(2, "k", &"v".repeat(65_535), 1);
    // Sent at once: the next frame starts where the skipped one ends.
    client.send_bytes(&all_encoded(&[largest_frame.clone(), largest_value, put(3, "k", "v", 1), largest_frame]));
    assert_eq!(client.receive(), too_large_key(1, 65_535));
    assert_eq!(client.receive(), too_large_entry(2, 65_536));
    assert_eq!(client.receive(), put(3, "k", "v", 1));
    assert_eq!(client.receive(), too_large_key(1, 65_535));
    client.expect(&get(4, "k"), &put(4, "k", "v", 1));
    assert_eq!(other.receive(), put(0, "k", "v", 1));
    other.expect_silence();
}

#[test]
fn configured_limits_apply_and_are_named_in_errors() {
    let server = TestServer::with(|config| {
        config.limits.max_key = 3;
        config.limits.max_entry = 5;
    });
    let mut client = server.connect();
    client.expect_echo(&put(1, "key", "12", 1));
    client.expect(&put(2, "keys", "1", 1), &error(2, "too large: key of 4 bytes, expected at most 3"));
    client.expect(&get(3, "keys"), &error(3, "too large: key of 4 bytes, expected at most 3"));
    let response = "too large: key and value of 6 bytes together, expected at most 5";
    client.expect(&put(4, "key", "123", 2), &error(4, response));
    client.expect(&get(5, "key"), &put(5, "key", "12", 1));
}

#[tokio::test]
async fn a_server_does_not_start_with_invalid_limits() {
    let bind = async |change: fn(&mut Limits)| {
        let mut config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
        change(&mut config.limits);
        match Server::bind(config, TestStore::new()).await {
            Err(BindError::Limits(error)) => error,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the server started"),
        }
    };
    assert_eq!(bind(|limits| limits.max_entry = 16_777_217).await, LimitError::MaxEntry(16_777_217));
    assert_eq!(bind(|limits| limits.max_key = 65_536).await, LimitError::MaxKey(65_536));
    assert_eq!(bind(|limits| limits.max_requests = 0).await, LimitError::MaxRequests);
    assert_eq!(bind(|limits| limits.max_unsent = 0).await, LimitError::MaxUnsent);
}

#[tokio::test]
async fn the_error_for_an_address_in_use_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let config = Config { listen: listen.clone(), ..Config::default() };
    match Server::bind(config, TestStore::new()).await {
        Err(error @ BindError::Listen { .. }) => {
            let text = error.to_string();
            let hint = "another process listens there: end it, or listen on another port (--listen)";
            assert!(text.starts_with(&format!("can't listen on {listen}: ")) && text.ends_with(hint), "{text}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two servers on one address"),
    }
}

#[tokio::test]
async fn the_error_for_an_address_of_another_machine_says_so() {
    // An address for documentation, which no machine has.
    let config = Config { listen: "192.0.2.1:0".into(), ..Config::default() };
    let error = Server::bind(config, TestStore::new()).await.err().unwrap().to_string();
    assert!(error.starts_with("can't listen on 192.0.2.1:0: "), "{error}");
    assert!(error.ends_with("this machine has no such address: expected one of its own, or 0.0.0.0"), "{error}");
}

// Failures of the store

#[test]
fn if_the_store_fails_the_response_is_unavailable() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut other = server.connected();
    let mut client = server.connected();
    client.expect_echo(&put(1, "k", "v", 1));
    store.set_failure(Some("the disk is full"));
    let requests = [put(2, "k", "w", 2), get(3, "k"), put(4, "l", "v", 1), get(5, "l")];
    client.send_bytes(&all_encoded(&requests));
    for tag in 2..=5 {
        assert_eq!(client.receive(), error(tag, "unavailable: the disk is full"));
    }
    // Requests that need no store still work, and the connection stays.
    client.expect(&error(6, ""), &error(6, "messages of kind ERROR cannot be applied"));
    store.set_failure(None);
    client.expect(&get(7, "k"), &put(7, "k", "v", 1));
    client.expect_echo(&put(8, "k", "w", 2));
    assert_eq!(other.receive(), put(0, "k", "v", 1));
    assert_eq!(other.receive(), put(0, "k", "w", 2), "refused writes are not broadcast");
    other.expect_silence();
}

#[test]
fn a_connection_whose_catch_up_fails_gets_the_reason_and_closes() {
    // Without a recent log, every broadcast comes from the store.
    let (store, server) = TestServer::with_test_store(|config| config.recent_log = 0);
    let mut client = server.connected();
    store.set_failure(Some("the disk is gone"));
    store.write(Operation::Put { key: "k".into(), value: "v".into(), version: Version::new(1) });
    assert_eq!(
        client.receive_to_end(),
        [error(0, "unavailable: the disk is gone")],
        "a connection never misses changes silently"
    );
    store.set_failure(None);
    server.connect().expect(&get(1, "k"), &put(1, "k", "v", 1));
}

#[test]
fn a_slow_commit_does_not_block_reads() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut other = server.connected();
    let mut writer = server.connected();
    writer.expect_echo(&put(1, "k", "old", 1));
    assert_eq!(other.receive(), put(0, "k", "old", 1));
    store.close_gate();
    writer.send_bytes(&all_encoded(&[put(2, "k", "new", 2), get(3, "k")]));
    store.wait_for_commit();
    for tag in 1..=100 {
        other.expect(&get(tag, "k"), &put(tag, "k", "old", 1));
        other.expect(&error(tag, ""), &error(tag, "messages of kind ERROR cannot be applied"));
    }
    let mut newcomer = server.connect();
    newcomer.expect(&get(1, "k"), &put(1, "k", "old", 1));
    store.open_gate();
    assert_eq!(writer.receive(), put(2, "k", "new", 2));
    assert_eq!(writer.receive(), put(3, "k", "new", 2));
    for client in [&mut other, &mut newcomer] {
        assert_eq!(client.receive(), put(0, "k", "new", 2));
    }
}

#[test]
fn an_error_text_always_fits_a_frame() {
    let server = TestServer::start();
    let mut client = server.connect();
    // The longest key that is accepted. Each of its bytes takes four in the text.
    let response = {
        client.send(&Message::get(Tag::new(1), vec![0xff; 4096]));
        client.receive()
    };
    assert!(encoded(&response).len() < 256, "{response}");
}
