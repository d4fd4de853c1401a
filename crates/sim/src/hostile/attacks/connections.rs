//! Connections, many at once and many after each other.

use super::{Attack, IDLE, PLAIN, expect, expect_error, tag};
use crate::hostile::Fault;
use crate::hostile::field::{Bound, Field, Scale};
use crate::hostile::link::{Link, all_encoded, encoded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncline_wire::{Message, Tag, Version};

/// The places of the server that is flooded.
const PLACES: usize = 1000;

/// Those who are told at once that there is no place (`MAX_REFUSALS` of `server/src/server.rs`), and files of the store
/// that are open for a while.
const OTHERS: usize = 64 + 8;

/// The refused connections that the attacker keeps at the most.
const KEPT: usize = 3000;

/// How many connect at a time.
const LANES: usize = 8;

pub(super) const TOO_MANY: Attack = Attack {
    name: "too-many-connections",
    does: "more connections than there are places, as fast as they can be opened; those that were let in are served, the others told",
    flags: &["--max-connections", "1000"],
    bound: |_| Bound::new("max-connections", PLACES, PLACES, IDLE).files(PLACES + OTHERS),
    play: |field| Box::pin(too_many(field)),
    ..PLAIN
};

async fn too_many(field: Arc<Field>) -> Result<(), Fault> {
    // All but that of the bystander.
    let places = PLACES - 1;
    let mut held = field.greeted(places).await?;
    let refused = Arc::new(AtomicUsize::new(0));
    let least = field.scale.of(2000, 100);
    let count = refused.clone();
    field
        .side_by_side(LANES, move |field, _| {
            let refused = count.clone();
            async move {
                let mut kept = Vec::new();
                while refused.load(Ordering::Relaxed) < least || !field.is_over() {
                    // Over TLS, it may be cut off before the hands are shaken.
                    match field.target.connect().await {
                        Ok(mut link) => {
                            refused_or_closed(&mut link).await?;
                            // They stay open on this side, as far as that is allowed.
                            if kept.len() < KEPT / LANES {
                                kept.push(link);
                            }
                        }
                        Err(error) if field.target.is_tls() && is_cut(&error) => {}
                        Err(error) => return Err(error.into()),
                    }
                    if refused.fetch_add(1, Ordering::Relaxed) == least {
                        field.enough();
                    }
                }
                Ok(())
            }
        })
        .await?;
    field.note(format!("{} connections were turned away", refused.load(Ordering::Relaxed)));
    for link in &mut held {
        let absent = Message::get(tag(5), "absent");
        expect_error(&link.ask(&absent).await?, tag(5), "\"absent\": not found")?;
    }
    Ok(())
}

/// Whether the server has cut off a handshake.
fn is_cut(error: &std::io::Error) -> bool {
    // And whoever is not even a stranger yet is told when it shows its password.
    matches!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe
    )
}

/// Somebody for whom there is no place is told so, or cut off; nothing else.
async fn refused_or_closed(link: &mut Link) -> Result<(), Fault> {
    match link.receive().await {
        Ok(None) | Err(Fault::Io(_)) => Ok(()),
        Ok(Some(told)) => expect_error(&told, Tag::BROADCAST, "unavailable: too many connections"),
        Err(fault) => Err(fault),
    }
}

pub(super) const COME_AND_GO: Attack = Attack {
    name: "come-and-go",
    does: "connections are opened and closed, reset, or left within a frame, as fast as they can be",
    bound: |_| Bound::new("what a connection holds, for those that are open", "48 KiB", 2000, IDLE),
    play: |field| Box::pin(come_and_go(field)),
    ..PLAIN
};

async fn come_and_go(field: Arc<Field>) -> Result<(), Fault> {
    let each = field.scale.of(1000, 50);
    field
        .side_by_side(LANES, |field, _| async move {
            for number in field.laps(each) {
                let mut link = field.target.connect().await?;
                match number % 4 {
                    0 => link.reset()?,
                    1 => {
                        let _ = link.send(&encoded(&Message::get(tag(0), "absent")), 1).await;
                        link.reset()?;
                    }
                    2 => {
                        let _ = link.send(&[1, 1, 0, 255], 1).await;
                        link.half_close().await;
                        link.drain(1).await;
                    }
                    _ => drop(link),
                }
            }
            Ok(())
        })
        .await
}

const fn one_after_another(scale: Scale) -> usize {
    scale.of(70_000, 1_500)
}

/// What number wraps in sixteen bits.
const WRAP: usize = 65_536;

/// The first connections stay: each hears what is asked by who has its number, were that cut off at 16 bits.
const STAY: usize = 64;

pub(super) const SEVENTY_THOUSAND: Attack = Attack {
    name: "seventy-thousand",
    does: "70,000 connections one after another; each writes under its own number and reads it; the first ones stay, and hear nothing of those whose number has wrapped",
    bound: |scale| {
        Bound::new(
            "what a key takes, and a connection that is open",
            "512 bytes; 48 KiB",
            one_after_another(scale),
            512,
        )
        .and(2000 * IDLE)
    },
    play: |field| Box::pin(seventy_thousand(field)),
    ..PLAIN
};

async fn seventy_thousand(field: Arc<Field>) -> Result<(), Fault> {
    let all = one_after_another(field.scale);
    let mut link = field.target.greet().await?;
    let first = numbered(0, 0);
    // The version that every key is at by now, from the rounds before.
    let version = match link.ask(&Message::get(tag(0), first.0)).await? {
        Message::Put(put) => put.version.get() + 1,
        _ => 1,
    };
    let mut stay = Vec::new();
    for number in 0..STAY {
        let mut link = field.target.greet().await?;
        own(&mut link, number, version).await?;
        stay.push(link);
    }
    let next = Arc::new(AtomicUsize::new(STAY));
    field
        .side_by_side(LANES, |field, _| {
            let next = next.clone();
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= all {
                        return Ok(());
                    }
                    let mut link = field.target.connect().await?;
                    link.greet().await?;
                    own(&mut link, number, version).await?;
                }
            }
        })
        .await?;
    for (number, link) in stay.iter_mut().enumerate() {
        // Had it been sent anything that was another's, that would come first.
        let (key, value) = numbered(number, version);
        let get = Message::get(tag(number), key.clone());
        link.send(&encoded(&get), 1).await?;
        match link.receive().await? {
            Some(told) => expect(&told, &Message::put(tag(number), key, value, Version::new(version)))?,
            None => return Err(Fault::wrong("an answer", "the end of the connection")),
        }
    }
    field.note(format!("{all} connections, {} of them with a number above 65,535", all.saturating_sub(WRAP)));
    field.enough();
    field.until_over().await;
    Ok(())
}

/// The key and the value of a connection.
fn numbered(number: usize, version: u64) -> (String, String) {
    (format!("numbered/{number}"), format!("value {version} of connection {number}"))
}

/// Writes what is a connection's own, and reads it, both at once, by the tag that its number wraps to.
async fn own(link: &mut Link, number: usize, version: u64) -> Result<(), Fault> {
    let (key, value) = numbered(number, version);
    let put = |tag| Message::put(tag, key.clone(), value.clone(), Version::new(version));
    let (first, second) = (tag(number), tag(number + 1));
    link.send(&all_encoded([put(first), Message::get(second, key.clone())]), 2).await?;
    expect(&link.answer().await?, &put(first))?;
    expect(&link.answer().await?, &put(second))
}

const fn idle(scale: Scale) -> usize {
    scale.of(8000, 200)
}

pub(super) const MANY_IDLE: Attack = Attack {
    name: "idle",
    does: "thousands of connections say HELLO, and then nothing; in the end each is served",
    bound: |scale| Bound::new("what a connection holds", "48 KiB", idle(scale), IDLE),
    play: |field| Box::pin(hold_idle(field)),
    ..PLAIN
};

async fn hold_idle(field: Arc<Field>) -> Result<(), Fault> {
    let mut links = field.greeted(idle(field.scale)).await?;
    field.enough();
    field.until_over().await;
    for link in &mut links {
        expect_error(&link.ask(&Message::get(tag(5), "absent")).await?, tag(5), "\"absent\": not found")?;
    }
    Ok(())
}
