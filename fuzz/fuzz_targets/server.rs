//! The server's side of a connection, with any limits. The client sends any bytes, in any pieces, and reads the output in
//! any amounts. The store is either honest, and responds at any time, or returns anything that its types allow.
//!
//! Checks of everything that the connection sends:
//! - It consists of frames that a server sends, in the client's dialect, and every tag in it is 0 or was sent by the client.
//! - An unauthenticated client receives only ERROR and AUTH.
//! - Each request gets one response, of a kind that fits it. The responses have the order of the requests, except those to
//!   WATCH and LIST.
//! - The unsent output stays within its bounds, and every run ends.
//!
//! Further checks if the store is honest:
//! - Every key, value and version that is sent was written.
//! - Base connections receive all changes in the order of the commits.
//! - At each MARK, a replica holds what the store held at that revision.
//! - Every request gets its response, and then the connection is finished.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    syncline_fuzz::server::run(&mut Unstructured::new(input));
});
