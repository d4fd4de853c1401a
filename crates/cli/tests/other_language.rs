//! A Python program that implements the base protocol independently works with the server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use support::Server;

#[test]
fn the_python_client_is_served_byte_for_byte() {
    let server = Server::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/base_client.py");
    let output = Command::new("python3").args([script, &server.addr]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.lines().last(), Some("everything is as the protocol requires"));
    // Other clients see its write.
    assert_eq!(server.fine(&["get", "language"]), "python");
}
