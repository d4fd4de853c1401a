//! Attacks by WATCH and LIST of many prefixes and many keys.

use super::common::{OUTPUT_ROOM, PAGE, fill, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::encode_all;
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use syncline_wire::{Message, Revision};

/// The maximum number of prefixes of a connection (`Limits::MAX_WATCHES`), and the maximum length of a prefix.
const WATCHES: usize = 256;
const PREFIX: usize = 4096;

/// The number of prefixes that each connection requests, and the size of a batch.
const REQUESTED: usize = 2048;
const BATCH: usize = 128;

/// The size of values in the large store.
const VALUE: usize = 1000;

/// The number of LISTs of each connection beside its WATCH.
const LISTS: usize = 64;

const fn watchers(scale: Scale) -> usize {
    scale.of(64, 4)
}

pub(super) const PREFIXES: Attack = Attack {
    name: "prefixes",
    description: "watches 2,048 of the longest prefixes on each connection; 256 are accepted, the others refused",
    bound: |scale| {
        let name = "256 prefixes of max-key, twice, and unsent requests, per connection";
        Bound::new(name, "2 × 256 × 4,096 bytes; 1 MiB", watchers(scale), 2 * WATCHES * PREFIX + super::common::UNSENT)
    },
    run: |context| Box::pin(prefixes(context)),
    ..DEFAULTS
};

async fn prefixes(context: Arc<AttackContext>) -> Result<(), AttackError> {
    context
        .run_concurrently(watchers(context.scale), |context, worker| async move {
            let (mut connection, mut accepted) = (context.target.connect_with_hello().await?, 0);
            for first in (0..REQUESTED).step_by(BATCH) {
                let batch = first..first + BATCH;
                let ask = |number| {
                    Message::watch(
                        tag(number),
                        format!("{worker:08}/{number:0rest$}", rest = PREFIX - 9),
                        Revision::ZERO,
                    )
                };
                connection.send(&encode_all(batch.clone().map(ask)), BATCH).await?;
                for _ in batch {
                    match connection.response().await? {
                        Message::Mark(_) => accepted += 1,
                        Message::Error(refused) if refused.text.starts_with(b"too large: ") => {}
                        other => {
                            return Err(AttackError::unexpected("a MARK or the error `too large`", other.redacted()));
                        }
                    }
                }
            }
            if accepted != WATCHES {
                return Err(AttackError::unexpected(format_args!("{WATCHES} prefixes accepted"), accepted));
            }
            context.report_complete();
            context.stopped().await;
            Ok(())
        })
        .await
}

const fn greedy(scale: Scale) -> usize {
    scale.of(256, 12)
}

const fn keys(scale: Scale) -> usize {
    scale.of(20_000, 3_000)
}

pub(super) const EVERYTHING: Attack = Attack {
    name: "everything",
    description: "watches and lists all keys of a large store many times at once, and reads nothing",
    bound: |scale| {
        let name = "the current write and two pages, per connection";
        Bound::new(name, "128 KiB + 2 × 64 KiB", greedy(scale), OUTPUT_ROOM + 2 * PAGE)
    },
    prepare: |context| {
        Box::pin(async move {
            let mut connection = context.target.connect_with_hello().await?;
            fill(&mut connection, keys(context.scale), |number| format!("all/{number:08}"), &[b'v'; VALUE]).await
        })
    },
    run: |context| Box::pin(everything(context)),
    ..DEFAULTS
};

async fn everything(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connections = Vec::new();
    let watch = Message::watch(tag(0), "", Revision::ZERO);
    let lists = (1..=LISTS).map(|number| Message::list(tag(number), "", "", u32::MAX));
    let bytes = encode_all([watch].into_iter().chain(lists));
    for _ in 0..greedy(context.scale) {
        let mut connection = context.target.connect_with_small_buffer().await?;
        connection.hello().await?;
        connection.send(&bytes, LISTS + 1).await?;
        connections.push(connection);
    }
    context.report_complete();
    context.stopped().await;
    drop(connections);
    Ok(())
}
