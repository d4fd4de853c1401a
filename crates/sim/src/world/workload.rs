//! The workload: what clients ask next.

use super::client::{Client, Kind, KnownVersion, Purpose};
use super::context::Context;
use super::plan::usize_of;
use crate::history::{Invocation, Key, Stamp, State, Write};
use bytes::Bytes;
use syncline_core::Operation;
use syncline_core::client::Request;
use syncline_wire::Version;

/// Overlapping prefixes.
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/b/", "b", "c/"];

/// Returns the keys of a run, which lie under several of the prefixes.
pub(super) fn keys(count: usize) -> Vec<Key> {
    let stems = ["a", "a/1", "a/b/1", "b", "c/1", "a/b/2", "b/2", "c/2", "a/3", "a/b/3", "", "c"];
    let of = |place: usize| match stems.get(place % stems.len()) {
        Some(stem) if place < stems.len() => (*stem).into(),
        Some(stem) => format!("{stem}-{}", place / stems.len()).into(),
        None => "".into(),
    };
    (0..count).map(of).collect()
}

/// Returns one of the prefixes.
pub(super) fn prefix(context: &mut Context) -> Key {
    context.random.pick(&PREFIXES).copied().unwrap_or_default().into()
}

fn bytes(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// Makes a client send its next request.
pub(super) fn think(client: &mut Client, context: &mut Context) {
    let weights = match client.kind {
        Kind::Base => [6, 10, 0, 0, 0, 0],
        Kind::Replica => [4, 10, 5, 2, 4, 3],
        Kind::Cursor => return,
    };
    match context.random.weighted(&weights) {
        0 => get(client, key(context), context),
        1 => write(client, context),
        2 => transact(client, context),
        3 => list(client, context),
        4 => barrier(client, context),
        _ => watch(client, context),
    }
}

fn key(context: &mut Context) -> Key {
    let Context { random, keys, .. } = context;
    random.pick(keys).cloned().unwrap_or_else(|| "".into())
}

fn get(client: &mut Client, key: Key, context: &mut Context) {
    let request = Request::Get { key: bytes(&key) };
    let place = context.record.ask(client.id(), Invocation::Get { key });
    client.ask(request, Purpose::Operation(place), context);
}

/// Returns the version that a client writes next, or `None` if it does not know the key.
fn next_version(client: &Client, key: &Key, context: &mut Context) -> Option<u64> {
    let known = *client.known.get(key)?;
    let highest = context.written.highest.get(key).copied().unwrap_or(0);
    Some(match known {
        // Sometimes, a version that does not match.
        KnownVersion::At(version) => match context.random.below(20) {
            0 => version,
            1 => version + 2,
            _ => version + 1,
        },
        KnownVersion::Absent => highest + context.random.between(1, 3),
    })
}

/// Returns a client's next write of a key, or `None` if it does not know the key well enough.
fn propose_write(client: &Client, key: &Key, context: &mut Context) -> Option<(Write, Operation)> {
    let version = next_version(client, key, context)?;
    let highest = context.written.highest.entry(key.clone()).or_default();
    *highest = version.max(*highest);
    let of = bytes(key);
    if context.random.chance(context.plan.deletions) {
        let write = Write { key: key.clone(), state: State { version, value: None } };
        return Some((write, Operation::Delete { key: of, version: Version::new(version) }));
    }
    context.written.stamps += 1;
    let stamp = Stamp(context.written.stamps);
    let most = if context.random.chance(context.plan.large) { context.plan.largest as u64 } else { 60 };
    let value = stamp.value(usize_of(context.random.spread(Stamp::LENGTH as u64, most)));
    let write = Write { key: key.clone(), state: State { version, value: Some(stamp) } };
    Some((write, Operation::Put { key: of, value, version: Version::new(version) }))
}

fn write(client: &mut Client, context: &mut Context) {
    let key = key(context);
    let Some((write, operation)) = propose_write(client, &key, context) else { return get(client, key, context) };
    let request = match operation {
        // The base protocol has no deletion.
        Operation::Delete { .. } if client.kind == Kind::Base => return get(client, key, context),
        Operation::Put { value, .. } if client.kind == Kind::Base && key.len() + value.len() > 65_000 => return,
        Operation::Put { key, value, version } => Request::Put { key, value, version },
        Operation::Delete { key, version } => Request::Delete { key, version },
        Operation::Check { .. } => return,
    };
    let place = context.record.ask(client.id(), Invocation::Write(write));
    client.ask(request, Purpose::Operation(place), context);
}

fn transact(client: &mut Client, context: &mut Context) {
    let mut chosen: Vec<_> = (0..context.random.between(1, 4)).map(|_| key(context)).collect();
    chosen.sort();
    chosen.dedup();
    let (mut checks, mut writes, mut operations) = (Vec::new(), Vec::new(), Vec::new());
    for key in chosen {
        let of = bytes(&key);
        if context.random.chance(15)
            && let Some(known) = client.known.get(&key)
        {
            let version = match known {
                KnownVersion::At(version) => *version,
                KnownVersion::Absent => 0,
            };
            operations.push(Operation::Check { key: of, version: Version::new(version) });
            checks.push((key, version));
        } else if let Some((write, operation)) = propose_write(client, &key, context) {
            writes.push(write);
            operations.push(operation);
        } else {
            get(client, key, context);
        }
    }
    // A transaction of checks alone commits nothing that a checker could observe.
    if !writes.is_empty() && client.has_room() {
        let place = context.record.ask(client.id(), Invocation::Txn { checks, writes });
        client.ask(Request::Txn { operations }, Purpose::Operation(place), context);
    }
}

fn list(client: &mut Client, context: &mut Context) {
    let prefix = prefix(context);
    let after: Key = if context.random.chance(50) { "".into() } else { key(context) };
    let limit = if context.random.chance(50) { u32::MAX } else { u32::try_from(context.random.below(8)).unwrap_or(0) };
    let request = Request::List { prefix: bytes(&prefix), after: bytes(&after), limit };
    let place = context.record.ask(client.id(), Invocation::List { prefix, after, limit });
    client.ask(request, Purpose::Operation(place), context);
}

/// Sends a barrier. If the client has a replica, it reads all of it behind the barrier.
fn barrier(client: &mut Client, context: &mut Context) {
    let place = context.record.ask(client.id(), Invocation::Barrier);
    let watched = &client.watched;
    let prefix = context.random.pick(watched).cloned().filter(|prefix| client.shown(prefix).is_some());
    let purpose = match prefix {
        None => Purpose::Operation(place),
        Some(prefix) => {
            let asked = Invocation::List { prefix: prefix.clone(), after: "".into(), limit: u32::MAX };
            let read = context.record.ask(client.id(), asked);
            Purpose::BarrierThenRead { place, read, prefix }
        }
    };
    client.ask(Request::Barrier, purpose, context);
}

fn watch(client: &mut Client, context: &mut Context) {
    let prefix = prefix(context);
    if !client.watched.contains(&prefix) {
        let request = Request::Watch { prefix: bytes(&prefix) };
        client.watched.push(prefix);
        client.ask(request, Purpose::Watch, context);
    }
}
