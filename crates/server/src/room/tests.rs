//! Large requests through their driver.
//!
//! The clock stands still while anything runs, and jumps to the next thing that is due when nothing does: times are exact.

use super::*;
use crate::access::{AccessControl, Authenticator, Grant};
use crate::committer::CommitQueue;
use crate::connection::{Guest, Service, serve};
use crate::hub::Hub;
use crate::testing::receive;
use bytes::BytesMut;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use syncline_core::ConnId;
use syncline_core::server::{Limits, Terms};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Message, Tag, TxnOperation, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::yield_now;

/// What lies between a client and the server, at the most, each way.
const PIPE: usize = 4 * 1024;

/// A server whose connections share room for so many of the largest transactions.
struct World {
    service: Arc<Service<MemoryStore>>,
    hub: Arc<Hub>,
    connections: AtomicU64,
}

impl World {
    fn with_room_for(frames: usize) -> Self {
        let store = MemoryStore::new().unwrap();
        let hub = Hub::follow(&store, 1024 * 1024);
        let limits = Limits::default();
        let terms = Terms { limits, store: store.id(), heartbeat: Duration::from_secs(3600) };
        let authenticator = Authenticator::new(AccessControl::Open, false, 1).unwrap();
        let service = Arc::new(Service {
            store,
            queue: CommitQueue::new(1024),
            room: SharedRoom::new(frames * limits.max_frame()),
            terms,
            authenticator,
            authorize_within: Duration::from_secs(10),
            started: Instant::now(),
        });
        Self { service, hub, connections: AtomicU64::new(0) }
    }

    /// A connection that has said HELLO.
    async fn connect(&self) -> Client {
        let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
        let mut guest = Guest::new(peer, None, Instant::now());
        guest.grant(Grant::Anybody);
        let (ours, theirs) = duplex(PIPE);
        let registration = self.hub.register(ConnId::new(self.connections.fetch_add(1, Ordering::Relaxed)));
        let service = self.service.clone();
        tokio::spawn(async move { serve(&service, registration, theirs, guest).await });
        let mut client = Client { stream: ours, input: BytesMut::new() };
        client.send(&encoded(&Message::hello(Tag::new(1), ""))).await;
        assert!(matches!(client.receive().await, Some(Message::Hello(_))));
        client
    }

    /// A connection that sends so many bytes of the largest transaction, of which the server takes what it likes.
    async fn begin(&self, bytes: usize) -> Client {
        let mut client = self.connect().await;
        let _ = tokio::time::timeout(Duration::ZERO, client.stream.write_all(&large()[..bytes])).await;
        client
    }

    fn free(&self) -> usize {
        self.service.room.free.available_permits()
    }
}

struct Client {
    stream: DuplexStream,
    input: BytesMut,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message; `None` at the end.
    async fn receive(&mut self) -> Option<Message> {
        receive(&mut self.stream, &mut self.input).await
    }

    async fn expect_served(&mut self) {
        self.send(&encoded(&Message::get(Tag::new(2), "key"))).await;
        assert_eq!(self.receive().await, Some(error(2, "\"key\": not found")));
    }

    async fn expect_end(&mut self, told: &str) {
        assert_eq!(self.receive().await, Some(error(0, &format!("unavailable: {told}"))));
        assert_eq!(self.receive().await, None);
    }
}

fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

/// A transaction of nearly 1 MiB. It is refused at once, for a key that stands twice: the clock does not wait for a committer.
fn large() -> BytesMut {
    let put = |number| TxnOperation::Put {
        key: format!("large/{}", number % 16).into(),
        value: vec![b'v'; 60_000].into(),
        version: Version::new(0),
    };
    encoded(&Message::txn(Tag::new(3), (0..17).map(put).collect()))
}

fn refused() -> Option<Message> {
    Some(error(3, "\"large/0\": expected once in a transaction, found twice"))
}

const SLOW: &str = "expected all of a large request within 10s while others wait, found a part";

/// Has everything happen that can without a jump of the clock.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_half_of_a_large_request_loses_its_room_to_who_waits_for_it() {
    let world = World::with_room_for(1);
    let start = Instant::now();
    let mut half = world.begin(500_000).await;
    settle().await;
    assert_eq!(world.free(), 0);
    let mut waits = world.connect().await;
    let (mut reading, mut writing) = tokio::io::split(&mut waits.stream);
    let frame = large();
    let asking = async {
        writing.write_all(&frame).await.unwrap();
        let mut first = [0];
        reading.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [2], "an ERROR");
        start.elapsed().as_secs()
    };
    let small = async {
        settle().await;
        // Nobody else has to wait.
        world.connect().await.expect_served().await;
        assert_eq!(start.elapsed().as_secs(), 0);
    };
    let (served_after, ()) = tokio::join!(asking, small);
    assert_eq!(served_after, 10);
    half.expect_end(SLOW).await;
    settle().await;
    assert_eq!(world.free(), Limits::default().max_frame(), "all was given back");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_keeps_its_room_while_nobody_else_needs_it() {
    let world = World::with_room_for(1);
    let mut slow = world.connect().await;
    for piece in large().chunks(100_000) {
        slow.send(piece).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(slow.receive().await, refused());
    slow.expect_served().await;
    assert_eq!(world.free(), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn large_requests_one_after_another_are_all_served() {
    let world = World::with_room_for(1);
    let frames = [&large()[..], &large(), &large(), &encoded(&Message::get(Tag::new(2), "key"))].concat();
    let mut clients = [world.connect().await, world.connect().await, world.connect().await];
    let all = clients.iter_mut().map(|client| {
        let frames = frames.clone();
        async move {
            let (mut reading, mut writing) = tokio::io::split(&mut client.stream);
            let expected =
                [&encoded(&refused().unwrap()).repeat(3)[..], &encoded(&error(2, "\"key\": not found"))].concat();
            let mut found = vec![0; expected.len()];
            let (sent, read) = tokio::join!(writing.write_all(&frames), reading.read_exact(&mut found));
            sent.unwrap();
            read.unwrap();
            assert_eq!(found, expected);
        }
    });
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let [first, second, third] = &mut all[..] else { panic!() };
    tokio::join!(first, second, third);
    assert_eq!(world.free(), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_told_in_time_that_there_is_none() {
    let world = World::with_room_for(1);
    let taken = world.service.room.take(1);
    assert!(matches!(taken, Room::Shared { .. }));
    let start = Instant::now();
    let mut waits = world.begin(500_000).await;
    waits.expect_end("too many large requests at once; try again later").await;
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(world.service.room.waiting.load(Ordering::Relaxed), 0);
    drop(taken);
    assert_eq!(world.free(), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_its_room_back() {
    let world = World::with_room_for(1);
    let half = world.begin(500_000).await;
    let waits = world.begin(500_000).await;
    settle().await;
    assert_eq!((world.free(), world.service.room.waiting.load(Ordering::Relaxed)), (0, 1));
    drop((half, waits));
    settle().await;
    assert_eq!(world.service.room.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(world.free(), Limits::default().max_frame());
}

#[test]
fn half_of_a_large_request_and_the_rest_of_one_cost_little_without_shared_room() {
    const CLIENTS: usize = 40;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async { World::with_room_for(1) });
    for name in ["half", "whole, and the beginning of a GET"] {
        let mut clients = Vec::with_capacity(CLIENTS);
        let cost = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..CLIENTS {
                    clients.push(if name == "half" {
                        world.begin(500_000).await
                    } else {
                        let mut client = world.connect().await;
                        // Together, so that both are read into the same memory.
                        client.send(&[&large()[..], &[0, 1, 0]].concat()).await;
                        assert_eq!(client.receive().await, refused());
                        client
                    });
                }
                settle().await;
            });
        });
        // One of those that are half there may have the room that is shared.
        let shared = if name == "half" { Limits::default().max_frame() } else { 0 };
        let all = usize::try_from(cost.bytes_current).unwrap();
        println!("{name}: {all} bytes");
        // The second: of the pipe, and what else there is of a connection.
        assert!(all < shared + CLIENTS * (OWN + 64 * 1024), "{name}: {all} bytes");
        runtime.block_on(async {
            drop(clients);
            settle().await;
        });
        assert_eq!(world.free(), Limits::default().max_frame(), "{name}");
    }
}
