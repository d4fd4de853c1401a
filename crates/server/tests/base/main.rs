//! The base protocol over real sockets, in raw bytes: responses, broadcasts, refusals, and hostile clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod broadcast;
mod framing;
mod hostile;
mod order;
mod protocol;
mod refusals;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
