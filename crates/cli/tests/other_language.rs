//! A program in another language, which knows the base protocol and nothing of this code, is served.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use support::Server;

#[test]
fn the_python_client_is_served_byte_for_byte() {
    let server = Server::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/base_client.py");
    let output = Command::new("python3").args([script, &server.addr]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().last(), Some("all as the protocol says"));
    // And what it has left is there for everybody else.
    assert_eq!(server.fine(&["get", "language"]), "python");
}
