//! Checkers for the promises of Syncline, and the two sources of histories that they check: a simulation of servers
//! and clients under virtual time, and the real server under torture.
//!
//! ```text
//!   simulator ──┐                            ┌──▶ Ordered
//!               ├──▶ History ──▶ Truth ──────┼──▶ Marked
//!   torture  ───┘                            └──▶ Linearizable …
//! ```
//!
//! - [`history`]: what was observed during a run. The code that records a history does not know the checkers.
//! - [`show`]: prints the part of a history around a violation.
//! - [`check`]: one function for each [`Promise`](check::Promise). A checker does not know where its history comes
//!   from.

pub mod check;
mod error;
mod frame;
pub mod history;
pub mod hostile;
mod process;
mod random;
pub mod seeds;
pub mod show;
mod summary;
pub mod torture;
pub mod world;

pub use error::RunError;
pub use random::Random;
pub use summary::Summary;

/// Prints a line, and ignores errors: the reader of a pipe may close it early.
pub fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
