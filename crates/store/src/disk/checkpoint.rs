//! A checkpoint: the latest state of every key as of a revision. It makes the log before that revision unnecessary.
//!
//! ```text
//!  block │ length: u32 │ crc-32c: u32 │ body …
//!
//!  the first body    0: u8, format: u32, through: u64, forgotten: u64
//!  then              1: u8, entries …
//!                      a write as in a record of the log, revision: u64; of a deletion also its time: u64
//!  the last          2: u8, entries in all: u64
//! ```
//!
//! `length` counts the whole block. The checksum begins with the checksum seed of the directory, or with that of all
//! backups. It covers the offset of the block in the file and the body, so blocks cannot be swapped. Entries are in
//! the order of their revisions. A key that changed while the checkpoint was taken may have several entries, of which
//! the last is the latest.
//!
//! A checkpoint is written under another name, synced, and renamed: one that has its final name is complete, or
//! damaged.

use super::error::OpenError;
use super::files::{FileHandle, FileSystem};
use super::names;
use super::record::{ChecksumSeed, Write};
use crate::index::{Index, Loading, Record};
use bytes::{Buf, BufMut};
use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use syncline_wire::Revision;

/// The format of checkpoints.
const FORMAT: u32 = 1;

/// The size at which a block is written; one large entry may exceed it. Each block is synced, so that a commit never
/// waits for the sync of much more.
const BLOCK: usize = 256 * 1024;

const BLOCK_HEADER: usize = 8;

/// How many blocks are in memory at a time while loading: one is inserted into the index while the others are read
/// and checked.
const BLOCKS: usize = 4;

const START: u8 = 0;
const ENTRIES: u8 = 1;
const END: u8 = 2;

/// Returns the approximate size of a checkpoint of an index.
pub(crate) fn estimated_bytes(index: &Index) -> u64 {
    (index.bytes() + ENTRY_OVERHEAD * index.keys()) as u64
}

/// The size of an entry without its key and value. A tombstone has no length of a value (2 bytes less), and a time.
const ENTRY_OVERHEAD: usize = 1 + 2 + 2 + 8 + 8;

struct Writer<'a, H> {
    handle: &'a H,
    seed: ChecksumSeed,
    offset: u64,
    block: Vec<u8>,
}

impl<H: FileHandle> Writer<'_, H> {
    fn start(&mut self, kind: u8) {
        self.block.clear();
        self.block.put_bytes(0, BLOCK_HEADER);
        self.block.put_u8(kind);
    }

    fn finish(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        let body = self.block.get(BLOCK_HEADER..).unwrap_or_default();
        let checksum = checksum(self.seed, self.offset, body);
        if let Some(mut header) = self.block.get_mut(..BLOCK_HEADER) {
            header.put_u32_le(length);
            header.put_u32_le(checksum);
        }
        self.handle.write_at(&self.block, self.offset)?;
        self.handle.sync()?;
        self.offset += u64::from(length);
        Ok(())
    }
}

/// Writes a checkpoint of everything up to `through`. `records` must be in the order of their revisions. The
/// checkpoint is durable when this returns. Returns its size in bytes.
pub(crate) fn write<F: FileSystem>(
    files: &F,
    seed: ChecksumSeed,
    name: &str,
    through: Revision,
    forgotten: Revision,
    records: impl Iterator<Item = Record>,
) -> io::Result<u64> {
    let unfinished = names::unfinished(name);
    let write = || {
        let handle = files.create(&unfinished)?;
        let mut writer = Writer { handle: &handle, seed, offset: 0, block: Vec::with_capacity(BLOCK + BLOCK / 8) };
        writer.start(START);
        writer.block.put_u32_le(FORMAT);
        writer.block.put_u64_le(through.get());
        writer.block.put_u64_le(forgotten.get());
        writer.finish()?;
        let mut entries = 0_u64;
        writer.start(ENTRIES);
        for record in records {
            entries += 1;
            put_entry(&mut writer.block, &record);
            if writer.block.len() >= BLOCK {
                writer.finish()?;
                writer.start(ENTRIES);
            }
        }
        writer.finish()?;
        writer.start(END);
        writer.block.put_u64_le(entries);
        writer.finish()?;
        files.rename(&unfinished, name)?;
        files.sync_names()?;
        Ok(writer.offset)
    };
    write().inspect_err(|_| {
        // The incomplete file takes disk space, which may be scarce.
        let _ = files.remove(&unfinished);
    })
}

fn put_entry(out: &mut Vec<u8>, record: &Record) {
    Write { key: record.key(), value: record.value(), version: record.version() }.encode(out);
    out.put_u64_le(record.revision().get());
    if let Some(time) = record.deleted_at() {
        out.put_u64_le(time);
    }
}

/// Why a checkpoint cannot be read.
#[derive(Debug)]
enum ReadError {
    Io(io::Error),
    /// The block at this offset is not as it was written.
    Damaged {
        offset: u64,
    },
    /// The file was written by another version of this program.
    Format {
        found: u32,
    },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The summary of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The revision up to which it holds everything.
    pub(crate) through: Revision,
    /// Tombstones up to this revision may be forgotten.
    pub(crate) forgotten: Revision,
    /// The time of its latest tombstone, in milliseconds since 1970.
    pub(crate) time: u64,
}

/// A block of a checkpoint whose checksum is right.
struct Block {
    offset: u64,
    body: Vec<u8>,
    is_last: bool,
}

/// Reads the blocks of a checkpoint, and calls `send` with each until that returns `false`. A block is checked before
/// any of its bytes is used. `buffer` returns the memory for a block, with any content.
fn read_blocks<H: FileHandle>(
    handle: &H,
    seed: ChecksumSeed,
    mut buffer: impl FnMut() -> Option<Vec<u8>>,
    mut send: impl FnMut(Block) -> bool,
) -> Result<(), ReadError> {
    let length = handle.length()?;
    let mut offset = 0;
    while let Some(mut body) = buffer() {
        let damaged = ReadError::Damaged { offset };
        let mut header = [0; BLOCK_HEADER];
        if handle.read_at(&mut header, offset)? < BLOCK_HEADER {
            return Err(damaged);
        }
        let mut header = header.as_slice();
        let (block_length, expected) = (u64::from(header.get_u32_le()), header.get_u32_le());
        if block_length <= BLOCK_HEADER as u64 || offset + block_length > length {
            return Err(damaged);
        }
        body.resize(usize::try_from(block_length).unwrap_or(usize::MAX) - BLOCK_HEADER, 0);
        let read = handle.read_at(&mut body, offset + BLOCK_HEADER as u64)?;
        if read < body.len() || checksum(seed, offset, &body) != expected {
            return Err(damaged);
        }
        let is_last = offset + block_length == length;
        if !send(Block { offset, body, is_last }) || is_last {
            break;
        }
        offset += block_length;
    }
    Ok(())
}

/// Inserts the blocks of a checkpoint into an index, and returns their buffers.
fn load_blocks(
    index: &mut Loading,
    blocks: impl Iterator<Item = Result<Block, ReadError>>,
    buffers: &SyncSender<Vec<u8>>,
) -> Result<Summary, ReadError> {
    let mut summary: Option<Summary> = None;
    let mut entries = 0_u64;
    let mut last = Revision::ZERO;
    let mut end = 0;
    for block in blocks {
        let Block { offset, body: buffer, is_last } = block?;
        end = offset;
        let damaged = ReadError::Damaged { offset };
        let mut body = buffer.as_slice();
        match (body.get_u8(), &mut summary) {
            (START, None) => {
                let found = body.try_get_u32_le().map_err(|_| ReadError::Damaged { offset })?;
                if found != FORMAT {
                    return Err(ReadError::Format { found });
                }
                let mut revision =
                    || body.try_get_u64_le().map(Revision::new).map_err(|_| ReadError::Damaged { offset });
                summary = Some(Summary { through: revision()?, forgotten: revision()?, time: 0 });
            }
            (ENTRIES, Some(summary)) => {
                while !body.is_empty() {
                    let record = entry(&mut body).ok_or(ReadError::Damaged { offset })?;
                    // Checked although the checksum is right: a forged checkpoint cannot make the
                    // orders of the index disagree.
                    if record.revision() < last || summary.through < record.revision() {
                        return Err(damaged);
                    }
                    last = record.revision();
                    summary.time = summary.time.max(record.deleted_at().unwrap_or_default());
                    index.push(record);
                    entries += 1;
                }
            }
            (END, Some(summary)) => {
                let whole = body.try_get_u64_le() == Ok(entries) && is_last;
                return if whole { Ok(*summary) } else { Err(damaged) };
            }
            _ => return Err(damaged),
        }
        // The reader needs no buffer if it has read everything.
        let _ = buffers.send(buffer);
    }
    Err(ReadError::Damaged { offset: end })
}

/// Reads a checkpoint into an index, which has no order by key yet. `file` is its path, for people.
pub(crate) fn load<H: FileHandle>(handle: &H, seed: ChecksumSeed, file: &Path) -> Result<(Index, Summary), OpenError> {
    let mut loading = Loading::new(expected_entries(handle));
    let summary = thread::scope(|scope| {
        let (give_back, buffers) = sync_channel(BLOCKS);
        // The channel has capacity for all of them. Each buffer grows as needed, so a small checkpoint takes
        // little memory.
        (0..BLOCKS).for_each(|_| drop(give_back.send(Vec::new())));
        let (sender, blocks) = sync_channel(BLOCKS);
        scope.spawn(move || {
            let read = read_blocks(handle, seed, || buffers.recv().ok(), |block| sender.send(Ok(block)).is_ok());
            if let Err(error) = read {
                // The receiver is gone if loading has failed.
                let _ = sender.send(Err(error));
            }
        });
        load_blocks(&mut loading, blocks.into_iter(), &give_back)
    });
    let summary = summary.map_err(|error| match error {
        ReadError::Io(error) => OpenError::io("read", file.to_owned())(error),
        ReadError::Damaged { offset } => {
            OpenError::Damaged { file: file.to_owned(), offset, what: "it is not as it was written".into() }
        }
        ReadError::Format { found } => OpenError::Format { file: file.to_owned(), expected: FORMAT, found },
    })?;
    let mut index = loading.finish();
    index.advance(summary.through);
    index.set_forgotten(summary.forgotten);
    Ok((index, summary))
}

/// Returns how many entries a checkpoint seems to have, from its last bytes. They are not checked, but the result is
/// limited by the size of the file.
fn expected_entries<H: FileHandle>(handle: &H) -> usize {
    let Ok(length) = handle.length() else { return 0 };
    let mut entries = [0; size_of::<u64>()];
    let read = handle.read_at(&mut entries, length.saturating_sub(size_of::<u64>() as u64));
    let entries = if read.is_ok() { u64::from_le_bytes(entries) } else { 0 };
    usize::try_from(entries.min(length / ENTRY_OVERHEAD as u64)).unwrap_or_default()
}

fn entry(body: &mut &[u8]) -> Option<Record> {
    let Write { key, value, version } = Write::decode(body)?;
    let revision = Revision::new(body.try_get_u64_le().ok()?);
    Some(match value {
        Some(value) => Record::value_at(revision, version, key, value),
        None => Record::tombstone(revision, version, key, body.try_get_u64_le().ok()?),
    })
}

fn checksum(seed: ChecksumSeed, offset: u64, body: &[u8]) -> u32 {
    let checksum = crc32c::crc32c_append(seed.0, &offset.to_le_bytes());
    crc32c::crc32c_append(checksum, body)
}
