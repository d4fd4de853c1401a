//! What a run is done on, and which work it does.

use crate::error::BenchError;
use crate::server::ServerInfo;
use crate::system::System;
use syncline_load::Keys;
use syncline_load::process::{Usage, usage};

/// The work of a run, on a running server whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Workload {
    /// Reads of random keys.
    Get { connections: usize, depth: u16 },
    /// Compare-and-swap.
    Put { writers: usize },
    /// One connection writes, and watchers receive each write.
    Fanout { watchers: usize, depth: u16, rate: Option<u32> },
    /// Idle connections.
    Idle { connections: usize, watching: bool },
    /// One connection writes beside a watcher that does not read.
    Stall { puts: usize, depth: u16 },
    /// All watchers reconnect at once while a bystander reads.
    Reconnect { watchers: usize, behind: usize },
    /// The memory of a million keys, and repeated starts of a server that stores them.
    Start,
}

impl Workload {
    /// Returns whether watchers receive what is written.
    pub(crate) fn has_watchers(self) -> bool {
        matches!(self, Self::Fanout { .. } | Self::Idle { watching: true, .. } | Self::Stall { .. })
    }
}

/// A server and its keys, used in the way of one system.
pub(crate) struct Target<'a> {
    pub(crate) system: System,
    pub(crate) info: &'a ServerInfo,
    pub(crate) keys: Keys,
}

impl<'a> Target<'a> {
    /// Makes a target. A system that only publishes stores nothing, so it gets versions of its own.
    pub(crate) fn new(system: System, info: &'a ServerInfo, keys: &Keys) -> Self {
        let keys = if system.storing() == system { keys.clone() } else { keys.elsewhere() };
        Self { system, info, keys }
    }

    /// Returns what the server's process has used so far, or zero if the process is not known.
    pub(crate) fn usage(&self) -> Result<Usage, BenchError> {
        self.info.pid.map_or(Ok(Usage::default()), |pid| Ok(usage(pid)?))
    }
}
