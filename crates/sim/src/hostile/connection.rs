//! Connections that send and receive raw frames over TCP or TLS, and the target that they connect to.

use super::error::AttackError;
use bytes::BytesMut;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use syncline_tls::{Pem, provider};
use syncline_wire::{Auth, Decoded, HEADER_LENGTH, Message, Password, Tag, decode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;

/// The longest time to wait for a response. A working server is much faster.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The minimum capacity of a read.
const READ_SIZE: usize = 16 * 1024;

/// The receive buffer in the kernel for connections that do not read.
const SMALL_BUFFER: u32 = 16 * 1024;

/// How often a connection is retried while the system is out of local ports, and the pause between retries.
const MAX_RETRIES: usize = 200;
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Counts what all connections to a target send.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    connections: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// What an attack has sent over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The number of connections.
    pub connections: u64,
    /// The number of frames.
    pub frames: u64,
    /// The number of bytes.
    pub bytes: u64,
}

impl TrafficCounters {
    /// Returns the totals so far.
    pub(super) fn totals(&self) -> Traffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { connections: load(&self.connections), frames: load(&self.frames), bytes: load(&self.bytes) }
    }
}

/// A server, and how to connect to it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The TLS settings, or `None` for plain TCP.
    tls: Option<TlsConnector>,
    /// The credentials, or `None` for unauthenticated connections.
    password: Option<Password>,
    /// The local address of connections.
    from: IpAddr,
    /// The counters of what is sent.
    pub(super) traffic: Arc<TrafficCounters>,
}

impl Target {
    /// Makes a target. The server uses TLS if `ca` is set, and requires authentication if `password` is set.
    pub(super) fn new(address: SocketAddr, ca: Option<&Pem>, password: Option<Password>) -> Result<Self, AttackError> {
        let tls = ca.map(connector).transpose()?;
        Ok(Self { address, tls, password, from: HOST, traffic: Arc::default() })
    }

    /// Returns the same server for unauthenticated connections from another local address.
    pub(super) fn unauthenticated(&self, number: u8) -> Self {
        Self { password: None, ..self.clone() }.with_local_address(number)
    }

    /// Returns the same target with another local address.
    pub(super) fn with_local_address(self, number: u8) -> Self {
        Self { from: Ipv4Addr::new(127, 0, 1, number).into(), ..self }
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the same target with counters of its own, for traffic that does not belong to the attack.
    pub(super) fn uncounted(&self) -> Self {
        Self { traffic: Arc::default(), ..self.clone() }
    }

    /// Opens a connection, and authenticates it if the target has a password.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        self.open(|_| Ok(())).await
    }

    /// Opens a connection with a small receive buffer in the kernel.
    pub(super) async fn connect_with_small_buffer(&self) -> io::Result<Connection> {
        self.open(|socket| socket.set_recv_buffer_size(SMALL_BUFFER)).await
    }

    /// Opens an extended connection: sends HELLO, and waits for the response.
    pub(super) async fn connect_with_hello(&self) -> Result<Connection, AttackError> {
        let mut connection = self.connect().await?;
        connection.hello().await?;
        Ok(connection)
    }

    /// Opens a TCP connection without TLS, even if the server expects TLS.
    pub(super) async fn connect_tcp(&self) -> io::Result<TcpStream> {
        self.dial(|_| Ok(())).await
    }

    async fn open(&self, prepare: impl Fn(&TcpSocket) -> io::Result<()>) -> io::Result<Connection> {
        let tcp = self.dial(prepare).await?;
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let connected = timeout(RESPONSE_TIMEOUT, tls.connect(ServerName::from(self.address.ip()), tcp)).await;
                Stream::Tls(Box::new(connected.map_err(|_| io::Error::from(ErrorKind::TimedOut))??))
            }
        };
        let mut connection = Connection { stream, input: BytesMut::new(), traffic: self.traffic.clone() };
        if let Some(password) = &self.password {
            connection.authorize(password).await?;
        }
        Ok(connection)
    }

    async fn dial(&self, prepare: impl Fn(&TcpSocket) -> io::Result<()>) -> io::Result<TcpStream> {
        let mut retries = 0;
        let tcp = loop {
            let socket = TcpSocket::new_v4()?;
            prepare(&socket)?;
            if self.from != HOST {
                socket.bind(SocketAddr::new(self.from, 0))?;
            }
            let dialed = timeout(RESPONSE_TIMEOUT, socket.connect(self.address)).await;
            match dialed.map_err(|_| io::Error::from(ErrorKind::TimedOut))? {
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && retries < MAX_RETRIES => {
                    retries += 1;
                    sleep(RETRY_PAUSE).await;
                }
                dialed => break dialed?,
            }
        };
        tcp.set_nodelay(true)?;
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Ok(tcp)
    }
}

/// Makes a connector that trusts one CA, and never resumes TLS sessions.
fn connector(ca: &Pem) -> Result<TlsConnector, AttackError> {
    let wrong = |error: &dyn std::fmt::Display| AttackError::unexpected("certificates for TLS", error);
    let roots = ca.roots().map_err(|error| wrong(&error))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| wrong(&error))?.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

/// The address on which servers listen.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The transport of a connection.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A connection that sends and receives raw frames.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    input: BytesMut,
    traffic: Arc<TrafficCounters>,
}

impl Connection {
    /// Sends bytes, and counts them as `frames` frames.
    pub(super) async fn send(&mut self, bytes: &[u8], frames: usize) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.traffic.frames.fetch_add(as_u64(frames), Ordering::Relaxed);
        self.traffic.bytes.fetch_add(as_u64(bytes.len()), Ordering::Relaxed);
        Ok(())
    }

    /// Sends a batch over and over. It blocks when the server stops reading. If this is dropped, the last batch may
    /// have been sent in part.
    pub(super) async fn send_repeatedly(&mut self, batch: &[u8], frames: usize) -> io::Result<()> {
        loop {
            self.send(batch, frames).await?;
        }
    }

    /// Receives the next message, or `None` at the end of the connection.
    pub(super) async fn receive(&mut self) -> Result<Option<Message>, AttackError> {
        loop {
            match decode(&mut self.input) {
                Ok(Decoded::Frame(message)) => return Ok(Some(message)),
                Ok(Decoded::Incomplete { .. }) => {}
                Ok(Decoded::TooLarge { kind, excess, .. }) => {
                    return Err(AttackError::unexpected("a frame of a server", format_args!("a {kind} of {excess}")));
                }
                Err(malformed) => return Err(AttackError::unexpected("a frame of a server", malformed)),
            }
            self.input.reserve(READ_SIZE);
            let read = timeout(RESPONSE_TIMEOUT, self.stream.read_buf(&mut self.input)).await;
            if read.map_err(|_| {
                AttackError::unexpected("a response", format_args!("none within {RESPONSE_TIMEOUT:?}"))
            })?? == 0
            {
                return match self.input.len() {
                    0 => Ok(None),
                    found => {
                        Err(AttackError::unexpected("an end between two frames", format_args!("{found} bytes of one")))
                    }
                };
            }
        }
    }

    /// Receives the next response. Skips broadcasts before it, except errors.
    pub(super) async fn response(&mut self) -> Result<Message, AttackError> {
        loop {
            match self.receive().await? {
                Some(message) if message.tag() == Tag::BROADCAST && !matches!(message, Message::Error(_)) => {}
                Some(message) => return Ok(message),
                None => return Err(AttackError::unexpected("a response", "the end of the connection")),
            }
        }
    }

    /// Sends a request, and receives the next response.
    pub(super) async fn request(&mut self, request: &Message) -> Result<Message, AttackError> {
        self.send(&encode(request), 1).await?;
        self.response().await
    }

    /// Authenticates with a valid password.
    async fn authorize(&mut self, password: &Password) -> io::Result<()> {
        let request = Message::Auth(Auth { tag: HELLO_TAG, password: password.clone() });
        match self.request(&request).await {
            Ok(Message::Auth(auth)) if auth.password.expose().is_empty() => Ok(()),
            Ok(other) => Err(io::Error::new(ErrorKind::PermissionDenied, other.redacted().to_string())),
            Err(AttackError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::new(ErrorKind::ConnectionAborted, error)),
        }
    }

    /// Sends HELLO, and checks the response.
    pub(super) async fn hello(&mut self) -> Result<(), AttackError> {
        match self.request(&Message::hello(HELLO_TAG, "")).await? {
            Message::Hello(hello) if hello.tag == HELLO_TAG => Ok(()),
            other => Err(AttackError::unexpected("the response to HELLO", other.redacted())),
        }
    }

    /// Reads exactly one byte into the input buffer.
    pub(super) async fn read_byte(&mut self) -> io::Result<()> {
        let byte = self.stream.read_u8().await?;
        self.input.extend_from_slice(&[byte]);
        Ok(())
    }

    /// Reads and discards at most about `limit` bytes. Returns whether the server has closed the connection.
    pub(super) async fn drain(&mut self, limit: usize) -> bool {
        let mut received = 0;
        while received < limit {
            self.input.clear();
            self.input.reserve(READ_SIZE);
            match timeout(RESPONSE_TIMEOUT, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) | Ok(Err(_)) => return true,
                Ok(Ok(read)) => received += read,
                Err(_) => return false,
            }
        }
        false
    }

    /// Closes the sending side of the connection. Errors are ignored: it may be closed already.
    pub(super) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Makes TLS update its keys with the next data, and request the same from the server.
    pub(super) fn update_keys(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.get_mut().1.refresh_traffic_keys().map_err(io::Error::other),
        }
    }

    /// Resets the connection.
    pub(super) fn reset(self) -> io::Result<()> {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        tcp.set_zero_linger()
    }
}

/// The tag of HELLO and AUTH.
const HELLO_TAG: Tag = Tag::new(64_995);

/// Encodes a message. All messages of this module can be encoded; otherwise the result would be empty.
pub(super) fn encode(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEADER_LENGTH);
    let is_encoded = message.encode(&mut bytes);
    debug_assert!(is_encoded.is_ok(), "{is_encoded:?}");
    bytes
}

/// Encodes messages one after the other.
pub(super) fn encode_all(messages: impl IntoIterator<Item = Message>) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        bytes.unsplit(encode(&message));
    }
    bytes
}

/// Converts a count.
pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
