//! A connection in raw frames, over TCP or TLS, and where it leads.

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

/// How long is waited for what must come: only a broken server makes anybody wait so long.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is read at once, at the least.
const READ_SIZE: usize = 16 * 1024;

/// What the kernel may keep for somebody who does not read.
const SMALL_BUFFER: u32 = 16 * 1024;

/// How often a connection is tried while the system is out of local ports, and the pause between: it has new ones soon.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// What was sent, all connections together.
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

/// Where connections lead, and over what.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// `None`: plain TCP.
    tls: Option<TlsConnector>,
    /// What is shown first.
    password: Option<Password>,
    /// The address that connections come from.
    from: IpAddr,
    /// What goes there is counted here.
    pub(super) traffic: Arc<TrafficCounters>,
}

impl Target {
    /// Leads to a server that speaks no TLS, or has a certificate of this CA; where it wants a password, with that.
    pub(super) fn new(address: SocketAddr, ca: Option<&Pem>, password: Option<Password>) -> Result<Self, AttackError> {
        let tls = ca.map(connector).transpose()?;
        Ok(Self { address, tls, password, from: HOST, traffic: Arc::default() })
    }

    /// The same server, for somebody who knows no password and comes from another address of this host.
    pub(super) fn unauthenticated(&self, number: u8) -> Self {
        Self { password: None, ..self.clone() }.from_address(number)
    }

    /// The same, from another address of this host.
    pub(super) fn from_address(self, number: u8) -> Self {
        Self { from: Ipv4Addr::new(127, 0, 1, number).into(), ..self }
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The same server, for somebody whose traffic is none of the attack's.
    pub(super) fn uncounted(&self) -> Self {
        Self { traffic: Arc::default(), ..self.clone() }
    }

    pub(super) async fn connect(&self) -> io::Result<Connection> {
        self.open(|_| Ok(())).await
    }

    /// A connection whose kernel holds little that it has not read.
    pub(super) async fn connect_with_small_buffer(&self) -> io::Result<Connection> {
        self.open(|socket| socket.set_recv_buffer_size(SMALL_BUFFER)).await
    }

    /// A connection that has said HELLO, and was answered.
    pub(super) async fn connect_with_hello(&self) -> Result<Connection, AttackError> {
        let mut connection = self.connect().await?;
        connection.hello().await?;
        Ok(connection)
    }

    /// A connection of TCP, without TLS, whatever the server speaks.
    pub(super) async fn connect_tcp(&self) -> io::Result<TcpStream> {
        self.dial(|_| Ok(())).await
    }

    async fn open(&self, prepare: impl Fn(&TcpSocket) -> io::Result<()>) -> io::Result<Connection> {
        let tcp = self.dial(prepare).await?;
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let shaken = timeout(RESPONSE_TIMEOUT, tls.connect(ServerName::from(self.address.ip()), tcp)).await;
                Stream::Tls(Box::new(shaken.map_err(|_| io::Error::from(ErrorKind::TimedOut))??))
            }
        };
        let mut connection = Connection { stream, input: BytesMut::new(), traffic: self.traffic.clone() };
        if let Some(password) = &self.password {
            connection.authorize(password).await?;
        }
        Ok(connection)
    }

    async fn dial(&self, prepare: impl Fn(&TcpSocket) -> io::Result<()>) -> io::Result<TcpStream> {
        let mut tries = 0;
        let tcp = loop {
            let socket = TcpSocket::new_v4()?;
            prepare(&socket)?;
            if self.from != HOST {
                socket.bind(SocketAddr::new(self.from, 0))?;
            }
            let dialed = timeout(RESPONSE_TIMEOUT, socket.connect(self.address)).await;
            match dialed.map_err(|_| io::Error::from(ErrorKind::TimedOut))? {
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && tries < TRIES => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                dialed => break dialed?,
            }
        };
        tcp.set_nodelay(true)?;
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Ok(tcp)
    }
}

/// Trusts one CA, and shakes hands in full each time.
fn connector(ca: &Pem) -> Result<TlsConnector, AttackError> {
    let wrong = |error: &dyn std::fmt::Display| AttackError::unexpected("certificates to speak TLS with", error);
    let roots = ca.roots().map_err(|error| wrong(&error))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| wrong(&error))?.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

/// The address that servers listen on.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What carries the bytes.
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

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    input: BytesMut,
    traffic: Arc<TrafficCounters>,
}

impl Connection {
    /// Sends what holds so many frames.
    pub(super) async fn send(&mut self, bytes: &[u8], frames: usize) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.traffic.frames.fetch_add(as_u64(frames), Ordering::Relaxed);
        self.traffic.bytes.fetch_add(as_u64(bytes.len()), Ordering::Relaxed);
        Ok(())
    }

    /// Sends one after the other, until nothing more is taken and this is dropped: then the last one is there in part.
    pub(super) async fn send_repeatedly(&mut self, batch: &[u8], frames: usize) -> io::Result<()> {
        loop {
            self.send(batch, frames).await?;
        }
    }

    /// The next message, or the end.
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
            if read
                .map_err(|_| AttackError::unexpected("an answer", format_args!("none within {RESPONSE_TIMEOUT:?}")))??
                == 0
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

    /// The next answer; what comes unasked before it is passed over.
    pub(super) async fn response(&mut self) -> Result<Message, AttackError> {
        loop {
            match self.receive().await? {
                Some(message) if message.tag() == Tag::BROADCAST && !matches!(message, Message::Error(_)) => {}
                Some(message) => return Ok(message),
                None => return Err(AttackError::unexpected("an answer", "the end of the connection")),
            }
        }
    }

    /// Sends a message, and answers what comes for it.
    pub(super) async fn request(&mut self, request: &Message) -> Result<Message, AttackError> {
        self.send(&encode(request), 1).await?;
        self.response().await
    }

    /// Shows a password, which is right.
    async fn authorize(&mut self, password: &Password) -> io::Result<()> {
        let request = Message::Auth(Auth { tag: HELLO_TAG, password: password.clone() });
        match self.request(&request).await {
            Ok(Message::Auth(auth)) if auth.password.expose().is_empty() => Ok(()),
            Ok(other) => Err(io::Error::new(ErrorKind::PermissionDenied, other.redacted().to_string())),
            Err(AttackError::Io(error)) => Err(error),
            Err(fault) => Err(io::Error::new(ErrorKind::ConnectionAborted, fault)),
        }
    }

    /// Says HELLO.
    pub(super) async fn hello(&mut self) -> Result<(), AttackError> {
        match self.request(&Message::hello(HELLO_TAG, "")).await? {
            Message::Hello(hello) if hello.tag == HELLO_TAG => Ok(()),
            other => Err(AttackError::unexpected("the answer to HELLO", other.redacted())),
        }
    }

    /// Reads exactly one byte, and keeps it for later.
    pub(super) async fn read_byte(&mut self) -> io::Result<()> {
        let byte = self.stream.read_u8().await?;
        self.input.extend_from_slice(&[byte]);
        Ok(())
    }

    /// Reads all that comes, for so many bytes at the most, and answers whether the server has ended the connection.
    pub(super) async fn drain(&mut self, most: usize) -> bool {
        let mut received = 0;
        while received < most {
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

    /// Ends this side of the connection, where it has not ended yet.
    pub(super) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Has TLS change its keys with what is sent next, and ask the server to do so too.
    pub(super) fn update_keys(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.get_mut().1.refresh_traffic_keys().map_err(io::Error::other),
        }
    }

    /// Breaks the connection off: the server finds it reset.
    pub(super) fn reset(self) -> io::Result<()> {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        tcp.set_zero_linger()
    }
}

/// The tag that HELLO goes out with.
const HELLO_TAG: Tag = Tag::new(64_995);

/// A message in bytes; nothing where it can't be encoded, which those here can.
pub(super) fn encode(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEADER_LENGTH);
    let is_encoded = message.encode(&mut bytes);
    debug_assert!(is_encoded.is_ok(), "{is_encoded:?}");
    bytes
}

/// Messages in bytes.
pub(super) fn encode_all(messages: impl IntoIterator<Item = Message>) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        bytes.unsplit(encode(&message));
    }
    bytes
}

/// A count.
pub(super) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
