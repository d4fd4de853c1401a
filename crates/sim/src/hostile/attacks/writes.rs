//! Writes that cost the server much, or should.

use super::hashes::{self, Set};
use super::{Attack, PLAIN, UNSENT, expect, expect_error, fill, tag};
use crate::hostile::Fault;
use crate::hostile::field::{Bound, Field, Scale};
use crate::hostile::link::{Link, all_encoded};
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_wire::{Message, Operation, Version};

/// The most operations of a TXN, and bytes of its keys and values.
const OPERATIONS: usize = 1024;
const TRANSACTION: usize = 1024 * 1024;

/// The commit queue by default (`--max-queue`).
const QUEUE: usize = 16 * 1024 * 1024;

/// How many transactions are sent at once on a connection.
const AT_ONCE: usize = 4;

const fn bombers(scale: Scale) -> usize {
    scale.of(32, 4)
}

pub(super) const TRANSACTIONS: Attack = Attack {
    name: "transactions",
    does: "connections send the largest transactions, several at once, each of which fails at its last operation",
    bound: |scale| {
        let name = "max-queue; max-unsent and two frames, per connection";
        Bound::new(name, "16 MiB; 1 MiB + 2 × 1 MiB", bombers(scale), UNSENT + 2 * TRANSACTION).and(QUEUE)
    },
    play: |field| Box::pin(transactions(field)),
    ..PLAIN
};

async fn transactions(field: Arc<Field>) -> Result<(), Fault> {
    let least = field.scale.of(20, 1);
    field
        .side_by_side(bombers(field.scale), move |field, lane| async move {
            let mut link = field.target.greet().await?;
            let bombs = all_encoded((0..AT_ONCE).map(|number| bomb(lane, number)));
            for _ in field.laps(least) {
                link.send(&bombs, AT_ONCE).await?;
                for number in 0..AT_ONCE {
                    expect_error(&link.answer().await?, tag(number), "stale put: \"absent\"")?;
                }
            }
            Ok(())
        })
        .await
}

/// All keys are new, and would be accepted; the last operation says that one is there which is not.
fn bomb(lane: usize, number: usize) -> Message {
    let each = (TRANSACTION - "absent".len()) / (OPERATIONS - 1);
    let puts = (1..OPERATIONS).map(|place| {
        let key = format!("bomb/{lane:04}/{place:04}");
        let value = vec![b'v'; each - key.len()];
        Operation::Put { key: key.into(), value: value.into(), version: Version::new(1) }
    });
    let last = Operation::Check { key: "absent".into(), version: Version::new(7) };
    Message::txn(tag(number), puts.chain([last]).collect())
}

pub(super) const BAD_TRANSACTIONS: Attack = Attack {
    name: "bad-transactions",
    does: "transactions that name a key twice, and then one whose operation does not exist, on one connection after the other",
    bound: |scale| {
        Bound::new(
            "max-unsent and two frames, per connection",
            "1 MiB + 2 × 1 MiB",
            bombers(scale),
            UNSENT + 2 * TRANSACTION,
        )
    },
    play: |field| Box::pin(bad_transactions(field)),
    ..PLAIN
};

async fn bad_transactions(field: Arc<Field>) -> Result<(), Fault> {
    let least = field.scale.of(50, 5);
    field
        .side_by_side(bombers(field.scale), move |field, lane| async move {
            for _ in field.laps(least) {
                let mut link = field.target.greet().await?;
                let Message::Txn(mut twice) = bomb(lane, 0) else { return Ok(()) };
                // The first one, once more, in the place of the last.
                let first = twice.operations.first().cloned();
                twice.operations.pop();
                twice.operations.extend(first);
                // That makes it a little larger; one that is not needed goes.
                twice.operations.remove(1);
                let refused = link.ask(&Message::Txn(twice)).await?;
                expect_error(&refused, tag(0), "\"bomb/")?;
                // An operation of the number 77.
                let mut unknown = vec![9];
                unknown.extend(tag(1).get().to_le_bytes());
                unknown.extend([1, 0, 77]);
                link.send(&unknown, 1).await?;
                expect_error(&link.answer().await?, tag(1), "")?;
                if !link.drain(usize::MAX).await {
                    return Err(Fault::wrong("the end of the connection", "that it stays"));
                }
            }
            Ok(())
        })
        .await
}

/// How many keys are written together.
const TOGETHER: usize = 64;

const fn colliding_keys(scale: Scale) -> usize {
    scale.of(4096, 128)
}

pub(super) const COLLIDING: Attack = Attack {
    name: "colliding-keys",
    does: "keys are written and read that collide under hashes without a secret; beside them, as many that do not",
    bound: |scale| Bound::new("what a key takes", "1,024 bytes", 3 * colliding_keys(scale), 1024).and(UNSENT),
    prepare: |field| Box::pin(write_colliding(field)),
    play: |field| Box::pin(colliding(field)),
    ..PLAIN
};

async fn write_colliding(field: Arc<Field>) -> Result<(), Fault> {
    let mut link = field.target.greet().await?;
    for Set { keys, .. } in hashes::sets(colliding_keys(field.scale)) {
        fill(&mut link, keys.len(), |number| keys.get(number).cloned().unwrap_or_default(), b"value").await?;
    }
    Ok(())
}

/// What a pass over a set has taken.
#[derive(Default)]
struct Pass {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
}

async fn colliding(field: Arc<Field>) -> Result<(), Fault> {
    let sets = hashes::sets(colliding_keys(field.scale));
    let mut link = field.target.greet().await?;
    let mut passes: Vec<Pass> = sets.iter().map(|_| Pass::default()).collect();
    // In turns, so that whatever else goes on befalls all alike.
    while !field.is_over() {
        for (set, pass) in sets.iter().zip(&mut passes) {
            write_and_read(&mut link, set, pass).await?;
        }
        field.enough();
    }
    for (set, pass) in sets.iter().zip(&mut passes) {
        let (put, get) = (per_second(&mut pass.puts), per_second(&mut pass.gets));
        let keys = set.keys.len();
        field.note(format!("{keys} keys, {}: {put}, {get} (writes, reads)", set.name));
    }
    Ok(())
}

async fn write_and_read(link: &mut Link, set: &Set, pass: &mut Pass) -> Result<(), Fault> {
    let Some(first) = set.keys.first() else { return Ok(()) };
    let Message::Put(found) = link.ask(&Message::get(tag(0), first.clone())).await? else {
        return Err(Fault::wrong("a key that was written", "none"));
    };
    let version = Version::new(found.version.get() + 1);
    for keys in set.keys.chunks(TOGETHER) {
        let put = |(number, key): (usize, &String)| Message::put(tag(number), key.clone(), "value", version);
        let puts: Vec<_> = keys.iter().enumerate().map(put).collect();
        let gets = keys.iter().enumerate().map(|(number, key)| Message::get(tag(number), key.clone()));
        for (requests, took) in
            [(all_encoded(puts.iter().cloned()), &mut pass.puts), (all_encoded(gets), &mut pass.gets)]
        {
            let begun = Instant::now();
            link.send(&requests, keys.len()).await?;
            for put in &puts {
                expect(&link.answer().await?, put)?;
            }
            took.push(begun.elapsed());
        }
    }
    Ok(())
}

/// The rate, by the median of those that were done together, and their 99th percentile.
fn per_second(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |hundredths: usize| took.get(took.len().saturating_sub(1) * hundredths / 100).copied().unwrap_or_default();
    let rate = TOGETHER as f64 / at(50).as_secs_f64().max(1e-9);
    format!("{rate:.0}/s, p99 of {TOGETHER} together {:.2} ms", at(99).as_secs_f64() * 1e3)
}
