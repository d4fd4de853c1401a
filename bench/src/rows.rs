//! What is measured, for whom, and what Syncline is to reach: the rows of the table.

use crate::server::Profile;
use crate::system::System::{self, Etcd, Nats, NatsCore, Redis, RedisPubSub, Syncline, SynclineBase, SynclineTls};
use crate::target::Workload;
use syncline_load::stats::Better::{self, Less, More};
use syncline_load::table::Unit;

/// What is done by several in turns.
pub(crate) struct Run {
    /// Its name on the command line and in files.
    pub(crate) id: &'static str,
    pub(crate) profile: Profile,
    pub(crate) work: Workload,
    pub(crate) systems: &'static [System],
}

/// A figure of a run that stands in the table.
pub(crate) struct Row {
    /// Which run.
    pub(crate) run: &'static str,
    /// Which of its figures.
    pub(crate) figure: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// What Syncline is to reach, in which way of using it.
    pub(crate) goals: &'static [(System, Goal)],
}

/// What Syncline is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// So many times the best of Redis in the same rounds.
    Redis(f64),
    /// So many times Syncline without TLS in the same rounds.
    Plain(f64),
    /// A figure.
    Figure(f64),
}

const ALL_SERVERS: &[System] = &[Syncline, Redis, Nats, Etcd];
const FANOUT_SYSTEMS: &[System] = &[Syncline, SynclineBase, Redis, RedisPubSub, Nats, NatsCore, Etcd];

const fn get(id: &'static str, connections: usize, depth: u16) -> Run {
    Run { id, profile: Profile::Durable, work: Workload::Get { connections, depth }, systems: ALL_SERVERS }
}

const fn put(id: &'static str, writers: usize, systems: &'static [System]) -> Run {
    Run { id, profile: Profile::Durable, work: Workload::Put { writers }, systems }
}

const fn fanout(id: &'static str, watchers: usize, rate: Option<u32>, systems: &'static [System]) -> Run {
    Run { id, profile: Profile::Durable, work: Workload::Fanout { watchers, depth: 64, rate }, systems }
}

/// Where nobody makes anything durable: a message that Redis only publishes is not even stored.
const fn fanout_memory(id: &'static str, watchers: usize) -> Run {
    let work = Workload::Fanout { watchers, depth: 64, rate: None };
    Run { id, profile: Profile::Memory, work, systems: &[Syncline, SynclineBase, Redis, RedisPubSub] }
}

const fn idle(id: &'static str, watching: bool) -> Run {
    let work = Workload::Idle { connections: 2000, watching };
    Run { id, profile: Profile::Fresh, work, systems: &[Syncline, SynclineTls, Redis, Nats, Etcd] }
}

/// All that is measured.
pub(crate) const RUNS: &[Run] = &[
    get("get-1x1", 1, 1),
    get("get-50x1", 50, 1),
    get("get-1x64", 1, 64),
    get("get-1x512", 1, 512),
    put("put-1", 1, ALL_SERVERS),
    put("put-64", 64, &[Syncline, SynclineBase, Redis, Nats, Etcd]),
    put("put-256", 256, ALL_SERVERS),
    Run {
        id: "put-64-memory",
        profile: Profile::Memory,
        work: Workload::Put { writers: 64 },
        systems: &[Syncline, Redis],
    },
    fanout("paced-100", 100, Some(100), FANOUT_SYSTEMS),
    fanout("paced-1000", 1000, Some(100), FANOUT_SYSTEMS),
    fanout("unpaced-10", 10, None, FANOUT_SYSTEMS),
    fanout("unpaced-100", 100, None, FANOUT_SYSTEMS),
    fanout("unpaced-1000", 1000, None, FANOUT_SYSTEMS),
    fanout_memory("unpaced-10-memory", 10),
    fanout_memory("unpaced-100-memory", 100),
    fanout_memory("unpaced-1000-memory", 1000),
    idle("idle", false),
    idle("idle-watching", true),
    Run {
        id: "tls-get-50x1",
        profile: Profile::Durable,
        work: Workload::Get { connections: 50, depth: 1 },
        systems: &[Syncline, SynclineTls],
    },
    Run {
        id: "tls-put-64",
        profile: Profile::Durable,
        work: Workload::Put { writers: 64 },
        systems: &[Syncline, SynclineTls],
    },
    Run {
        id: "stall",
        profile: Profile::Stalled,
        work: Workload::Stall { puts: 200_000, depth: 64 },
        systems: &[Syncline, Redis, Nats, NatsCore, Etcd],
    },
    Run { id: "start", profile: Profile::Filled, work: Workload::Start, systems: ALL_SERVERS },
    Run {
        id: "reconnect",
        profile: Profile::Filled,
        work: Workload::Reconnect { watchers: 10_000, behind: 1000 },
        systems: &[Syncline],
    },
];

const fn more(run: &'static str, title: &'static str, goals: &'static [(System, Goal)]) -> Row {
    Row { run, figure: "per_second", title, unit: Unit::PerSecond, better: More, goals }
}

const fn less(
    run: &'static str,
    figure: &'static str,
    title: &'static str,
    unit: Unit,
    goals: &'static [(System, Goal)],
) -> Row {
    Row { run, figure, title, unit, better: Less, goals }
}

/// The table.
pub(crate) const ROWS: &[Row] = &[
    more("get-1x1", "GET, 1 connection, 1 in flight", &[(Syncline, Goal::Redis(1.1))]),
    more("get-50x1", "GET, 50 connections, 1 in flight on each", &[(Syncline, Goal::Redis(1.2))]),
    more("get-1x64", "GET, 1 connection, 64 in flight", &[(Syncline, Goal::Redis(1.5))]),
    more("get-1x512", "GET, 1 connection, 512 in flight", &[(Syncline, Goal::Redis(1.5))]),
    more("put-1", "durable compare-and-swap, 1 writer", &[(Syncline, Goal::Redis(1.2))]),
    more("put-64", "durable compare-and-swap, 64 writers", &[(Syncline, Goal::Redis(1.5))]),
    more("put-256", "durable compare-and-swap, 256 writers", &[(Syncline, Goal::Redis(2.0))]),
    more("put-64-memory", "compare-and-swap, not durable, 64 writers", &[(Syncline, Goal::Redis(1.2))]),
    less("paced-100", "p50_us", "fan-out at 100 puts/s, 100 watchers, p50", Unit::Micros, BELOW_REDIS),
    less("paced-100", "p99_us", "fan-out at 100 puts/s, 100 watchers, p99", Unit::Micros, BELOW_REDIS),
    less("paced-1000", "p50_us", "fan-out at 100 puts/s, 1,000 watchers, p50", Unit::Micros, BELOW_REDIS),
    less("paced-1000", "p99_us", "fan-out at 100 puts/s, 1,000 watchers, p99", Unit::Micros, BELOW_REDIS),
    more(
        "unpaced-10",
        "fan-out, 64 puts in flight, 10 watchers, deliveries",
        &[(Syncline, Goal::Redis(1.2)), (SynclineBase, Goal::Redis(1.2))],
    ),
    more(
        "unpaced-100",
        "fan-out, 64 puts in flight, 100 watchers, deliveries",
        &[(Syncline, Goal::Redis(1.5)), (SynclineBase, Goal::Redis(1.5))],
    ),
    more(
        "unpaced-1000",
        "fan-out, 64 puts in flight, 1,000 watchers, deliveries",
        &[(Syncline, Goal::Redis(2.0)), (SynclineBase, Goal::Redis(2.0))],
    ),
    more("unpaced-10-memory", "fan-out, not durable, 64 puts in flight, 10 watchers, deliveries", &[]),
    more("unpaced-100-memory", "fan-out, not durable, 64 puts in flight, 100 watchers, deliveries", &[]),
    more("unpaced-1000-memory", "fan-out, not durable, 64 puts in flight, 1,000 watchers, deliveries", &[]),
    less("idle", "bytes_each", "memory per idle connection", Unit::Bytes, IDLE),
    less("idle-watching", "bytes_each", "memory per idle connection that watches", Unit::Bytes, IDLE),
    less("start", "bytes_each", "memory per key, 1 million keys", Unit::Bytes, &[(Syncline, Goal::Figure(200.0))]),
    less("start", "bytes_each_written", "memory per key, 1 million just written", Unit::Bytes, &[]),
    less(
        "start",
        "start_s",
        "process start to first GET, 1 million keys",
        Unit::Seconds,
        &[(Syncline, Goal::Figure(0.6))],
    ),
    less("stall", "p99_us", "a watcher stalls: the writer's p99", Unit::Micros, &[]),
    less(
        "stall",
        "p99_ratio",
        "a watcher stalls: the writer's p99, to that before",
        Unit::Times,
        &[(Syncline, Goal::Figure(UNCHANGED))],
    ),
    less(
        "stall",
        "grown_bytes",
        "a watcher stalls: growth of the server",
        Unit::Bytes,
        &[(Syncline, Goal::Figure(RECENT_LOG))],
    ),
    less(
        "stall",
        "current_s",
        "a watcher stalls: from waking to the latest of every key",
        Unit::Seconds,
        &[(Syncline, Goal::Figure(1.0))],
    ),
    less(
        "reconnect",
        "current_s",
        "10,000 watchers come back, 1,000 changes behind: all are current",
        Unit::Seconds,
        &[(Syncline, Goal::Figure(5.0))],
    ),
    less(
        "reconnect",
        "bystander_p99_us",
        "10,000 watchers come back: p99 of a bystander's GET",
        Unit::Micros,
        &[(Syncline, Goal::Figure(50_000.0))],
    ),
    less("reconnect", "grown_bytes_each", "10,000 watchers come back: growth of the server for each", Unit::Bytes, &[]),
    more("tls-get-50x1", "GET, 50 connections, plain and TLS", &[(SynclineTls, Goal::Plain(0.6))]),
    more("tls-put-64", "durable compare-and-swap, 64 writers, plain and TLS", &[(SynclineTls, Goal::Plain(0.6))]),
];

const BELOW_REDIS: &[(System, Goal)] = &[(Syncline, Goal::Redis(0.8)), (SynclineBase, Goal::Redis(0.8))];
const IDLE: &[(System, Goal)] = &[(Syncline, Goal::Figure(6000.0)), (SynclineTls, Goal::Figure(24_000.0))];

/// What counts as the same p99: runs differ by as much.
const UNCHANGED: f64 = 1.1;

/// The bound of the recent log, by default.
const RECENT_LOG: f64 = 67_108_864.0;

/// What somebody does not do, and why.
pub(crate) const NOT_MEASURED: &[&str] = &[
    "Compare-and-swap that is not durable, of NATS and etcd: a bucket in memory is another engine, and etcd always syncs.",
    "A stalled watcher of Redis: its subscribers can't catch up; what they were not sent is lost, which is *never*.",
    "Watchers that come back, of the others: Redis and core NATS remember nothing for them. etcd and NATS KV could do it; \
     this load generator does not ask them yet.",
    "TLS of the others: the target is a ratio to plain Syncline.",
];
