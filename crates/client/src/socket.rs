//! A stream of bytes to a server, plain or within TLS, and how it is made.

use crate::tls::Speaker;
use crate::{ConnectError, Endpoint, Endpoints, Options, Password, TlsProblem};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A stream of bytes to a server. What was written must be flushed: TLS may hold it back otherwise.
#[derive(Debug)]
pub struct Socket(Inner);

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

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
                    Inner::Tls(Box::new(speaker.connect(endpoint.host(), stream).await?))
                }
                // Never for an endpoint that asks for TLS: there is a speaker where one of them does.
                _ => Inner::Plain(stream),
            })
        };
        dialed.await.map(Socket).map_err(|error| self.told(endpoint, error))
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

/// Does the same to whichever of the two it is.
macro_rules! inner {
    ($socket:expr, $stream:ident => $does:expr) => {
        match &mut $socket.get_mut().0 {
            Inner::Plain($stream) => $does,
            Inner::Tls($stream) => $does,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
