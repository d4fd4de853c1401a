//! The response to STATUS.

use crate::broadcaster::{Broadcaster, Connections};
use crate::connection::Service;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use syncline_core::server::StatusScope;
use syncline_store::{Stats, Store};

/// The reason that a client without the rights of an admin is sent. The engine's reason may name files.
const HIDDEN_REASON: &str = "the store refuses writes; the log of the server says why, and STATUS to an admin";

/// Returns the state of the server as a JSON object. Later versions may add fields.
pub(crate) fn report(scope: StatusScope, service: &Service<impl Store>, broadcaster: &Broadcaster) -> String {
    match scope {
        StatusScope::Health => health(&service.store),
        StatusScope::Everything => everything(service, broadcaster),
    }
    .to_string()
}

/// Returns whether clients may be sent to this server: nothing about keys, users or files.
fn health(store: &impl Store) -> Value {
    let accepts_writes = store.accepts_writes().is_ok();
    json!({
        "accepts_writes": accepts_writes,
        "reason": (!accepts_writes).then_some(HIDDEN_REASON),
    })
}

fn everything(service: &Service<impl Store>, broadcaster: &Broadcaster) -> Value {
    let Service { store, authenticator, .. } = service;
    let Stats { keys, tombstones, bytes, durability, data } = store.stats();
    let refusal = store.accepts_writes().err();
    let Connections { total, base, slowest_cursor } = broadcaster.connections();
    let log = broadcaster.log.read();
    let (floor, head, log_bytes) = (log.floor().get(), log.head().get(), log.bytes());
    drop(log);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "accepts_writes": refusal.is_none(),
        "reason": refusal.map(|unavailable| unavailable.0.to_string()),
        "store": store.id().to_string(),
        "head": head,
        "durability": durability,
        "data": data.map(|path| path.display().to_string()),
        "keys": keys,
        "tombstones": tombstones,
        "bytes": bytes,
        "connections": total,
        "base_connections": base,
        "strangers": authenticator.unauthenticated.count(),
        "verifications": authenticator.verifications(),
        "slowest_cursor": slowest_cursor.map(syncline_wire::Revision::get),
        "recent_log": { "since": floor, "bytes": log_bytes },
        "log_lines_dropped": service.log_lines_dropped.load(Ordering::Relaxed),
        "uptime_seconds": service.started.elapsed().as_secs(),
    })
}
