//! The kinds of frames, one file for each: byte diagram, type, encoding, decoding, tests.

pub(crate) mod auth;
pub(crate) mod delete;
pub(crate) mod error;
pub(crate) mod get;
pub(crate) mod hello;
pub(crate) mod list;
pub(crate) mod mark;
pub(crate) mod put;
pub(crate) mod put_large;
pub(crate) mod server_hello;
pub(crate) mod status;
pub(crate) mod txn;
pub(crate) mod watch;
