//! Several connections over one store, under random schedules: whatever comes when, every request gets its answer, and
//! all see one order of commits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod checks;
mod client;
#[path = "../support/mod.rs"]
mod support;
mod world;

use client::Ask;
use proptest::collection::vec;
use proptest::prelude::*;
use support::search;
use syncline_core::server::Limits;
use world::{OWN, Other, Setup, Skew, Step, World};

/// Mostly small, so that a case is quick; some so large that a few of them fill an output.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 8..30usize, 2 => 500..5000usize, 2 => 40_000..60_000usize]
}

/// Mostly the same few, so that connections meet.
fn key() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..2usize, 1 => 2..6usize]
}

fn ask() -> impl Strategy<Value = Ask> {
    let skew = prop_oneof![
        8 => Just(Skew::Next),
        1 => Just(Skew::Behind),
        1 => Just(Skew::Ahead),
    ];
    prop_oneof![
        4 => key().prop_map(|key| Ask::Get { key }),
        6 => (prop_oneof![2 => key(), 1 => Just(OWN)], skew, size()).prop_map(|(key, skew, size)| Ask::Put { key, skew, size }),
        1 => Just(Ask::Refused),
    ]
}

fn other() -> impl Strategy<Value = Other> {
    prop_oneof![
        3 => size().prop_map(|size| Other::Put { size, times: 1 }),
        1 => (2..6usize).prop_map(|times| Other::Put { size: 50_000, times }),
        1 => Just(Other::Delete),
        1 => Just(Other::Transaction),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..5usize;
    // Some do little at a time, and some all that there is.
    let amount = || prop_oneof![1 => 1..4usize, 1 => Just(usize::MAX)];
    let bytes = || prop_oneof![1 => 1..40usize, 1 => 1000..100_000usize, 2 => Just(usize::MAX)];
    prop_oneof![
        4 => (client(), vec(ask(), 1..6)).prop_map(|(client, asks)| Step::Ask { client, asks }),
        4 => (client(), bytes()).prop_map(|(client, bytes)| Step::Deliver { client, bytes }),
        4 => (client(), amount(), any::<bool>()).prop_map(|(client, most, late)| Step::Work { client, most, late }),
        3 => amount().prop_map(|most| Step::Commit { most }),
        4 => (client(), amount()).prop_map(|(client, most)| Step::Hand { client, most }),
        4 => client().prop_map(|client| Step::Show { client }),
        2 => (client(), bytes()).prop_map(|(client, bytes)| Step::Take { client, bytes }),
        2 => (key(), other()).prop_map(|(key, other)| Step::Other { key, other }),
        3 => client().prop_map(|client| Step::Serve { client }),
        2 => (client(), key()).prop_map(|(client, key)| Step::Outrun { client, key }),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let max_requests = prop_oneof![1 => 1..4usize, 1 => 4..100usize];
    let max_unsent = prop_oneof![1 => 1..200usize, 1 => 200..20_000usize, 1 => 50_000..300_000usize];
    let recent_log = prop_oneof![1 => Just(0), 3 => 100..1000usize, 2 => 1000..150_000usize, 2 => Just(usize::MAX)];
    (max_requests, max_unsent, recent_log).prop_map(|(max_requests, max_unsent, recent_log)| Setup {
        limits: Limits { max_requests, max_unsent, ..Limits::default() },
        recent_log,
    })
}

#[test]
fn all_see_one_order_and_nobody_is_left_out() {
    let expected = [
        "answers",
        "own writes",
        "broadcasts",
        "values",
        "values after their broadcasts",
        "deleted",
        "not found",
        "refused at once",
        "stale",
        "stale, overtaken by others",
        "not permitted",
        "pages",
        "own answers merged into pages",
        "writes skipped",
        "clients that saw every write",
        "clients that came late",
        "own writes in the log before their outcomes",
        "outcomes before the log was shown",
        "paused",
        "full outputs",
    ];
    search(&(setup(), vec(step(), 1..400)), &expected, |(setup, steps)| {
        let mut world = World::new(setup);
        for step in steps {
            world.step(step);
        }
        world.drain();
        world.check()
    });
}
