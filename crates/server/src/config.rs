//! What an operator may set, and what it is where nothing is set.

use crate::{AccessControl, Tls};
use std::time::Duration;
use syncline_core::server::Limits;

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
    pub max_strangers: usize,
}

impl Config {
    /// The port that Syncline listens on where nothing else is said.
    pub const DEFAULT_PORT: u16 = 6660;
}

impl Default for Config {
    /// Loopback only, without TLS, open to all; 10,000 connections, 16 MiB of waiting writes, 64 MiB of recent log, a
    /// heartbeat of 2 s, 10 s for strangers, and 1,024 of them.
    fn default() -> Self {
        Self {
            listen: format!("127.0.0.1:{}", Self::DEFAULT_PORT),
            max_connections: 10_000,
            limits: Limits::default(),
            max_queue: 16 * 1024 * 1024,
            recent_log: 64 * 1024 * 1024,
            heartbeat: Duration::from_secs(2),
            tls: None,
            access: AccessControl::Open,
            authorize_within: Duration::from_secs(10),
            max_strangers: 1024,
        }
    }
}
