//! Support for the integration tests: servers in this process, and clients that send and receive raw bytes.
//!
//! Test files import the [`prelude`].
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part of it")]

mod engine;
mod frames;
mod history;
mod memory;
pub mod prelude;
mod random;
mod store;
mod tls;
mod watcher;

pub use engine::{Engine, Lab, NEVER, disk_options, on_each_engine, on_each_engine_with, on_each_gated_engine};
pub use frames::{
    auth, change_of, checks, delete, deletes, error, get, hello, list, mark, put, put_large, puts, status, txn, watch,
};
pub use history::{History, Model};
pub use memory::{MIB, Memory};
pub use random::Random;
pub use store::{TestStore, Written, is_subsequence, latest};
pub use tls::{Ca, TlsClient};
pub use watcher::Watcher;

use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{JoinHandle, Scope};
use std::time::Duration;
use syncline_server::{Config, Handle, ServeError, Server};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoder, Hello, Message, ReadError, ServerHello, Tag};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The timeout of tests. Only a broken server reaches it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A server on a free port. It shuts down when it is dropped.
pub struct TestServer {
    pub addr: SocketAddr,
    pub handle: Handle,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl TestServer {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(MemoryStore::new().unwrap(), change)
    }

    /// Starts a server on a [`TestStore`], and returns both.
    pub fn with_test_store(change: impl FnOnce(&mut Config)) -> (TestStore, Self) {
        let store = TestStore::new();
        let server = Self::on(store.clone(), change);
        (store, server)
    }

    pub fn on(store: impl Store, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
        change(&mut config);
        let is_relayed = tls::is_enabled() && config.tls.is_none();
        if is_relayed {
            config.tls = Some(tls::relay_server_config());
            // A client is connected as soon as the relay accepts it. To the server, many may still be unauthenticated.
            config.max_unauthenticated = 4 * config.max_connections;
        }
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::bind(config, store)).unwrap();
        let handle = server.handle();
        let relay = is_relayed.then(|| runtime.block_on(tls::Relay::start(server.local_addr())));
        let addr = relay.as_ref().map_or(server.local_addr(), |relay| relay.addr);
        let (shutdown, requested) = oneshot::channel();
        let run = async {
            server
                .run(async {
                    let _ = requested.await;
                    if let Some(relay) = relay {
                        relay.close().await;
                    }
                })
                .await
        };
        let thread = std::thread::spawn(move || runtime.block_on(run));
        Self { addr, handle, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Starts the shutdown, without waiting for its end.
    pub fn start_shutdown(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Shuts the server down, and waits for its end.
    pub fn shut_down(mut self) -> Result<(), ServeError> {
        self.start_shutdown();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits until the server ends by itself.
    pub fn wait(mut self) -> Result<(), ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Opens a connection, and waits until the server serves it.
    pub fn connected(&self) -> Client {
        Client::connected(self.addr)
    }

    /// Opens a connection that has completed HELLO.
    pub fn extended(&self) -> Client {
        let mut client = self.connect();
        client.hello();
        client
    }

    /// Opens a connection that has completed HELLO, and a WATCH of a prefix from the start.
    pub fn watching(&self, prefix: &str) -> Client {
        let mut client = self.extended();
        client.send(&watch(64_996, prefix, 0));
        while client.receive().tag() != Tag::new(64_996) {}
        client
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.start_shutdown();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A client that sends and receives frames, without the client library.
pub struct Client {
    pub stream: TcpStream,
    decoder: Decoder<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).unwrap())
    }

    /// Opens a connection with a small receive buffer in the kernel.
    pub fn with_small_buffer(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        let decoder = Decoder::new(stream.try_clone().unwrap());
        Self { stream, decoder }
    }

    /// Opens a connection, and waits for a first response.
    pub fn connected(addr: SocketAddr) -> Self {
        let mut client = Self::connect(addr);
        client.send(&Message::get(Tag::new(65_000), "is this served?"));
        assert_eq!(client.receive().tag(), Tag::new(65_000));
        client
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: &Message) {
        self.send_bytes(&encoded(message));
    }

    /// Receives the next message.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        self.decoder.read().unwrap().expect("a message, not the end of the stream")
    }

    /// Receives the next message, or `None` at the end of the stream.
    pub fn try_receive(&mut self) -> Result<Option<Message>, ReadError> {
        self.decoder.read()
    }

    /// Sends bytes, if the server still accepts them.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message, if the server still accepts it.
    pub fn try_send(&mut self, message: &Message) -> io::Result<()> {
        self.try_send_bytes(&encoded(message))
    }

    /// Sends from another thread, while this one receives. The server soon stops reading from a client that only sends.
    pub fn send_aside<'a, 'b>(&self, scope: &'a Scope<'a, 'b>, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().unwrap();
        scope.spawn(move || stream.write_all(&bytes).unwrap());
    }

    /// Sends a request, and expects exactly this response next.
    #[track_caller]
    pub fn expect(&mut self, request: &Message, response: &Message) {
        self.send(request);
        let found = self.receive();
        assert!(found == *response, "{}, expected {}", shown(&found), shown(response));
    }

    /// Sends a request, and expects the same frame as its response.
    #[track_caller]
    pub fn expect_echo(&mut self, request: &Message) {
        self.expect(request, request);
    }

    /// Expects the end of the stream.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.decoder.read() {
            Ok(None) => {}
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected the end of the stream, found {other:?}"),
        }
    }

    /// Sends HELLO, and returns the server's response.
    #[track_caller]
    pub fn hello(&mut self) -> ServerHello {
        self.send(&hello(64_995));
        match self.receive_response() {
            Message::Hello(Hello { tag, body }) if tag == Tag::new(64_995) => ServerHello::decode(&body).unwrap(),
            other => panic!("{other} to HELLO"),
        }
    }

    /// Expects exactly these messages next.
    #[track_caller]
    pub fn expect_all(&mut self, messages: &[Message]) {
        for (number, message) in messages.iter().enumerate() {
            let found = self.receive();
            assert!(found == *message, "message {number}: {}, expected {}", shown(&found), shown(message));
        }
    }

    pub fn put(&mut self, tag: u16, key: &str, value: &str, version: u64) -> Message {
        self.send(&put(tag, key, value, version));
        self.receive()
    }

    /// Sends a request, and returns its response. Skips broadcasts before it.
    #[track_caller]
    pub fn ask(&mut self, request: &Message) -> Message {
        self.send(request);
        self.receive_response()
    }

    /// Receives the next response. Skips broadcasts before it.
    #[track_caller]
    pub fn receive_response(&mut self) -> Message {
        loop {
            let message = self.receive();
            if message.tag() != Tag::BROADCAST {
                return message;
            }
        }
    }

    /// Expects no pending messages: the response to a new request comes next.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.expect(&get(64_999, "is it quiet?"), &error(64_999, "\"is it quiet?\": not found"));
    }

    /// Expects the server to serve this client: writes a key, and reads it.
    #[track_caller]
    pub fn expect_service(&mut self, key: &str, version: u64) {
        assert_eq!(self.ask(&put(64_998, key, "served", version)), put(64_998, key, "served", version));
        assert_eq!(self.ask(&get(64_997, key)), put(64_997, key, "served", version));
    }

    /// Receives all messages up to the end of the stream.
    #[track_caller]
    pub fn receive_to_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.decoder.read().unwrap() {
            messages.push(message);
        }
        messages
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Closes the client's side of the stream.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the client's side of the stream, if the connection still exists.
    pub fn try_half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Receives the next bytes, exactly as on the wire. Do not mix it with [`receive`](Self::receive), which buffers.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// Formats a message, truncated.
fn shown(message: &Message) -> String {
    let mut shown = format!("{message:?}");
    if let Some((end, _)) = shown.char_indices().nth(300) {
        shown.replace_range(end.., "…");
    }
    shown
}

pub fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

/// Encodes messages into one buffer.
pub fn all_encoded<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes).unwrap();
    }
    bytes
}

/// Decodes a hexadecimal field of a test vector.
pub fn unhex(field: &serde_json::Value) -> Vec<u8> {
    let digits: Vec<u32> = field.as_str().unwrap().chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
