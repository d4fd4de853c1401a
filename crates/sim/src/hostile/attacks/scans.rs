//! WATCH and LIST, of very much and of very many.

use super::{Attack, OUTPUT_ROOM, PAGE, PLAIN, fill, tag};
use crate::hostile::Fault;
use crate::hostile::field::{Bound, Field, Scale};
use crate::hostile::link::all_encoded;
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
    does: "connections watch 2,048 of the longest prefixes each; 256 are accepted, the others refused",
    bound: |scale| {
        let name = "256 prefixes of max-key, twice, and unsent requests, per connection";
        Bound::new(name, "2 × 256 × 4,096 bytes; 1 MiB", watchers(scale), 2 * WATCHES * PREFIX + super::UNSENT)
    },
    play: |field| Box::pin(prefixes(field)),
    ..PLAIN
};

async fn prefixes(field: Arc<Field>) -> Result<(), Fault> {
    field
        .side_by_side(watchers(field.scale), |field, lane| async move {
            let (mut link, mut accepted) = (field.target.greet().await?, 0);
            for first in (0..ASKED).step_by(AT_ONCE) {
                let batch = first..first + AT_ONCE;
                let ask = |number| {
                    Message::watch(tag(number), format!("{lane:08}/{number:0rest$}", rest = PREFIX - 9), Revision::ZERO)
                };
                link.send(&all_encoded(batch.clone().map(ask)), AT_ONCE).await?;
                for _ in batch {
                    match link.answer().await? {
                        Message::Mark(_) => accepted += 1,
                        Message::Error(refused) if refused.text.starts_with(b"too large: ") => {}
                        other => return Err(Fault::wrong("a MARK, or that it is too large", other.redacted())),
                    }
                }
            }
            if accepted != WATCHES {
                return Err(Fault::wrong(format_args!("{WATCHES} prefixes accepted"), accepted));
            }
            field.enough();
            field.until_over().await;
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
    does: "connections watch and list all keys of a large store, many times at once, and read none",
    bound: |scale| {
        let name = "what is being written, and two pages, per connection";
        Bound::new(name, "128 KiB + 2 × 64 KiB", greedy(scale), OUTPUT_ROOM + 2 * PAGE)
    },
    prepare: |field| {
        Box::pin(async move {
            let mut link = field.target.greet().await?;
            fill(&mut link, keys(field.scale), |number| format!("all/{number:08}"), &[b'v'; VALUE]).await
        })
    },
    play: |field| Box::pin(everything(field)),
    ..PLAIN
};

async fn everything(field: Arc<Field>) -> Result<(), Fault> {
    let mut links = Vec::new();
    let watch = Message::watch(tag(0), "", Revision::ZERO);
    let lists = (1..=LISTS).map(|number| Message::list(tag(number), "", "", u32::MAX));
    let bytes = all_encoded([watch].into_iter().chain(lists));
    for _ in 0..greedy(field.scale) {
        let mut link = field.target.connect_with_little_room().await?;
        link.greet().await?;
        link.send(&bytes, LISTS + 1).await?;
        links.push(link);
    }
    field.enough();
    field.until_over().await;
    drop(links);
    Ok(())
}
