//! The plan of a seed: sizes, rates, and the kinds of faults. Each seed uses only some of the faults, because one
//! fault may hide the bugs that another one reveals.

use super::agenda::{MILLISECOND, SECOND, Time};
use crate::Random;
use std::time::Duration;
use syncline_core::server::Limits;
use syncline_wire::Put;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// All fronts and the engine stop at once. Writes that were not synced may be lost.
    Crash,
    /// One of several fronts stops at once; the engine continues.
    CrashFront,
    /// A front shuts down gracefully.
    Shutdown,
    /// A connection is reset.
    Cut,
    /// One or both directions of a connection die silently.
    HalfOpen,
    /// A client can reach no front for a while.
    Partition,
    /// A client reads nothing for a while.
    Stall,
    /// Bytes to and from a client take long for a while.
    Delay,
    /// A front does nothing for a while.
    Pause,
    /// The disk is full for a while.
    DiskFull,
    /// A sync fails. The next start decides what remains of its batch.
    FailedSync,
    /// Syncs take long for a while.
    SlowDisk,
    /// Reads of the store fail for a while.
    FailedReads,
    /// A backup is made.
    Backup,
    /// The server is stopped, and starts from an earlier backup, as another store.
    Restore,
    /// The server's clock jumps.
    Clock,
}

impl Fault {
    pub(super) const ALL: [Self; 16] = [
        Self::Crash,
        Self::CrashFront,
        Self::Shutdown,
        Self::Cut,
        Self::HalfOpen,
        Self::Partition,
        Self::Stall,
        Self::Delay,
        Self::Pause,
        Self::DiskFull,
        Self::FailedSync,
        Self::SlowDisk,
        Self::FailedReads,
        Self::Backup,
        Self::Restore,
        Self::Clock,
    ];

    /// Returns the name under which the fault is counted.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crashes",
            Self::CrashFront => "crashes of one front",
            Self::Shutdown => "shutdowns",
            Self::Cut => "connections cut",
            Self::HalfOpen => "connections half open",
            Self::Partition => "partitions",
            Self::Stall => "stalled readers",
            Self::Delay => "slow networks",
            Self::Pause => "paused fronts",
            Self::DiskFull => "full disks",
            Self::FailedSync => "failed syncs",
            Self::SlowDisk => "slow disks",
            Self::FailedReads => "failed reads",
            Self::Backup => "backups",
            Self::Restore => "restores",
            Self::Clock => "clock steps",
        }
    }
}

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) fronts: usize,
    /// The number of clients with replicas, of base clients, and of clients with a cursor.
    pub(super) replicas: usize,
    pub(super) bases: usize,
    pub(super) cursors: usize,
    pub(super) keys: usize,
    /// The minimum and maximum pause between two requests of a client.
    pub(super) think_time: (Time, Time),
    /// The percentage of values that are large.
    pub(super) large: u64,
    pub(super) largest: usize,
    pub(super) limits: Limits,
    pub(super) recent_log: usize,
    pub(super) max_queue: usize,
    pub(super) heartbeat: Duration,
    pub(super) tombstones: Duration,
    /// The percentage of writes that are deletions.
    pub(super) deletions: u64,
    /// The maximum latency of a byte, without faults.
    pub(super) latency: Time,
    pub(super) window: usize,
    /// The maximum duration of a sync, without faults.
    pub(super) sync: Time,
    /// The maximum time until a task of the server runs, without faults.
    pub(super) turn: Time,
    /// The maximum duration of a read from the store. `None`: reads finish at once.
    pub(super) read: Option<Time>,
    /// Whether a slow read returns the state at its end, instead of the state at its start.
    pub(super) reads_late: bool,
    /// The maximum size of a page from the engine in bytes. `None`: as many as requested.
    pub(super) page: Option<usize>,
    /// The minimum and maximum pause between two faults.
    pub(super) faults_every: (Time, Time),
    /// The kinds of faults that occur, and their weights.
    pub(super) faults: Vec<(Fault, u64)>,
}

impl Plan {
    /// Draws the plan of a seed.
    pub(super) fn new(random: &mut Random) -> Self {
        let busy = random.chance(70);
        let think_time = if busy {
            (random.spread(100, 5 * MILLISECOND), random.spread(10 * MILLISECOND, 2 * SECOND))
        } else {
            (random.spread(MILLISECOND, SECOND), random.spread(10 * SECOND, 600 * SECOND))
        };
        let heartbeat = random.spread(100 * MILLISECOND, 4 * SECOND) * if busy { 1 } else { 15 };
        let large = if random.chance(40) { random.between(1, 30) } else { 0 };
        let mut limits = Limits::default();
        if random.chance(30) {
            limits.max_requests = usize_of(random.spread(1, 16));
        }
        if random.chance(20) {
            limits.max_unsent = usize_of(random.spread(64, 100_000));
        }
        let largest = if random.chance(20) {
            limits.max_entry = 300_000;
            250_000
        } else {
            60_000
        };
        let mut faults = Vec::new();
        for fault in Fault::ALL {
            if random.chance(60) {
                faults.push((fault, random.spread(1, 16)));
            }
        }
        let fault_pause = random.spread(200 * MILLISECOND, 60 * SECOND) * if busy { 1 } else { 30 };
        let mut plan = Self {
            fronts: if random.chance(25) { 2 } else { 1 },
            replicas: usize_of(random.between(1, 5)),
            // Base connections do not receive values that are too large for a PUT.
            bases: if largest > Put::MAX_ENTRY { 0 } else { usize_of(random.between(0, 3)) },
            cursors: usize_of(random.between(0, 2)),
            keys: usize_of(random.between(1, 24)),
            think_time,
            large,
            largest,
            limits,
            recent_log: usize_of(if random.chance(60) { random.below(2000) } else { random.spread(2000, 10_000_000) }),
            max_queue: usize_of(if random.chance(30) { random.spread(1, 4000) } else { 1_000_000 }),
            heartbeat: Duration::from_micros(heartbeat),
            tombstones: Duration::from_micros(if random.chance(60) {
                random.spread(10 * MILLISECOND, 100 * SECOND)
            } else {
                7 * 24 * 3600 * SECOND
            }),
            deletions: random.between(0, 50),
            latency: random.spread(20, 50 * MILLISECOND),
            window: usize_of(if random.chance(40) { random.spread(100, 16_000) } else { 256 * 1024 }),
            sync: random.spread(50, 30 * MILLISECOND),
            turn: random.spread(1, 5 * MILLISECOND),
            read: random.chance(30).then(|| random.spread(10, 50 * MILLISECOND)),
            reads_late: random.chance(50),
            page: random.chance(50).then(|| usize_of(random.spread(1, 1000))),
            faults_every: (fault_pause / 4, fault_pause * 4),
            faults,
        };
        if plan.large > 0 {
            // A large value arrives within two seconds. Otherwise the run might not settle in time.
            let least = plan.largest as u64 * plan.latency / (2 * SECOND);
            plan.window = plan.window.max(usize_of(least));
        }
        plan
    }
}

/// Converts a number that was drawn within the bounds of a size.
pub(super) fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
