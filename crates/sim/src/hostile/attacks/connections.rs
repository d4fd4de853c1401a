//! Connections, many at once and many after each other.

use super::common::{IDLE, expect, expect_error, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode, encode_all};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncline_wire::{Message, Tag, Version};

/// The places of the server that is flooded.
const MAX_CONNECTIONS: usize = 1000;

/// Those who are told at once that there is no place (`MAX_REFUSALS` of `server/src/server.rs`), and files of the store
/// that are open for a while.
const OTHERS: usize = 64 + 8;

/// The refused connections that the attacker keeps at the most.
const KEPT: usize = 3000;

/// How many connect at a time.
const CONCURRENCY: usize = 8;

pub(super) const TOO_MANY: Attack = Attack {
    name: "too-many-connections",
    description: "more connections than there are places, as fast as they can be opened; those that were let in are served, the others told",
    flags: &["--max-connections", "1000"],
    bound: |_| Bound::new("max-connections", MAX_CONNECTIONS, MAX_CONNECTIONS, IDLE).files(MAX_CONNECTIONS + OTHERS),
    run: |context| Box::pin(too_many(context)),
    ..DEFAULTS
};

async fn too_many(context: Arc<AttackContext>) -> Result<(), AttackError> {
    // All but that of the bystander.
    let places = MAX_CONNECTIONS - 1;
    let mut held = context.connect_many(places).await?;
    let refused = Arc::new(AtomicUsize::new(0));
    let least = context.scale.of(2000, 100);
    let count = refused.clone();
    context
        .run_concurrently(CONCURRENCY, move |context, _| {
            let refused = count.clone();
            async move {
                let mut kept = Vec::new();
                while refused.load(Ordering::Relaxed) < least || !context.is_stopped() {
                    // Over TLS, it may be cut off before the hands are shaken.
                    match context.target.connect().await {
                        Ok(mut connection) => {
                            refused_or_closed(&mut connection).await?;
                            // They stay open on this side, as far as that is allowed.
                            if kept.len() < KEPT / CONCURRENCY {
                                kept.push(connection);
                            }
                        }
                        Err(error) if context.target.is_tls() && is_cut(&error) => {}
                        Err(error) => return Err(error.into()),
                    }
                    if refused.fetch_add(1, Ordering::Relaxed) == least {
                        context.report_complete();
                    }
                }
                Ok(())
            }
        })
        .await?;
    context.note(format!("{} connections were turned away", refused.load(Ordering::Relaxed)));
    for connection in &mut held {
        let absent = Message::get(tag(5), "absent");
        expect_error(&connection.request(&absent).await?, tag(5), "\"absent\": not found")?;
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
async fn refused_or_closed(connection: &mut Connection) -> Result<(), AttackError> {
    match connection.receive().await {
        Ok(None) | Err(AttackError::Io(_)) => Ok(()),
        Ok(Some(told)) => expect_error(&told, Tag::BROADCAST, "unavailable: too many connections"),
        Err(fault) => Err(fault),
    }
}

pub(super) const COME_AND_GO: Attack = Attack {
    name: "come-and-go",
    description: "connections are opened and closed, reset, or left within a frame, as fast as they can be",
    bound: |_| Bound::new("what a connection holds, for those that are open", "48 KiB", 2000, IDLE),
    run: |context| Box::pin(come_and_go(context)),
    ..DEFAULTS
};

async fn come_and_go(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let each = context.scale.of(1000, 50);
    context
        .run_concurrently(CONCURRENCY, |context, _| async move {
            for number in context.repeat(each) {
                let mut connection = context.target.connect().await?;
                match number % 4 {
                    0 => connection.reset()?,
                    1 => {
                        let _ = connection.send(&encode(&Message::get(tag(0), "absent")), 1).await;
                        connection.reset()?;
                    }
                    2 => {
                        let _ = connection.send(&[1, 1, 0, 255], 1).await;
                        connection.half_close().await;
                        connection.drain(1).await;
                    }
                    _ => drop(connection),
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
    description: "70,000 connections one after another; each writes under its own number and reads it; the first ones stay, and hear nothing of those whose number has wrapped",
    bound: |scale| {
        Bound::new(
            "what a key takes, and a connection that is open",
            "512 bytes; 48 KiB",
            one_after_another(scale),
            512,
        )
        .plus(2000 * IDLE)
    },
    run: |context| Box::pin(seventy_thousand(context)),
    ..DEFAULTS
};

async fn seventy_thousand(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let all = one_after_another(context.scale);
    let mut connection = context.target.connect_with_hello().await?;
    let first = numbered(0, 0);
    // The version that every key is at by now, from the rounds before.
    let version = match connection.request(&Message::get(tag(0), first.0)).await? {
        Message::Put(put) => put.version.get() + 1,
        _ => 1,
    };
    let mut stay = Vec::new();
    for number in 0..STAY {
        let mut connection = context.target.connect_with_hello().await?;
        own(&mut connection, number, version).await?;
        stay.push(connection);
    }
    let next = Arc::new(AtomicUsize::new(STAY));
    context
        .run_concurrently(CONCURRENCY, |context, _| {
            let next = next.clone();
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= all {
                        return Ok(());
                    }
                    let mut connection = context.target.connect().await?;
                    connection.hello().await?;
                    own(&mut connection, number, version).await?;
                }
            }
        })
        .await?;
    for (number, connection) in stay.iter_mut().enumerate() {
        // Had it been sent anything that was another's, that would come first.
        let (key, value) = numbered(number, version);
        let get = Message::get(tag(number), key.clone());
        connection.send(&encode(&get), 1).await?;
        match connection.receive().await? {
            Some(told) => expect(&told, &Message::put(tag(number), key, value, Version::new(version)))?,
            None => return Err(AttackError::unexpected("an answer", "the end of the connection")),
        }
    }
    context.note(format!("{all} connections, {} of them with a number above 65,535", all.saturating_sub(WRAP)));
    context.report_complete();
    context.stopped().await;
    Ok(())
}

/// The key and the value of a connection.
fn numbered(number: usize, version: u64) -> (String, String) {
    (format!("numbered/{number}"), format!("value {version} of connection {number}"))
}

/// Writes what is a connection's own, and reads it, both at once, by the tag that its number wraps to.
async fn own(connection: &mut Connection, number: usize, version: u64) -> Result<(), AttackError> {
    let (key, value) = numbered(number, version);
    let put = |tag| Message::put(tag, key.clone(), value.clone(), Version::new(version));
    let (first, second) = (tag(number), tag(number + 1));
    connection.send(&encode_all([put(first), Message::get(second, key.clone())]), 2).await?;
    expect(&connection.response().await?, &put(first))?;
    expect(&connection.response().await?, &put(second))
}

const fn idle(scale: Scale) -> usize {
    scale.of(8000, 200)
}

pub(super) const MANY_IDLE: Attack = Attack {
    name: "idle",
    description: "thousands of connections say HELLO, and then nothing; in the end each is served",
    bound: |scale| Bound::new("what a connection holds", "48 KiB", idle(scale), IDLE),
    run: |context| Box::pin(hold_idle(context)),
    ..DEFAULTS
};

async fn hold_idle(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connections = context.connect_many(idle(context.scale)).await?;
    context.report_complete();
    context.stopped().await;
    for connection in &mut connections {
        expect_error(&connection.request(&Message::get(tag(5), "absent")).await?, tag(5), "\"absent\": not found")?;
    }
    Ok(())
}
