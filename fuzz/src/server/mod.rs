//! A server's connection that the fuzz input drives, and the checks of everything that it sends.
//!
//! The client sends any bytes: meaningful requests, and bytes without meaning. The store is either honest (it is a
//! [`MemoryStore`](syncline_store::MemoryStore)), or its responses are arbitrary values of their types. The driver keeps to
//! the calling order of [`ServerConnection`](syncline_core::server::ServerConnection), and to nothing else.

mod checks;
mod history;
mod requests;
mod world;

pub use world::run;
