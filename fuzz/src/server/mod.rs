//! A server's connection whose driver is the input, and what is made of all that it sends.
//!
//! What comes from the client is any bytes: requests that make sense, and what makes none. What the store says is either the
//! truth (there is a store then), or anything that its type allows; the driver keeps to the calling order of
//! [`ServerConnection`](syncline_core::server::ServerConnection), and to nothing else.

mod checks;
mod history;
mod requests;
mod world;

pub use world::run;
