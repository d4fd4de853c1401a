//! The settings of the disk engine.

use std::time::Duration;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: it is on disk.
    Fsync,
    /// A killed process: the system has it.
    Os,
}

impl Durability {
    /// What the option is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// What an operator may set of the disk engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How long a deleted key is remembered.
    pub tombstones: Duration,
    /// The bytes of a file of the log. A data directory keeps what it was made with.
    pub segment_size: u64,
}

impl Default for DiskOptions {
    /// Fsync, 7 days, 32 MiB.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            tombstones: Duration::from_secs(7 * 24 * 3600),
            segment_size: 32 * 1024 * 1024,
        }
    }
}
