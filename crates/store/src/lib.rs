//! The history of Syncline: the trait [`Store`], and its engines.
//!
//! Every engine implements [`Store`] and passes the contract in `tests/contract.rs`. The engines are:
//! - [`MemoryStore`]: keeps everything in memory, and loses it when the process ends;
//! - [`DiskStore`]: keeps the history on disk, and the latest state in memory.
//!
//! Engines do not depend on sockets or on the protocol of clients. They feed [`Committed`](syncline_core::Committed)
//! transactions, which the server encodes and sends.

mod conflict_checker;
mod disk;
mod index;
mod memory;
mod page;
mod store;
mod time;

pub use disk::{
    Contents, DiskOptions, DiskStore, Durability, OpenError, Progress, Report, Stage, backup, check, restore,
};
pub use memory::MemoryStore;
pub use page::read_page;
pub use store::{ChangedError, Clock, Feed, Stats, Store, Unavailable};

use store::new_store_id;
use time::{StoreTime, monotonic_clock};
