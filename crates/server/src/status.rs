//! The response to STATUS.

use crate::access::Authenticator;
use crate::broadcaster::Broadcaster;
use serde_json::json;
use syncline_store::{Stats, Store};
use tokio::time::Instant;

/// Returns the state of the server as a JSON object. Later versions may add fields.
pub(crate) fn report(
    store: &impl Store,
    authenticator: &Authenticator,
    broadcaster: &Broadcaster,
    started: Instant,
) -> String {
    let Stats { keys, tombstones, bytes, durability, data } = store.stats();
    let (connections, slowest_cursor) = broadcaster.connections();
    let log = broadcaster.log.read();
    let (floor, head, log_bytes) = (log.floor().get(), log.head().get(), log.bytes());
    drop(log);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "store": store.id().to_string(),
        "head": head,
        "durability": durability,
        "data": data.map(|path| path.display().to_string()),
        "keys": keys,
        "tombstones": tombstones,
        "bytes": bytes,
        "connections": connections,
        "strangers": authenticator.unauthenticated.count(),
        "verifications": authenticator.verifications(),
        "slowest_cursor": slowest_cursor.map(syncline_wire::Revision::get),
        "recent_log": { "since": floor, "bytes": log_bytes },
        "uptime_seconds": started.elapsed().as_secs(),
    })
    .to_string()
}
