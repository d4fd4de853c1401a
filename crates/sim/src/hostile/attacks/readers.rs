//! Those who ask, and do not read what they are sent; or hardly.

use super::{Attack, LARGE, OUTPUT_ROOM, PLAIN, UNSENT, expect, tag};
use crate::hostile::Fault;
use crate::hostile::field::{Bound, Field, Scale};
use crate::hostile::link::{Link, all_encoded};
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

async fn write_large(field: Arc<Field>) -> Result<(), Fault> {
    let mut link = field.target.greet().await?;
    for number in 0..KEYS {
        let put = Message::put(tag(number), key(number), value(number), Version::new(1));
        expect(&link.ask(&put).await?, &put)?;
    }
    Ok(())
}

/// GETs of large values, and what they are to be answered with, by number.
fn ask(number: usize) -> Message {
    Message::get(tag(number), key(number))
}

/// Reads the answers to [`ask`] of these numbers.
async fn read(link: &mut Link, numbers: std::ops::Range<usize>) -> Result<(), Fault> {
    for number in numbers {
        expect(&link.answer().await?, &Message::put(tag(number), key(number), value(number), Version::new(1)))?;
    }
    Ok(())
}

const fn readers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const NEVER_READING: Attack = Attack {
    name: "never-reading",
    does: "connections ask for large values, as many as are taken, and read none; in the end some do, and each answer is there",
    bound: |scale| Bound::new("max-unsent, per connection", "1 MiB and what is being written", readers(scale), UNSENT),
    prepare: |field| Box::pin(write_large(field)),
    play: |field| Box::pin(never_reading(field)),
    ..PLAIN
};

async fn never_reading(field: Arc<Field>) -> Result<(), Fault> {
    field
        .side_by_side(readers(field.scale), |field, number| async move {
            let mut link = field.target.connect_with_little_room().await?;
            link.greet().await?;
            // More than the server holds, and the kernel with it.
            for first in (0..4).map(|batch| batch * BATCH) {
                link.send(&all_encoded((first..first + BATCH).map(ask)), BATCH).await?;
            }
            if number == 0 {
                field.enough();
            }
            let rest = all_encoded((0..BATCH).map(ask));
            field.while_on(link.send_for_ever(&rest, BATCH)).await?;
            if number < CHECKED_LINKS { read(&mut link, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn slow_readers(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const BYTE_A_SECOND: Attack = Attack {
    name: "byte-a-second",
    does: "connections ask for large values, and read a byte a second; in the end some read it all, and each answer is there",
    bound: |scale| {
        Bound::new("max-unsent, per connection", "1 MiB and what is being written", slow_readers(scale), UNSENT)
    },
    prepare: |field| Box::pin(write_large(field)),
    play: |field| Box::pin(byte_a_second(field)),
    ..PLAIN
};

async fn byte_a_second(field: Arc<Field>) -> Result<(), Fault> {
    field
        .side_by_side(slow_readers(field.scale), |field, number| async move {
            let mut link = field.target.connect_with_little_room().await?;
            link.greet().await?;
            link.send(&all_encoded((0..CHECKED).map(ask)), CHECKED).await?;
            let slowly = async {
                loop {
                    link.read_byte().await?;
                    field.enough();
                    sleep(PAUSE).await;
                }
            };
            field.while_on::<(), std::io::Error>(slowly).await?;
            if number < CHECKED_LINKS { read(&mut link, 0..CHECKED).await } else { Ok(()) }
        })
        .await
}

const fn listeners(scale: Scale) -> usize {
    scale.of(200, 12)
}

pub(super) const NEVER_READING_WRITES: Attack = Attack {
    name: "never-reading-writes",
    does: "base connections, to which every write is broadcast, read nothing while another writes large values as fast as it can; in the end some read, and are at the latest of every key",
    bound: |scale| {
        Bound::new(
            "recent-log, and what is being written, per connection",
            "1 MiB; 192 KiB",
            listeners(scale),
            OUTPUT_ROOM + Put::MAX_ENTRY,
        )
        .and(LOG)
    },
    play: |field| Box::pin(never_reading_writes(field)),
    ..PLAIN
};

async fn never_reading_writes(field: Arc<Field>) -> Result<(), Fault> {
    let mut links = Vec::new();
    for _ in 0..listeners(field.scale) {
        let mut link = field.target.connect_with_little_room().await?;
        // Taken in, it is sent what comes from now on.
        let here = Message::get(tag(0), "is anybody there?");
        super::expect_error(&link.ask(&here).await?, tag(0), "\"is anybody there?\": not found")?;
        links.push(link);
    }
    let mut writer = field.target.greet().await?;
    // Whoever has written before, in another round, has left versions behind.
    let mut versions = [0; WRITTEN];
    for (number, version) in versions.iter_mut().enumerate() {
        if let Message::Put(found) = writer.ask(&Message::get(tag(0), of_writer(number))).await? {
            *version = found.version.get();
        }
    }
    for _ in field.laps(field.scale.of(50, 25)) {
        for (number, version) in versions.iter_mut().enumerate() {
            *version += 1;
            let put = Message::put(tag(number), of_writer(number), vec![b'v'; LARGE], Version::new(*version));
            expect(&writer.ask(&put).await?, &put)?;
        }
    }
    for link in links.iter_mut().take(CHECKED_LINKS) {
        let mut told = [0; WRITTEN];
        while told != versions {
            let Some(Message::Put(Put { tag: Tag::BROADCAST, key, version, .. })) = link.receive().await? else {
                return Err(Fault::wrong("a broadcast", "something else"));
            };
            let of = (0..WRITTEN).find(|number| key == of_writer(*number).as_bytes());
            if let Some(told) = of.and_then(|number| told.get_mut(number)) {
                if version.get() <= *told {
                    return Err(Fault::wrong(format_args!("a version after {told}"), version));
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
