//! What the comparison measures: the runs, the systems that take part in each, and the rows of the table.

use crate::server::Profile;
use crate::system::System::{self, Etcd, Nats, NatsCore, Redis, RedisPubSub, Syncline, SynclineBase, SynclineTls};
use crate::target::Workload;
use syncline_load::stats::Better::{self, Less, More};
use syncline_load::table::Unit;

/// Work that several systems do in alternating rounds.
pub(crate) struct Run {
    /// The name on the command line and in files.
    pub(crate) id: &'static str,
    pub(crate) profile: Profile,
    pub(crate) work: Workload,
    pub(crate) systems: &'static [System],
}

/// A figure of a run, as a row of the table.
pub(crate) struct Row {
    /// The id of the run.
    pub(crate) run: &'static str,
    /// The name of the figure.
    pub(crate) figure: &'static str,
    /// The label of the row.
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
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

/// Returns a fan-out run in which no system makes writes durable. Messages that Redis only publishes are not even
/// stored.
const fn fanout_memory(id: &'static str, watchers: usize) -> Run {
    let work = Workload::Fanout { watchers, depth: 64, rate: None };
    Run { id, profile: Profile::Memory, work, systems: &[Syncline, SynclineBase, Redis, RedisPubSub] }
}

const fn idle(id: &'static str, watching: bool) -> Run {
    let work = Workload::Idle { connections: 2000, watching };
    Run { id, profile: Profile::Fresh, work, systems: &[Syncline, SynclineTls, Redis, Nats, Etcd] }
}

/// All runs.
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

/// Returns a row of work per second.
const fn rate(run: &'static str, title: &'static str) -> Row {
    Row { run, figure: "per_second", title, unit: Unit::PerSecond, better: More }
}

/// Returns a row of times or memory.
const fn cost(run: &'static str, figure: &'static str, title: &'static str, unit: Unit) -> Row {
    Row { run, figure, title, unit, better: Less }
}

/// The rows of the table.
pub(crate) const ROWS: &[Row] = &[
    rate("get-1x1", "GET, 1 connection, 1 in flight"),
    rate("get-50x1", "GET, 50 connections, 1 in flight on each"),
    rate("get-1x64", "GET, 1 connection, 64 in flight"),
    rate("get-1x512", "GET, 1 connection, 512 in flight"),
    rate("put-1", "durable compare-and-swap, 1 writer"),
    rate("put-64", "durable compare-and-swap, 64 writers"),
    rate("put-256", "durable compare-and-swap, 256 writers"),
    rate("put-64-memory", "compare-and-swap, not durable, 64 writers"),
    cost("paced-100", "p50_us", "fan-out at 100 puts/s, 100 watchers, p50", Unit::Micros),
    cost("paced-100", "p99_us", "fan-out at 100 puts/s, 100 watchers, p99", Unit::Micros),
    cost("paced-1000", "p50_us", "fan-out at 100 puts/s, 1,000 watchers, p50", Unit::Micros),
    cost("paced-1000", "p99_us", "fan-out at 100 puts/s, 1,000 watchers, p99", Unit::Micros),
    rate("unpaced-10", "fan-out, 64 puts in flight, 10 watchers, deliveries"),
    rate("unpaced-100", "fan-out, 64 puts in flight, 100 watchers, deliveries"),
    rate("unpaced-1000", "fan-out, 64 puts in flight, 1,000 watchers, deliveries"),
    rate("unpaced-10-memory", "fan-out, not durable, 64 puts in flight, 10 watchers, deliveries"),
    rate("unpaced-100-memory", "fan-out, not durable, 64 puts in flight, 100 watchers, deliveries"),
    rate("unpaced-1000-memory", "fan-out, not durable, 64 puts in flight, 1,000 watchers, deliveries"),
    cost("idle", "bytes_each", "memory per idle connection", Unit::Bytes),
    cost("idle-watching", "bytes_each", "memory per idle connection that watches", Unit::Bytes),
    cost("start", "bytes_each", "memory per key, 1 million keys, after a restart", Unit::Bytes),
    cost("start", "bytes_each_written", "memory per key, 1 million keys, just written", Unit::Bytes),
    cost("start", "start_s", "process start to first GET, 1 million keys", Unit::Seconds),
    cost("stall", "p99_us", "a stalled watcher: p99 of the writer", Unit::Micros),
    cost("stall", "p99_ratio", "a stalled watcher: p99 of the writer, beside it to without it", Unit::Times),
    cost("stall", "grown_bytes", "a stalled watcher: growth of the server", Unit::Bytes),
    cost("stall", "current_s", "a stalled watcher: time from reading again to the latest of every key", Unit::Seconds),
    cost(
        "reconnect",
        "current_s",
        "10,000 watchers reconnect, 1,000 changes behind: time until all are current",
        Unit::Seconds,
    ),
    cost("reconnect", "bystander_p99_us", "10,000 watchers reconnect: p99 of a bystander's GET", Unit::Micros),
    cost("reconnect", "grown_bytes_each", "10,000 watchers reconnect: growth of the server per watcher", Unit::Bytes),
    rate("tls-get-50x1", "GET, 50 connections, without and with TLS"),
    rate("tls-put-64", "durable compare-and-swap, 64 writers, without and with TLS"),
];

/// What is not measured, and why.
pub(crate) const NOT_MEASURED: &[&str] = &[
    "Compare-and-swap that is not durable, for NATS and etcd: a NATS bucket in memory is another engine, and etcd always syncs.",
    "A stalled watcher of Redis: its subscribers cannot catch up. Messages that were not sent are lost, so the time is *never*.",
    "Reconnecting watchers, for the other servers: Redis and core NATS keep no history for them. etcd and NATS KV do, but this \
     load generator does not implement it yet.",
    "TLS for the other servers: those rows compare only Syncline without and with TLS.",
];
