//! A server in this process, and clients that speak in raw bytes.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;
use syncline_server::{Config, ServeError, Server};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoder, Message, ReadError, Tag, Version};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long a test waits for what must come: only a broken server makes it wait so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port; shut down when it is dropped.
pub struct TestServer {
    pub addr: SocketAddr,
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
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::bind(config, store)).unwrap();
        let addr = server.local_addr();
        let (shutdown, asked) = oneshot::channel();
        let run = async {
            server
                .run(async {
                    let _ = asked.await;
                })
                .await
        };
        let thread = std::thread::spawn(move || runtime.block_on(run));
        Self { addr, shutdown: Some(shutdown), thread: Some(thread) }
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

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
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
        let stream = TcpStream::connect(addr).unwrap();
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

    /// Sends a message, and expects exactly this next.
    #[track_caller]
    pub fn expect(&mut self, request: &Message, answer: &Message) {
        self.send(request);
        assert_eq!(self.receive(), *answer);
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

    pub fn put(&mut self, tag: u16, key: &str, value: &str, version: u64) -> Message {
        self.send(&put(tag, key, value, version));
        self.receive()
    }

    /// Ends this side of the stream.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next bytes, exactly as they stand on the wire. Not to be mixed with `receive`.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

pub fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
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
