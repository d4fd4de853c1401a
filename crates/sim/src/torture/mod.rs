//! The real server under faults: a process on a real disk, real clients, and a proxy between them. The checkers examine
//! everything that was observed.
//!
//! ```text
//!   clients ──▶ proxy ──▶ syncline serve ──▶ data directory
//!      │          │            ▲ kill -9, SIGSTOP, restarts     ▲ full or dead disk, moved away, backup, restore
//!      ▼          ▼            └──────────── nemesis ───────────┘
//!   recorder ◀── transcripts
//!      │
//!      ▼ at the end of each round
//!   History ──▶ checkers
//! ```
//!
//! A run consists of rounds, each with a new data directory. A round applies load and faults, then heals all faults,
//! waits until all clients are current, and checks the history. All random decisions follow from the seed, but time is
//! real: the same seed makes a similar run, not an identical one.

mod base_client;
mod client;
mod conditions;
mod context;
mod cursor;
mod disk;
mod examiner;
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
