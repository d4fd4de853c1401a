//! Establishing a connection to a server, up to the response to HELLO, and the reasons why a connection ends.

use crate::dialer::Dialer;
use crate::endpoints::Endpoint;
use crate::error::ConnectError;
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use syncline_core::client::{Handshake, HandshakeResult, ProtocolError};
use syncline_tls::{ALERT, Socket};
use syncline_wire::ServerHello;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

/// A connection that is ready for requests.
pub(crate) struct Link {
    pub(crate) stream: Socket,
    /// The bytes that were received after the response to HELLO.
    pub(crate) input: BytesMut,
    /// `None` if the server speaks only the base protocol.
    pub(crate) hello: Option<ServerHello>,
    /// The index of the endpoint.
    pub(crate) endpoint: usize,
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub(crate) enum Disconnect {
    #[error("the server closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(io::Error),
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    ResumeRefused(ProtocolError),
    #[error("the server violates the protocol: {0}")]
    Protocol(ProtocolError),
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The server closed a TLS connection without a close notification.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<ProtocolError> for Disconnect {
    fn from(error: ProtocolError) -> Self {
        match error {
            // This is a failure of the server, not a violation of the protocol.
            error @ ProtocolError::ResumeRefused { .. } => Self::ResumeRefused(error),
            error => Self::Protocol(error),
        }
    }
}

impl Disconnect {
    /// Returns the reason as text. A notice of the server is more specific, so it is preferred.
    pub(crate) fn reason(&self, notice: Option<String>) -> String {
        notice.map_or_else(|| self.to_string(), |text| format!("the server says: {text}"))
    }
}

/// Connects to the first endpoint that responds, starting with the endpoint number `first`.
///
/// # Errors
/// The error of the last endpoint that was tried.
pub(crate) async fn connect(
    dialer: &Dialer,
    first: usize,
    limit: Duration,
    base_only: bool,
) -> Result<Link, ConnectError> {
    let mut failed = ConnectError::NoEndpoint;
    for (number, endpoint) in dialer.round(first) {
        match timeout(limit, dialer.connect(endpoint, base_only)).await {
            Ok(Ok(Established { socket: stream, input, hello })) => {
                return Ok(Link { stream, input, hello, endpoint: number });
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = ConnectError::Timeout { address: endpoint.to_string(), timeout: limit },
        }
        debug!(%endpoint, error = %failed, "not connected");
    }
    Err(failed)
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Established {
    /// The socket.
    pub socket: Socket,
    /// The bytes that were received after the handshake.
    pub input: BytesMut,
    /// The response to HELLO. `None` if the connection uses only the base protocol.
    pub hello: Option<ServerHello>,
}

impl Dialer {
    /// Connects to one of the endpoints, authenticates if a password is set, and sends HELLO.
    ///
    /// A server that speaks only the base protocol closes the connection after a HELLO, so this connects again without one.
    /// With `base_only` it never sends HELLO. There is no time limit.
    ///
    /// Cancellation safe: if the future is dropped, the connection is closed.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed.
    pub async fn connect(&self, endpoint: &Endpoint, base_only: bool) -> Result<Established, ConnectError> {
        let address = || endpoint.to_string();
        let failed = |source| self.explain(endpoint, source);
        let mut socket = self.dial(endpoint).await?;
        let mut input = BytesMut::new();
        let password = self.password();
        let mut handshake = if base_only { Handshake::base(password) } else { Handshake::new(password) }?;
        loop {
            let result = handshake.handle_input(&mut input).map_err(|error| match input.first() {
                Some(&ALERT) if !endpoint.is_tls() => Self::tls_only(endpoint),
                _ => ConnectError::NoServer { address: address(), reason: error.to_string() },
            })?;
            match result {
                Some(HandshakeResult::Extended(hello)) => {
                    return Ok(Established { socket, input, hello: Some(hello) });
                }
                Some(HandshakeResult::Base) if base_only => return Ok(Established { socket, input, hello: None }),
                Some(HandshakeResult::Base) => {
                    debug!(%endpoint, "the server speaks only the base protocol");
                    return Box::pin(self.connect(endpoint, true)).await;
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
            let written = async {
                while handshake.output().has_remaining() {
                    socket.write_buf(handshake.output()).await?;
                }
                socket.flush().await
            };
            // If the server refuses the connection, the write may fail. The reason can still be read, so read first.
            let written = written.await;
            if socket.read_buf(&mut input).await.map_err(failed)? == 0 {
                written.map_err(failed)?;
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
