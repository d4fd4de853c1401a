//! What the fuzz targets share.
//!
//! A target takes bytes, makes of them what may come from outside, and *checks* what has to hold for it; it panics where that
//! does not. What each of them checks stands on top of its file.

pub mod choose;
pub mod client;
pub mod disk;
pub mod pieces;
pub mod server;
