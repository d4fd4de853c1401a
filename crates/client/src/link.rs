//! A connection to a server: what was learned of it when it was made, and why it is over.

use crate::{ConnectError, Dialer, Endpoint, Socket};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use syncline_core::client::{Handshake, ProtocolError, Speech};
use syncline_tls::ALERT;
use syncline_wire::Greeting;
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
    pub(crate) greeting: Option<Greeting>,
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
        match timeout(within, greet(dialer, endpoint, base_only)).await {
            Ok(Ok((stream, input, greeting))) => return Ok(Link { stream, input, greeting, endpoint: number }),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = ConnectError::Timeout { address: endpoint.to_string(), timeout: within },
        }
        debug!(%endpoint, error = %failed, "not connected");
    }
    Err(failed)
}

/// Connects once, and asks the server how it speaks; if that is the base protocol, it is connected to again, for it closes
/// the connection on which it was asked.
async fn greet(
    dialer: &Dialer,
    endpoint: &Endpoint,
    base_only: bool,
) -> Result<(Socket, BytesMut, Option<Greeting>), ConnectError> {
    let failed = |source| dialer.told(endpoint, source);
    let mut stream = dialer.dial(endpoint).await?;
    let mut input = BytesMut::new();
    let handshake = if base_only { Handshake::base(None) } else { Handshake::new(None) };
    let no_server = |reason| ConnectError::NoServer { address: endpoint.to_string(), reason };
    let mut handshake = handshake.map_err(|bad| no_server(bad.to_string()))?;
    loop {
        let asked = async {
            while handshake.output().has_remaining() {
                stream.write_buf(handshake.output()).await?;
            }
            stream.flush().await
        };
        // Who is turned away may find that out by writing; why it is, only by reading.
        let asked = asked.await;
        let speech = handshake.handle_input(&mut input).map_err(|error| match input.first() {
            Some(&ALERT) if !endpoint.is_tls() => Dialer::tls_only(endpoint),
            _ => no_server(error.to_string()),
        })?;
        match speech {
            Some(Speech::Extended(greeting)) => return Ok((stream, input, Some(greeting))),
            Some(Speech::Base) if base_only => return Ok((stream, input, None)),
            Some(Speech::Base) => {
                debug!(%endpoint, "the server speaks only the base protocol");
                return Box::pin(greet(dialer, endpoint, true)).await;
            }
            Some(Speech::TlsOnly) => return Err(Dialer::tls_only(endpoint)),
            Some(Speech::PasswordRequired) => {
                return Err(ConnectError::PasswordRequired { address: endpoint.to_string() });
            }
            Some(Speech::BadPassword) => return Err(ConnectError::BadPassword { address: endpoint.to_string() }),
            Some(Speech::Refused { text }) => {
                return Err(ConnectError::Refused { address: endpoint.to_string(), text });
            }
            None => {}
        }
        if stream.read_buf(&mut input).await.map_err(failed)? == 0 {
            asked.map_err(failed)?;
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
