//! Helpers for the unit tests of several modules: connections over in-process pipes, each served by its driver.

use crate::access::{AccessControl, Authenticator, Grant};
use crate::broadcaster::Broadcaster;
use crate::committer::CommitQueue;
use crate::connection::{Peer, Service, serve};
use crate::input_budget::InputBudget;
use crate::priority_gate::{GatePermit, MAX_ARRIVALS, PriorityGate};
use bytes::BytesMut;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncline_core::ConnId;
use syncline_core::server::{Limits, ServerParameters};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoded, Message, Tag, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::yield_now;
use tokio::time::Instant;

/// The capacity of the pipe between a client and the server, in each direction.
pub(crate) const PIPE: usize = 4 * 1024;

/// A server without a listener and without a committer.
pub(crate) struct World<S = MemoryStore> {
    pub(crate) service: Arc<Service<S>>,
    pub(crate) broadcaster: Arc<Broadcaster>,
    connections: AtomicU64,
}

impl<S: Store> World<S> {
    /// Creates a server whose connections share an input budget of this many bytes.
    pub(crate) fn new(store: S, authenticator: Arc<Authenticator>, input_budget: usize) -> Self {
        let broadcaster = Broadcaster::follow(&store, 1024 * 1024);
        let parameters =
            ServerParameters { limits: Limits::default(), store: store.id(), heartbeat: Duration::from_secs(3600) };
        let service = Arc::new(Service {
            store,
            queue: CommitQueue::new(1024),
            input_budget: InputBudget::new(input_budget),
            send_gate: PriorityGate::for_sends(),
            arrival_gate: PriorityGate::for_arrivals(),
            parameters,
            authenticator,
            authorize_within: Duration::from_secs(10),
            started: Instant::now(),
            log_lines_dropped: Arc::default(),
        });
        Self { service, broadcaster, connections: AtomicU64::new(0) }
    }

    /// Creates a server that is open to all clients, whose connections share an input budget of this many bytes.
    pub(crate) fn open(store: S, input_budget: usize) -> Self {
        Self::new(store, Authenticator::new(AccessControl::Open, false, 1).unwrap(), input_budget)
    }

    /// Opens a connection that has completed HELLO.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.connect_silently();
        client.send(&encoded(&Message::hello(Tag::new(1), ""))).await;
        assert!(matches!(client.receive().await, Some(Message::Hello(_))));
        client
    }

    /// Opens a connection that has sent nothing yet.
    pub(crate) fn connect_silently(&self) -> Client {
        let mut peer = Peer::new(SocketAddr::from(([192, 0, 2, 1], 1234)), None, Instant::now());
        peer.grant(Grant::Anybody);
        self.serve(peer)
    }

    /// Serves a connection of this peer.
    pub(crate) fn serve(&self, peer: Peer<'static>) -> Client {
        let (near, far) = duplex(PIPE);
        let registration = self.broadcaster.register(ConnId::new(self.connections.fetch_add(1, Ordering::Relaxed)));
        let service = self.service.clone();
        tokio::spawn(async move { serve(&service, registration, far, peer).await });
        Client { stream: near, input: BytesMut::new() }
    }
}

/// The client's end of a connection.
pub(crate) struct Client {
    pub(crate) stream: DuplexStream,
    input: BytesMut,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Receives the next message, or `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        loop {
            if let Decoded::Frame(message) = decode(&mut self.input).unwrap() {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Sends a small request, and expects its response.
    pub(crate) async fn expect_served(&mut self) {
        self.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
        assert_eq!(self.receive().await, Some(error(2, "\"no key\": not found")));
    }

    /// Expects an ERROR with this reason, and then the end of the stream.
    pub(crate) async fn expect_end(&mut self, reason: &str) {
        assert_eq!(self.receive().await, Some(error(0, &format!("unavailable: {reason}"))));
        assert_eq!(self.receive().await, None);
    }
}

pub(crate) fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

/// Lets all tasks run that can run without an advance of the clock.
pub(crate) async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

/// Waits for a permit.
pub(crate) async fn acquire(permit: &mut GatePermit, gate: &PriorityGate) {
    poll_fn(|context| permit.poll_acquire(gate, context)).await;
    assert!(permit.is_taken() && !permit.is_waiting());
}

/// Acquires all permits of the gate for new connections, so that every new connection waits.
pub(crate) async fn acquire_all_arrivals<S>(service: &Service<S>) -> [GatePermit; MAX_ARRIVALS as usize] {
    let mut permits = [const { GatePermit::None }; MAX_ARRIVALS as usize];
    for permit in &mut permits {
        acquire(permit, &service.arrival_gate).await;
    }
    permits
}
