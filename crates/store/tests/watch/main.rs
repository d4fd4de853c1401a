//! Watchers of one store, under random schedules. In every order of events, a watcher holds at a MARK what the store held at
//! the revision of the MARK. Watchers write, list, send barriers, fall behind, lose their connections and resume.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod history;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod support;
mod world;

use client::RandomRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{driver_step, recent_log_size, search};
use world::{CLIENTS, RandomWrite, Step, World};

/// Keys that lie under several of the watched prefixes.
const KEYS: [&str; 8] = ["", "a", "a/1", "a/2", "a/b/1", "a/b/2", "b", "b/1"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "a/b/", "b"];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

/// Returns the size of a value: mostly small; some so large that a few of them fill an output.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0..30usize, 1 => 20_000..60_000usize]
}

fn write() -> impl Strategy<Value = RandomWrite> {
    prop_oneof![
        5 => (key(), size()).prop_map(|(key, size)| RandomWrite::Put { key, size }),
        2 => key().prop_map(|key| RandomWrite::Delete { key }),
        3 => vec((key(), any::<bool>()), 1..4).prop_map(RandomWrite::Transaction),
    ]
}

fn request() -> impl Strategy<Value = RandomRequest> {
    let prefix = || prop::sample::select(&PREFIXES[..]);
    prop_oneof![
        6 => write().prop_map(RandomRequest::Write),
        1 => key().prop_map(RandomRequest::StalePut),
        2 => key().prop_map(RandomRequest::Get),
        3 => prefix().prop_map(RandomRequest::Watch),
        1 => prefix().prop_map(RandomRequest::WatchSinceUnknown),
        2 => (prefix(), key(), 0..6u32).prop_map(|(prefix, after, limit)| RandomRequest::List { prefix, after, limit }),
        2 => Just(RandomRequest::Barrier),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        6 => (client(), vec(request(), 1..4)).prop_map(|(client, requests)| Step::Send { client, requests }),
        26 => driver_step(0..CLIENTS).prop_map(Step::Drive),
        5 => vec(write(), 1..6).prop_map(Step::WriteExternally),
        4 => client().prop_map(|client| Step::Beat { client }),
        1 => client().prop_map(|client| Step::Reconnect { client }),
        2 => (client(), key()).prop_map(|(client, key)| Step::GetWhenIdle { client, key }),
    ]
}

#[test]
fn at_a_mark_a_watcher_holds_the_state_of_the_store() {
    let expected = [
        "marks",
        "marks with keys",
        "watches completed",
        "watches resumed",
        "watches reset",
        "barriers",
        "no work after output was written",
        "no work after reads",
        "lists",
        "listed keys",
        "own writes",
        "own transactions",
        "stale",
        "catch-ups",
        "heartbeats",
        "reconnections",
        "deletions",
    ];
    search(&(recent_log_size(), vec(step(), 1..300)), &expected, |(recent_log, steps)| {
        let mut world = World::new(recent_log);
        for step in steps {
            world.step(step);
        }
        world.finish()
    });
}
