//! The client's side of a connection: handshakes, connections with replicas, and cursors. The server sends responses, any
//! other frames, and any bytes, in any pieces. Requests are made at any time, and connections are lost.
//!
//! Checks:
//! - No server makes the client panic, send requests without end, or show data that it did not receive.
//! - The client sends only frames that such a server can know.
//! - Each request is completed once, or returned to the caller when the connection is lost.
//! - What a replica shows changes at a MARK and at no other time, to the state at the revision of the MARK.
//! - The steps of a cursor lead to its position.
//!
//! The first byte of the input chooses what is tested.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use syncline_fuzz::client;

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    let mut input = Unstructured::new(rest);
    match which % 8 {
        0 => drop(client::handshake(&mut input)),
        1 | 2 => client::cursor(&mut input),
        3 => client::position(&String::from_utf8_lossy(rest)),
        _ => client::connections(&mut input),
    }
});
