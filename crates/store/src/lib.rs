//! Where the history of Syncline is kept.
//!
//! [`Store`] is what every engine stands behind; `tests/contract.rs` holds what each of them must pass. Engines:
//! - [`MemoryStore`]: everything in memory, nothing survives the process;
//! - [`DiskStore`]: the history on disk, the latest state in memory.
//!
//! Engines know nothing of sockets and of the protocol of clients. They feed [`Committed`](syncline_core::Committed) transactions, which the server
//! encodes and sends.

mod conflict_checker;
mod disk;
mod index;
mod memory;
mod page;
mod store;

pub use disk::{
    Contents, DiskOptions, DiskStore, Durability, OpenError, Progress, Report, Stage, backup, check, restore,
};
pub use memory::MemoryStore;
pub use page::read_page;
pub use store::{ChangedError, Clock, Feed, Stats, Store, Unavailable};

use store::{new_store_id, now};
