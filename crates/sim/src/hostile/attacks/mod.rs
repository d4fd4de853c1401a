//! The list of all attacks. Each attack states the bound that limits it, and how much memory the server may use for it.

mod common;
mod connections;
mod frames;
mod handshakes;
mod hashes;
mod readers;
mod requests;
mod scans;
mod unauthenticated;
mod writes;

use super::attack::Attack;

/// All attacks.
pub const ATTACKS: [Attack; 29] = [
    frames::HALF_PUTS,
    frames::HALF_TRANSACTIONS,
    frames::MANY_HALVES,
    frames::CLAIMS,
    frames::GARBAGE,
    readers::NEVER_READING,
    readers::NEVER_READING_WRITES,
    readers::BYTE_A_SECOND,
    connections::TOO_MANY,
    connections::COME_AND_GO,
    connections::SEVENTY_THOUSAND,
    connections::MANY_IDLE,
    requests::TAGS,
    requests::SAME_TAG,
    requests::AUTHS,
    requests::HELLOS,
    requests::BARRIERS,
    requests::STATUSES,
    requests::ERRORS,
    scans::PREFIXES,
    scans::EVERYTHING,
    writes::TRANSACTIONS,
    writes::BAD_TRANSACTIONS,
    writes::COLLIDING,
    handshakes::NO_TLS,
    handshakes::HALF,
    handshakes::RENEGOTIATION,
    unauthenticated::GUESSES,
    unauthenticated::CROWD,
];
