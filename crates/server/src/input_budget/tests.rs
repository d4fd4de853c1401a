//! Large requests through their driver.
//!
//! The clock stands still while anything runs, and jumps to the next thing that is due when nothing does: times are exact.

use super::*;
use crate::testing::{Client, World, encoded, error};
use bytes::BytesMut;
use syncline_core::server::Limits;
use syncline_store::MemoryStore;
use syncline_wire::{Message, Operation, Tag, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

/// A server whose connections share room for so many of the largest transactions.
fn with_room_for(frames: usize) -> World {
    World::with_room(MemoryStore::new().unwrap(), frames * Limits::default().max_frame())
}

/// A connection that sends so many bytes of the largest transaction, of which the server takes what it likes.
async fn begin(world: &World, bytes: usize) -> Client {
    let mut client = world.connect().await;
    let _ = tokio::time::timeout(Duration::ZERO, client.stream.write_all(&large()[..bytes])).await;
    client
}

fn free(world: &World) -> usize {
    world.service.input_budget.free.available_permits()
}

/// A transaction of nearly 1 MiB. It is refused at once, for a key that stands twice: the clock does not wait for a committer.
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

/// Has everything happen that can without a jump of the clock.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_half_of_a_large_request_loses_its_room_to_who_waits_for_it() {
    let world = with_room_for(1);
    let start = Instant::now();
    let mut half = begin(&world, 500_000).await;
    settle().await;
    assert_eq!(free(&world), 0);
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
    assert_eq!(free(&world), Limits::default().max_frame(), "all was given back");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_keeps_its_room_while_nobody_else_needs_it() {
    let world = with_room_for(1);
    let mut slow = world.connect().await;
    for piece in large().chunks(100_000) {
        slow.send(piece).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(slow.receive().await, refused());
    slow.expect_served().await;
    assert_eq!(free(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn large_requests_one_after_another_are_all_served() {
    let world = with_room_for(1);
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
    assert_eq!(free(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_told_in_time_that_there_is_none() {
    let world = with_room_for(1);
    let taken = world.service.input_budget.take(1);
    assert!(matches!(taken, InputPermit::Shared { .. }));
    let start = Instant::now();
    let mut waits = begin(&world, 500_000).await;
    waits.expect_end("too many large requests at once; try again later").await;
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(world.service.input_budget.waiting.load(Ordering::Relaxed), 0);
    drop(taken);
    assert_eq!(free(&world), Limits::default().max_frame());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_its_room_back() {
    let world = with_room_for(1);
    let half = begin(&world, 500_000).await;
    let waits = begin(&world, 500_000).await;
    settle().await;
    assert_eq!((free(&world), world.service.input_budget.waiting.load(Ordering::Relaxed)), (0, 1));
    drop((half, waits));
    settle().await;
    assert_eq!(world.service.input_budget.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(free(&world), Limits::default().max_frame());
}

#[test]
fn half_of_a_large_request_and_the_rest_of_one_cost_little_without_shared_room() {
    const CLIENTS: usize = 40;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async { with_room_for(1) });
    for name in ["half", "whole, and the beginning of a GET"] {
        let mut clients = Vec::with_capacity(CLIENTS);
        let cost = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..CLIENTS {
                    clients.push(if name == "half" {
                        begin(&world, 500_000).await
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
        assert_eq!(free(&world), Limits::default().max_frame(), "{name}");
    }
}
