//! Hostile clients: attacks on the real server over real sockets, with a well-behaved client beside each attack.
//!
//! ```text
//!   attackers ──▶ syncline serve ◀── bystander: repeats a durable write and a read, and checks both
//!                      │
//!                      ▼ memory, open files, log
//!                   Report ──▶ table
//! ```
//!
//! Each attack runs on a server of its own. It names the bound that limits it and the memory that follows from the
//! bound. A run produces a *finding* if the server grows beyond that memory, exits, or logs a panic. It also produces
//! one if the bystander gets no response, gets a wrong response, or is disconnected. Latencies are reported but not
//! judged.

mod attack;
mod attacks;
mod bystander;
mod connection;
mod context;
mod error;
mod options;
mod report;
mod round;
mod security;

pub use attack::Attack;
pub use attacks::ATTACKS;
pub use connection::Traffic;
pub use context::{Bound, Scale};
pub use error::AttackError;
pub use options::{FILES, Options, SecurityMode};
pub use report::{json, row, table};
pub use round::{Latencies, Report, run};
