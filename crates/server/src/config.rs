//! The configuration of a server, and its defaults.

use crate::access::AccessControl;
use crate::tls::Tls;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use syncline_core::server::Limits;
use thiserror::Error;

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on, `HOST:PORT`. Port 0 selects any free port.
    pub listen: String,
    /// The maximum number of connections. The server refuses further ones with ERROR `unavailable: too many connections`.
    pub max_connections: usize,
    /// The limits of each connection.
    pub limits: Limits,
    /// The maximum size, in bytes, of the commit queue. While it is full, the server does not read from a connection whose
    /// next transaction waits for space in it.
    pub max_queue: usize,
    /// The maximum size, in bytes, of all partly received requests together, in addition to 32 KiB for each connection.
    ///
    /// If a larger request does not fit, the server does not read from its connection until it does. The server ends a
    /// connection with ERROR `unavailable: …` if it waits too long, or if it stops in the middle of a request while others
    /// wait.
    pub max_input: usize,
    /// The size, in bytes, of the recent log: the newest history, which watchers are sent from memory. A watcher that falls
    /// behind it is sent changes from the store.
    pub recent_log: usize,
    /// The maximum interval between two frames that the server sends to a connection that watches. A client can take a
    /// connection for dead if it receives nothing for three times as long.
    pub heartbeat: Duration,
    /// The TLS configuration. With it, the server accepts only TLS; without it, only plain connections.
    pub tls: Option<Tls>,
    /// Which clients may connect. Access control with passwords requires TLS.
    pub access: AccessControl,
    /// How long a connection may take for the TLS handshake and for authentication, together. The time in which the server
    /// verifies a password, or delays the response to a wrong one, does not count.
    pub authorize_within: Duration,
    /// The maximum number of unauthenticated connections. A quarter of them may come from one address. The server refuses
    /// further ones with ERROR `unavailable: too many connections …`.
    pub max_unauthenticated: usize,
    /// How many lines the log of the process has lost so far, because its reader was too slow. STATUS shows the number. The
    /// owner of the log counts; the server only reads the counter.
    pub log_lines_dropped: Arc<AtomicU64>,
}

/// An error: [`Config::max_input`] is smaller than the largest request that the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected at least {expected} bytes, the size of the largest transaction, found {found}")]
pub struct InputError {
    /// The size of the largest request.
    pub expected: usize,
    /// The configured size.
    pub found: usize,
}

impl Config {
    /// The default port of Syncline.
    pub const DEFAULT_PORT: u16 = 6660;

    /// Checks that the largest request that the limits allow fits into [`max_input`](Self::max_input).
    ///
    /// # Errors
    /// Returns [`InputError`] if it does not.
    pub const fn check_input(&self) -> Result<(), InputError> {
        let (expected, found) = (self.limits.max_frame(), self.max_input);
        if found < expected { Err(InputError { expected, found }) } else { Ok(()) }
    }
}

impl Default for Config {
    /// Returns a configuration for loopback only, without TLS, open to all clients. It allows 10,000 connections, 1,024 of
    /// them unauthenticated for at most 10 s, a commit queue of 16 MiB, 256 MiB of partly received requests, and a recent
    /// log of 64 MiB. The heartbeat is 2 s.
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
            log_lines_dropped: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_budget_must_fit_the_largest_request() {
        assert_eq!(Config::default().check_input(), Ok(()));
        let limits = Limits { max_entry: 2 * 1024 * 1024, ..Limits::default() };
        let with = |max_input| Config { max_input, limits, ..Config::default() }.check_input();
        assert_eq!(with(limits.max_frame()), Ok(()));
        assert_eq!(
            with(2 * 1024 * 1024).unwrap_err().to_string(),
            "expected at least 2129920 bytes, the size of the largest transaction, found 2097152"
        );
    }
}
