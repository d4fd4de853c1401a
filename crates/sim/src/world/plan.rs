//! What one seed is about: sizes, rates, and which faults there are. Each seed tries some of them, so that what hides one
//! bug in one run does not hide it in all.

use super::agenda::{MILLISECOND, SECOND, Time};
use crate::Random;
use std::time::Duration;
use syncline_core::server::Limits;
use syncline_wire::Put;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Everything on the server's machine ends at once; what was not synced is lost, or not.
    Crash,
    /// One of several fronts ends at once; the engine goes on.
    CrashFront,
    /// A front shuts down in order.
    Shutdown,
    /// A connection is reset.
    Cut,
    /// One or both directions of a connection are dead, and nobody is told.
    HalfOpen,
    /// A client reaches nobody, for a while.
    Partition,
    /// A client reads nothing, for a while.
    Stall,
    /// All that a client sends and is sent takes long, for a while.
    Delay,
    /// A front does nothing, for a while.
    Pause,
    /// The disk is full, for a while.
    DiskFull,
    /// A sync fails: what became of the batch is not known before the next start.
    FailedSync,
    /// Syncs take long, for a while.
    SlowDisk,
    /// Reads of the store fail, for a while.
    FailedReads,
    /// The history as it is now is put aside.
    Backup,
    /// The server is stopped, and starts with an earlier backup: another store.
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

    /// How it is counted.
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

/// What one seed is about.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) fronts: usize,
    /// How many clients there are that keep replicas, that speak the base protocol, and that follow with a cursor.
    pub(super) replicas: usize,
    pub(super) bases: usize,
    pub(super) cursors: usize,
    pub(super) keys: usize,
    /// The pause between two thoughts of a client: at the least, and at the most.
    pub(super) thinks: (Time, Time),
    /// How many of a hundred values are large.
    pub(super) large: u64,
    pub(super) largest: usize,
    pub(super) limits: Limits,
    pub(super) recent_log: usize,
    pub(super) max_queue: usize,
    pub(super) heartbeat: Duration,
    pub(super) tombstones: Duration,
    /// How much of a hundred writes are deletions.
    pub(super) deletions: u64,
    /// The longest way of a byte, without faults.
    pub(super) latency: Time,
    pub(super) window: usize,
    /// The longest sync, without faults.
    pub(super) sync: Time,
    /// The longest time that a task of the server waits for its turn, without faults.
    pub(super) turn: Time,
    /// How long a read of the store takes at the most; none: it is ready at once.
    pub(super) read: Option<Time>,
    /// Whether a slow read tells what was there when it ended; else, when it began.
    pub(super) reads_late: bool,
    /// The most bytes of a page that the engine gives; none: as many as are asked for.
    pub(super) page: Option<usize>,
    /// The pause between two faults: at the least, and at the most.
    pub(super) faults_every: (Time, Time),
    /// Which faults there are, and how often, beside each other.
    pub(super) faults: Vec<(Fault, u64)>,
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn new(random: &mut Random) -> Self {
        let busy = random.chance(70);
        let thinks = if busy {
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
            // A base connection is told nothing of what no PUT can carry.
            bases: if largest > Put::MAX_ENTRY { 0 } else { usize_of(random.between(0, 3)) },
            cursors: usize_of(random.between(0, 2)),
            keys: usize_of(random.between(1, 24)),
            thinks,
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
            // A large value takes two seconds at the most, or else nothing would ever settle.
            let least = plan.largest as u64 * plan.latency / (2 * SECOND);
            plan.window = plan.window.max(usize_of(least));
        }
        plan
    }
}

/// A number that was drawn within the bounds of a size.
pub(super) fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
