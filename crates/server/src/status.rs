//! How the server is: what STATUS is answered with.

use crate::broadcaster::Broadcaster;
use crate::connection::Service;
use serde_json::json;
use syncline_store::{Stats, Store};

/// A JSON object, for people and tools. Fields may be added.
pub(crate) fn tell<S: Store>(service: &Service<S>, broadcaster: &Broadcaster) -> String {
    let Stats { keys, tombstones, bytes, durability, data } = service.store.stats();
    let (connections, slowest_cursor) = broadcaster.connections();
    let log = broadcaster.log.read();
    let (floor, head, log_bytes) = (log.floor().get(), log.head().get(), log.bytes());
    drop(log);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "store": service.store.id().to_string(),
        "head": head,
        "durability": durability,
        "data": data.map(|path| path.display().to_string()),
        "keys": keys,
        "tombstones": tombstones,
        "bytes": bytes,
        "connections": connections,
        "strangers": service.authenticator.unauthenticated.count(),
        "verifications": service.authenticator.verifications(),
        "slowest_cursor": slowest_cursor.map(syncline_wire::Revision::get),
        "recent_log": { "since": floor, "bytes": log_bytes },
        "uptime_seconds": service.started.elapsed().as_secs(),
    })
    .to_string()
}
