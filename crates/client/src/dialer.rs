//! The addresses of endpoints, and the sockets to them, with or without TLS.

use crate::endpoints::{Endpoint, Endpoints};
use crate::error::ConnectError;
use crate::options::Options;
use crate::race::in_turn;
use crate::tls::Connector;
use crate::tls_error::TlsError;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;
use syncline_tls::Socket;
use syncline_wire::Password;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsStream;

/// Connects to endpoints, with or without TLS as each endpoint specifies. It never falls back to the other.
///
/// Use it to speak the protocol directly. A [`Client`](crate::Client) has a dialer of its own.
pub struct Dialer {
    endpoints: Vec<Endpoint>,
    /// `None` if no endpoint uses TLS.
    connector: Option<Connector>,
    /// The password. If there is one, all endpoints use TLS.
    password: Option<Password>,
    connect_timeout: Duration,
}

/// The server at one of the addresses of an endpoint.
pub(crate) struct Peer<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) address: SocketAddr,
    /// The address as error texts show it.
    pub(crate) shown: String,
}

impl Peer<'_> {
    pub(crate) fn tls_only(&self) -> ConnectError {
        ConnectError::Tls { address: self.shown.clone(), problem: TlsError::TlsOnly }
    }
}

impl Dialer {
    /// Creates a dialer. Loads certificates and keys if an endpoint uses TLS.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] if an endpoint is malformed, [`ConnectError::Pem`] or [`ConnectError::NoRoots`] if
    /// certificates cannot be loaded, [`ConnectError::PasswordWithoutTls`] if a password is set and an endpoint does not
    /// use TLS.
    pub fn new(endpoints: &Endpoints, options: &Options) -> Result<Self, ConnectError> {
        let endpoints = endpoints.parsed()?;
        if options.password.is_some()
            && let Some(plain) = endpoints.iter().find(|endpoint| !endpoint.is_tls())
        {
            return Err(ConnectError::PasswordWithoutTls { address: plain.to_string() });
        }
        let connector = endpoints.iter().any(Endpoint::is_tls).then(|| Connector::new(&options.tls)).transpose()?;
        let (password, connect_timeout) = (options.password.clone(), options.connect_timeout);
        Ok(Self { endpoints, connector, password, connect_timeout })
    }

    /// Returns the endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns each endpoint once with its index, starting with the endpoint number `first`.
    pub(crate) fn round(&self, first: usize) -> impl Iterator<Item = (usize, &Endpoint)> {
        let all = || self.endpoints.iter().enumerate();
        all().skip(first).chain(all().take(first))
    }

    /// Returns the password.
    pub(crate) const fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// Returns the time limit of one attempt to connect.
    pub(crate) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns the addresses of an endpoint, in the order in which they are tried.
    pub(crate) async fn resolve(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let unresolved = |reason: String| ConnectError::Resolve { address: endpoint.to_string(), reason };
        // The system would report "invalid argument".
        if endpoint.host().parse().is_ok_and(|address: Ipv6Addr| address.is_unicast_link_local()) {
            let expected =
                "expected the network interface of a link-local address, as in [fe80::1%eth0]:6660, found none";
            return Err(unresolved(expected.into()));
        }
        let lookup = lookup_host((endpoint.host(), endpoint.port()));
        match timeout_at(deadline, lookup).await {
            Err(_) => Err(unresolved(format!("no answer of the system's resolver within {:?}", self.connect_timeout))),
            Ok(Err(error)) => Err(unresolved(match endpoint.zone() {
                Some(zone) => format!("expected the name or number of a network interface after %, found {zone:?}"),
                None => error.to_string(),
            })),
            Ok(Ok(addresses)) => match in_turn(addresses) {
                addresses if addresses.is_empty() => Err(unresolved("it has no address".into())),
                addresses => Ok(addresses),
            },
        }
    }

    /// Does the TLS handshake if the endpoint uses TLS.
    pub(crate) async fn secure(&self, peer: &Peer<'_>, stream: TcpStream) -> Result<Socket, ConnectError> {
        let secured = async {
            stream.set_nodelay(true)?;
            Ok(match &self.connector {
                Some(connector) if peer.endpoint.is_tls() => {
                    TlsStream::from(connector.connect(peer.endpoint.host_without_zone(), stream).await?).into()
                }
                // The endpoint does not use TLS: there is a connector if one of them does.
                _ => Socket::from(stream),
            })
        };
        secured.await.map_err(|error| self.explain(peer, error))
    }

    /// Returns what an I/O error on a connection means.
    pub(crate) fn explain(&self, peer: &Peer<'_>, error: io::Error) -> ConnectError {
        let address = peer.shown.clone();
        match self.connector.as_ref().and_then(|connector| connector.explain(&error)) {
            Some(problem) => ConnectError::Tls { address, problem },
            None => ConnectError::Io { address, source: error },
        }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
