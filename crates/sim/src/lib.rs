//! The promises of Syncline, a checker for each, and what they are run over: a simulation of servers and clients under
//! virtual time, and the real server under torture.
//!
//! ```text
//!   simulator ──┐                            ┌──▶ Ordered
//!               ├──▶ History ──▶ Truth ──────┼──▶ Marked
//!   torture  ───┘    what was seen           └──▶ Linearizable …
//! ```
//!
//! - [`history`]: what was seen of a run. Whoever makes one knows nothing of the checkers.
//! - [`show`]: a history for people, around what was found.
//! - [`check`]: a function for each [`Promise`](check::Promise), which knows nothing of where a history comes from.

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

/// The name that the torture and the hostile clients still use for a [`RunError`].
pub type Trouble = RunError;

/// Prints a line. Whoever reads no further has seen enough.
pub fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
