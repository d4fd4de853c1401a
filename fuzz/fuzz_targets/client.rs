//! The client's side: handshakes, connections with replicas, cursors; a server that sends answers, any frames, and any bytes,
//! in any pieces; requests at any time; connections that are lost.
//!
//! Checked: no server makes any of them panic, ask on and on, or show more than it was told; what is sent are frames that such
//! a server can know; each request is answered once, or handed on when the connection is lost; what is shown changes with a
//! MARK and at no other time, to what is current as of its revision; the steps of a cursor lead to where it stands.
//!
//! The first byte chooses which of them it is.
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
