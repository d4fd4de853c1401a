//! What is measured, for whom, and what Syncline is to reach: the rows of the table.

use crate::contender::Contender::{
    self, Etcd, Nats, NatsCore, Redis, RedisPubSub, Syncline, SynclineBase, SynclineTls,
};
use crate::run::Workload;
use crate::server::Setting;
use syncline_load::stats::Better::{self, Less, More};

/// What is done by several in turns.
pub(crate) struct Run {
    /// Its name on the command line and in files.
    pub(crate) id: &'static str,
    pub(crate) setting: Setting,
    pub(crate) work: Workload,
    pub(crate) contenders: &'static [Contender],
}

/// A figure of a run that stands in the table.
pub(crate) struct Row {
    /// Which run.
    pub(crate) run: &'static str,
    /// Which of its figures.
    pub(crate) figure: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) target: Goal,
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
    /// Nothing was asked for.
    None,
}

const EVERYBODY: &[Contender] = &[Syncline, Redis, Nats, Etcd];
const FOLLOWED: &[Contender] = &[Syncline, SynclineBase, Redis, RedisPubSub, Nats, NatsCore, Etcd];

const fn get(id: &'static str, connections: usize, depth: u16) -> Run {
    Run { id, setting: Setting::Durable, work: Workload::Get { connections, depth }, contenders: EVERYBODY }
}

const fn put(id: &'static str, writers: usize, contenders: &'static [Contender]) -> Run {
    Run { id, setting: Setting::Durable, work: Workload::Put { writers }, contenders }
}

const fn fanout(id: &'static str, watchers: usize, rate: Option<u32>, contenders: &'static [Contender]) -> Run {
    Run { id, setting: Setting::Durable, work: Workload::Fanout { watchers, depth: 64, rate }, contenders }
}

const fn idle(id: &'static str, watching: bool) -> Run {
    let work = Workload::Idle { connections: 1000, watching };
    Run { id, setting: Setting::Durable, work, contenders: &[Syncline, SynclineTls, Redis, Nats, Etcd] }
}

/// All that is measured.
pub(crate) const RUNS: &[Run] = &[
    get("get-1x1", 1, 1),
    get("get-50x1", 50, 1),
    get("get-1x64", 1, 64),
    get("get-1x512", 1, 512),
    put("put-1", 1, EVERYBODY),
    put("put-64", 64, &[Syncline, SynclineBase, Redis, Nats, Etcd]),
    put("put-256", 256, EVERYBODY),
    Run {
        id: "put-64-memory",
        setting: Setting::Memory,
        work: Workload::Put { writers: 64 },
        contenders: &[Syncline, Redis],
    },
    fanout("paced-100", 100, Some(100), FOLLOWED),
    fanout("paced-1000", 1000, Some(100), FOLLOWED),
    fanout("unpaced-10", 10, None, FOLLOWED),
    fanout("unpaced-100", 100, None, FOLLOWED),
    fanout("unpaced-1000", 1000, None, FOLLOWED),
    idle("idle", false),
    idle("idle-watching", true),
    Run {
        id: "tls-get-50x1",
        setting: Setting::Durable,
        work: Workload::Get { connections: 50, depth: 1 },
        contenders: &[Syncline, SynclineTls],
    },
    Run {
        id: "tls-put-64",
        setting: Setting::Durable,
        work: Workload::Put { writers: 64 },
        contenders: &[Syncline, SynclineTls],
    },
    Run {
        id: "stall",
        setting: Setting::Stalled,
        work: Workload::Stall { puts: 200_000, depth: 64 },
        contenders: &[Syncline, Redis, Nats, NatsCore, Etcd],
    },
    Run { id: "start", setting: Setting::Filled, work: Workload::Start, contenders: EVERYBODY },
    Run {
        id: "reconnect",
        setting: Setting::Filled,
        work: Workload::Reconnect { watchers: 10_000, behind: 1000 },
        contenders: &[Syncline],
    },
];

const fn row(
    run: &'static str,
    figure: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
    target: Goal,
) -> Row {
    Row { run, figure, title, unit, better, target }
}

/// The table.
pub(crate) const ROWS: &[Row] = &[
    row("get-1x1", "per_second", "GET, 1 connection, 1 in flight", "/s", More, Goal::Redis(1.1)),
    row("get-50x1", "per_second", "GET, 50 connections, 1 in flight on each", "/s", More, Goal::Redis(1.2)),
    row("get-1x64", "per_second", "GET, 1 connection, 64 in flight", "/s", More, Goal::Redis(1.5)),
    row("get-1x512", "per_second", "GET, 1 connection, 512 in flight", "/s", More, Goal::Redis(1.5)),
    row("put-1", "per_second", "durable compare-and-swap, 1 writer", "/s", More, Goal::Redis(1.2)),
    row("put-64", "per_second", "durable compare-and-swap, 64 writers", "/s", More, Goal::Redis(1.5)),
    row("put-256", "per_second", "durable compare-and-swap, 256 writers", "/s", More, Goal::Redis(2.0)),
    row("put-64-memory", "per_second", "compare-and-swap, not durable, 64 writers", "/s", More, Goal::Redis(1.2)),
    row("paced-100", "p50_us", "fan-out at 100 puts/s to 100 watchers, p50", "µs", Less, Goal::Redis(0.8)),
    row("paced-100", "p99_us", "the same, p99", "µs", Less, Goal::Redis(0.8)),
    row("paced-1000", "p50_us", "fan-out at 100 puts/s to 1,000 watchers, p50", "µs", Less, Goal::Redis(0.8)),
    row("paced-1000", "p99_us", "the same, p99", "µs", Less, Goal::Redis(0.8)),
    row(
        "unpaced-10",
        "per_second",
        "fan-out, 64 puts in flight, 10 watchers, deliveries",
        "/s",
        More,
        Goal::Redis(1.2),
    ),
    row("unpaced-100", "per_second", "the same, 100 watchers", "/s", More, Goal::Redis(1.5)),
    row("unpaced-1000", "per_second", "the same, 1,000 watchers", "/s", More, Goal::Redis(2.0)),
    row("idle", "bytes_each", "memory per idle connection", "bytes", Less, Goal::Figure(6000.0)),
    row("idle-watching", "bytes_each", "memory per idle connection that watches", "bytes", Less, Goal::Figure(6000.0)),
    row("start", "bytes_each", "memory per key, 1 million keys, after a start", "bytes", Less, Goal::Figure(200.0)),
    row("start", "bytes_each_written", "the same, just written", "bytes", Less, Goal::None),
    row("start", "start_s", "process start to first GET, 1 million keys", "s", Less, Goal::Figure(0.6)),
    row("stall", "p99_ratio", "a watcher stalls: the writer's p99, to that without it", "×", Less, Goal::Figure(1.1)),
    row("stall", "grown_bytes", "the same: growth of the server", "bytes", Less, Goal::Figure(67_108_864.0)),
    row("stall", "current_s", "the same: from its waking until it holds the latest", "s", Less, Goal::Figure(1.0)),
    row(
        "reconnect",
        "current_s",
        "watchers come back, 1,000 changes behind: until all are current",
        "s",
        Less,
        Goal::Figure(5.0),
    ),
    row("reconnect", "bystander_p99_us", "the same: a bystander's GET, p99", "µs", Less, Goal::Figure(50_000.0)),
    row("reconnect", "grown_bytes_each", "the same: growth of the server, per watcher", "bytes", Less, Goal::None),
    row("tls-get-50x1", "per_second", "GET, 50 connections, over TLS", "/s", More, Goal::Plain(0.6)),
    row("tls-put-64", "per_second", "durable compare-and-swap, 64 writers, over TLS", "/s", More, Goal::Plain(0.6)),
];
