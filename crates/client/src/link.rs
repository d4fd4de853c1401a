//! Establishing a connection to a server, up to the response to HELLO, and the reasons why a connection ends.

use crate::dialer::{Dialer, Peer};
use crate::endpoints::Endpoint;
use crate::error::ConnectError;
use crate::race::race;
use bytes::{Buf, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use syncline_core::client::{Handshake, HandshakeResult, ProtocolError};
use syncline_tls::{ALERT, Socket};
use syncline_wire::ServerHello;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
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
    #[error("not permitted: {missing}")]
    NotPermitted { missing: String },
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
            ProtocolError::ResumeNotPermitted { missing } => Self::NotPermitted { missing },
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

/// Connects to the first endpoint that responds, starting with the endpoint number `first`. An endpoint that refuses the
/// client does not end the attempt: the others are tried, too.
///
/// # Errors
/// The errors of all endpoints.
pub(crate) async fn connect(dialer: &Dialer, first: usize, base_only: bool) -> Result<Link, ConnectError> {
    let mut failures = Vec::new();
    for (number, endpoint) in dialer.round(first) {
        match dialer.connect(endpoint, base_only).await {
            Ok(Established { socket: stream, input, hello }) => {
                return Ok(Link { stream, input, hello, endpoint: number });
            }
            Err(error) => {
                debug!(%endpoint, %error, "not connected");
                failures.push(error);
            }
        }
    }
    Err(if failures.is_empty() { ConnectError::NoEndpoint } else { ConnectError::all(failures) })
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
    /// Connects to one of the endpoints, authenticates if a password is set, and sends HELLO. If the name of the host has
    /// several addresses, they are tried in parallel, each 250 ms after the one before.
    ///
    /// A server that speaks only the base protocol closes the connection after a HELLO, so this connects again without one.
    /// With `base_only` it never sends HELLO. The time limit is [`Options::connect_timeout`](crate::Options::connect_timeout).
    ///
    /// Cancellation safe: if the future is dropped, the connection is closed.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed; [`ConnectError::All`] lists the errors of several addresses.
    pub async fn connect(&self, endpoint: &Endpoint, base_only: bool) -> Result<Established, ConnectError> {
        let deadline = Instant::now() + self.connect_timeout();
        let addresses = self.resolve(endpoint, deadline).await?;
        self.connect_to(endpoint, &addresses, base_only, deadline).await
    }

    /// Connects to the first of these addresses of an endpoint that answers.
    async fn connect_to(
        &self,
        endpoint: &Endpoint,
        addresses: &[SocketAddr],
        base_only: bool,
        deadline: Instant,
    ) -> Result<Established, ConnectError> {
        let peer = |address: SocketAddr| Peer {
            endpoint,
            address,
            shown: match addresses.len() {
                1 => endpoint.to_string(),
                _ => format!("{endpoint} ({address})"),
            },
        };
        let connected = race(
            addresses,
            deadline,
            |address| async move { TcpStream::connect(address).await.map_err(|error| self.explain(&peer(address), error)) },
            |address, stream| async move { self.greet(&peer(address), stream, base_only).await },
            ConnectError::is_refusal,
        );
        connected.await.map_err(|failures| {
            let late = |address| ConnectError::Timeout { address, timeout: self.connect_timeout() };
            let failures =
                failures.into_iter().map(|(address, error)| error.unwrap_or_else(|| late(peer(address).shown)));
            ConnectError::all(failures.collect())
        })
    }

    /// Completes the handshakes on a new connection. Connects again if the server speaks only the base protocol.
    async fn greet(&self, peer: &Peer<'_>, stream: TcpStream, base_only: bool) -> Result<Established, ConnectError> {
        if let Some(established) = self.shake_hands(peer, stream, base_only).await? {
            return Ok(established);
        }
        debug!(address = peer.shown, "the server speaks only the base protocol");
        let again = TcpStream::connect(peer.address).await.map_err(|error| self.explain(peer, error))?;
        let established = self.shake_hands(peer, again, true).await?;
        established.ok_or_else(|| self.explain(peer, io::ErrorKind::UnexpectedEof.into()))
    }

    /// Completes the handshakes of TLS and of the protocol. Returns `None` if the server does not know the HELLO that was
    /// sent.
    async fn shake_hands(
        &self,
        peer: &Peer<'_>,
        stream: TcpStream,
        base_only: bool,
    ) -> Result<Option<Established>, ConnectError> {
        let address = || peer.shown.clone();
        let failed = |source| self.explain(peer, source);
        let mut socket = self.secure(peer, stream).await?;
        let mut input = BytesMut::new();
        let password = self.password();
        let mut handshake = if base_only { Handshake::base(password) } else { Handshake::new(password) }?;
        loop {
            let result = handshake.handle_input(&mut input).map_err(|error| match input.first() {
                Some(&ALERT) if !peer.endpoint.is_tls() => peer.tls_only(),
                _ => ConnectError::NoServer { address: address(), reason: error.to_string() },
            })?;
            match result {
                Some(HandshakeResult::Extended(hello)) => {
                    return Ok(Some(Established { socket, input, hello: Some(hello) }));
                }
                Some(HandshakeResult::Base) if base_only => {
                    return Ok(Some(Established { socket, input, hello: None }));
                }
                Some(HandshakeResult::Base) => return Ok(None),
                Some(HandshakeResult::TlsOnly) => return Err(peer.tls_only()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::Endpoints;
    use crate::options::Options;
    use std::net::TcpListener as StdListener;
    use syncline_wire::{Message, Revision, Tag};
    use tokio::net::TcpListener;

    fn dialer() -> Dialer {
        let options = Options { connect_timeout: Duration::from_secs(2), ..Options::default() };
        Dialer::new(&Endpoints::from("db.example.org:6660"), &options).unwrap()
    }

    /// Connects to an endpoint that has these addresses.
    async fn connect_to(addresses: &[SocketAddr]) -> Result<Established, ConnectError> {
        let dialer = dialer();
        let deadline = Instant::now() + dialer.connect_timeout();
        dialer.connect_to(dialer.endpoints().first().unwrap(), addresses, false, deadline).await
    }

    /// Returns an address on which nothing listens.
    fn closed(address: &str) -> SocketAddr {
        StdListener::bind(address).unwrap().local_addr().unwrap()
    }

    /// Returns the address of a server that responds to every connection with this frame.
    async fn responding(response: Message) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut frame = BytesMut::new();
                response.encode(&mut frame).unwrap();
                let _ = stream.read(&mut [0; 5]).await;
                let _ = stream.write_all(&frame).await;
                tokio::spawn(async move { stream.read(&mut [0]).await });
            }
        });
        address
    }

    fn hello() -> Message {
        let hello = ServerHello {
            protocol: 1,
            features: 0,
            store_id: [7; 16],
            head: Revision::new(5),
            heartbeat_ms: 2000,
            max_key: 4096,
            max_entry: 65_525,
        };
        Message::hello(Tag::new(1), hello.encode())
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_is_silent_does_not_hide_the_next() {
        let server = responding(hello()).await;
        // The kernel accepts connections to this one, and nothing answers.
        let silent = StdListener::bind("127.0.0.1:0").unwrap();
        let other = responding(Message::error(Tag::new(1), "unavailable: full")).await;
        for first in [closed("[::1]:0"), silent.local_addr().unwrap(), other] {
            let established = connect_to(&[first, server]).await.unwrap();
            assert!(established.hello.is_some(), "{first}");
        }
    }

    #[tokio::test]
    async fn the_error_names_every_address_of_a_host() {
        let (v6, v4) = (closed("[::1]:0"), closed("127.0.0.1:0"));
        let text = connect_to(&[v6, v4]).await.unwrap_err().to_string();
        let refused = "Connection refused (os error 111)";
        let expected = format!(
            "can't connect to db.example.org:6660 ({v6}): {refused}; can't connect to db.example.org:6660 ({v4}): {refused}"
        );
        assert_eq!(text, expected);
        let text = connect_to(&[v4]).await.unwrap_err().to_string();
        assert_eq!(text, format!("can't connect to db.example.org:6660: {refused}"));
        let silent = StdListener::bind("127.0.0.1:0").unwrap();
        let text = connect_to(&[v4, silent.local_addr().unwrap()]).await.unwrap_err().to_string();
        assert!(text.ends_with("): no answer within 2s"), "{text}");
    }

    #[tokio::test]
    async fn a_refusal_of_one_address_is_not_repeated_at_the_others() {
        let refusing = responding(Message::error(Tag::new(1), "go away, bad message type")).await;
        let untouched = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = connect_to(&[refusing, untouched.local_addr().unwrap()]).await.unwrap_err();
        assert!(matches!(error, ConnectError::PasswordRequired { .. }), "{error}");
        let is_untouched =
            std::future::poll_fn(|context| std::task::Poll::Ready(untouched.poll_accept(context).is_pending())).await;
        assert!(is_untouched);
    }

    #[tokio::test]
    async fn an_unknown_interface_is_reported_and_a_known_one_has_its_number() {
        let resolve = async |endpoint: &str| {
            let dialer = Dialer::new(&endpoint.into(), &Options::default()).unwrap();
            let deadline = Instant::now() + dialer.connect_timeout();
            dialer.resolve(dialer.endpoints().first().unwrap(), deadline).await
        };
        let unknown = resolve("[fe80::1%nosuch0]:1").await.unwrap_err().to_string();
        let expected = "can't connect to [fe80::1%nosuch0]:1: can't resolve the name of the host: \
                        expected the name or number of a network interface after %, found \"nosuch0\"";
        assert_eq!(unknown, expected);
        let missing = resolve("[fe80::1]:1").await.unwrap_err().to_string();
        let expected = "expected the network interface of a link-local address, as in [fe80::1%eth0]:6660, found none";
        assert_eq!(missing, format!("can't connect to [fe80::1]:1: can't resolve the name of the host: {expected}"));
        let by_name = resolve("[fe80::1%lo]:1").await.unwrap();
        assert_eq!(by_name, resolve("[fe80::1%1]:1").await.unwrap(), "lo is interface 1");
        assert!(matches!(by_name.as_slice(), [SocketAddr::V6(address)] if address.scope_id() == 1), "{by_name:?}");
    }
}
