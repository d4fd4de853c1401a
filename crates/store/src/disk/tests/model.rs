//! Random steps against a model: writes, maintenance, forgotten tombstones, and closing, killing and power cuts.
//! After each step, all reads agree with the model. Also clocks that jump.

use super::faulty::Faulty;
use super::history::entries;
use super::workload::{Step, Workload};
use super::{Random, open_at, seeds};
use crate::disk::names;
use crate::disk::{Durability, record};
use crate::{ChangedError, Store};
use pollster::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use syncline_wire::Revision;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Write),
        3 => Just(Step::Spare),
        2 => Just(Step::Watermark),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::CheckpointIfDue),
        2 => (0..20_000_u64).prop_map(Step::Forget),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// Checks that the changes since any revision, by pages of any size, are those of the model, or are reported as
/// forgotten.
fn changed_since_agrees(workload: &mut Workload) {
    let store = workload.store.as_ref().unwrap();
    let forgotten = store.shared.index.read().forgotten();
    let since = Revision::new(workload.writer.random.below(usize::try_from(workload.live.head).unwrap() + 2) as u64);
    let mut found = Vec::new();
    let mut at = since;
    while at < store.head() {
        match block_on(store.changed_since(at, b"", workload.writer.random.below(2000))) {
            Ok(page) => {
                assert!(at < page.through && page.through <= store.head());
                found.extend(page.entries);
                at = page.through;
            }
            Err(error) => {
                assert!(Revision::ZERO < at && at < forgotten, "{at} is not forgotten");
                return assert_eq!(error, ChangedError::Forgotten { since: at, forgotten });
            }
        }
    }
    let mut expected = entries(store, usize::MAX);
    expected.retain(|entry| since < entry.revision);
    assert_eq!(found, expected);
}

#[test]
fn random_steps_agree_with_a_model() {
    let cases = u32::try_from(seeds(300).end).unwrap();
    let config = ProptestConfig { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() };
    let strategy = (vec(step(), 1..80), any::<u64>(), any::<bool>());
    let run = TestRunner::new(config).run(&strategy, |(steps, seed, fsync)| {
        let durability = if fsync { Durability::Fsync } else { Durability::Os };
        let mut workload = Workload::new(Faulty::new(), durability, seed);
        workload.open(0..=0).map_err(TestCaseError::fail)?;
        for step in steps {
            workload.step(step).map_err(TestCaseError::fail)?;
            changed_since_agrees(&mut workload);
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_forgotten_tombstone_is_not_in_the_next_checkpoint() {
    let mut workload = Workload::new(Faulty::new(), Durability::Fsync, 1);
    workload.open(0..=0).unwrap();
    while workload.live.keys.values().all(|state| state.value.is_some()) {
        workload.step(Step::Write).unwrap();
    }
    workload.writer.clock.set(u64::MAX / 2);
    workload.step(Step::Forget(1)).unwrap();
    workload.step(Step::Checkpoint).unwrap();
    let before = workload.live.clone();
    for step in [Step::Kill, Step::Close, Step::PowerCut(0)] {
        workload.step(step).unwrap();
        assert_eq!(workload.live, before, "{step:?}");
    }
}

/// The times of the records, in the order in which they were written.
fn times(files: &Faulty, store: &super::Db) -> Vec<u64> {
    let files = files.files();
    let logs = files.iter().filter(|(name, _)| names::segment_number(name).is_some());
    let records = logs.flat_map(|(_, bytes)| record::find_all(store.shared.identity.seed, bytes, 0));
    let mut times: Vec<_> =
        records.map(|(_, header)| (header.segment, header.first, header.count, header.time)).collect();
    times.sort_unstable();
    times.into_iter().map(|(.., time)| time).collect()
}

#[test]
fn times_never_decrease_when_the_clock_jumps() {
    for seed in seeds(10) {
        let mut workload = Workload::new(Faulty::new(), Durability::Fsync, seed);
        workload.open(0..=0).unwrap();
        let mut random = Random::new(seed);
        for number in 0..60 {
            let now = workload.writer.clock.get();
            workload.writer.clock.set(match random.below(5) {
                0 => 0,
                1 => now.saturating_sub(1_000_000_000),
                2 => now.saturating_add(1_000_000_000),
                // Once, the clock is as wrong as it can be: from then on time stands still.
                3 if number == 50 => u64::MAX - 1_000_000,
                _ => now,
            });
            let step = [Step::Write, Step::Write, Step::Write, Step::Kill, Step::Checkpoint, Step::PowerCut(seed)];
            workload.step(step[random.below(step.len())]).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let times = times(&workload.files, workload.store.as_ref().unwrap());
            assert!(times.is_sorted(), "seed {seed}: {times:?}");
        }
    }
}

#[test]
fn a_clock_that_has_jumped_ahead_forgets_no_value() {
    let mut workload = Workload::new(Faulty::new(), Durability::Fsync, 3);
    workload.open(0..=0).unwrap();
    (0..30).for_each(|_| workload.step(Step::Write).unwrap());
    let mut values = workload.live.clone();
    values.forget(u64::MAX);
    workload.writer.clock.set(u64::MAX);
    workload.step(Step::Forget(0)).unwrap();
    assert_eq!(workload.live, values);
    workload.writer.clock.set(0);
    workload.step(Step::Close).unwrap();
    workload.step(Step::Write).unwrap();
}

#[test]
fn the_same_steps_write_the_same_files_except_for_ids() {
    // The property that makes every failure of these tests repeatable.
    let run = || {
        let mut workload = Workload::new(Faulty::new(), Durability::Fsync, 5);
        workload.open(0..=0).unwrap();
        for _ in 0..60 {
            let step = Step::choose(&mut workload.writer.random);
            workload.step(step).unwrap();
        }
        let store = open_at(&workload.files.disk().kill(), Durability::Fsync, &workload.writer.clock).unwrap();
        let sizes: Vec<_> = workload.files.files().into_iter().map(|(name, bytes)| (name, bytes.len())).collect();
        (sizes, entries(&store, 1000), workload.live)
    };
    assert_eq!(run(), run());
}
