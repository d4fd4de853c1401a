//! The checkers are tested: each deliberately wrong variant is found, by the checker of the promise that it breaks, within so
//! many seeds.
#![allow(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking, and says what it has found")]

use syncline_sim::check::check;
use syncline_sim::world::{Variation, Wrong, run};

/// Within how many seeds a wrong variant is to be found.
const SEEDS: u64 = 60;

const STEPS: u64 = 10_000;

#[track_caller]
fn is_found(wrong: Wrong) {
    for seed in 1..=SEEDS {
        let reports = check(&run(seed, STEPS, Variation { wrong: Some(wrong), clients: None }).history);
        let found = reports.iter().filter(|report| report.promise == wrong.breaks());
        if let Some(violation) = found.flat_map(|report| &report.violations).next() {
            println!("{wrong:?} is found in seed {seed}: {}: {}", violation.promise, violation.text);
            return;
        }
    }
    panic!("{wrong:?}: expected {} to be broken within {SEEDS} seeds, found it kept", wrong.breaks());
}

#[test]
fn mark_too_early() {
    is_found(Wrong::MarkTooEarly);
}

#[test]
fn horizon_forgotten() {
    is_found(Wrong::HorizonForgotten);
}

#[test]
fn lost_at_catch_up() {
    is_found(Wrong::LostAtCatchUp);
}

#[test]
fn tombstone_skipped() {
    is_found(Wrong::TombstoneSkipped);
}

#[test]
fn half_a_transaction() {
    is_found(Wrong::HalfATransaction);
}

#[test]
fn torn_by_a_crash() {
    is_found(Wrong::TornByACrash);
}

#[test]
fn acknowledged_before_synced() {
    is_found(Wrong::AcknowledgedBeforeSynced);
}

#[test]
fn own_write_out_of_order() {
    is_found(Wrong::OwnWriteOutOfOrder);
}

#[test]
fn applied_over_old_state() {
    is_found(Wrong::AppliedOverOldState);
}

#[test]
fn restored_under_the_old_id() {
    is_found(Wrong::RestoredUnderTheOldId);
}

#[test]
fn told_twice() {
    is_found(Wrong::ToldTwice);
}

#[test]
fn stale_read() {
    is_found(Wrong::StaleRead);
}

#[test]
fn answered_before_shown() {
    is_found(Wrong::AnsweredBeforeShown);
}

#[test]
fn shown_again() {
    is_found(Wrong::ShownAgain);
}

#[test]
fn no_heartbeat() {
    is_found(Wrong::NoHeartbeat);
}

#[test]
fn endless_log() {
    is_found(Wrong::EndlessLog);
}

#[test]
fn lost_wakeup() {
    is_found(Wrong::LostWakeup);
}

#[test]
fn write_sent_again() {
    is_found(Wrong::WriteSentAgain);
}

#[test]
fn resumed_from_the_head() {
    is_found(Wrong::ResumedFromTheHead);
}
