//! `syncline-sim`: runs seeds of the simulator.

fn main() {}
