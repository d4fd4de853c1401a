//! How attacks are run.

use super::context::Scale;
use std::path::PathBuf;
use std::time::Duration;

/// The number of open files that the attacks need on either side.
pub const FILES: u64 = 12_000;

/// How attacks are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's binary.
    pub server: PathBuf,
    /// How much each attack does.
    pub scale: Scale,
    /// How often the bystander is measured, both alone and beside each attack.
    pub rounds: usize,
    /// How long each measurement takes.
    pub time: Duration,
    /// What protects the server.
    pub mode: SecurityMode,
}

/// What protects a server. Each mode includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityMode {
    /// Nothing: every client has all rights.
    Plain,
    /// TLS.
    Tls,
    /// Users with passwords. Attackers that act as clients of the server authenticate as one.
    Users,
}
