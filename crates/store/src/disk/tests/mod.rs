//! Proof that the disk engine loses nothing that it has acknowledged, and never shows a wrong value, over a file layer that
//! fails:
//! - [`faulty`]: the file layer, in memory; [`layer`] tests it;
//! - [`history`]: what the store must show; [`workload`]: what is done to it;
//! - [`crash`]: the power is cut, or the process killed, after every operation of a workload;
//! - [`faults`]: every operation fails in turn;
//! - [`full`]: a disk with a limited capacity;
//! - [`damage`], [`directory`]: files that are not what they were;
//! - [`ownership`]: the directory is moved or removed meanwhile, or another process writes to it;
//! - [`model`]: random steps, with crashes among them, against a model;
//! - [`regressions`]: what was found once;
//! - [`rewound`]: when a history gets a new store id.
//!
//! All of it follows from seeds. `SYNCLINE_CRASH_SEEDS=100` tries so many where a few are tried otherwise.

mod crash;
mod damage;
mod directory;
mod faults;
mod faulty;
mod full;
mod history;
mod layer;
mod model;
mod ownership;
mod regressions;
mod rewound;
mod workload;

use super::error::OpenError;
use super::open::DiskEngine;
use super::options::{DiskOptions, Durability};
use faulty::Faulty;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Small, so that a few transactions fill one.
const SEGMENT: u64 = 4096;

/// As small.
const RESERVE: u64 = 1024;

/// The engine over the file layer that fails, without a thread of its own.
type Db = DiskEngine<Faulty>;

/// A clock that is set by hand.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn set(&self, time: u64) {
        self.0.store(time, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The size of the first files of the log.
const FIRST_SEGMENT: u64 = 1024;

fn open_with(files: &Faulty, durability: Durability, first_segment_size: u64, clock: &Clock) -> Result<Db, OpenError> {
    let options = DiskOptions {
        durability,
        reserve: RESERVE,
        segment_size: SEGMENT,
        first_segment_size,
        ..DiskOptions::default()
    };
    let clock = clock.clone();
    DiskEngine::open(files.clone(), options, Box::new(move || clock.get()), files.boot(), None)
}

/// Opens a store by a clock.
fn open_at(files: &Faulty, durability: Durability, clock: &Clock) -> Result<Db, OpenError> {
    open_with(files, durability, FIRST_SEGMENT, clock)
}

/// Opens a store all files of whose log have the same size.
fn open_equal(files: &Faulty, durability: Durability) -> Result<Db, OpenError> {
    open_with(files, durability, SEGMENT, &Clock::default())
}

fn open(files: &Faulty, durability: Durability) -> Result<Db, OpenError> {
    open_at(files, durability, &Clock::default())
}

/// How many seeds to try: a few, or as many as the environment says.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let number = std::env::var("SYNCLINE_CRASH_SEEDS").ok().and_then(|number| number.parse().ok());
    0..number.unwrap_or(few)
}

/// Numbers that look random and follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// True so many times of a hundred.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
