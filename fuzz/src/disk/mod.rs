//! Data directories and backups that are not what they were, and what must be made of them.

mod checksums;
pub mod fixture;
mod judge;

pub use judge::run;
