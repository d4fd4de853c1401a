//! Broadcasts: which connections receive a write, and as which frame. Each test covers one sentence of the protocol, in raw
//! bytes.

use crate::support::prelude::*;
use syncline_core::Outcome;

#[test]
fn an_accepted_put_is_broadcast_as_the_same_frame_with_tag_0() {
    let server = TestServer::start();
    let mut others: Vec<Client> = (0..50).map(|_| server.connected()).collect();
    let mut writer = server.connected();
    let frame = encoded(&put(513, "key", "value", 9));
    writer.send_bytes(&frame);
    let mut expected = frame.clone();
    expected[1..3].fill(0);
    for other in &mut others {
        assert_eq!(other.receive_bytes(expected.len()), expected);
    }
    assert_eq!(writer.receive_bytes(frame.len()), frame);
}

#[test]
fn the_writer_gets_no_broadcast_of_its_own_write() {
    let server = TestServer::start();
    let _other = server.connected();
    let mut writer = server.connected();
    let writes: Vec<Message> = (1..=100).map(|version| put(5, "k", "v", version)).collect();
    writer.send_bytes(&all_encoded(&writes));
    for write in &writes {
        assert_eq!(writer.receive(), *write);
    }
    writer.expect_silence();
}

#[test]
fn refused_writes_are_not_broadcast() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut writer = server.connected();
    writer.expect(&put(1, "k", "v", 0), &error(1, "stale put"));
    writer.expect(&put(2, "k", "v", u64::MAX), &error(2, "version exhausted"));
    writer.send(&put(3, &"k".repeat(4097), "v", 1));
    assert_eq!(writer.receive().tag(), Tag::new(3));
    writer.expect(&get(4, "k"), &error(4, "\"k\": not found"));
    other.expect_silence();
    writer.expect_echo(&put(5, "k", "v", 1));
    writer.expect(&put(6, "k", "w", 1), &error(6, "stale put"));
    assert_eq!(other.receive(), put(0, "k", "v", 1));
    other.expect_silence();
}

#[test]
fn the_response_to_a_get_goes_only_to_its_connection() {
    let server = TestServer::start();
    let mut writer = server.connected();
    writer.expect_echo(&put(1, "k", "v", 1));
    let mut other = server.connected();
    writer.expect(&get(2, "k"), &put(2, "k", "v", 1));
    other.expect_silence();
}

#[test]
fn writes_from_before_a_connection_are_not_broadcast_to_it() {
    let server = TestServer::start();
    let mut writer = server.connected();
    writer.expect_echo(&put(1, "k", "before", 1));
    let mut late = server.connected();
    writer.expect_echo(&put(1, "k", "after", 2));
    assert_eq!(late.receive(), put(0, "k", "after", 2));
    late.expect_silence();
}

#[test]
fn responses_stay_in_order_with_broadcasts_in_between() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connected();
    let mut other = server.connected();
    store.close_gate();
    client.send(&put(1, "mine", "v", 1));
    store.wait_for_commit();
    other.send(&put(1, "theirs", "v", 1));
    other.send(&put(2, "mine", "w", 2));
    store.open_gate();
    assert_eq!(client.receive(), put(1, "mine", "v", 1));
    assert_eq!(client.receive(), put(0, "theirs", "v", 1));
    assert_eq!(client.receive(), put(0, "mine", "w", 2));
    assert_eq!(other.receive(), put(0, "mine", "v", 1));
    assert_eq!(other.receive(), put(1, "theirs", "v", 1));
    assert_eq!(other.receive(), put(2, "mine", "w", 2));
}

#[test]
fn stale_put_follows_the_write_that_won() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut faster = server.connected();
    let mut slower = server.connected();
    store.close_gate();
    faster.send(&put(1, "k", "faster", 1));
    store.wait_for_commit();
    slower.send(&put(1, "k", "slower", 1));
    slower.send(&get(2, "k"));
    store.open_gate();
    assert_eq!(slower.receive(), put(0, "k", "faster", 1));
    assert_eq!(slower.receive(), error(1, "stale put"));
    assert_eq!(slower.receive(), put(2, "k", "faster", 1));
    assert_eq!(faster.receive(), put(1, "k", "faster", 1));
}

#[test]
fn an_empty_key_and_an_empty_value_are_broadcast_like_any_other() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut writer = server.connected();
    writer.expect_echo(&put(1, "", "", 1));
    assert_eq!(other.receive(), put(0, "", "", 1));
}

#[test]
fn the_largest_entry_is_broadcast() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut writer = server.connected();
    let value = "v".repeat(65_525 - 4096);
    let key = "k".repeat(4096);
    writer.expect_echo(&put(1, &key, &value, 1));
    assert_eq!(other.receive(), put(0, &key, &value, 1));
}

#[test]
fn writes_of_another_process_are_broadcast_to_all_connections() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut clients: Vec<Client> = (0..3).map(|_| server.connected()).collect();
    let write = Operation::Put { key: "k".into(), value: "v".into(), version: Version::new(3) };
    assert!(matches!(store.write(write), Outcome::Accepted { .. }));
    for client in &mut clients {
        assert_eq!(client.receive(), put(0, "k", "v", 3));
        client.expect(&put(1, "k", "w", 3), &error(1, "stale put"));
    }
}

#[test]
fn an_idle_connection_behind_the_recent_log_is_sent_the_latest() {
    // Without a recent log, every connection that does not read at the moment of a commit falls behind.
    let (store, server) = TestServer::with_test_store(|config| config.recent_log = 0);
    let mut idle = server.connected();
    let mut writer = server.connected();
    for version in 1..=20 {
        writer.expect_echo(&put(1, "k", "v", version));
        // The idle connection sends nothing that would wake its task.
        assert_eq!(idle.receive(), put(0, "k", "v", version));
    }
    assert!(store.pages() > 0, "changes were read from the store");
}

/// A base connection never receives a PUT of more than 65,525 bytes, because that breaks decoders with 16-bit arithmetic.
/// Clients of this server cannot write one, but another process can.
fn no_entry_too_large_for_a_put_is_broadcast(recent_log: usize) {
    let (store, server) = TestServer::with_test_store(|config| config.recent_log = recent_log);
    let mut client = server.connected();
    for (version, value) in [(1, 65_524), (2, 65_525), (3, 1)] {
        let value = vec![b'v'; value].into();
        store.write(Operation::Put { key: "k".into(), value, version: Version::new(version) });
    }
    // From the store, only the latest version may be sent.
    let mut versions = Vec::new();
    while versions.last() != Some(&3) {
        let message = client.receive();
        assert!(message.encoded_length() <= 65_525 + 15, "a PUT of {} bytes", message.encoded_length());
        versions.push(message.version().unwrap().get());
    }
    assert!(!versions.contains(&2), "{versions:?}");

    let too_large = Operation::Put { key: "l".into(), value: vec![b'v'; 65_525].into(), version: Version::new(1) };
    store.write(too_large);
    let response = "too large: key and value of 65526 bytes together, expected at most 65525";
    client.expect(&get(1, "l"), &error(1, response));
    client.expect_silence();
}

#[test]
fn an_entry_too_large_for_a_put_is_not_broadcast_from_the_log() {
    no_entry_too_large_for_a_put_is_broadcast(1024 * 1024);
}

#[test]
fn an_entry_too_large_for_a_put_is_not_broadcast_from_the_store() {
    no_entry_too_large_for_a_put_is_broadcast(0);
}
