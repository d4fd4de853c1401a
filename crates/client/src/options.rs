//! What a user of the client may set, and what it is where nothing is set.

use crate::{Password, Tls};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// What a user of the client may set.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a request may take, waiting for a lost connection included.
    pub request_timeout: Duration,
    /// How long a new replica may take to be whole.
    pub watch_timeout: Duration,
    /// The first pause between attempts to connect again; each further one is about twice as long, with jitter.
    pub min_pause: Duration,
    /// The longest such pause.
    pub max_pause: Duration,
    /// How many changes may wait for a reader of [`Client::changes`](crate::Client::changes); it finds a
    /// [`Change::Gap`](crate::Change::Gap) where there were more.
    pub max_waiting_changes: usize,
    /// How TLS is spoken, to the endpoints that ask for it.
    pub tls: Tls,
    /// What is shown to a server that demands it: the password, or, where it knows users, `name:password`
    /// ([`Password::of_user`]). It is sent over TLS only.
    pub password: Option<Password>,
}

impl Options {
    /// The pauses between attempts to connect again; there is always another one.
    pub(crate) fn pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.min_pause)
            .with_max_delay(self.max_pause)
            .without_max_times()
            .build()
    }
}

impl Default for Options {
    /// 5 s to connect, 10 s for a request, 5 minutes for a replica, pauses of 50 ms to 5 s, 4,096 waiting changes,
    /// the CAs that the system trusts, no password.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            watch_timeout: Duration::from_secs(300),
            min_pause: Duration::from_millis(50),
            max_pause: Duration::from_secs(5),
            max_waiting_changes: 4096,
            tls: Tls::default(),
            password: None,
        }
    }
}
