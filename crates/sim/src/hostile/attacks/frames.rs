//! Frames that are never finished, that claim to be huge, or are none.

use super::common::{IDLE, expect_error, tag};
use crate::Random;
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncline_wire::{Message, Operation, Put, Tag, Version};

/// What is read at once beyond a frame (`READ_SIZE` of `server/src/connection.rs`).
const READ: usize = 16 * 1024;

/// The room for input that each connection has of its own (`OWN` of `server/src/room.rs`).
const OWN: usize = 32 * 1024;

/// What all have together for large frames (`--max-input`).
const SHARED: usize = 64 * 1024 * 1024;

/// How many of those who sent a half send the rest in the end.
const FINISHED: usize = 4;

/// The longest key by default.
const KEY: usize = 4096;

/// The most operations of a TXN, and bytes of its keys and values.
const OPERATIONS: usize = 1024;
const TRANSACTION: usize = 1024 * 1024;

/// Random bytes on a connection, at the most.
const GARBAGE_BYTES: u64 = 4_000;

/// How many connections send garbage at a time.
const CONCURRENCY: usize = 8;

/// How much of a frame that is passed over is sent at once.
const PIECE: usize = 64 * 1024;

const fn half_puts(scale: Scale) -> usize {
    scale.of(2000, 50)
}

pub(super) const HALF_PUTS: Attack = Attack {
    name: "half-puts",
    description: "thousands of connections each send half of the largest PUT, and hold it open",
    bound: |scale| {
        Bound::new(
            "max-entry-size + a read, per connection",
            "65,525 + 16,384 bytes",
            half_puts(scale),
            Put::MAX_ENTRY + READ,
        )
    },
    run: |context| Box::pin(hold_half(context, half_puts, large_put())),
    ..DEFAULTS
};

const fn half_transactions(scale: Scale) -> usize {
    scale.of(256, 8)
}

pub(super) const HALF_TRANSACTIONS: Attack = Attack {
    name: "half-transactions",
    description: "connections each send half of the largest TXN, and hold it open",
    bound: |scale| {
        let frame = TRANSACTION + OPERATIONS * 32;
        Bound::new(
            "the largest frame, per connection",
            "1 MiB + 1,024 × 32 bytes",
            half_transactions(scale),
            frame + READ,
        )
    },
    run: |context| Box::pin(hold_half(context, half_transactions, large_transaction())),
    ..DEFAULTS
};

/// The largest PUT that is not refused for its size; for its version it is.
fn large_put() -> Message {
    Message::put(tag(8), vec![b'k'; KEY], vec![b'v'; Put::MAX_ENTRY - KEY], Version::new(0))
}

/// The largest TXN that is not refused for its size; for the version of its first key it is.
fn large_transaction() -> Message {
    let each = TRANSACTION / OPERATIONS;
    let operations = (0..OPERATIONS).map(|number| {
        let key = format!("half/{number:06}");
        let value = vec![b'v'; each - key.len()];
        Operation::Put { key: key.into(), value: value.into(), version: Version::new(0) }
    });
    Message::txn(tag(8), operations.collect())
}

async fn hold_half(
    context: Arc<AttackContext>,
    connections: fn(Scale) -> usize,
    frame: Message,
) -> Result<(), AttackError> {
    let bytes = encode(&frame);
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let mut connections = context.connect_many(connections(context.scale)).await?;
    for connection in &mut connections {
        connection.send(half, 1).await?;
    }
    context.report_complete();
    context.stopped().await;
    // And each is a connection like any other.
    for connection in &mut connections {
        connection.send(rest, 0).await?;
        expect_error(&connection.response().await?, frame.tag(), "stale put")?;
    }
    Ok(())
}

const fn many_halves(scale: Scale) -> usize {
    scale.of(1000, 80)
}

pub(super) const MANY_HALVES: Attack = Attack {
    name: "many-half-transactions",
    description: "very many connections each send half of the largest TXN, more than there is room for, and hold it open; in the end some finish it",
    flags: &["--max-input", "64MiB"],
    bound: |scale| {
        let name = "max-input; what a connection has of its own";
        Bound::new(name, "64 MiB; 48 KiB + 48 KiB", many_halves(scale), IDLE + OWN + READ).plus(SHARED)
    },
    run: |context| Box::pin(hold_many_halves(context)),
    ..DEFAULTS
};

async fn hold_many_halves(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let frame = encode(&large_transaction()).freeze();
    let begun = Arc::new(AtomicUsize::new(0));
    let (count, all) = (begun.clone(), many_halves(context.scale));
    // One after the other: there are places for fewer strangers than that.
    let connections = Arc::new(Mutex::new(context.connect_many(all).await?));
    context
        .run_concurrently(all, move |context, number| {
            let (frame, begun, connection) = (frame.clone(), count.clone(), connections.lock().pop());
            async move {
                let (half, rest) = frame.split_at(frame.len() / 2);
                let Some(mut connection) = connection else { return Ok(()) };
                let hold = async {
                    // For as long as the server does not take it, if need be.
                    connection.send(half, 1).await?;
                    if begun.fetch_add(1, Ordering::Relaxed) + 1 == all {
                        context.report_complete();
                    }
                    std::future::pending::<Result<(), AttackError>>().await
                };
                context.run_until_stopped(hold).await?;
                if number < FINISHED { finish(&mut connection, rest).await } else { Ok(()) }
            }
        })
        .await
}

/// Sends the rest of the largest TXN: it is served, or was told that there is no room for it.
async fn finish(connection: &mut Connection, rest: &[u8]) -> Result<(), AttackError> {
    let sent = connection.send(rest, 0).await;
    match connection.response().await {
        Ok(told) if told.tag() == Tag::BROADCAST => expect_error(&told, Tag::BROADCAST, "unavailable: "),
        Ok(answer) => expect_error(&answer, tag(8), "stale put"),
        // It was ended while it sent, and what it was told is lost.
        Err(_) if sent.is_err() => Ok(()),
        Err(fault) => Err(fault),
    }
}

const fn claims(scale: Scale) -> usize {
    scale.of(120, 12)
}

pub(super) const CLAIMS: Attack = Attack {
    name: "claims",
    description: "connections send frames that claim gigabytes, and go on sending them",
    bound: |scale| Bound::new("passed over in pieces, per connection", "48 KiB", claims(scale), IDLE),
    run: |context| Box::pin(claim(context)),
    ..DEFAULTS
};

/// Each sends the beginning of such a frame, is refused at once, and sends on; what is after it is not reached.
async fn claim(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let pieces = context.scale.of(128, 4);
    let mut connections = context.connect_many(claims(context.scale)).await?;
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(&claiming(number), 1).await?;
        expect_error(&connection.response().await?, tag(8), "too large")?;
    }
    let piece = vec![0; PIECE];
    for _ in 0..pieces {
        for connection in &mut connections {
            connection.send(&piece, 0).await?;
        }
    }
    context.report_complete();
    context.stopped().await;
    Ok(())
}

/// The beginning of a frame that claims to be large: a PUTL of 4 GiB, a TXN of a thousand such, one of more than there may
/// be.
fn claiming(number: usize) -> Vec<u8> {
    let header = |kind: u8| [&[kind][..], &tag(8).get().to_le_bytes()].concat();
    let huge = [&[1, 0, b'k'][..], &u32::MAX.to_le_bytes()].concat();
    let count = 1024_u16.to_le_bytes();
    match number % 3 {
        0 => [&header(10)[..], &huge].concat(),
        1 => [&header(9)[..], &count, &[10], &huge].concat(),
        _ => [&header(9)[..], &u16::MAX.to_le_bytes(), &[10], &huge].concat(),
    }
}

pub(super) const GARBAGE: Attack = Attack {
    name: "garbage",
    description: "connections send random bytes, one after the other",
    bound: |_| {
        Bound::new(
            "max-entry-size + a read, per connection",
            "65,525 + 16,384 bytes",
            CONCURRENCY,
            Put::MAX_ENTRY + READ,
        )
    },
    run: |context| Box::pin(garbage(context)),
    ..DEFAULTS
};

async fn garbage(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let each = context.scale.of(400, 20);
    context
        .run_concurrently(CONCURRENCY, |context, worker| async move {
            let mut random = Random::new(u64::try_from(worker).unwrap_or(0));
            for _ in context.repeat(each) {
                let length = random.below(GARBAGE_BYTES);
                let bytes: Vec<u8> = (0..length).map(|at| byte(&mut random, at, worker)).collect();
                let mut connection = context.target.connect().await?;
                // The server may have ended it before all is sent.
                let _ = connection.send(&bytes, 1).await;
                connection.half_close().await;
                if !connection.drain(usize::MAX).await {
                    return Err(AttackError::unexpected("the end of a connection that sends garbage", "that it stays"));
                }
            }
            Ok(())
        })
        .await
}

/// A random byte; on some connections those are likely that make whole frames of known kinds.
fn byte(random: &mut Random, at: u64, worker: usize) -> u8 {
    let most = match (worker % 2, at % 16) {
        (1, 0) => 12,
        (1, 3) => 11,
        (1, 4) => 1,
        _ => 256,
    };
    u8::try_from(random.below(most)).unwrap_or(0)
}
