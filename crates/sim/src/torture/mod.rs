//! The real server under torture: a process on a real disk, real clients, and a proxy between them; and the checkers over
//! all that was seen.
//!
//! ```text
//!   clients ──▶ proxy ──▶ syncline serve ──▶ data directory
//!      │          │            ▲ kill -9, SIGSTOP, restarts     ▲ full, backed up, restored
//!      ▼          ▼            └──────────── nemesis ───────────┘
//!   recorder ◀── tapes
//!      │
//!      ▼ at the end of each round
//!   History ──▶ checkers
//! ```
//!
//! A run has rounds, each with a new data directory: load and faults, then everything heals, is waited for, and is checked.
//! What is decided at random follows from the seed, but time is real: the same seed makes a similar run, not the same.

mod base_client;
mod client;
mod conditions;
mod context;
mod cursor;
mod disk;
mod keep;
mod nemesis;
mod netns;
mod proxy;
mod recorder;
mod round;
mod summary;
mod transcript;

pub use keep::{HISTORY, load as load_history};
pub use round::{Failure, Options, Run, run};
pub use summary::table;
