//! The log: records, one after the other, in segments. Segments are pre-zeroed and reused. The first ones are small; as the
//! log grows, new ones are larger, up to a maximum.
//!
//! ```text
//!   segment-000002          segment-000003          segment-000001
//!   ┌────────┬────────┬─┐   ┌────────┬───────────┐  ┌──────────────┐
//!   │ record │ record │0│   │ record │ 0 0 0 …   │  │ spare        │
//!   └────────┴────────┴─┘   └────────┴───────────┘  └──────────────┘
//!     id 7                    id 8    ▲ the end       (records of id 6, all in the checkpoint)
//! ```
//!
//! The number of a file never changes; the id of the segment that it currently holds is in its records. A spare
//! becomes a segment when a record with a new id is written to its start. That renames nothing, so it needs no sync
//! except that of the record.

use super::files::{FileHandle, FileSystem};
use super::names;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use syncline_wire::Revision;

/// How many bytes are zeroed with one write.
const ZEROS: usize = 1024 * 1024;

/// A file of the log: a segment or a spare.
pub(crate) struct Segment<H> {
    pub(crate) number: u64,
    pub(crate) handle: H,
    /// The length of the file.
    pub(crate) size: u64,
}

/// Creates a spare: a file of zeros. It is durable when this returns.
pub(crate) fn make_spare<F: FileSystem>(files: &F, number: u64, size: u64) -> io::Result<Segment<F::Handle>> {
    let name = names::segment(number);
    let unfinished = names::unfinished(&name);
    let make = || {
        let handle = files.create(&unfinished)?;
        let zeros = vec![0; ZEROS];
        let mut offset = 0;
        while offset < size {
            let part = zeros.get(..usize::try_from(size - offset).unwrap_or(ZEROS)).unwrap_or(&zeros);
            handle.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        handle.sync()?;
        files.rename(&unfinished, &name)?;
        files.sync_names()?;
        Ok(Segment { number, handle, size })
    };
    make().inspect_err(|_| {
        // The incomplete file takes disk space, which may be scarce.
        let _ = files.remove(&unfinished).or_else(|_| files.remove(&name));
    })
}

/// Why a write to the log failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The log does not hold the record, and never will.
    Refused(io::Error),
    /// The record may be found when the log is opened again, unless another record replaces it.
    Unknown(io::Error),
    /// As `Unknown`; in addition, nothing more may be written, because the content of the log is unknown.
    Failed(io::Error),
    /// Another process writes to the log, so nothing more may be written. If the record was written, it may be found when
    /// the log is opened again.
    OtherWriter { is_written: bool },
}

/// The log, open for appending.
pub(crate) struct Log<F: FileSystem> {
    pub(crate) files: Arc<F>,
    /// The size of the largest files, and of the first ones.
    pub(crate) max_size: u64,
    pub(crate) first_size: u64,
    /// The segment that records are appended to; `None` before the first record.
    pub(crate) current: Option<ActiveSegment<F::Handle>>,
    /// The earlier segments that are still needed, oldest first.
    pub(crate) older: VecDeque<FullSegment<F::Handle>>,
    pub(crate) spares: Vec<Segment<F::Handle>>,
    pub(crate) next_id: u64,
    pub(crate) next_number: u64,
    /// The checksum of the last record; 0 before the first.
    pub(crate) previous: u32,
    /// The id of the newest segment that the durable watermark covers.
    pub(crate) watermark: u64,
    /// How many bytes were written since the last checkpoint began.
    pub(crate) since_checkpoint: u64,
}

/// The place of a record that is about to be appended.
pub(crate) struct Reservation {
    /// The id of the segment.
    pub(crate) segment: u64,
    /// Whether it is the first record of the segment.
    pub(crate) is_new: bool,
}

/// The segment that records are appended to.
pub(crate) struct ActiveSegment<H> {
    pub(crate) id: u64,
    pub(crate) segment: Segment<H>,
    /// The offset of the next record.
    pub(crate) offset: u64,
    /// The last revision in the segment.
    pub(crate) last: Revision,
    /// The offset of the last record, if this process has written it.
    pub(crate) last_record: Option<u64>,
    /// Whether there may be a rejected record at `offset` that could not be wiped.
    pub(crate) is_torn: bool,
}

impl<H: FileHandle> ActiveSegment<H> {
    /// Returns whether it is certain that this record does not start at `offset`.
    fn lacks_start_of(&self, record: &[u8]) -> bool {
        let mut found = [0; 8];
        let read = self.segment.handle.read_at(&mut found, self.offset);
        read.is_ok() && record.get(..found.len()).is_some_and(|start| start != found)
    }

    /// Ensures that no record starts at `offset`.
    fn wipe(&mut self) -> io::Result<()> {
        self.segment.handle.write_at(&[0; 8], self.offset)?;
        self.is_torn = false;
        Ok(())
    }
}

/// A segment that is full.
pub(crate) struct FullSegment<H> {
    pub(crate) segment: Segment<H>,
    /// The last revision in the segment.
    pub(crate) last: Revision,
}

impl<F: FileSystem> Log<F> {
    /// Returns whether the current segment has room for a record of this length.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.current.as_ref().is_some_and(|current| current.offset + length as u64 <= current.segment.size)
    }

    /// Ensures that there is a spare for a record of this length. Unless `may_create`, the disk is not asked for another
    /// file: it has just refused one.
    pub(crate) fn ensure_spare(&mut self, length: usize, may_create: bool) -> Result<(), AppendError> {
        let length = length as u64;
        if length > self.max_size {
            let message = format!("a record of {length} bytes, expected at most {}", self.max_size);
            return Err(AppendError::Refused(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        if self.spares.iter().any(|spare| length <= spare.size) {
            return Ok(());
        }
        if !may_create {
            return Err(AppendError::Refused(rustix::io::Errno::NOSPC.into()));
        }
        let size = self.next_size(length);
        let spare = make_spare(&*self.files, self.next_number, size).map_err(AppendError::Refused)?;
        self.next_number += 1;
        self.spares.push(spare);
        Ok(())
    }

    /// Reserves space for a record of this length, for which there is room or a spare. If that begins a new segment,
    /// everything before it is synced first.
    pub(crate) fn reserve(&mut self, length: usize) -> Result<Reservation, AppendError> {
        if let Some(current) = self.current.as_ref().filter(|_| self.has_room(length)) {
            return Ok(Reservation { segment: current.id, is_new: false });
        }
        if let Some(current) = &mut self.current
            && current.is_torn
        {
            current.wipe().map_err(AppendError::Refused)?;
        }
        self.sync().map_err(AppendError::Failed)?;
        let Some(place) = self.spares.iter().rposition(|spare| length as u64 <= spare.size) else {
            return Err(AppendError::Refused(io::Error::other("no spare was prepared")));
        };
        let segment = self.spares.remove(place);
        let id = self.next_id;
        self.next_id += 1;
        let last = self.current.as_ref().map_or(Revision::ZERO, |current| current.last);
        if let Some(full) =
            self.current.replace(ActiveSegment { id, segment, offset: 0, last, last_record: None, is_torn: false })
        {
            self.older.push_back(FullSegment { segment: full.segment, last: full.last });
        }
        Ok(Reservation { segment: id, is_new: true })
    }

    /// Returns the size of the largest file so far; that of the first one if there is none.
    pub(crate) fn largest(&self) -> u64 {
        self.files().map(|segment| segment.size).max().unwrap_or(self.first_size)
    }

    /// Returns the size of the next file, which must hold a record of this length. It is twice the largest so far if the
    /// log has filled a file since the last checkpoint: the log of a busy store soon has large files, and that of a quiet
    /// one keeps small ones.
    pub(crate) fn next_size(&self, length: u64) -> u64 {
        let mut size = if self.older.is_empty() { self.largest() } else { 2 * self.largest() };
        while size < length {
            size *= 2;
        }
        size.min(self.max_size)
    }

    /// Appends a record for which space was reserved. `last` is its last revision.
    pub(crate) fn append(&mut self, record: &[u8], last: Revision, checksum: u32) -> Result<(), AppendError> {
        let Some(current) = &mut self.current else {
            return Err(AppendError::Refused(io::Error::other("no space was reserved")));
        };
        if let Err(error) = current.segment.handle.write_at(record, current.offset) {
            // A part of the record may have been written, and the old bytes of the file may happen to
            // complete it. Wipe the start, without which it is no record.
            current.is_torn = true;
            if current.wipe().is_err() {
                // A system that refuses all writes, for example because of a limit, has written nothing.
                let is_known = current.lacks_start_of(record);
                return Err(if is_known { AppendError::Refused(error) } else { AppendError::Unknown(error) });
            }
            return Err(match current.segment.handle.sync() {
                Ok(()) => AppendError::Refused(error),
                Err(error) => AppendError::Failed(error),
            });
        }
        let written = (record.len() as u64).next_multiple_of(super::record::ALIGNMENT as u64);
        current.last_record = Some(current.offset);
        current.offset += written;
        current.is_torn = false;
        current.last = last;
        self.previous = checksum;
        self.since_checkpoint += written;
        Ok(())
    }

    /// Returns whether a segment was begun that the durable watermark does not cover.
    pub(crate) fn is_watermark_behind(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.id != self.watermark)
    }

    /// Returns all files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Segment<F::Handle>> {
        let current = self.current.iter().map(|current| &current.segment);
        current.chain(self.older.iter().map(|older| &older.segment)).chain(&self.spares)
    }

    /// Writes to the place of the next record, which contains no record, to find out whether the disk accepts writes.
    pub(crate) fn probe(&mut self) -> io::Result<()> {
        match &mut self.current {
            Some(current) if current.offset + 8 <= current.segment.size => current.wipe(),
            _ => Ok(()),
        }
    }

    /// Makes everything that was written durable. After a failure, the state of the log is unknown, and nothing
    /// more may be written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.current.as_ref().map_or(Ok(()), |current| current.segment.handle.sync())
    }

    /// Reuses segments after a checkpoint that holds everything up to `through`. A segment becomes a spare if the
    /// checkpoint covers it and something after it is synced. So the log reaches up to the checkpoint, whatever a
    /// power cut leaves of it.
    pub(crate) fn recycle(&mut self, through: Revision, synced: Revision) {
        while self.older.front().is_some_and(|older| older.last <= through && older.last < synced)
            && let Some(older) = self.older.pop_front()
        {
            self.spares.push(older.segment);
        }
    }
}
