//! Damaged data directories and backups, and the checks of what the disk engine does with them.

mod checksums;
mod damage;
pub mod fixture;

pub use damage::run;
