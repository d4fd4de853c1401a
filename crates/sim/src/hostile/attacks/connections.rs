//! Attacks by many connections, at once or one after another.

use super::common::{IDLE, expect, expect_error, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode, encode_all};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncline_wire::{Message, Tag, Version};

/// The limit of connections of the flooded server.
const MAX_CONNECTIONS: usize = 1000;

/// Files in addition to accepted connections: connections that are being refused (`MAX_REFUSALS` of
/// `server/src/server.rs`), and temporary files of the store.
const OTHERS: usize = 64 + 8;

/// The maximum of refused connections that the attacker keeps open.
const MAX_KEPT: usize = 3000;

/// The number of concurrent workers.
const CONCURRENCY: usize = 8;

pub(super) const TOO_MANY: Attack = Attack {
    name: "too-many-connections",
    description: "opens connections beyond the limit as fast as possible; accepted ones are served, the others get an error",
    flags: &["--max-connections", "1000"],
    bound: |_| Bound::new("max-connections", MAX_CONNECTIONS, MAX_CONNECTIONS, IDLE).files(MAX_CONNECTIONS + OTHERS),
    run: |context| Box::pin(too_many(context)),
    ..DEFAULTS
};

async fn too_many(context: Arc<AttackContext>) -> Result<(), AttackError> {
    // The bystander has one connection.
    let mut held = context.connect_many(MAX_CONNECTIONS - 1).await?;
    let refused = Arc::new(AtomicUsize::new(0));
    let least = context.scale.of(2000, 100);
    let count = refused.clone();
    context
        .run_concurrently(CONCURRENCY, move |context, _| {
            let refused = count.clone();
            async move {
                let mut kept = Vec::new();
                while refused.load(Ordering::Relaxed) < least || !context.is_stopped() {
                    // Over TLS, the server may close the connection during the handshake.
                    match context.target.connect().await {
                        Ok(mut connection) => {
                            refused_or_closed(&mut connection).await?;
                            // This side keeps them open, up to a limit.
                            if kept.len() < MAX_KEPT / CONCURRENCY {
                                kept.push(connection);
                            }
                        }
                        Err(error) if context.target.is_tls() && is_closed(&error) => {}
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
    context.note(format!("{} connections were refused", refused.load(Ordering::Relaxed)));
    for connection in &mut held {
        let absent = Message::get(tag(5), "absent");
        expect_error(&connection.request(&absent).await?, tag(5), "\"absent\": not found")?;
    }
    Ok(())
}

/// Returns whether the server has closed the connection during the handshake.
fn is_closed(error: &std::io::Error) -> bool {
    // A connection beyond the limit for unauthenticated connections gets an error instead of a response to AUTH.
    matches!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe
    )
}

/// Expects that a connection beyond the limit gets the error for it, or is closed.
async fn refused_or_closed(connection: &mut Connection) -> Result<(), AttackError> {
    match connection.receive().await {
        Ok(None) | Err(AttackError::Io(_)) => Ok(()),
        Ok(Some(message)) => expect_error(&message, Tag::BROADCAST, "unavailable: too many connections"),
        Err(error) => Err(error),
    }
}

pub(super) const COME_AND_GO: Attack = Attack {
    name: "come-and-go",
    description: "opens connections, and closes or resets them or leaves them within a frame, as fast as possible",
    bound: |_| Bound::new("the memory of an open connection", "48 KiB", 2000, IDLE),
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

/// The first number that does not fit into sixteen bits.
const WRAP: usize = 65_536;

/// The first connections stay open. If connection numbers were truncated to 16 bits, they would receive the responses
/// of later connections.
const KEPT: usize = 64;

pub(super) const SEVENTY_THOUSAND: Attack = Attack {
    name: "seventy-thousand",
    description: "opens 70,000 connections one after another, each of which writes and reads a key of its own; the first ones stay open, and receive nothing that belongs to later ones",
    bound: |scale| {
        Bound::new("the memory of a key, and of an open connection", "512 bytes; 48 KiB", one_after_another(scale), 512)
            .plus(2000 * IDLE)
    },
    run: |context| Box::pin(seventy_thousand(context)),
    ..DEFAULTS
};

async fn seventy_thousand(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let all = one_after_another(context.scale);
    let mut connection = context.target.connect_with_hello().await?;
    let first = numbered(0, 0);
    // Earlier rounds may have written the keys: all of them have the same version.
    let version = match connection.request(&Message::get(tag(0), first.0)).await? {
        Message::Put(put) => put.version.get() + 1,
        _ => 1,
    };
    let mut kept = Vec::new();
    for number in 0..KEPT {
        let mut connection = context.target.connect_with_hello().await?;
        write_and_read_own(&mut connection, number, version).await?;
        kept.push(connection);
    }
    let next = Arc::new(AtomicUsize::new(KEPT));
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
                    write_and_read_own(&mut connection, number, version).await?;
                }
            }
        })
        .await?;
    for (number, connection) in kept.iter_mut().enumerate() {
        // A message that belongs to another connection would arrive first.
        let (key, value) = numbered(number, version);
        let get = Message::get(tag(number), key.clone());
        connection.send(&encode(&get), 1).await?;
        match connection.receive().await? {
            Some(message) => expect(&message, &Message::put(tag(number), key, value, Version::new(version)))?,
            None => return Err(AttackError::unexpected("a response", "the end of the connection")),
        }
    }
    context.note(format!("{all} connections, {} of them with a number above 65,535", all.saturating_sub(WRAP)));
    context.report_complete();
    context.stopped().await;
    Ok(())
}

/// Returns the key and the value of a connection.
fn numbered(number: usize, version: u64) -> (String, String) {
    (format!("numbered/{number}"), format!("value {version} of connection {number}"))
}

/// Pipelines a write and a read of a connection's own key. The tags follow from its number modulo 65,535.
async fn write_and_read_own(connection: &mut Connection, number: usize, version: u64) -> Result<(), AttackError> {
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
    description: "opens thousands of connections that send HELLO and then nothing; in the end each is served",
    bound: |scale| Bound::new("the memory of a connection", "48 KiB", idle(scale), IDLE),
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
