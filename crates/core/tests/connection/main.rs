//! The server's side of a connection, driven by hand: what it answers and broadcasts, when, and what it asks for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod answers;
mod broadcasts;
mod catch_up;
mod ending;
mod extension;
mod limits;
mod marks;
mod rights;
mod scans;
mod support;
mod transactions;
