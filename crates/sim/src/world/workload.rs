//! What clients think of: what to ask next.

use super::client::{Client, Kind, Purpose};
use super::plan::usize_of;
use super::socket::Context;
use crate::history::{Invocation, Key, Stamp, State, Write};
use bytes::Bytes;
use std::collections::BTreeMap;
use syncline_core::Operation;
use syncline_core::client::Request;
use syncline_wire::Version;

/// What a client knows of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// It is at this version.
    At(u64),
    /// It is not there, and no version of it is remembered.
    Absent,
}

/// What all clients of a world have written so far.
#[derive(Debug, Default)]
pub(super) struct Workload {
    stamps: u64,
    /// The highest version that anybody has ever asked to write of a key.
    highest: BTreeMap<Key, u64>,
}

/// Prefixes that overlap.
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/b/", "b", "c/"];

/// The keys of a world, under several of the prefixes.
pub(super) fn keys(count: usize) -> Vec<Key> {
    let stems = ["a", "a/1", "a/b/1", "b", "c/1", "a/b/2", "b/2", "c/2", "a/3", "a/b/3", "", "c"];
    let of = |place: usize| match stems.get(place % stems.len()) {
        Some(stem) if place < stems.len() => (*stem).into(),
        Some(stem) => format!("{stem}-{}", place / stems.len()).into(),
        None => "".into(),
    };
    (0..count).map(of).collect()
}

/// Any of the prefixes.
pub(super) fn prefix(context: &mut Context) -> Key {
    context.random.pick(&PREFIXES).copied().unwrap_or_default().into()
}

fn bytes(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// A client asks something.
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

/// The version that a client would write next; none where it does not know.
fn next_version(client: &Client, key: &Key, context: &mut Context) -> Option<u64> {
    let known = *client.known.get(key)?;
    let highest = context.workload.highest.get(key).copied().unwrap_or(0);
    Some(match known {
        // Now and then, one that does not fit.
        Known::At(version) => match context.random.below(20) {
            0 => version,
            1 => version + 2,
            _ => version + 1,
        },
        Known::Absent => highest + context.random.between(1, 3),
    })
}

/// What a client would make of a key; none where it does not know the key well enough.
fn change(client: &Client, key: &Key, context: &mut Context) -> Option<(Write, Operation)> {
    let version = next_version(client, key, context)?;
    let highest = context.workload.highest.entry(key.clone()).or_default();
    *highest = version.max(*highest);
    let of = bytes(key);
    if context.random.chance(context.plan.deletions) {
        let write = Write { key: key.clone(), state: State { version, value: None } };
        return Some((write, Operation::Delete { key: of, version: Version::new(version) }));
    }
    context.workload.stamps += 1;
    let stamp = Stamp(context.workload.stamps);
    let most = if context.random.chance(context.plan.large) { context.plan.largest as u64 } else { 60 };
    let value = stamp.value(usize_of(context.random.spread(Stamp::LENGTH as u64, most)));
    let write = Write { key: key.clone(), state: State { version, value: Some(stamp) } };
    Some((write, Operation::Put { key: of, value, version: Version::new(version) }))
}

fn write(client: &mut Client, context: &mut Context) {
    let key = key(context);
    let Some((write, operation)) = change(client, &key, context) else { return get(client, key, context) };
    let request = match operation {
        // The base protocol knows no deletion.
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
                Known::At(version) => *version,
                Known::Absent => 0,
            };
            operations.push(Operation::Check { key: of, version: Version::new(version) });
            checks.push((key, version));
        } else if let Some((write, operation)) = change(client, &key, context) {
            writes.push(write);
            operations.push(operation);
        } else {
            get(client, key, context);
        }
    }
    // Of checks alone nobody would be told.
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

/// A barrier; and where there is a replica, all of that is read behind it.
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
