//! A connection to a server: what was learned of it when it was made, and why it is over.

use crate::{ConnectError, Dialer, Endpoint, Socket};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use syncline_core::client::{Handshake, HandshakeResult, ProtocolError};
use syncline_tls::ALERT;
use syncline_wire::ServerHello;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

/// A connection that is ready for requests.
pub(crate) struct Link {
    pub(crate) stream: Socket,
    /// What was read behind the greeting.
    pub(crate) input: BytesMut,
    /// None: the server speaks only the base protocol.
    pub(crate) greeting: Option<ServerHello>,
    /// Which of the endpoints it leads to.
    pub(crate) endpoint: usize,
}

/// Why a connection is over.
#[derive(Debug, Error)]
pub(crate) enum Lost {
    #[error("the server closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(io::Error),
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    NotResumed(ProtocolError),
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(ProtocolError),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // An end without a word, within TLS.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<ProtocolError> for Lost {
    fn from(error: ProtocolError) -> Self {
        match error {
            // The server is in trouble, and says so.
            error @ ProtocolError::NotResumed { .. } => Self::NotResumed(error),
            error => Self::Protocol(error),
        }
    }
}

impl Lost {
    /// What to tell people: what the server has said of the connection, if anything, tells more.
    pub(crate) fn reason(&self, notice: Option<String>) -> String {
        notice.map_or_else(|| self.to_string(), |text| format!("the server says: {text}"))
    }
}

/// Connects to the first endpoint that answers, beginning with the `first`-th.
///
/// # Errors
/// That of the last one.
pub(crate) async fn connect(
    dialer: &Dialer,
    first: usize,
    within: Duration,
    base_only: bool,
) -> Result<Link, ConnectError> {
    let mut failed = ConnectError::NoEndpoint;
    for (number, endpoint) in dialer.round(first) {
        match timeout(within, dialer.greet(endpoint, base_only)).await {
            Ok(Ok(Greeted { socket: stream, input, greeting })) => {
                return Ok(Link { stream, input, greeting, endpoint: number });
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = ConnectError::Timeout { address: endpoint.to_string(), timeout: within },
        }
        debug!(%endpoint, error = %failed, "not connected");
    }
    Err(failed)
}

/// A connection on which it is known how the server speaks.
#[derive(Debug)]
pub struct Greeted {
    /// The connection.
    pub socket: Socket,
    /// What was read behind the greeting.
    pub input: BytesMut,
    /// None: the server speaks only the base protocol, or no more was wanted.
    pub greeting: Option<ServerHello>,
}

impl Dialer {
    /// Connects to one of its endpoints, shows the password where there is one, and asks the server how it speaks. If that
    /// is the base protocol, it is connected to again, for it closes the connection on which it was asked; with
    /// `base_only` it is not asked.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn greet(&self, endpoint: &Endpoint, base_only: bool) -> Result<Greeted, ConnectError> {
        let address = || endpoint.to_string();
        let failed = |source| self.told(endpoint, source);
        let mut socket = self.dial(endpoint).await?;
        let mut input = BytesMut::new();
        let password = self.password();
        let mut handshake = if base_only { Handshake::base(password) } else { Handshake::new(password) }?;
        loop {
            let speech = handshake.handle_input(&mut input).map_err(|error| match input.first() {
                Some(&ALERT) if !endpoint.is_tls() => Self::tls_only(endpoint),
                _ => ConnectError::NoServer { address: address(), reason: error.to_string() },
            })?;
            match speech {
                Some(HandshakeResult::Extended(greeting)) => {
                    return Ok(Greeted { socket, input, greeting: Some(greeting) });
                }
                Some(HandshakeResult::Base) if base_only => return Ok(Greeted { socket, input, greeting: None }),
                Some(HandshakeResult::Base) => {
                    debug!(%endpoint, "the server speaks only the base protocol");
                    return Box::pin(self.greet(endpoint, true)).await;
                }
                Some(HandshakeResult::TlsOnly) => return Err(Self::tls_only(endpoint)),
                Some(HandshakeResult::PasswordRequired) => {
                    return Err(ConnectError::PasswordRequired { address: address() });
                }
                Some(HandshakeResult::BadPassword) => return Err(ConnectError::BadPassword { address: address() }),
                Some(HandshakeResult::Refused { text }) => {
                    return Err(ConnectError::Refused { address: address(), text });
                }
                None => {}
            }
            let asked = async {
                while handshake.output().has_remaining() {
                    socket.write_buf(handshake.output()).await?;
                }
                socket.flush().await
            };
            // Who is turned away may find that out by writing; why it is, only by reading.
            let asked = asked.await;
            if socket.read_buf(&mut input).await.map_err(failed)? == 0 {
                asked.map_err(failed)?;
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
