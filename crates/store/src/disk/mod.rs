//! The disk engine: a log of records and checkpoints on disk, and the latest state in memory. `docs/storage.md`
//! describes the layout, the invariants, and what is assumed of the disk.

mod boot;
mod checkpoint;
mod commit;
mod error;
mod files;
mod health;
mod identity;
mod lock;
mod log;
mod maintenance;
mod metered;
mod names;
mod offline;
mod open;
mod options;
mod ownership;
mod record;
mod recovery;
mod reserve;
mod state;
#[cfg(test)]
mod tests;
mod text_file;
mod watermark;

pub use error::OpenError;
pub use metered::{Progress, Report, Stage};
pub use offline::{Contents, backup, check, restore};
pub use open::DiskStore;
pub use options::{DiskOptions, Durability};
