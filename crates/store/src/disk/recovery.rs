//! Opening a data directory: the newest checkpoint, and what the log holds after it.
//!
//! # Where the log ends
//! It is read as far as its records follow on, from segment to segment. Where they stop, either a write was cut short,
//! which is what a crash does, or something was damaged that had been durable. The records tell which: each says up to
//! which revision everything had been synced when it was written. So where any record that was not read says that the
//! revision which is missing had been synced, it is damage, and the store is not opened. Otherwise nothing that is
//! missing was ever said to be durable: the log ends there. The checkpoint and the [`mark`] say so too.
//!
//! The log goes on where it ends, and what may lie behind is left alone. It can never be taken for a continuation: each
//! record names the one before it.
//!
//! # Before it goes on
//! What is found is only what the system shows. A killed process may have left it unsynced; where a sync has failed, the
//! system may show what it will never write. So [`settle`] makes durable which names there are, and writes once more what
//! nothing says was synced. And it wipes the front of what was cut short, so that no later write can make it whole.

use super::OpenError;
use super::checkpoint::{self, Summary};
use super::files::{Files, Handle};
use super::identity::{self, Identity};
use super::log::{self, Current, Log, NOT_READY, Older, Segment};
use super::mark;
use super::record::{self, Header};
use crate::index::{Index, Record};
use std::collections::VecDeque;
use std::sync::Arc;
use syncline_wire::Revision;
use tracing::{info, warn};

/// What is written over the front of what was cut short: it has no length, and so is no record.
const WIPED: [u8; 8] = [0; 8];

/// What a data directory holds.
pub(crate) struct Recovered<F: Files> {
    pub(crate) index: Index,
    pub(crate) log: Log<F>,
    /// The latest time that a record of the log carries: milliseconds since 1970.
    pub(crate) time: u64,
    leftovers: Leftovers,
}

/// What is to be done before the log goes on.
#[derive(Default)]
struct Leftovers {
    /// Files that are needed no more.
    names: Vec<String>,
    /// What is to be written: to which file of the log, where, what.
    writes: Vec<(u64, usize, Vec<u8>)>,
}

/// A file of the log, and where its records are, those too that do not follow on.
struct Scanned<H> {
    segment: Segment<H>,
    records: Vec<(usize, Header)>,
    /// Whether there is nothing at its front.
    is_wiped: bool,
    /// How many of them, from the front of the file on, belong to the log.
    followed: usize,
}

impl<H> Scanned<H> {
    /// The record at the front of the file: what the file is a segment of.
    fn front(&self) -> Option<Header> {
        self.records.first().filter(|(offset, _)| *offset == 0).map(|(_, header)| *header)
    }

    /// The last record that belongs to the log.
    fn last(&self) -> Option<(usize, Header)> {
        self.records.get(self.followed.checked_sub(1)?).copied()
    }

    /// Where the records that belong to the log end.
    fn end(&self) -> usize {
        self.last().map_or(0, |(offset, header)| offset + header.padded())
    }
}

/// Reads a data directory.
pub(crate) fn recover<F: Files>(files: &Arc<F>, identity: Identity) -> Result<Recovered<F>, OpenError> {
    let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
    let mut leftovers = Leftovers::default();
    leftovers.names.extend(names.iter().filter(|name| is_unfinished(name)).cloned());
    let marked = mark::read(&**files, identity.seal, &names)?;
    let (mut index, through) = read_checkpoint(&**files, identity, &names, &mut leftovers)?;
    let mut scanned = scan(&**files, identity, &names)?;
    let next = follow(&mut scanned, through);
    if marked.is_some() && Revision::ZERO < through && scanned.iter().all(|file| file.followed == 0) {
        // A store whose log was ever begun keeps of it at least what reaches up to its checkpoint.
        let what = format!("the log is missing that goes on from the checkpoint of revision {through}");
        return Err(OpenError::Damaged { file: files.path(""), offset: 0, what });
    }
    let durable = through.max(marked.unwrap_or_default());
    refuse_damage(&**files, &scanned, durable, next)?;
    let synced = scanned.iter().flat_map(|file| &file.records).map(|(_, header)| header.synced).max();
    let synced = synced.unwrap_or_default().max(durable);

    let next_number = names.iter().filter_map(|name| log::number(name)).max().map_or(1, |last| last + 1);
    let next_id = scanned.iter().flat_map(|file| &file.records).map(|(_, header)| header.segment).max();
    let mut log = Log {
        files: files.clone(),
        size: identity.segment_size,
        current: None,
        older: VecDeque::new(),
        spares: Vec::new(),
        next_id: next_id.map_or(1, |last| last.saturating_add(1)),
        next_number,
        previous: 0,
        marked: 0,
        since_checkpoint: 0,
    };
    // Of a backup that was restored, only the checkpoint tells the time.
    let mut time = index.changed_since(Revision::ZERO).filter_map(Record::deleted_at).max().unwrap_or_default();
    let mut end = None;
    for file in scanned {
        let Some((_, last)) = file.last() else {
            if file.front().is_none() && !file.is_wiped {
                leftovers.writes.push((file.segment.number, 0, WIPED.to_vec()));
            }
            log.spares.push(file.segment);
            continue;
        };
        let bytes = replay(&**files, identity, &file, through, &mut index)?;
        let mut unsynced = file.records.iter().take(file.followed).filter(|(_, header)| header.last() > synced);
        if let Some((from, _)) = unsynced.next() {
            let again = bytes.get(*from..file.end()).unwrap_or_default().to_vec();
            leftovers.writes.push((file.segment.number, *from, again));
        }
        time = file.records.iter().take(file.followed).fold(time, |time, (_, header)| header.time.max(time));
        log.since_checkpoint += file.end() as u64;
        if let Some(full) = log.current.take() {
            log.older.push_back(Older { segment: full.segment, last: full.last });
        }
        let offset = file.end();
        if file.records.iter().skip(file.followed).any(|(_, header)| header.segment == last.segment) {
            warn!(file = %files.path(&log::name(file.segment.number)).display(), offset, "a crash has cut the log short here; nothing that was durable is missing");
        }
        log.previous = last.checksum;
        log.current = Some(Current {
            id: last.segment,
            segment: file.segment,
            offset: offset as u64,
            last: last.last(),
            is_torn: false,
        });
        end = Some((bytes, offset));
    }
    if let (Some(current), Some((bytes, offset))) = (&log.current, end)
        && bytes.get(offset..offset + WIPED.len()).is_some_and(|front| front != WIPED)
    {
        leftovers.writes.push((current.segment.number, offset, WIPED.to_vec()));
    }
    index.advance(previous(next));
    info!(head = %index.head(), keys = index.keys(), "opened");
    Ok(Recovered { index, log, time, leftovers })
}

/// Makes what was found as durable as what is written from now on.
pub(crate) fn settle<F: Files>(files: &F, recovered: &Recovered<F>) -> Result<(), OpenError> {
    let Leftovers { names, writes } = &recovered.leftovers;
    files.sync_names().map_err(OpenError::io("sync the names of the files of", files.path("")))?;
    for (number, offset, bytes) in writes {
        let name = log::name(*number);
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

/// Whether a file is one of ours that was not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(NOT_READY).is_some_and(|name| {
        name == identity::NAME
            || name == mark::NAME
            || log::number(name).is_some()
            || checkpoint::revision(name).is_some()
    })
}

/// Reads the newest checkpoint. Older ones are needed no more.
fn read_checkpoint<F: Files>(
    files: &F,
    identity: Identity,
    names: &[String],
    leftovers: &mut Leftovers,
) -> Result<(Index, Revision), OpenError> {
    let mut revisions: Vec<_> = names.iter().filter_map(|name| checkpoint::revision(name)).collect();
    revisions.sort_unstable();
    let Some(newest) = revisions.pop() else { return Ok((Index::new(Revision::ZERO), Revision::ZERO)) };
    let name = checkpoint::name(newest);
    let handle = files.open(&name).map_err(OpenError::io("open", files.path(&name)))?;
    let (index, Summary { through, .. }) = checkpoint::load(&handle, identity.seal, &files.path(&name))?;
    if through != newest {
        let what = format!("it holds the checkpoint of revision {through}");
        return Err(OpenError::Damaged { file: files.path(&name), offset: 0, what });
    }
    leftovers.names.extend(revisions.into_iter().map(checkpoint::name));
    Ok((index, through))
}

/// Finds the records of all files of the log: the segments first, in their order.
fn scan<F: Files>(files: &F, identity: Identity, names: &[String]) -> Result<Vec<Scanned<F::Handle>>, OpenError> {
    let mut scanned = Vec::new();
    for number in names.iter().filter_map(|name| log::number(name)) {
        let name = log::name(number);
        let handle = files.open(&name).map_err(OpenError::io("open", files.path(&name)))?;
        let segment = Segment { number, handle };
        let bytes = read_all(files, identity, &segment)?;
        let records = record::find_all(identity.seal, &bytes, 0).collect();
        let is_wiped = bytes.starts_with(&WIPED);
        scanned.push(Scanned { segment, records, is_wiped, followed: 0 });
    }
    scanned
        .sort_by_key(|file| file.front().map_or((u64::MAX, file.segment.number), |f| (f.segment, file.segment.number)));
    Ok(scanned)
}

/// Marks the records that belong to the log after a checkpoint, and answers the first revision that is not there.
fn follow<H>(scanned: &mut [Scanned<H>], through: Revision) -> Revision {
    let wanted = Revision::new(through.get().saturating_add(1));
    // What comes before the last segment that starts in time holds nothing more.
    let begin = scanned.iter().rposition(|file| file.front().is_some_and(|front| front.first <= wanted));
    let mut next = None;
    let mut previous = None;
    for file in scanned.iter_mut().skip(begin.unwrap_or(usize::MAX)) {
        let Some(front) = file.front() else { break };
        let mut place = (0, next.unwrap_or(front.first));
        for (offset, header) in &file.records {
            let follows_on = previous.is_none_or(|previous| header.previous == previous);
            if (*offset, header.first) != place || header.segment != front.segment || !follows_on {
                break;
            }
            place = (offset + header.padded(), Revision::new(header.last().get().saturating_add(1)));
            previous = Some(header.checksum);
            file.followed += 1;
        }
        if file.followed == 0 {
            break;
        }
        next = Some(place.1);
    }
    next.unwrap_or(wanted)
}

/// Looks at all that does not belong to the log for a sign that the log should go on.
fn refuse_damage<F: Files>(
    files: &F,
    scanned: &[Scanned<F::Handle>],
    durable: Revision,
    next: Revision,
) -> Result<(), OpenError> {
    let unread = scanned.iter().flat_map(|file| file.records.iter().skip(file.followed));
    let was_synced = unread.map(|(_, header)| header.synced).max().unwrap_or_default().max(durable);
    if was_synced < next {
        return Ok(());
    }
    let stop = scanned.iter().rfind(|file| file.followed > 0);
    Err(OpenError::Damaged {
        file: files.path(&stop.map(|file| log::name(file.segment.number)).unwrap_or_default()),
        offset: stop.map_or(0, Scanned::end) as u64,
        what: format!("revision {next} is missing, and all up to {was_synced} had been durable"),
    })
}

/// Takes in what a segment holds after a checkpoint; answers its bytes.
fn replay<F: Files>(
    files: &F,
    identity: Identity,
    file: &Scanned<F::Handle>,
    through: Revision,
    index: &mut Index,
) -> Result<Vec<u8>, OpenError> {
    let bytes = read_all(files, identity, &file.segment)?;
    for (offset, _) in file.records.iter().take(file.followed) {
        let whole =
            record::find(identity.seal, bytes.get(*offset..).unwrap_or_default()).is_some_and(|(header, body)| {
                record::writes(&header, body, |revision, write| {
                    if revision > through {
                        drop(index.insert(match write.value {
                            Some(value) => Record::value_at(revision, write.version, write.key, value),
                            None => Record::tombstone(revision, write.version, write.key, header.time),
                        }));
                    }
                })
            });
        if !whole {
            return Err(OpenError::Damaged {
                file: files.path(&log::name(file.segment.number)),
                offset: *offset as u64,
                what: "a record does not hold what it says".into(),
            });
        }
    }
    Ok(bytes)
}

fn read_all<F: Files>(files: &F, identity: Identity, segment: &Segment<F::Handle>) -> Result<Vec<u8>, OpenError> {
    let path = || files.path(&log::name(segment.number));
    let size = usize::try_from(identity.segment_size).unwrap_or(usize::MAX);
    let length = segment.handle.length().map_err(OpenError::io("read", path()))?;
    if length != identity.segment_size {
        let what = format!("the file has {length} bytes, expected {size}");
        return Err(OpenError::Damaged { file: path(), offset: length, what });
    }
    let mut bytes = vec![0; size];
    segment.handle.read_at(&mut bytes, 0).map_err(OpenError::io("read", path()))?;
    Ok(bytes)
}

fn previous(revision: Revision) -> Revision {
    Revision::new(revision.get().saturating_sub(1))
}
