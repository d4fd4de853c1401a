//! A connection to a server: what was learned of it when it was made, and why it is over.

use crate::{ConnectError, Endpoints};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use syncline_core::client::{Handshake, ProtocolError, Speech};
use syncline_wire::Greeting;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

/// A connection that is ready for requests.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
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
    Io(#[from] io::Error),
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    NotResumed(ProtocolError),
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(ProtocolError),
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
    endpoints: &Endpoints,
    first: usize,
    within: Duration,
    base_only: bool,
) -> Result<Link, ConnectError> {
    let mut failed = ConnectError::NoEndpoint;
    for (endpoint, address) in endpoints.round(first) {
        match timeout(within, greet(address, base_only)).await {
            Ok(Ok((stream, input, greeting))) => return Ok(Link { stream, input, greeting, endpoint }),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = ConnectError::Timeout { address: address.into(), timeout: within },
        }
        debug!(address, error = %failed, "not connected");
    }
    Err(failed)
}

/// Connects once, and asks the server how it speaks; if that is the base protocol, it is connected to again, for it closes
/// the connection on which it was asked.
async fn greet(address: &str, base_only: bool) -> Result<(TcpStream, BytesMut, Option<Greeting>), ConnectError> {
    let failed = |source| ConnectError::Io { address: address.into(), source };
    let mut stream = open(address).await.map_err(failed)?;
    let mut input = BytesMut::new();
    let handshake = if base_only { Handshake::base(None) } else { Handshake::new(None) };
    let mut handshake =
        handshake.map_err(|bad| ConnectError::NoServer { address: address.into(), reason: bad.to_string() })?;
    loop {
        while handshake.output().has_remaining() {
            stream.write_buf(handshake.output()).await.map_err(failed)?;
        }
        let speech = handshake
            .handle_input(&mut input)
            .map_err(|error| ConnectError::NoServer { address: address.into(), reason: error.to_string() })?;
        match speech {
            Some(Speech::Extended(greeting)) => return Ok((stream, input, Some(greeting))),
            Some(Speech::Base) if base_only => return Ok((stream, input, None)),
            Some(Speech::Base) => {
                debug!(address, "the server speaks only the base protocol");
                return Ok((open(address).await.map_err(failed)?, BytesMut::new(), None));
            }
            Some(Speech::PasswordRequired) => return Err(ConnectError::PasswordRequired { address: address.into() }),
            Some(Speech::BadPassword) => return Err(ConnectError::BadPassword { address: address.into() }),
            Some(Speech::Refused { text }) => return Err(ConnectError::Refused { address: address.into(), text }),
            None => {}
        }
        if stream.read_buf(&mut input).await.map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn open(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
