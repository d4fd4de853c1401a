//! Attacks by incomplete frames, frames that claim to be huge, and garbage.

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

/// What the server may read beyond a frame (`READ_SIZE` of `server/src/connection.rs`).
const READ: usize = 16 * 1024;

/// The input that each connection may buffer without a permit (`OWN` of `server/src/input_budget.rs`).
const OWN: usize = 32 * 1024;

/// The input budget that all connections share for large frames (`--max-input`).
const SHARED: usize = 64 * 1024 * 1024;

/// The number of connections that send the second half of their frame in the end.
const FINISHED: usize = 4;

/// The maximum key length by default.
const KEY: usize = 4096;

/// The maximum number of operations of a TXN, and of bytes in its keys and values.
const OPERATIONS: usize = 1024;
const TRANSACTION: usize = 1024 * 1024;

/// The maximum number of random bytes on a connection.
const GARBAGE_BYTES: u64 = 4_000;

/// The number of concurrent connections that send garbage.
const CONCURRENCY: usize = 8;

/// The size of the pieces in which oversized frames are sent.
const PIECE: usize = 64 * 1024;

const fn half_puts(scale: Scale) -> usize {
    scale.of(2000, 50)
}

pub(super) const HALF_PUTS: Attack = Attack {
    name: "half-puts",
    description: "opens thousands of connections that each send half of the largest PUT and then wait",
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
    description: "opens connections that each send half of the largest TXN and then wait",
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

/// Returns the largest valid PUT. The server rejects it for its version.
fn large_put() -> Message {
    Message::put(tag(8), vec![b'k'; KEY], vec![b'v'; Put::MAX_ENTRY - KEY], Version::new(0))
}

/// Returns the largest valid TXN. The server rejects it for the version of its first key.
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
    // Each connection still works.
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
    description: "opens connections that each send half of the largest TXN, beyond the input budget; in the end some send the rest",
    flags: &["--max-input", "64MiB"],
    bound: |scale| {
        let name = "max-input; a connection and its own input buffer";
        Bound::new(name, "64 MiB; 48 KiB + 48 KiB", many_halves(scale), IDLE + OWN + READ).plus(SHARED)
    },
    run: |context| Box::pin(hold_many_halves(context)),
    ..DEFAULTS
};

async fn hold_many_halves(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let frame = encode(&large_transaction()).freeze();
    let sent_halves = Arc::new(AtomicUsize::new(0));
    let (count, all) = (sent_halves.clone(), many_halves(context.scale));
    // One after another, because their number exceeds the limit for unauthenticated connections.
    let connections = Arc::new(Mutex::new(context.connect_many(all).await?));
    context
        .run_concurrently(all, move |context, number| {
            let (frame, sent_halves, connection) = (frame.clone(), count.clone(), connections.lock().pop());
            async move {
                let (half, rest) = frame.split_at(frame.len() / 2);
                let Some(mut connection) = connection else { return Ok(()) };
                let hold = async {
                    // This blocks while the server does not read.
                    connection.send(half, 1).await?;
                    if sent_halves.fetch_add(1, Ordering::Relaxed) + 1 == all {
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

/// Sends the rest of the largest TXN. The server processes it, or has sent an error because the input budget is used
/// up.
async fn finish(connection: &mut Connection, rest: &[u8]) -> Result<(), AttackError> {
    let sent = connection.send(rest, 0).await;
    match connection.response().await {
        Ok(notice) if notice.tag() == Tag::BROADCAST => expect_error(&notice, Tag::BROADCAST, "unavailable: "),
        Ok(response) => expect_error(&response, tag(8), "stale put"),
        // The server has closed the connection during the write, and its error is lost.
        Err(_) if sent.is_err() => Ok(()),
        Err(error) => Err(error),
    }
}

const fn claims(scale: Scale) -> usize {
    scale.of(120, 12)
}

pub(super) const CLAIMS: Attack = Attack {
    name: "claims",
    description: "opens connections that announce frames of gigabytes, and keep sending them",
    bound: |scale| Bound::new("oversized frames are skipped in pieces, per connection", "48 KiB", claims(scale), IDLE),
    run: |context| Box::pin(claim(context)),
    ..DEFAULTS
};

/// Each connection sends the beginning of such a frame, gets an error at once, and keeps sending. No frame ever ends.
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

/// Returns the beginning of an oversized frame: a PUTL of 4 GiB, a TXN of a thousand of these, or a TXN with more
/// operations than allowed.
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
    description: "opens connections one after another that send random bytes",
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
                // The server may close the connection before everything is sent.
                let _ = connection.send(&bytes, 1).await;
                connection.half_close().await;
                if !connection.drain(usize::MAX).await {
                    return Err(AttackError::unexpected(
                        "the end of a connection that sends garbage",
                        "an open connection",
                    ));
                }
            }
            Ok(())
        })
        .await
}

/// Returns a random byte. On some connections, the bytes often form complete frames of known kinds.
fn byte(random: &mut Random, at: u64, worker: usize) -> u8 {
    let most = match (worker % 2, at % 16) {
        (1, 0) => 12,
        (1, 3) => 11,
        (1, 4) => 1,
        _ => 256,
    };
    u8::try_from(random.below(most)).unwrap_or(0)
}
