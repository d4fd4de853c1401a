//! Those who ask, and do not read what they are sent; or hardly.

use super::common::{LARGE, OUTPUT_ROOM, UNSENT, expect, tag};
use crate::hostile::attack::{Attack, DEFAULTS};
use crate::hostile::connection::{Connection, encode_all};
use crate::hostile::context::{AttackContext, Bound, Scale};
use crate::hostile::error::AttackError;
use std::sync::Arc;
use std::time::Duration;
use syncline_wire::{Message, Put, Tag, Version};
use tokio::time::sleep;

/// The large keys that are read.
const KEYS: usize = 16;

/// How many GETs are sent at once.
const BATCH: usize = 512;

/// How many answers are read in the end, by those who never did, on some of the connections.
const CHECKED: usize = 300;
const CHECKED_LINKS: usize = 4;

/// Keys that are written over and over while nobody reads.
const WRITTEN: usize = 8;

/// The recent log of every server that is attacked, in bytes.
const LOG: usize = 1024 * 1024;

/// Who reads so slowly reads a byte, and then pauses.
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

/// GETs of large values, and what they are to be answered with, by number.
fn ask(number: usize) -> Message {
    Message::get(tag(number), key(number))
}

/// Reads the answers to [`ask`] of these numbers.
async fn read(connection: &mut Connection, numbers: std::ops::Range<usize>) -> Result<(), AttackError> {
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
    description: "connections ask for large values, as many as are taken, and read none; in the end some do, and each answer is there",
    bound: |scale| Bound::new("max-unsent, per connection", "1 MiB and what is being written", readers(scale), UNSENT),
    prepare: |context| Box::pin(write_large(context)),
    run: |context| Box::pin(never_reading(context)),
    ..DEFAULTS
};

async fn never_reading(context: Arc<AttackContext>) -> Result<(), AttackError> {
    context
        .run_concurrently(readers(context.scale), |context, number| async move {
            let mut connection = context.target.connect_with_small_buffer().await?;
            connection.hello().await?;
            // More than the server holds, and the kernel with it.
            for first in (0..4).map(|batch| batch * BATCH) {
                connection.send(&encode_all((first..first + BATCH).map(ask)), BATCH).await?;
            }
            if number == 0 {
                context.report_complete();
            }
            let rest = encode_all((0..BATCH).map(ask));
            context.run_until_stopped(connection.send_repeatedly(&rest, BATCH)).await?;
            if number < CHECKED_LINKS { read(&mut connection, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn slow_readers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const BYTE_A_SECOND: Attack = Attack {
    name: "byte-a-second",
    description: "connections ask for large values, and read a byte a second; in the end some read it all, and each answer is there",
    bound: |scale| {
        Bound::new("max-unsent, per connection", "1 MiB and what is being written", slow_readers(scale), UNSENT)
    },
    prepare: |context| Box::pin(write_large(context)),
    run: |context| Box::pin(byte_a_second(context)),
    ..DEFAULTS
};

async fn byte_a_second(context: Arc<AttackContext>) -> Result<(), AttackError> {
    context
        .run_concurrently(slow_readers(context.scale), |context, number| async move {
            let mut connection = context.target.connect_with_small_buffer().await?;
            connection.hello().await?;
            connection.send(&encode_all((0..CHECKED).map(ask)), CHECKED).await?;
            let slowly = async {
                loop {
                    connection.read_byte().await?;
                    context.report_complete();
                    sleep(PAUSE).await;
                }
            };
            context.run_until_stopped::<(), std::io::Error>(slowly).await?;
            if number < CHECKED_LINKS { read(&mut connection, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn listeners(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const NEVER_READING_WRITES: Attack = Attack {
    name: "never-reading-writes",
    description: "base connections, to which every write is broadcast, read nothing while another writes large values as fast as it can; in the end some read, and are at the latest of every key",
    bound: |scale| {
        Bound::new(
            "recent-log, and what is being written, per connection",
            "1 MiB; 192 KiB",
            listeners(scale),
            OUTPUT_ROOM + Put::MAX_ENTRY,
        )
        .plus(LOG)
    },
    run: |context| Box::pin(never_reading_writes(context)),
    ..DEFAULTS
};

async fn never_reading_writes(context: Arc<AttackContext>) -> Result<(), AttackError> {
    let mut connections = Vec::new();
    for _ in 0..listeners(context.scale) {
        let mut connection = context.target.connect_with_small_buffer().await?;
        // Taken in, it is sent what comes from now on.
        let here = Message::get(tag(0), "is anybody there?");
        super::common::expect_error(&connection.request(&here).await?, tag(0), "\"is anybody there?\": not found")?;
        connections.push(connection);
    }
    let mut writer = context.target.connect_with_hello().await?;
    // Whoever has written before, in another round, has left versions behind.
    let mut versions = [0; WRITTEN];
    for (number, version) in versions.iter_mut().enumerate() {
        if let Message::Put(found) = writer.request(&Message::get(tag(0), of_writer(number))).await? {
            *version = found.version.get();
        }
    }
    for _ in context.repeat(context.scale.of(50, 25)) {
        for (number, version) in versions.iter_mut().enumerate() {
            *version += 1;
            let put = Message::put(tag(number), of_writer(number), vec![b'v'; LARGE], Version::new(*version));
            expect(&writer.request(&put).await?, &put)?;
        }
    }
    for connection in connections.iter_mut().take(CHECKED_LINKS) {
        let mut told = [0; WRITTEN];
        while told != versions {
            let Some(Message::Put(Put { tag: Tag::BROADCAST, key, version, .. })) = connection.receive().await? else {
                return Err(AttackError::unexpected("a broadcast", "something else"));
            };
            let of = (0..WRITTEN).find(|number| key == of_writer(*number).as_bytes());
            if let Some(told) = of.and_then(|number| told.get_mut(number)) {
                if version.get() <= *told {
                    return Err(AttackError::unexpected(format_args!("a version after {told}"), version));
                }
                *told = version.get();
            }
        }
    }
    Ok(())
}

fn of_writer(number: usize) -> String {
    format!("written/{number}")
}
