//! Base connections over one store, under random schedules. In every order of events, each request gets its response, and
//! all clients see one order of commits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod checks;
mod client;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod support;
mod world;

use client::RandomRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{driver_step, recent_log_size, search};
use syncline_core::server::Limits;
use world::{CLIENTS, ExternalWrite, OWN_KEY, Setup, Step, VersionSkew, World};

/// Returns the size of a value: mostly small, so that a case is fast; some so large that a few of them fill an output.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 8..30usize, 2 => 500..5000usize, 2 => 40_000..60_000usize]
}

/// Returns the number of a key: mostly one of two, so that clients write the same keys.
fn key() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..2usize, 1 => 2..6usize]
}

fn request() -> impl Strategy<Value = RandomRequest> {
    let skew = prop_oneof![
        8 => Just(VersionSkew::Next),
        1 => Just(VersionSkew::Behind),
        1 => Just(VersionSkew::Ahead),
    ];
    prop_oneof![
        4 => key().prop_map(|key| RandomRequest::Get { key }),
        6 => (prop_oneof![2 => key(), 1 => Just(OWN_KEY)], skew, size())
            .prop_map(|(key, skew, size)| RandomRequest::Put { key, skew, size }),
        1 => Just(RandomRequest::RefusedPut),
    ]
}

fn external_write() -> impl Strategy<Value = ExternalWrite> {
    prop_oneof![
        3 => size().prop_map(|size| ExternalWrite::Put { size, times: 1 }),
        1 => (2..6usize).prop_map(|times| ExternalWrite::Put { size: 50_000, times }),
        1 => Just(ExternalWrite::Delete),
        1 => Just(ExternalWrite::Transaction),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        4 => (client(), vec(request(), 1..6)).prop_map(|(client, requests)| Step::Send { client, requests }),
        24 => driver_step(0..CLIENTS).prop_map(Step::Drive),
        2 => (key(), external_write()).prop_map(|(key, write)| Step::WriteExternally { key, write }),
        2 => (client(), key()).prop_map(|(client, key)| Step::OutrunOutcomes { client, key }),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let max_requests = prop_oneof![1 => 1..4usize, 1 => 4..100usize];
    let max_unsent = prop_oneof![1 => 1..200usize, 1 => 200..20_000usize, 1 => 50_000..300_000usize];
    (max_requests, max_unsent, recent_log_size()).prop_map(|(max_requests, max_unsent, recent_log)| Setup {
        limits: Limits { max_requests, max_unsent, ..Limits::default() },
        recent_log,
    })
}

#[test]
fn clients_see_one_order_of_commits_and_miss_nothing() {
    let expected = [
        "responses",
        "own writes",
        "broadcasts",
        "values",
        "values after their broadcasts",
        "deleted",
        "not found",
        "refused on arrival",
        "stale",
        "stale, overtaken by others",
        "not permitted",
        "pages",
        "own responses merged into pages",
        "writes skipped",
        "clients that saw every write",
        "clients that joined late",
        "own writes in the log before their outcomes",
        "outcomes before the log was shown",
        "paused",
        "full outputs",
        "no work after output was written",
    ];
    search(&(setup(), vec(step(), 1..400)), &expected, |(setup, steps)| {
        let mut world = World::new(setup);
        for step in steps {
            world.step(step);
        }
        world.finish()
    });
}
