//! What an operator may set, and what it is where nothing is set.

use crate::{AccessControl, Tls};
use std::time::Duration;
use syncline_core::server::Limits;
use thiserror::Error;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: `HOST:PORT`. Port 0 takes any that is free.
    pub listen: String,
    /// The most connections. Further ones are refused with ERROR `unavailable: too many connections`.
    pub max_connections: usize,
    /// What one connection may ask for, and may make the server hold.
    pub limits: Limits,
    /// The most bytes of writes that wait for the committer. At it, no connection is read from that has one more.
    pub max_queue: usize,
    /// The most bytes of requests that have come in part, all connections together, beside 32 KiB for each of them. Where
    /// there is no room for a larger request, its connection is not read from until there is; who waits for too long, or
    /// sends a part and stops while others wait, is told `unavailable: …`, and its connection ends.
    pub max_input: usize,
    /// The bytes of the newest history that are kept in memory for those who follow. Who falls behind it is served from
    /// the store.
    pub recent_log: usize,
    /// How often somebody who watches hears from the server at the least: three times as long a silence means that the
    /// connection is dead.
    pub heartbeat: Duration,
    /// What TLS is spoken with; then nothing else is spoken on that port. Without it, no TLS is.
    pub tls: Option<Tls>,
    /// Who may come in. Whatever requires passwords requires TLS.
    pub access: AccessControl,
    /// How long a stranger may take for the TLS handshake and for showing who it is, in all. It is the client's time: while
    /// the server looks at a password, or holds back what it thinks of a wrong one, the connection does not end.
    pub authorize_within: Duration,
    /// The most connections that have not shown yet who they are; a quarter of them from one address. Further ones are
    /// refused with ERROR `unavailable: too many connections …`.
    pub max_unauthenticated: usize,
}

/// There would be no room for a request that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "room for requests that come in: expected at least {expected} bytes, for the largest transaction, found {found}"
)]
pub struct InputError {
    /// What the largest request takes.
    pub expected: usize,
    /// What there would be for all.
    pub found: usize,
}

impl Config {
    /// The port that Syncline listens on where nothing else is said.
    pub const DEFAULT_PORT: u16 = 6660;

    /// Whether the largest request that the limits allow finds room.
    ///
    /// # Errors
    /// [`InputError`] where it never would.
    pub const fn check_input(&self) -> Result<(), InputError> {
        let (expected, found) = (self.limits.max_frame(), self.max_input);
        if found < expected { Err(InputError { expected, found }) } else { Ok(()) }
    }
}

impl Default for Config {
    /// Loopback only, without TLS, open to all; 10,000 connections, 16 MiB of waiting writes, 256 MiB of large requests that come in, 64 MiB of recent log, a
    /// heartbeat of 2 s, 10 s for strangers, and 1,024 of them.
    fn default() -> Self {
        Self {
            listen: format!("127.0.0.1:{}", Self::DEFAULT_PORT),
            max_connections: 10_000,
            limits: Limits::default(),
            max_queue: 16 * 1024 * 1024,
            max_input: 256 * 1024 * 1024,
            recent_log: 64 * 1024 * 1024,
            heartbeat: Duration::from_secs(2),
            tls: None,
            access: AccessControl::Open,
            authorize_within: Duration::from_secs(10),
            max_unauthenticated: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_request_that_is_allowed_must_find_room() {
        assert_eq!(Config::default().check_input(), Ok(()));
        let limits = Limits { max_entry: 2 * 1024 * 1024, ..Limits::default() };
        let with = |max_input| Config { max_input, limits, ..Config::default() }.check_input();
        assert_eq!(with(limits.max_frame()), Ok(()));
        assert_eq!(
            with(2 * 1024 * 1024).unwrap_err().to_string(),
            "room for requests that come in: expected at least 2129920 bytes, for the largest transaction, found 2097152"
        );
    }
}
