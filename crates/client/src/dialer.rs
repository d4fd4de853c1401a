//! How a stream of bytes to a server is made, plain or within TLS.

use crate::tls::Speaker;
use crate::{ConnectError, Endpoint, Endpoints, Options, Password, TlsProblem};
use std::io;
use syncline_tls::Socket;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Makes connections to endpoints: plain or TLS, as each says, and never the one instead of the other.
///
/// For those who speak the protocol themselves; a [`Client`](crate::Client) has its own.
pub struct Dialer {
    endpoints: Vec<Endpoint>,
    /// `None`: none of the endpoints asks for TLS.
    speaker: Option<Speaker>,
    /// What is shown to those who demand it. Where there is one, all endpoints ask for TLS.
    password: Option<Password>,
}

impl Dialer {
    /// Reads what TLS needs, where an endpoint asks for it.
    ///
    /// # Errors
    /// [`ConnectError`] where an endpoint is none, a file is not what it should be, or a password would travel without
    /// TLS.
    pub fn new(endpoints: &Endpoints, options: &Options) -> Result<Self, ConnectError> {
        let endpoints = endpoints.parsed()?;
        if options.password.is_some()
            && let Some(plain) = endpoints.iter().find(|endpoint| !endpoint.is_tls())
        {
            return Err(ConnectError::PasswordWithoutTls { address: plain.to_string() });
        }
        let speaker = endpoints.iter().any(Endpoint::is_tls).then(|| Speaker::new(&options.tls)).transpose()?;
        Ok(Self { endpoints, speaker, password: options.password.clone() })
    }

    /// Where it leads to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// All endpoints once, from the `first`-th on, each with its number.
    pub(crate) fn round(&self, first: usize) -> impl Iterator<Item = (usize, &Endpoint)> {
        let all = || self.endpoints.iter().enumerate();
        all().skip(first).chain(all().take(first))
    }

    /// What is shown to those who demand it.
    pub(crate) const fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// Connects to one of its endpoints, and does the handshake where that asks for TLS.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> Result<Socket, ConnectError> {
        let dialed = async {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            stream.set_nodelay(true)?;
            Ok(match &self.speaker {
                Some(speaker) if endpoint.is_tls() => {
                    TlsStream::from(speaker.connect(endpoint.host(), stream).await?).into()
                }
                // Never for an endpoint that asks for TLS: there is a speaker where one of them does.
                _ => Socket::from(stream),
            })
        };
        dialed.await.map_err(|error| self.told(endpoint, error))
    }

    /// What a failure on a connection to an endpoint means.
    pub(crate) fn told(&self, endpoint: &Endpoint, error: io::Error) -> ConnectError {
        let address = endpoint.to_string();
        match self.speaker.as_ref().and_then(|speaker| speaker.told(&error)) {
            Some(problem) => ConnectError::Tls { address, problem },
            None => ConnectError::Io { address, source: error },
        }
    }

    pub(crate) fn tls_only(endpoint: &Endpoint) -> ConnectError {
        ConnectError::Tls { address: endpoint.to_string(), problem: TlsProblem::TlsOnly }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
