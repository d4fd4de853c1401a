//! Hostile clients: the real server is attacked over real sockets, in one way after the other, with a well-behaved client
//! beside it.
//!
//! ```text
//!   attackers ──▶ syncline serve ◀── bystander: a durable write and a read, one after the other, checked
//!                      │
//!                      ▼ memory, open files, what it logs
//!                   Report ──▶ table
//! ```
//!
//! Each attack names the bound that holds it, and the memory that follows. Where the server grows beyond that, dies, logs a
//! panic, or lets the bystander wait in vain, wrong or disconnected, something is found. Times are told, and not judged.

mod attacks;
mod bystander;
mod fault;
mod field;
mod guard;
mod link;
mod round;
mod table;

pub use attacks::{ATTACKS, Attack};
pub use fault::Fault;
pub use field::{Bound, Scale};
pub use round::{Latencies, Report};
pub use table::{json, row, table};

use std::path::PathBuf;
use std::time::Duration;

/// The open files that attacks need, on either side.
pub const FILES: u64 = 12_000;

/// How attacks are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary of the server.
    pub server: PathBuf,
    /// How much is done.
    pub scale: Scale,
    /// How often the bystander is looked at alone and beside each attack.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
    /// What stands before the server.
    pub mode: Mode,
}

/// What stands before a server; each of them and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing: everybody may do everything.
    Plain,
    /// TLS.
    Tls,
    /// Users, with passwords. Those who attack from within have one, too.
    Users,
}

/// Runs one attack on a server of its own.
///
/// # Errors
/// [`Fault`] where there can be no attack at all.
pub async fn run(options: &Options, attack: &Attack) -> Result<Report, Fault> {
    round::play(options, attack).await
}
