//! The parts that the fuzz targets share.
//!
//! A target turns bytes into input that a program may get from outside, passes it to the code under test, and checks what
//! must hold for any input. It panics if a check fails. The module documentation of each target lists its checks.

pub mod choose;
pub mod client;
pub mod disk;
pub mod pieces;
pub mod server;
