//! A server in this process, and clients that speak in raw bytes.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses its part")]

mod engine;
mod frames;
mod history;
mod memory;
mod random;
mod store;
mod tls;
mod watcher;

pub use engine::{Engine, Lab, NEVER, disk_options, on_each_engine, on_each_engine_with, on_each_gated_engine};
pub use frames::{checks, delete, deletes, hello, list, mark, put_large, puts, status, told, txn, watch};
pub use history::{History, Model};
pub use memory::{MIB, Memory};
pub use random::Random;
pub use store::{TestStore, Written};
pub use tls::{Ca, TlsClient};
pub use watcher::Watcher;

use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{JoinHandle, Scope};
use std::time::Duration;
use syncline_server::{Config, Handle, ServeError, Server};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoder, Hello, Message, ReadError, ServerHello, Tag, Version};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long a test waits for what must come: only a broken server makes it wait so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port; shut down when it is dropped.
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

    pub fn on(store: impl Store, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
        change(&mut config);
        let is_relayed = tls::is_wanted_by_all() && config.tls.is_none();
        if is_relayed {
            config.tls = Some(tls::of_relays());
            // A client is connected when the relay has taken it in: many may be strangers to the server still.
            config.max_unauthenticated = 4 * config.max_connections;
        }
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::bind(config, store)).unwrap();
        let handle = server.handle();
        let relay = is_relayed.then(|| runtime.block_on(tls::Relay::to(server.local_addr())));
        let addr = relay.as_ref().map_or(server.local_addr(), |relay| relay.addr);
        let (shutdown, asked) = oneshot::channel();
        let run = async {
            server
                .run(async {
                    let _ = asked.await;
                    if let Some(relay) = relay {
                        relay.close().await;
                    }
                })
                .await
        };
        let thread = std::thread::spawn(move || runtime.block_on(run));
        Self { addr, handle, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Asks it to shut down, without waiting.
    pub fn ask_to_shut_down(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Shuts it down, and waits until it has ended.
    pub fn shut_down(mut self) -> Result<(), ServeError> {
        self.ask_to_shut_down();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> Result<(), ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// A connection that the server has surely taken in.
    pub fn connected(&self) -> Client {
        Client::connected(self.addr)
    }

    /// A connection that has said HELLO.
    pub fn extended(&self) -> Client {
        let mut client = self.connect();
        client.greet();
        client
    }

    /// A connection that has said HELLO, watches a prefix from the start, and was told all that there is.
    pub fn watching(&self, prefix: &str) -> Client {
        let mut client = self.extended();
        client.send(&watch(64_996, prefix, 0));
        while client.receive().tag() != Tag::new(64_996) {}
        client
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.ask_to_shut_down();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A client that knows frames, and nothing of the client library.
pub struct Client {
    pub stream: TcpStream,
    decoder: Decoder<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).unwrap())
    }

    /// A connection whose kernel holds little that it has not read.
    pub fn with_little_room(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let decoder = Decoder::new(stream.try_clone().unwrap());
        Self { stream, decoder }
    }

    /// A connection that the server has surely taken in: it was answered.
    pub fn connected(addr: SocketAddr) -> Self {
        let mut client = Self::connect(addr);
        client.send(&Message::get(Tag::new(65_000), "is anybody there?"));
        assert_eq!(client.receive().tag(), Tag::new(65_000));
        client
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: &Message) {
        self.send_bytes(&encoded(message));
    }

    /// The next message.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        self.decoder.read().unwrap().expect("a message, not the end of the stream")
    }

    /// The next message, or the end of the stream, or why neither came.
    pub fn try_receive(&mut self) -> Result<Option<Message>, ReadError> {
        self.decoder.read()
    }

    /// Sends bytes, where the server still takes them.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message, where the server still takes it.
    pub fn try_send(&mut self, message: &Message) -> io::Result<()> {
        self.try_send_bytes(&encoded(message))
    }

    /// Sends from another thread, while this one receives: who only sends is not read from for long.
    pub fn send_aside<'a, 'b>(&self, scope: &'a Scope<'a, 'b>, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().unwrap();
        scope.spawn(move || stream.write_all(&bytes).unwrap());
    }

    /// Sends a message, and expects exactly this next.
    #[track_caller]
    pub fn expect(&mut self, request: &Message, answer: &Message) {
        self.send(request);
        let found = self.receive();
        assert!(found == *answer, "{}, expected {}", shown(&found), shown(answer));
    }

    /// Expects the server to have ended the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.decoder.read() {
            Ok(None) => {}
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected the end of the stream, found {other:?}"),
        }
    }

    /// Says HELLO; answers what the server says of itself.
    #[track_caller]
    pub fn greet(&mut self) -> ServerHello {
        self.send(&hello(64_995));
        match self.receive_answer() {
            Message::Hello(Hello { tag, body }) if tag == Tag::new(64_995) => ServerHello::decode(&body).unwrap(),
            other => panic!("{other} to HELLO"),
        }
    }

    /// Expects exactly these next.
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

    /// Sends a message, and answers what comes for it; broadcasts before that are passed over.
    #[track_caller]
    pub fn ask(&mut self, request: &Message) -> Message {
        self.send(request);
        self.receive_answer()
    }

    /// The next answer; broadcasts before it are passed over.
    #[track_caller]
    pub fn receive_answer(&mut self) -> Message {
        loop {
            let message = self.receive();
            if message.tag() != Tag::BROADCAST {
                return message;
            }
        }
    }

    /// Expects that nothing waits to be received: what is asked now is answered next.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.expect(&get(64_999, "is it quiet?"), &error(64_999, "\"is it quiet?\": not found"));
    }

    /// Expects a well-behaved client to be served: it writes a key, and reads it.
    #[track_caller]
    pub fn expect_service(&mut self, key: &str, version: u64) {
        assert_eq!(self.ask(&put(64_998, key, "served", version)), put(64_998, key, "served", version));
        assert_eq!(self.ask(&get(64_997, key)), put(64_997, key, "served", version));
    }

    /// All that comes until the server ends the connection.
    #[track_caller]
    pub fn receive_to_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.decoder.read().unwrap() {
            messages.push(message);
        }
        messages
    }

    /// Breaks the connection off: the server finds it reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends this side of the stream.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends this side of the stream, where it has not ended yet.
    pub fn try_half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The next bytes, exactly as they stand on the wire. Not to be mixed with `receive`.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// As much of a message as a person reads.
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

/// The messages in one piece.
pub fn all_encoded<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes).unwrap();
    }
    bytes
}

pub fn get(tag: u16, key: &str) -> Message {
    Message::get(Tag::new(tag), key.to_owned())
}

pub fn put(tag: u16, key: &str, value: &str, version: u64) -> Message {
    Message::put(Tag::new(tag), key.to_owned(), value.to_owned(), Version::new(version))
}

pub fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

/// The bytes of a hexadecimal field of a vector.
pub fn unhex(field: &serde_json::Value) -> Vec<u8> {
    let digits: Vec<u32> = field.as_str().unwrap().chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
