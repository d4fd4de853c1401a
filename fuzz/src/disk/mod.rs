//! Data directories and backups that are not what they were, and what must be made of them.

pub mod fixture;
mod judge;
mod seals;

pub use judge::run;
