//! The options of a client, and their defaults.

use crate::tls::Tls;
use std::time::Duration;
use syncline_wire::Password;

/// The options of a client.
///
/// ```
/// use std::time::Duration;
/// use syncline_client::Options;
/// let mut options = Options::default();
/// options.request_timeout = Duration::from_secs(2);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The time limit of one attempt to connect to an endpoint. It includes resolving the name, trying all addresses of the
    /// host, TLS, and verifying the password. Servers delay the response to a wrong password by at most 2 s, so a smaller
    /// limit hides the refusal.
    pub connect_timeout: Duration,
    /// The time limit of a request. It includes the time that the request waits for a connection.
    pub request_timeout: Duration,
    /// The time limit for a new replica to become complete.
    pub watch_timeout: Duration,
    /// The pause before the first attempt to reconnect. Each further pause is about twice as long, with jitter. Pauses also
    /// grow if connections succeed but are lost within `max_pause`.
    pub min_pause: Duration,
    /// The longest pause between attempts to reconnect.
    pub max_pause: Duration,
    /// The number of changes that are queued for a reader of [`Client::changes`](crate::Client::changes). If more are
    /// pending, the reader receives a [`Change::Gap`](crate::Change::Gap).
    pub max_waiting_changes: usize,
    /// The TLS options, for endpoints that use TLS.
    pub tls: Tls,
    /// The password for a server that requires one. If the server has users, the form is `name:password`; see
    /// [`Password::of_user`]. It is sent over TLS only.
    pub password: Option<Password>,
}

impl Default for Options {
    /// Returns the defaults: 5 s to connect, 10 s for a request, 5 minutes for a replica, pauses of 50 ms to 5 s, 4,096
    /// queued changes, the CAs that the system trusts, no password.
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
