//! Attacks by writes that are expensive for the server, or are meant to be.

use super::common::{UNSENT, expect, expect_error, fill, tag};
use super::hashes::{self, KeySet};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode_all};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_wire::{Message, Operation, Version};

/// The maximum number of operations of a TXN, and of bytes in its keys and values.
const OPERATIONS: usize = 1024;
const TRANSACTION: usize = 1024 * 1024;

/// The limit of the commit queue by default (`--max-queue`).
const QUEUE: usize = 16 * 1024 * 1024;

/// The number of transactions in a batch.
const AT_ONCE: usize = 4;

const fn connections_of(scale: Scale) -> usize {
    scale.of(32, 4)
}

pub(super) const TRANSACTIONS: Attack = Attack {
    name: "transactions",
    description: "sends the largest transactions, several at once, each of which fails at its last operation",
    bound: |scale| {
        let name = "max-queue; max-unsent and two frames, per connection";
        Bound::new(name, "16 MiB; 1 MiB + 2 × 1 MiB", connections_of(scale), UNSENT + 2 * TRANSACTION).plus(QUEUE)
    },
    run: |context| Box::pin(transactions(context)),
    ..DEFAULTS
};

async fn transactions(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let least = context.scale.of(20, 1);
    context
        .run_concurrently(connections_of(context.scale), move |context, worker| async move {
            let mut connection = context.target.connect_with_hello().await?;
            let transactions = encode_all((0..AT_ONCE).map(|number| failing_transaction(worker, number)));
            for _ in context.repeat(least) {
                connection.send(&transactions, AT_ONCE).await?;
                for number in 0..AT_ONCE {
                    expect_error(&connection.response().await?, tag(number), "stale put: \"absent\"")?;
                }
            }
            Ok(())
        })
        .await
}

/// Returns a transaction of the maximum size. All writes are valid, but its last operation checks a key that does not
/// exist.
fn failing_transaction(worker: usize, number: usize) -> Message {
    let each = (TRANSACTION - "absent".len()) / (OPERATIONS - 1);
    let puts = (1..OPERATIONS).map(|place| {
        let key = format!("bomb/{worker:04}/{place:04}");
        let value = vec![b'v'; each - key.len()];
        Operation::Put { key: key.into(), value: value.into(), version: Version::new(1) }
    });
    let last = Operation::Check { key: "absent".into(), version: Version::new(7) };
    Message::txn(tag(number), puts.chain([last]).collect())
}

pub(super) const BAD_TRANSACTIONS: Attack = Attack {
    name: "bad-transactions",
    description: "opens connections one after another, each with a transaction that names a key twice and one with an unknown operation",
    bound: |scale| {
        Bound::new(
            "max-unsent and two frames, per connection",
            "1 MiB + 2 × 1 MiB",
            connections_of(scale),
            UNSENT + 2 * TRANSACTION,
        )
    },
    run: |context| Box::pin(bad_transactions(context)),
    ..DEFAULTS
};

async fn bad_transactions(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let least = context.scale.of(50, 5);
    context
        .run_concurrently(connections_of(context.scale), move |context, worker| async move {
            for _ in context.repeat(least) {
                let mut connection = context.target.connect_with_hello().await?;
                let Message::Txn(mut twice) = failing_transaction(worker, 0) else { return Ok(()) };
                // Replace the last operation by a copy of the first.
                let first = twice.operations.first().cloned();
                twice.operations.pop();
                twice.operations.extend(first);
                // The copy is larger than the last operation, so another operation makes room.
                twice.operations.remove(1);
                let refused = connection.request(&Message::Txn(twice)).await?;
                expect_error(&refused, tag(0), "\"bomb/")?;
                // A TXN with the unknown operation 77.
                let mut unknown = vec![9];
                unknown.extend(tag(1).get().to_le_bytes());
                unknown.extend([1, 0, 77]);
                connection.send(&unknown, 1).await?;
                expect_error(&connection.response().await?, tag(1), "")?;
                if !connection.drain(usize::MAX).await {
                    return Err(AttackError::unexpected("the end of the connection", "an open connection"));
                }
            }
            Ok(())
        })
        .await
}

/// The number of keys in a batch.
const BATCH: usize = 64;

const fn colliding_keys(scale: Scale) -> usize {
    scale.of(4096, 128)
}

pub(super) const COLLIDING: Attack = Attack {
    name: "colliding-keys",
    description: "writes and reads keys that collide under hashes without a secret, and as many that do not",
    bound: |scale| Bound::new("the memory of a key", "1,024 bytes", 3 * colliding_keys(scale), 1024).plus(UNSENT),
    prepare: |context| Box::pin(write_colliding(context)),
    run: |context| Box::pin(colliding(context)),
    ..DEFAULTS
};

async fn write_colliding(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connection = context.target.connect_with_hello().await?;
    for KeySet { keys, .. } in hashes::key_sets(colliding_keys(context.scale)) {
        fill(&mut connection, keys.len(), |number| keys.get(number).cloned().unwrap_or_default(), b"value").await?;
    }
    Ok(())
}

/// The times of batches for a set of keys.
#[derive(Default)]
struct BatchTimes {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
}

async fn colliding(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let sets = hashes::key_sets(colliding_keys(context.scale));
    let mut connection = context.target.connect_with_hello().await?;
    let mut times: Vec<BatchTimes> = sets.iter().map(|_| BatchTimes::default()).collect();
    // The sets alternate, so that other load affects all of them alike.
    while !context.is_stopped() {
        for (set, times) in sets.iter().zip(&mut times) {
            write_and_read(&mut connection, set, times).await?;
        }
        context.report_complete();
    }
    for (set, times) in sets.iter().zip(&mut times) {
        let (put, get) = (per_second(&mut times.puts), per_second(&mut times.gets));
        let keys = set.keys.len();
        context.note(format!("{keys} keys, {}: {put}, {get} (writes, reads)", set.name));
    }
    Ok(())
}

async fn write_and_read(connection: &mut Connection, set: &KeySet, times: &mut BatchTimes) -> Result<(), AttackError> {
    let Some(first) = set.keys.first() else { return Ok(()) };
    let Message::Put(found) = connection.request(&Message::get(tag(0), first.clone())).await? else {
        return Err(AttackError::unexpected("a key that was written", "none"));
    };
    let version = Version::new(found.version.get() + 1);
    for keys in set.keys.chunks(BATCH) {
        let put = |(number, key): (usize, &String)| Message::put(tag(number), key.clone(), "value", version);
        let puts: Vec<_> = keys.iter().enumerate().map(put).collect();
        let gets = keys.iter().enumerate().map(|(number, key)| Message::get(tag(number), key.clone()));
        for (requests, took) in
            [(encode_all(puts.iter().cloned()), &mut times.puts), (encode_all(gets), &mut times.gets)]
        {
            let started = Instant::now();
            connection.send(&requests, keys.len()).await?;
            for put in &puts {
                expect(&connection.response().await?, put)?;
            }
            took.push(started.elapsed());
        }
    }
    Ok(())
}

/// Returns the rate by the median batch, and the 99th percentile of batches.
fn per_second(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |hundredths: usize| took.get(took.len().saturating_sub(1) * hundredths / 100).copied().unwrap_or_default();
    let rate = BATCH as f64 / at(50).as_secs_f64().max(1e-9);
    format!("{rate:.0}/s, p99 of a batch of {BATCH} {:.2} ms", at(99).as_secs_f64() * 1e3)
}
