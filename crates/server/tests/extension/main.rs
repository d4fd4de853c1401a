//! The extension over real sockets, in raw bytes, on every engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod deletions;
mod hello;
mod large;
mod list;
mod many;
mod marks;
mod mixed;
mod resume;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod transactions;
mod watch;
