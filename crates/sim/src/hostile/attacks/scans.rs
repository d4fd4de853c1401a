//! WATCH and LIST, of very much and of very many.

use super::common::{OUTPUT_ROOM, PAGE, fill, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::encode_all;
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use syncline_wire::{Message, Revision};

/// The most prefixes of a connection (`Limits::MAX_WATCHES`), and the longest.
const WATCHES: usize = 256;
const PREFIX: usize = 4096;

/// How many prefixes each connection asks for, and how many at once.
const ASKED: usize = 2048;
const AT_ONCE: usize = 128;

/// The keys that everybody wants to have, and their values.
const VALUE: usize = 1000;

/// The LISTs that each asks for beside its WATCH.
const LISTS: usize = 64;

const fn watchers(scale: Scale) -> usize {
    scale.of(64, 4)
}

pub(super) const PREFIXES: Attack = Attack {
    name: "prefixes",
    description: "connections watch 2,048 of the longest prefixes each; 256 are accepted, the others refused",
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
            for first in (0..ASKED).step_by(AT_ONCE) {
                let batch = first..first + AT_ONCE;
                let ask = |number| {
                    Message::watch(
                        tag(number),
                        format!("{worker:08}/{number:0rest$}", rest = PREFIX - 9),
                        Revision::ZERO,
                    )
                };
                connection.send(&encode_all(batch.clone().map(ask)), AT_ONCE).await?;
                for _ in batch {
                    match connection.response().await? {
                        Message::Mark(_) => accepted += 1,
                        Message::Error(refused) if refused.text.starts_with(b"too large: ") => {}
                        other => {
                            return Err(AttackError::unexpected("a MARK, or that it is too large", other.redacted()));
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
    description: "connections watch and list all keys of a large store, many times at once, and read none",
    bound: |scale| {
        let name = "what is being written, and two pages, per connection";
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
