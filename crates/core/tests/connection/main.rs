//! The server's side of a connection, driven step by step: which effects it returns, and which frames it sends when.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod broadcasts;
mod catch_up;
mod ending;
mod extension;
mod limits;
mod marks;
mod responses;
mod rights;
mod scans;
mod support;
mod transactions;
