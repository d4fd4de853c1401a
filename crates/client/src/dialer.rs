//! Opening sockets to endpoints, with or without TLS.

use crate::endpoints::{Endpoint, Endpoints};
use crate::error::ConnectError;
use crate::options::Options;
use crate::tls::Connector;
use crate::tls_error::TlsError;
use std::io;
use syncline_tls::Socket;
use syncline_wire::Password;
use tokio::net::TcpStream;
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
        Ok(Self { endpoints, connector, password: options.password.clone() })
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

    /// Opens a socket to one of the endpoints, and does the TLS handshake if the endpoint uses TLS.
    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> Result<Socket, ConnectError> {
        let dialed = async {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            stream.set_nodelay(true)?;
            Ok(match &self.connector {
                Some(connector) if endpoint.is_tls() => {
                    TlsStream::from(connector.connect(endpoint.host(), stream).await?).into()
                }
                // The endpoint does not use TLS: there is a connector if one of them does.
                _ => Socket::from(stream),
            })
        };
        dialed.await.map_err(|error| self.explain(endpoint, error))
    }

    /// Returns what an I/O error on a connection to an endpoint means.
    pub(crate) fn explain(&self, endpoint: &Endpoint, error: io::Error) -> ConnectError {
        let address = endpoint.to_string();
        match self.connector.as_ref().and_then(|connector| connector.explain(&error)) {
            Some(problem) => ConnectError::Tls { address, problem },
            None => ConnectError::Io { address, source: error },
        }
    }

    pub(crate) fn tls_only(endpoint: &Endpoint) -> ConnectError {
        ConnectError::Tls { address: endpoint.to_string(), problem: TlsError::TlsOnly }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
