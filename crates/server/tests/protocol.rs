//! The sentences of the protocol, one by one, in raw bytes over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Client, TestServer, error, get, put};

#[test]
fn the_worked_example_byte_for_byte() {
    let server = TestServer::start();
    let mut watcher = Client::connected(server.addr);
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

#[test]
fn a_get_sees_every_earlier_write_of_its_own_connection() {
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
