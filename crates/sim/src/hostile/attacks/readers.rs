//! Attacks by clients that do not read responses, or read them very slowly.

use super::common::{LARGE, OUTPUT_ROOM, UNSENT, expect, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode_all};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use std::time::Duration;
use syncline_wire::{Message, Put, Tag, Version};
use tokio::time::sleep;

/// The number of keys with large values.
const KEYS: usize = 16;

/// The number of GETs in a batch.
const BATCH: usize = 512;

/// In the end, so many connections read so many responses.
const CHECKED: usize = 300;
const CHECKED_LINKS: usize = 4;

/// The number of keys that are written over and over.
const WRITTEN: usize = 8;

/// The recent log of every attacked server, in bytes.
const LOG: usize = 1024 * 1024;

/// The pause of slow readers between two bytes.
const PAUSE: Duration = Duration::from_secs(1);

fn key(number: usize) -> String {
    format!("large/{}", number % KEYS)
}

fn value(number: usize) -> Vec<u8> {
    vec![u8::try_from(number % KEYS).unwrap_or(0); LARGE]
}

async fn write_large(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connection = context.target.connect_with_hello().await?;
    for number in 0..KEYS {
        let put = Message::put(tag(number), key(number), value(number), Version::new(1));
        expect(&connection.request(&put).await?, &put)?;
    }
    Ok(())
}

/// Returns the GET of a large value.
fn large_get(number: usize) -> Message {
    Message::get(tag(number), key(number))
}

/// Receives and checks the responses to [`large_get`] of these numbers.
async fn check_responses(connection: &mut Connection, numbers: std::ops::Range<usize>) -> Result<(), AttackError> {
    for number in numbers {
        expect(&connection.response().await?, &Message::put(tag(number), key(number), value(number), Version::new(1)))?;
    }
    Ok(())
}

const fn readers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const NEVER_READING: Attack = Attack {
    name: "never-reading",
    description: "requests large values until the server stops reading, and reads no response; in the end some connections read, and get each response",
    bound: |scale| Bound::new("max-unsent, per connection", "1 MiB and the current write", readers(scale), UNSENT),
    prepare: |context| Box::pin(write_large(context)),
    run: |context| Box::pin(never_reading(context)),
    ..DEFAULTS
};

async fn never_reading(context: Arc<AttackContext>) -> Result<(), AttackError> {
    context
        .run_concurrently(readers(context.scale), |context, number| async move {
            let mut connection = context.target.connect_with_small_buffer().await?;
            connection.hello().await?;
            // More than the server and the kernel buffer.
            for first in (0..4).map(|batch| batch * BATCH) {
                connection.send(&encode_all((first..first + BATCH).map(large_get)), BATCH).await?;
            }
            if number == 0 {
                context.report_complete();
            }
            let rest = encode_all((0..BATCH).map(large_get));
            context.run_until_stopped(connection.send_repeatedly(&rest, BATCH)).await?;
            if number < CHECKED_LINKS { check_responses(&mut connection, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn slow_readers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const BYTE_A_SECOND: Attack = Attack {
    name: "byte-a-second",
    description: "requests large values, and reads a byte per second; in the end some connections read everything, and get each response",
    bound: |scale| Bound::new("max-unsent, per connection", "1 MiB and the current write", slow_readers(scale), UNSENT),
    prepare: |context| Box::pin(write_large(context)),
    run: |context| Box::pin(byte_a_second(context)),
    ..DEFAULTS
};

async fn byte_a_second(context: Arc<AttackContext>) -> Result<(), AttackError> {
    context
        .run_concurrently(slow_readers(context.scale), |context, number| async move {
            let mut connection = context.target.connect_with_small_buffer().await?;
            connection.hello().await?;
            connection.send(&encode_all((0..CHECKED).map(large_get)), CHECKED).await?;
            let slowly = async {
                loop {
                    connection.read_byte().await?;
                    context.report_complete();
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), std::io::Error>(slowly).await?;
            if number < CHECKED_LINKS { check_responses(&mut connection, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn watchers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const NEVER_READING_WRITES: Attack = Attack {
    name: "never-reading-writes",
    description: "opens base connections, which receive every write, and reads nothing while another connection writes large values as fast as possible; in the end some read, and get the latest value of every key",
    bound: |scale| {
        Bound::new(
            "recent-log, and the current write per connection",
            "1 MiB; 192 KiB",
            watchers(scale),
            OUTPUT_ROOM + Put::MAX_ENTRY,
        )
        .plus(LOG)
    },
    run: |context| Box::pin(never_reading_writes(context)),
    ..DEFAULTS
};

async fn never_reading_writes(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connections = Vec::new();
    for _ in 0..watchers(context.scale) {
        let mut connection = context.target.connect_with_small_buffer().await?;
        // After the response, the connection receives all later writes.
        let absent = Message::get(tag(0), "absent");
        super::common::expect_error(&connection.request(&absent).await?, tag(0), "\"absent\": not found")?;
        connections.push(connection);
    }
    let mut writer = context.target.connect_with_hello().await?;
    // An earlier round may have written the keys.
    let mut versions = [0; WRITTEN];
    for (number, version) in versions.iter_mut().enumerate() {
        if let Message::Put(found) = writer.request(&Message::get(tag(0), written_key(number))).await? {
            *version = found.version.get();
        }
    }
    for _ in context.repeat(context.scale.of(50, 25)) {
        for (number, version) in versions.iter_mut().enumerate() {
            *version += 1;
            let put = Message::put(tag(number), written_key(number), vec![b'v'; LARGE], Version::new(*version));
            expect(&writer.request(&put).await?, &put)?;
        }
    }
    for connection in connections.iter_mut().take(CHECKED_LINKS) {
        let mut received = [0; WRITTEN];
        while received != versions {
            let Some(Message::Put(Put { tag: Tag::BROADCAST, key, version, .. })) = connection.receive().await? else {
                return Err(AttackError::unexpected("a broadcast", "something else"));
            };
            let of = (0..WRITTEN).find(|number| key == written_key(*number).as_bytes());
            if let Some(received) = of.and_then(|number| received.get_mut(number)) {
                if version.get() <= *received {
                    return Err(AttackError::unexpected(format_args!("a version after {received}"), version));
                }
                *received = version.get();
            }
        }
    }
    Ok(())
}

fn written_key(number: usize) -> String {
    format!("written/{number}")
}
