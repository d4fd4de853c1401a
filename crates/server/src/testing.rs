//! What the tests of several modules do: connections over pipes within this process, each served by its driver.

use crate::access::{AccessControl, Authenticator, Grant};
use crate::broadcaster::Broadcaster;
use crate::committer::CommitQueue;
use crate::connection::{Peer, Service, serve};
use crate::input_budget::InputBudget;
use crate::priority_gate::{ARRIVE_AT_ONCE, GatePermit, PriorityGate};
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
use tokio::time::Instant;

/// What lies between a client and the server, at the most, each way.
const PIPE: usize = 4 * 1024;

/// A server without a committer.
pub(crate) struct World<S = MemoryStore> {
    pub(crate) service: Arc<Service<S>>,
    broadcaster: Arc<Broadcaster>,
    connections: AtomicU64,
}

impl<S: Store> World<S> {
    /// Its connections share so much room for input.
    pub(crate) fn with_room(store: S, room: usize) -> Self {
        let broadcaster = Broadcaster::follow(&store, 1024 * 1024);
        let parameters =
            ServerParameters { limits: Limits::default(), store: store.id(), heartbeat: Duration::from_secs(3600) };
        let authenticator = Authenticator::new(AccessControl::Open, false, 1).unwrap();
        let service = Arc::new(Service {
            store,
            queue: CommitQueue::new(1024),
            input_budget: InputBudget::new(room),
            send_gate: PriorityGate::to_send(),
            arrival_gate: PriorityGate::to_arrive(),
            parameters,
            authenticator,
            authorize_within: Duration::from_secs(10),
            started: Instant::now(),
        });
        Self { service, broadcaster, connections: AtomicU64::new(0) }
    }

    /// A connection that has said HELLO.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.open();
        client.send(&encoded(&Message::hello(Tag::new(1), ""))).await;
        assert!(matches!(client.receive().await, Some(Message::Hello(_))));
        client
    }

    /// A connection that has said nothing yet.
    pub(crate) fn open(&self) -> Client {
        let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
        let mut peer = Peer::new(peer, None, Instant::now());
        peer.grant(Grant::Anybody);
        let (ours, theirs) = duplex(PIPE);
        let registration = self.broadcaster.register(ConnId::new(self.connections.fetch_add(1, Ordering::Relaxed)));
        let service = self.service.clone();
        tokio::spawn(async move { serve(&service, registration, theirs, peer).await });
        Client { stream: ours, input: BytesMut::new() }
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

    /// The next message; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        receive(&mut self.stream, &mut self.input).await
    }

    /// Asks for little, and gets it.
    pub(crate) async fn expect_served(&mut self) {
        self.send(&encoded(&Message::get(Tag::new(2), "no key"))).await;
        assert_eq!(self.receive().await, Some(error(2, "\"no key\": not found")));
    }

    pub(crate) async fn expect_end(&mut self, told: &str) {
        assert_eq!(self.receive().await, Some(error(0, &format!("unavailable: {told}"))));
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

/// The next message, of which some may be in `input` already; `None` at the end.
pub(crate) async fn receive(stream: &mut DuplexStream, input: &mut BytesMut) -> Option<Message> {
    loop {
        if let Decoded::Frame(message) = decode(input).unwrap() {
            return Some(message);
        }
        if stream.read_buf(input).await.unwrap() == 0 {
            return None;
        }
    }
}

/// Waits for a turn.
pub(crate) async fn take(turn: &mut GatePermit, line: &PriorityGate) {
    poll_fn(|context| turn.poll(line, context)).await;
    assert!(turn.is_taken() && !turn.waits());
}

/// All turns to arrive, so that nobody else has one.
pub(crate) async fn all_arriving<S>(service: &Service<S>) -> [GatePermit; ARRIVE_AT_ONCE as usize] {
    let mut turns = [const { GatePermit::None }; ARRIVE_AT_ONCE as usize];
    for turn in &mut turns {
        take(turn, &service.arrival_gate).await;
    }
    turns
}
