//! Idle connections take little memory, regardless of what they did before.
//!
//! This test has a process of its own. Otherwise memory that another test has freed could hide what this one takes.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use support::prelude::*;

#[test]
fn idle_connections_release_their_memory() {
    const CONNECTIONS: usize = 300;
    const GETS: u16 = 20;
    let server = TestServer::start();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connected()).collect();
    let value = "v".repeat(60_000);
    assert_eq!(clients[0].put(1, "large", &value, 1).tag(), Tag::new(1));
    let response = encoded(&put(1, "large", &value, 1));
    let requests = all_encoded(&vec![get(1, "large"); usize::from(GETS)]);
    for client in &mut clients[1..] {
        assert_eq!(client.receive(), put(0, "large", &value, 1));
    }
    let mut memory = Memory::watch();
    for client in &mut clients {
        client.send_bytes(&requests);
        for _ in 0..GETS {
            assert!(client.receive_bytes(response.len()) == response);
        }
    }
    // If every connection kept the memory of its responses: 50 MiB.
    memory.expect_at_most(15 * MIB);
}
