//! Servers for tests of the client, and a way to them that can be cut.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it, and fails by panicking")]

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use syncline_client::Client;
use syncline_server::{Config, Server};
use syncline_store::{MemoryStore, Store};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

/// A server within this runtime.
pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
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
        let addr = server.local_addr();
        let (shutdown, asked) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let asked = async {
                let _ = asked.await;
            };
            server.run(asked).await.unwrap();
        });
        Self { addr, shutdown, ended }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr.to_string()).await.unwrap()
    }

    pub(crate) async fn shut_down(self) {
        let _ = self.shutdown.send(());
        self.ended.await.unwrap();
    }
}

/// A way to a server that can be cut, and can lead to another one.
pub(crate) struct Way {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<WayState>>,
}

struct WayState {
    to: Option<SocketAddr>,
    ways: Vec<AbortHandle>,
}

impl Way {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(WayState { to: Some(server), ways: Vec::new() }));
        let ways = state.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut state = ways.lock();
                let Some(to) = state.to else { continue };
                let way = tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
                state.ways.push(way.abort_handle());
            }
        });
        Self { addr, state }
    }

    /// Cuts all connections, and lets new ones lead to this server, or nowhere.
    pub(crate) fn lead(&self, to: Option<SocketAddr>) {
        let mut state = self.state.lock();
        state.to = to;
        state.ways.drain(..).for_each(|way| way.abort());
    }
}
