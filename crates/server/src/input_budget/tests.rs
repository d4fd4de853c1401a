//! Large requests through the driver of a connection.
//!
//! The clock is paused: it stands still while any task can run, and otherwise jumps to the next timer. So times are exact.

use super::*;
use crate::testing::{Client, World, encoded, error, settle};
use bytes::BytesMut;
use syncline_core::server::Limits;
use syncline_store::MemoryStore;
use syncline_wire::{Message, Operation, Tag, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server whose input budget fits this many of the largest transactions.
fn with_budget_for(frames: usize) -> World {
    World::open(MemoryStore::new().unwrap(), frames * Limits::default().max_frame())
}

/// Opens a connection that sends this many bytes of the largest transaction, as far as the server accepts them.
async fn begin(world: &World, bytes: usize) -> Client {
    let mut client = world.connect().await;
    let _ = tokio::time::timeout(Duration::ZERO, client.stream.write_all(&large()[..bytes])).await;
    client
}

fn available(world: &World) -> usize {
    world.service.input_budget.available.available_permits()
}

fn waiting(world: &World) -> usize {
    world.service.input_budget.waiting.load(Ordering::Relaxed)
}

/// Returns a transaction of nearly 1 MiB. It is refused at once, because it contains a key twice. So no test needs a
/// committer, for which the paused clock would not wait.
fn large() -> BytesMut {
    let put = |number| Operation::Put {
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

#[tokio::test(start_paused = true)]
async fn a_stalled_large_request_loses_its_permit_to_one_that_waits() {
    let world = with_budget_for(1);
    let start = Instant::now();
    let mut half = begin(&world, 500_000).await;
    settle().await;
    assert_eq!(available(&world), 0);
    let mut waiting = world.connect().await;
    let (mut reading, mut writing) = tokio::io::split(&mut waiting.stream);
    let frame = large();
    let large_request = async {
        writing.write_all(&frame).await.unwrap();
        let mut first = [0];
        reading.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [2], "an ERROR");
        start.elapsed().as_secs()
    };
    let small_request = async {
        settle().await;
        // Small requests do not wait.
        world.connect().await.expect_served().await;
        assert_eq!(start.elapsed().as_secs(), 0);
    };
    let (served_after, ()) = tokio::join!(large_request, small_request);
    assert_eq!(served_after, 10);
    half.expect_end(SLOW).await;
    settle().await;
    assert_eq!(available(&world), Limits::default().max_frame(), "both permits were returned");
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_keeps_its_permit_while_no_other_waits() {
    let world = with_budget_for(1);
    let mut slow = world.connect().await;
    for piece in large().chunks(100_000) {
        slow.send(piece).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(slow.receive().await, refused());
    slow.expect_served().await;
    assert_eq!(available(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn consecutive_large_requests_are_all_served() {
    let world = with_budget_for(1);
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
    assert_eq!(available(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_too_long_is_sent_an_error() {
    let world = with_budget_for(1);
    let held = world.service.input_budget.acquire(1);
    assert!(matches!(held, InputPermit::Shared { .. }));
    let start = Instant::now();
    let mut waits = begin(&world, 500_000).await;
    waits.expect_end("too many large requests at once; try again later").await;
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(waiting(&world), 0);
    drop(held);
    assert_eq!(available(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_returns_its_permit() {
    let world = with_budget_for(1);
    let half = begin(&world, 500_000).await;
    let waits = begin(&world, 500_000).await;
    settle().await;
    assert_eq!((available(&world), waiting(&world)), (0, 1));
    drop((half, waits));
    settle().await;
    assert_eq!(waiting(&world), 0);
    assert_eq!(available(&world), Limits::default().max_frame());
}

#[test]
fn partial_large_requests_take_little_memory_without_a_permit() {
    const CLIENTS: usize = 40;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async { with_budget_for(1) });
    for name in ["half", "whole, and the beginning of a GET"] {
        let mut clients = Vec::with_capacity(CLIENTS);
        let cost = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..CLIENTS {
                    clients.push(if name == "half" {
                        begin(&world, 500_000).await
                    } else {
                        let mut client = world.connect().await;
                        // Sent together, so that both are read into the same memory.
                        client.send(&[&large()[..], &[0, 1, 0]].concat()).await;
                        assert_eq!(client.receive().await, refused());
                        client
                    });
                }
                settle().await;
            });
        });
        // One of the half requests may hold the permit.
        let shared = if name == "half" { Limits::default().max_frame() } else { 0 };
        let all = usize::try_from(cost.bytes_current).unwrap();
        println!("{name}: {all} bytes");
        // 64 KiB: the pipe, and everything else of a connection.
        assert!(all < shared + CLIENTS * (OWN + 64 * 1024), "{name}: {all} bytes");
        runtime.block_on(async {
            drop(clients);
            settle().await;
        });
        assert_eq!(available(&world), Limits::default().max_frame(), "{name}");
    }
}
