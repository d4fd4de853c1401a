//! Watchers over one store, under random schedules: whatever comes when, what a watcher holds at a MARK is what the store
//! held at that revision. They write, list, ask for barriers, fall behind, lose their connections and resume.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod history;
#[path = "../support/mod.rs"]
mod support;
mod world;

use client::Ask;
use proptest::collection::vec;
use proptest::prelude::*;
use support::search;
use world::{Step, World, Write};

/// Keys that are under several of the prefixes that are watched.
const KEYS: [&str; 8] = ["", "a", "a/1", "a/2", "a/b/1", "a/b/2", "b", "b/1"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "a/b/", "b"];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

/// Mostly small; some so large that a few of them fill an output.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0..30usize, 1 => 20_000..60_000usize]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        5 => (key(), size()).prop_map(|(key, size)| Write::Put { key, size }),
        2 => key().prop_map(|key| Write::Delete { key }),
        3 => vec((key(), any::<bool>()), 1..4).prop_map(Write::Transaction),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let prefix = || prop::sample::select(&PREFIXES[..]);
    prop_oneof![
        6 => write().prop_map(Ask::Write),
        1 => key().prop_map(Ask::StalePut),
        2 => key().prop_map(Ask::Get),
        3 => prefix().prop_map(Ask::Watch),
        1 => prefix().prop_map(Ask::WatchUnknown),
        2 => (prefix(), key(), 0..6u32).prop_map(|(prefix, after, limit)| Ask::List { prefix, after, limit }),
        2 => Just(Ask::Barrier),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..3usize;
    let amount = || prop_oneof![1 => 1..4usize, 1 => Just(usize::MAX)];
    let bytes = || prop_oneof![1 => 1..40usize, 1 => 1000..100_000usize, 2 => Just(usize::MAX)];
    prop_oneof![
        6 => (client(), vec(ask(), 1..4)).prop_map(|(client, asks)| Step::Ask { client, asks }),
        4 => (client(), bytes()).prop_map(|(client, bytes)| Step::Deliver { client, bytes }),
        5 => (client(), amount()).prop_map(|(client, most)| Step::Work { client, most }),
        3 => amount().prop_map(|most| Step::Commit { most }),
        5 => (client(), amount()).prop_map(|(client, most)| Step::Hand { client, most }),
        4 => client().prop_map(|client| Step::Show { client }),
        3 => (client(), bytes()).prop_map(|(client, bytes)| Step::Take { client, bytes }),
        5 => vec(write(), 1..6).prop_map(Step::Others),
        4 => client().prop_map(|client| Step::Beat { client }),
        1 => client().prop_map(|client| Step::Reconnect { client }),
        2 => client().prop_map(|client| Step::Serve { client }),
        2 => (client(), key()).prop_map(|(client, key)| Step::Read { client, key }),
    ]
}

fn recent_log() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 3 => 100..1000usize, 2 => 1000..150_000usize, 2 => Just(usize::MAX)]
}

#[test]
fn at_a_mark_a_watcher_holds_what_the_store_held() {
    let expected = [
        "marks",
        "marks of keys that are there",
        "watches answered",
        "watches resumed",
        "watches begun afresh",
        "barriers",
        "outputs that nothing waited for",
        "reads that nothing waited for",
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
    search(&(recent_log(), vec(step(), 1..300)), &expected, |(recent_log, steps)| {
        let mut world = World::new(recent_log);
        for step in steps {
            world.step(step);
        }
        world.finish()
    });
}
