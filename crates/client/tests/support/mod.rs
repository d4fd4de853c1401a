//! Servers for tests of the client, and a proxy that can cut its connections.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses a part of it, and fails by panicking")]

use bytes::BytesMut;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use syncline_client::Client;
use syncline_server::{Config, Handle, Server};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoded, Message, Revision, ServerHello, Tag, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

/// A server in the runtime of the test.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: Handle,
    shutdown: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::on(MemoryStore::new().unwrap(), "127.0.0.1:0").await
    }

    pub(crate) async fn on(store: impl Store, listen: &str) -> Self {
        Self::with(store, Config { listen: listen.into(), ..Config::default() }).await
    }

    pub(crate) async fn with(store: impl Store, config: Config) -> Self {
        let server = Server::bind(config, store).await.unwrap();
        let (addr, handle) = (server.local_addr(), server.handle());
        let (shutdown, requested) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let requested = async {
                let _ = requested.await;
            };
            server.run(requested).await.unwrap();
        });
        Self { addr, handle, shutdown, ended }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr.to_string()).await.unwrap()
    }

    pub(crate) async fn shut_down(self) {
        let _ = self.shutdown.send(());
        self.ended.await.unwrap();
    }
}

/// A TCP proxy that can cut its connections and forward new ones to another server.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<ProxyState>>,
}

struct ProxyState {
    target: Option<SocketAddr>,
    connections: Vec<AbortHandle>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(ProxyState { target: Some(server), connections: Vec::new() }));
        let shared = state.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut state = shared.lock();
                let Some(target) = state.target else { continue };
                let connection = tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
                state.connections.push(connection.abort_handle());
            }
        });
        Self { addr, state }
    }

    /// Cuts all connections. New ones are forwarded to this server, or closed.
    pub(crate) fn redirect(&self, target: Option<SocketAddr>) {
        let mut state = self.state.lock();
        state.target = target;
        state.connections.drain(..).for_each(|connection| connection.abort());
    }
}

/// Returns the next request of a client, for a test that acts as a server.
pub(crate) async fn next_request(stream: &mut TcpStream, buffer: &mut BytesMut) -> Message {
    loop {
        match decode(buffer).unwrap() {
            Decoded::Frame(message) => return message,
            Decoded::Incomplete { .. } => assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "the client is gone"),
            too_large @ Decoded::TooLarge { .. } => panic!("{too_large:?}"),
        }
    }
}

/// Sends a frame to a client.
pub(crate) async fn send(stream: &mut TcpStream, message: &Message) {
    let mut frame = BytesMut::new();
    message.encode(&mut frame).unwrap();
    stream.write_all(&frame).await.unwrap();
}

/// Returns a response to HELLO.
pub(crate) fn hello(heartbeat_ms: u32) -> Message {
    let (store_id, head) = ([7; 16], Revision::new(5));
    let hello =
        ServerHello { protocol: 1, features: 0, store_id, head, heartbeat_ms, max_key: 4096, max_entry: 65_525 };
    Message::hello(Tag::new(1), hello.encode())
}
