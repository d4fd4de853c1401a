//! Broadcasts: who is sent what was written, and as what. One sentence of the protocol a test, in raw bytes.

use crate::support::{Client, TestServer, TestStore, all_encoded, encoded, error, get, put};
use syncline_core::{Operation, Outcome};
use syncline_wire::{Message, Tag, Version};

#[test]
fn an_accepted_put_is_sent_to_every_other_connection_as_the_same_frame_with_tag_0() {
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
fn what_was_refused_is_not_broadcast() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut writer = server.connected();
    writer.expect(&put(1, "k", "v", 0), &error(1, "stale put"));
    writer.expect(&put(2, "k", "v", u64::MAX), &error(2, "version exhausted"));
    writer.send(&put(3, &"k".repeat(4097), "v", 1));
    assert_eq!(writer.receive().tag(), Tag::new(3));
    writer.expect(&get(4, "k"), &error(4, "\"k\": not found"));
    other.expect_silence();
    writer.expect(&put(5, "k", "v", 1), &put(5, "k", "v", 1));
    writer.expect(&put(6, "k", "w", 1), &error(6, "stale put"));
    assert_eq!(other.receive(), put(0, "k", "v", 1));
    other.expect_silence();
}

#[test]
fn a_get_is_answered_to_its_connection_alone() {
    let server = TestServer::start();
    let mut writer = server.connected();
    writer.expect(&put(1, "k", "v", 1), &put(1, "k", "v", 1));
    let mut other = server.connected();
    writer.expect(&get(2, "k"), &put(2, "k", "v", 1));
    other.expect_silence();
}

#[test]
fn what_was_written_before_a_connection_came_is_not_broadcast_to_it() {
    let server = TestServer::start();
    let mut writer = server.connected();
    writer.expect(&put(1, "k", "before", 1), &put(1, "k", "before", 1));
    let mut late = server.connected();
    writer.expect(&put(1, "k", "after", 2), &put(1, "k", "after", 2));
    assert_eq!(late.receive(), put(0, "k", "after", 2));
    late.expect_silence();
}

#[test]
fn broadcasts_may_stand_between_answers_and_answers_stay_in_order() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |_| {});
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
fn stale_put_comes_after_the_write_that_was_faster() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |_| {});
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
    writer.expect(&put(1, "", "", 1), &put(1, "", "", 1));
    assert_eq!(other.receive(), put(0, "", "", 1));
}

#[test]
fn the_largest_entry_is_broadcast() {
    let server = TestServer::start();
    let mut other = server.connected();
    let mut writer = server.connected();
    let value = "v".repeat(65_525 - 4096);
    let key = "k".repeat(4096);
    writer.expect(&put(1, &key, &value, 1), &put(1, &key, &value, 1));
    assert_eq!(other.receive(), put(0, &key, &value, 1));
}

#[test]
fn what_another_process_writes_to_the_store_is_broadcast_to_everybody() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |_| {});
    let mut clients: Vec<Client> = (0..3).map(|_| server.connected()).collect();
    let write = Operation::Put { key: "k".into(), value: "v".into(), version: Version::new(3) };
    assert!(matches!(store.write(write), Outcome::Accepted { .. }));
    for client in &mut clients {
        assert_eq!(client.receive(), put(0, "k", "v", 3));
        client.expect(&put(1, "k", "w", 3), &error(1, "stale put"));
    }
}

#[test]
fn a_connection_that_is_idle_when_it_falls_behind_the_log_is_sent_the_latest_all_the_same() {
    let store = TestStore::new();
    // Nothing is kept: whoever is not there at the very moment has fallen behind.
    let server = TestServer::on(store.clone(), |config| config.recent_log = 0);
    let mut idle = server.connected();
    let mut writer = server.connected();
    for version in 1..=20 {
        writer.expect(&put(1, "k", "v", version), &put(1, "k", "v", version));
        // It does nothing that would make the server look at it again.
        assert_eq!(idle.receive(), put(0, "k", "v", version));
    }
    assert!(store.pages() > 0, "the store was asked");
}

/// A base connection is never sent a PUT of more than 65,525 bytes: it kills decoders in 16-bit arithmetic. No client
/// of this server can write one; another process can.
fn what_a_put_cannot_carry_is_not_broadcast(recent_log: usize) {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.recent_log = recent_log);
    let mut client = server.connected();
    for (version, value) in [(1, 65_524), (2, 65_525), (3, 1)] {
        let value = vec![b'v'; value].into();
        store.write(Operation::Put { key: "k".into(), value, version: Version::new(version) });
    }
    // Where only the latest state is sent, there is no trace of the others.
    let mut versions = Vec::new();
    while versions.last() != Some(&3) {
        let message = client.receive();
        assert!(message.encoded_length() <= 65_525 + 15, "a PUT of {} bytes", message.encoded_length());
        versions.push(message.version().unwrap().get());
    }
    assert!(!versions.contains(&2), "{versions:?}");

    let too_large = Operation::Put { key: "l".into(), value: vec![b'v'; 65_525].into(), version: Version::new(1) };
    store.write(too_large);
    let answer = "too large: key and value of 65526 bytes together, expected at most 65525";
    client.expect(&get(1, "l"), &error(1, answer));
    client.expect_silence();
}

#[test]
fn what_a_put_cannot_carry_is_not_broadcast_from_the_recent_log() {
    what_a_put_cannot_carry_is_not_broadcast(1024 * 1024);
}

#[test]
fn what_a_put_cannot_carry_is_not_broadcast_from_the_store() {
    what_a_put_cannot_carry_is_not_broadcast(0);
}
