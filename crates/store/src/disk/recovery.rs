//! Reading a data directory: the newest checkpoint, and the log after it.
//!
//! # Where the log ends
//! The log is read as long as each record continues the one before, from segment to segment. If this stops, either
//! a crash cut a write short, or something that had been durable was damaged. The records tell which: each says up to
//! which revision everything had been synced when it was written. If any unread record says that the missing revision
//! had been synced, the directory is damaged, and the store is not opened. Otherwise nothing that is missing was ever
//! reported as durable, and the log ends there. The checkpoint and the [`watermark`] are evidence of the same kind.
//!
//! The log continues where it ends, and whatever lies behind is left alone. It can never be taken for a continuation,
//! because each record names the one before it.
//!
//! # Before it continues
//! Reading shows what the operating system holds, which need not be durable: a killed process may have left it
//! unsynced, and after a failed sync, the system may show what it will never write. So [`apply_repairs`] makes the
//! names of files durable, and rewrites the records that nothing proves to be synced. It also wipes the start of a
//! record that was cut short, so that no later write can complete it.

use super::checkpoint::{self, Summary};
use super::error::OpenError;
use super::files::{FileHandle, FileSystem};
use super::identity::Identity;
use super::log::{ActiveSegment, FullSegment, Log, Segment};
use super::names;
use super::record::{self, Header};
use super::watermark;
use crate::index::{Index, Loading, Record};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{panic, thread};
use syncline_wire::Revision;
use tracing::{info, warn};

/// The size of the smallest file of a log, in bytes. It holds a record.
const SMALLEST_SEGMENT: u64 = 1024;

/// What overwrites the start of a record that was cut short: a length of zero, which no record has.
const WIPED: [u8; 8] = [0; 8];

/// How many files of the log may wait to be replayed, beside the one that is being read.
const FILES: usize = 1;

/// The content of a data directory.
pub(crate) struct Recovered<F: FileSystem> {
    pub(crate) index: Index,
    pub(crate) log: Log<F>,
    /// The latest time of a record of the log, in milliseconds since 1970.
    pub(crate) time: u64,
    repairs: Repairs,
}

/// What must be done before the log continues.
#[derive(Default)]
struct Repairs {
    /// The names of files that are no longer needed.
    names: Vec<String>,
    /// What must be written: the number of the log's file, the offset, and the bytes.
    writes: Vec<(u64, usize, Vec<u8>)>,
}

/// A file of the log, and its records, including those that do not continue the log.
struct ScannedFile<H> {
    segment: Segment<H>,
    records: Vec<(usize, Header)>,
    /// Whether its start is wiped.
    is_wiped: bool,
    /// How many of the records, from the start of the file on, belong to the log.
    in_log: usize,
}

impl<H> ScannedFile<H> {
    /// Returns the last record that belongs to the log.
    fn last(&self) -> Option<(usize, Header)> {
        self.records.get(self.in_log.checked_sub(1)?).copied()
    }

    /// Returns the end of the records that belong to the log.
    fn end(&self) -> usize {
        self.last().map_or(0, |(offset, header)| offset + header.padded())
    }
}

/// Reads a data directory.
pub(crate) fn recover<F: FileSystem>(
    files: &Arc<F>,
    identity: Identity,
    first_size: u64,
) -> Result<Recovered<F>, OpenError> {
    let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
    let mut repairs = Repairs::default();
    repairs.names.extend(names.iter().filter(|name| names::is_unfinished(name)).cloned());
    let watermark = watermark::read(&**files, identity.seed, &names)?;
    let mut checkpoints: Vec<_> = names.iter().filter_map(|name| names::checkpoint_revision(name)).collect();
    checkpoints.sort_unstable();
    let newest = checkpoints.pop();
    let through = newest.unwrap_or_default();
    // Older checkpoints are no longer needed.
    repairs.names.extend(checkpoints.into_iter().map(names::checkpoint));
    let (mut index, time, scanned, next) = thread::scope(|scope| {
        let (give_back, buffers) = sync_channel(FILES);
        // The channel has capacity for all of them.
        (0..FILES).for_each(|_| drop(give_back.send(Vec::new())));
        let (sender, read_files) = sync_channel(FILES);
        let names = &names;
        let reader = scope.spawn(move || read_log(&**files, identity, names, through, &buffers, &sender));
        let (mut index, time) = match newest {
            None => (Loading::new(0).finish(), 0),
            Some(revision) => read_checkpoint(&**files, identity, revision)?,
        };
        for file in read_files {
            replay(&**files, &file, through, &mut index)?;
            // The reader needs no buffer if it has read everything.
            let _ = give_back.send(file.bytes);
        }
        let (scanned, next) = reader.join().unwrap_or_else(|fault| panic::resume_unwind(fault))?;
        Ok::<_, OpenError>((index, time, scanned, next))
    })?;
    if watermark.is_some() && Revision::ZERO < through && scanned.iter().all(|file| file.in_log == 0) {
        // A store that ever had a log keeps at least the part of it that reaches up to the checkpoint.
        let what = format!("the log is missing that goes on from the checkpoint of revision {through}");
        return Err(OpenError::Damaged { file: files.path(""), offset: 0, what });
    }
    let durable = through.max(watermark.unwrap_or_default());
    refuse_damage(&**files, &scanned, durable, next)?;
    // A directory that was restored from a backup has times only in its checkpoint.
    let of_log = scanned.iter().flat_map(|file| file.records.iter().take(file.in_log)).map(|(_, header)| header.time);
    let time = of_log.fold(time, u64::max);
    let log = continue_log(files, (identity, first_size), &names, scanned, durable, &mut repairs)?;
    index.advance(previous(next));
    index.order_keys();
    info!(head = %index.head(), keys = index.keys(), "opened");
    Ok(Recovered { index, log, time, repairs })
}

/// Returns the log, ready to continue after what was read.
fn continue_log<F: FileSystem>(
    files: &Arc<F>,
    (identity, first_size): (Identity, u64),
    names: &[String],
    scanned: Vec<ScannedFile<F::Handle>>,
    durable: Revision,
    repairs: &mut Repairs,
) -> Result<Log<F>, OpenError> {
    let headers = || scanned.iter().flat_map(|file| &file.records).map(|(_, header)| header);
    let synced = headers().map(|header| header.synced).max().unwrap_or_default().max(durable);
    let next_id = headers().map(|header| header.segment).max();
    let next_number = names.iter().filter_map(|name| names::segment_number(name)).max().map_or(1, |last| last + 1);
    let mut log = Log {
        files: files.clone(),
        max_size: identity.segment_size,
        first_size: first_segment_size(identity.segment_size, first_size),
        current: None,
        older: VecDeque::new(),
        spares: Vec::new(),
        next_id: next_id.map_or(1, |last| last.saturating_add(1)),
        next_number,
        previous: 0,
        watermark: 0,
        since_checkpoint: 0,
    };
    for file in scanned {
        let number = file.segment.number;
        let Some((_, last)) = file.last() else {
            let has_front = file.records.first().is_some_and(|(offset, _)| *offset == 0);
            if !has_front && !file.is_wiped {
                repairs.writes.push((number, 0, WIPED.to_vec()));
            }
            log.spares.push(file.segment);
            continue;
        };
        let offset = file.end();
        let mut unsynced = file.records.iter().take(file.in_log).filter(|(_, header)| header.last() > synced);
        if let Some((from, _)) = unsynced.next() {
            repairs.writes.push((number, *from, read(&**files, &file.segment, *from, offset - from)?));
        }
        if file.records.iter().skip(file.in_log).any(|(_, header)| header.segment == last.segment) {
            warn!(file = %files.path(&names::segment(number)).display(), offset, "a crash has cut the log short here; nothing that was durable is missing");
        }
        if let Some(full) = log.current.take() {
            log.older.push_back(FullSegment { segment: full.segment, last: full.last });
        }
        log.since_checkpoint += offset as u64;
        log.previous = last.checksum;
        let (segment, last_revision) = (file.segment, last.last());
        log.current = Some(ActiveSegment {
            id: last.segment,
            segment,
            offset: offset as u64,
            last: last_revision,
            last_record: None,
            is_torn: false,
        });
    }
    if let Some(current) = &log.current {
        let offset = usize::try_from(current.offset).unwrap_or(usize::MAX);
        let room = usize::try_from(current.segment.size).unwrap_or(usize::MAX).saturating_sub(offset);
        if room >= WIPED.len() && read(&**files, &current.segment, offset, WIPED.len())? != WIPED {
            repairs.writes.push((current.segment.number, offset, WIPED.to_vec()));
        }
    }
    Ok(log)
}

/// Makes what was found durable, before anything is written after it.
pub(crate) fn apply_repairs<F: FileSystem>(files: &F, recovered: &Recovered<F>) -> Result<(), OpenError> {
    let Repairs { names, writes } = &recovered.repairs;
    files.sync_names().map_err(OpenError::io("sync the names of the files of", files.path("")))?;
    for (number, offset, bytes) in writes {
        let name = names::segment(*number);
        let write = || {
            let handle = files.open(&name)?;
            handle.write_at(bytes, *offset as u64)?;
            handle.sync()
        };
        write().map_err(OpenError::io("write", files.path(&name)))?;
    }
    for name in names {
        files.remove(name).map_err(OpenError::io("remove the old", files.path(name)))?;
    }
    Ok(())
}

/// Reads the checkpoint of a revision. Also returns the time of its latest tombstone.
fn read_checkpoint<F: FileSystem>(
    files: &F,
    identity: Identity,
    revision: Revision,
) -> Result<(Index, u64), OpenError> {
    let name = names::checkpoint(revision);
    let handle = files.open(&name).map_err(OpenError::io("open", files.path(&name)))?;
    let (index, Summary { through, time, .. }) = checkpoint::load(&handle, identity.seed, &files.path(&name))?;
    if through != revision {
        let what = format!("it holds the checkpoint of revision {through}");
        return Err(OpenError::Damaged { file: files.path(&name), offset: 0, what });
    }
    Ok((index, time))
}

/// Returns the files of the log, each with the header of the record at its start, which tells its segment id.
/// Segments come first, in their order.
fn with_first_records<F: FileSystem>(
    files: &F,
    identity: Identity,
    names: &[String],
) -> Result<Vec<WithFirstRecord<F::Handle>>, OpenError> {
    let mut found = Vec::new();
    for number in names.iter().filter_map(|name| names::segment_number(name)) {
        let name = names::segment(number);
        let handle = files.open(&name).map_err(OpenError::io("open", files.path(&name)))?;
        let length = handle.length().map_err(OpenError::io("read", files.path(&name)))?;
        if !is_segment_size(length, identity.segment_size) {
            let max = identity.segment_size;
            let what = format!("the file has {length} bytes, expected {max}, or a half, a quarter … of that");
            return Err(OpenError::Damaged { file: files.path(&name), offset: length, what });
        }
        let segment = Segment { number, handle, size: length };
        let header = read(files, &segment, 0, record::HEADER)?;
        // A forged header may announce a record longer than the file.
        let room = usize::try_from(length).unwrap_or(usize::MAX);
        let length = record::expected_length(identity.seed, &header).unwrap_or_default().min(room);
        let front = record::find(identity.seed, &read(files, &segment, 0, length)?).map(|(header, _)| header);
        found.push((segment, front));
    }
    found.sort_by_key(|(segment, front)| (front.map_or(u64::MAX, |front| front.segment), segment.number));
    Ok(found)
}

/// Returns whether a file of the log may have this length.
const fn is_segment_size(length: u64, max: u64) -> bool {
    length > 0 && max.is_multiple_of(length) && (max / length).is_power_of_two()
}

/// Returns the size of the first file of a log: at least `wanted`, if the size of the largest files allows it.
const fn first_segment_size(max: u64, wanted: u64) -> u64 {
    let mut size = max;
    while size.is_multiple_of(2) && size / 2 >= wanted && size / 2 >= SMALLEST_SEGMENT {
        size /= 2;
    }
    size
}

type WithFirstRecord<H> = (Segment<H>, Option<Header>);

/// The files of the log, and the first revision that is missing.
type Read<H> = (Vec<ScannedFile<H>>, Revision);

/// A file of the log that must be replayed.
struct LoadedFile {
    number: u64,
    records: Vec<(usize, Header)>,
    /// The content of the whole file.
    bytes: Vec<u8>,
}

/// Reads all files of the log, and sends those to `sender` that continue the checkpoint. All other files are read
/// into the same buffer, so they cost no memory and never wait for the receiver.
fn read_log<F: FileSystem>(
    files: &F,
    identity: Identity,
    names: &[String],
    through: Revision,
    buffers: &Receiver<Vec<u8>>,
    sender: &SyncSender<LoadedFile>,
) -> Result<Read<F::Handle>, OpenError> {
    let files_of_log = with_first_records(files, identity, names)?;
    let wanted = Revision::new(through.get().saturating_add(1));
    // Segments before the last one that starts in time are covered by the checkpoint.
    let begin = files_of_log.iter().rposition(|(_, front)| front.is_some_and(|front| front.first <= wanted));
    let mut chain = Chain::default();
    let mut scanned = Vec::with_capacity(files_of_log.len());
    let mut buffer = Vec::new();
    for (segment, _) in files_of_log {
        let mut file = scan(files, identity, segment, &mut buffer)?;
        if begin.is_some_and(|begin| begin <= scanned.len()) {
            file.in_log = chain.follow(&file.records);
        }
        if file.last().is_some_and(|(_, header)| header.last() > through) {
            let records = file.records.iter().take(file.in_log).copied().collect();
            let new = LoadedFile { number: file.segment.number, records, bytes: buffer };
            // The receiver is gone if replaying has failed.
            let Ok(()) = sender.send(new) else { break };
            let Ok(free) = buffers.recv() else { break };
            buffer = free;
        }
        scanned.push(file);
    }
    Ok((scanned, chain.next.unwrap_or(wanted)))
}

/// Reads a file into `bytes`, whatever that holds, and finds its records.
fn scan<F: FileSystem>(
    files: &F,
    identity: Identity,
    segment: Segment<F::Handle>,
    bytes: &mut Vec<u8>,
) -> Result<ScannedFile<F::Handle>, OpenError> {
    bytes.resize(usize::try_from(segment.size).unwrap_or(usize::MAX), 0);
    read_into(files, &segment, 0, bytes)?;
    let records = record::find_all(identity.seed, bytes, 0).collect();
    let is_wiped = bytes.starts_with(&WIPED);
    Ok(ScannedFile { segment, records, is_wiped, in_log: 0 })
}

/// Follows the records of the log from file to file.
#[derive(Default)]
struct Chain {
    /// The next expected revision; `None` before the first record.
    next: Option<Revision>,
    /// The checksum of the last record.
    previous: Option<u32>,
    is_broken: bool,
}

impl Chain {
    /// Returns how many records of the next file, from its start on, continue the log.
    fn follow(&mut self, records: &[(usize, Header)]) -> usize {
        let Some((_, front)) = records.first().filter(|_| !self.is_broken) else {
            self.is_broken = true;
            return 0;
        };
        let mut place = (0, self.next.unwrap_or(front.first));
        let mut in_log = 0;
        for (offset, header) in records {
            let follows_on = self.previous.is_none_or(|previous| header.previous == previous);
            if (*offset, header.first) != place || header.segment != front.segment || !follows_on {
                break;
            }
            place = (offset + header.padded(), Revision::new(header.last().get().saturating_add(1)));
            self.previous = Some(header.checksum);
            in_log += 1;
        }
        if in_log > 0 {
            self.next = Some(place.1);
        } else {
            self.is_broken = true;
        }
        in_log
    }
}

/// Returns an error if anything that does not belong to the log proves that the log should continue.
fn refuse_damage<F: FileSystem>(
    files: &F,
    scanned: &[ScannedFile<F::Handle>],
    durable: Revision,
    next: Revision,
) -> Result<(), OpenError> {
    let unread = scanned.iter().flat_map(|file| file.records.iter().skip(file.in_log));
    let was_synced = unread.map(|(_, header)| header.synced).max().unwrap_or_default().max(durable);
    if was_synced < next {
        return Ok(());
    }
    let stop = scanned.iter().rfind(|file| file.in_log > 0);
    Err(OpenError::Damaged {
        file: files.path(&stop.map(|file| names::segment(file.segment.number)).unwrap_or_default()),
        offset: stop.map_or(0, ScannedFile::end) as u64,
        what: format!("revision {next} is missing, and all up to {was_synced} had been durable"),
    })
}

/// Replays the records of a file that come after the checkpoint.
fn replay<F: FileSystem>(files: &F, file: &LoadedFile, through: Revision, index: &mut Index) -> Result<(), OpenError> {
    let (mut records, mut found) = (Vec::new(), Vec::new());
    for (offset, header) in &file.records {
        let body = file.bytes.get(offset + record::HEADER..offset + header.length).unwrap_or_default();
        let whole = record::writes(header, body, |revision, write| {
            if revision > through {
                records.push(match write.value {
                    Some(value) => Record::value_at(revision, write.version, write.key, value),
                    None => Record::tombstone(revision, write.version, write.key, header.time),
                });
            }
        });
        if !whole {
            return Err(OpenError::Damaged {
                file: files.path(&names::segment(file.number)),
                offset: *offset as u64,
                what: "a record does not hold what it says".into(),
            });
        }
        index.extend(&mut records, &mut found);
    }
    Ok(())
}

/// Reads a part of a file of the log.
fn read<F: FileSystem>(
    files: &F,
    segment: &Segment<F::Handle>,
    offset: usize,
    length: usize,
) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; length];
    read_into(files, segment, offset, &mut bytes)?;
    Ok(bytes)
}

/// Fills a buffer from a file of the log, with zeros beyond the end of the file.
fn read_into<F: FileSystem>(
    files: &F,
    segment: &Segment<F::Handle>,
    offset: usize,
    bytes: &mut [u8],
) -> Result<(), OpenError> {
    let read = segment.handle.read_at(bytes, offset as u64);
    let read = read.map_err(OpenError::io("read", files.path(&names::segment(segment.number))))?;
    bytes.get_mut(read..).unwrap_or_default().fill(0);
    Ok(())
}

fn previous(revision: Revision) -> Revision {
    Revision::new(revision.get().saturating_sub(1))
}
