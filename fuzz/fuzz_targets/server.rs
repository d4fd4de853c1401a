//! The server's side of a connection: any bytes, in any pieces, from the client; from the store the truth, at any time, or
//! anything that its types allow; the output taken in any amounts; any limits.
//!
//! Checked of all that is sent: it is frames that a server sends, in the dialect of the client; no tag that was not sent; to
//! one who is not authorized nothing but ERROR and AUTH; each request is answered once, in the order of the requests but
//! for WATCH and LIST, by what is an answer to it; no more is unsent than the bounds allow; everything ends.
//! Where the store says the truth, also: nothing is told that was never written; base connections are told all in the order
//! of the commits; at each MARK a replica holds what the store held; every request is answered, and then the connection is
//! finished.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    syncline_fuzz::server::run(&mut Unstructured::new(input));
});
