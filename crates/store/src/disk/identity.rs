//! The identity of a data directory: which history it holds, in which format. Written once, when it is made.
//!
//! A [`text_file`] of six lines:
//!
//! ```text
//! syncline data
//! format 2
//! store 0123456789abcdef0123456789abcdef
//! seal 01234567
//! segment 33554432
//! crc 89abcdef
//! ```
//!
//! The seal binds the files of the directory together, and is told to nobody. The store id is told to every client, and
//! stands nowhere else. In every format, the second line names the format.

use super::files::Files;
use super::record::Seal;
use super::recovery::is_unfinished;
use super::{OpenError, text_file};
use crate::{Unavailable, new_store_id};
use syncline_core::StoreId;

/// The name of the file.
pub(crate) const NAME: &str = "identity";

/// The file that keeps a second process out.
pub(crate) const LOCK: &str = "lock";

/// The format of the directory as a whole.
pub(crate) const FORMAT: u32 = 2;

/// Which history a data directory holds, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// With which the checksums of the other files begin.
    pub(crate) seal: Seal,
    /// The bytes of a file of the log.
    pub(crate) segment_size: u64,
}

impl Identity {
    /// Names a new history.
    pub(crate) fn new(segment_size: u64) -> Result<Self, Unavailable> {
        // As random as the id, and not told.
        let seal = Seal(crc32c::crc32c(&new_store_id()?.bytes()));
        Ok(Self { store: new_store_id()?, seal, segment_size })
    }

    fn lines(self) -> String {
        let Self { store, seal, segment_size } = self;
        format!("syncline data\nformat {FORMAT}\nstore {store}\nseal {:08x}\nsegment {segment_size}\n", seal.0)
    }

    fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        if field("syncline") != Some("data") {
            return Err(Unreadable::Damaged);
        }
        let format = field("format").and_then(|number| number.parse().ok()).ok_or(Unreadable::Damaged)?;
        if format != FORMAT {
            return Err(Unreadable::Format(format));
        }
        let store = field("store").and_then(parse_store).ok_or(Unreadable::Damaged)?;
        let seal = field("seal").and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(Unreadable::Damaged)?;
        let segment_size = field("segment").and_then(|number| number.parse().ok()).ok_or(Unreadable::Damaged)?;
        let identity = Self { store, seal: Seal(seal), segment_size };
        if identity.lines() == text { Ok(identity) } else { Err(Unreadable::Damaged) }
    }

    /// Writes the file; it is durable when this returns.
    pub(crate) fn write<F: Files>(self, files: &F) -> Result<(), OpenError> {
        text_file::write(files, NAME, &self.lines())
            .and_then(|()| files.sync_names())
            .map_err(OpenError::io("write", files.path(NAME)))
    }

    /// Reads the file.
    pub(crate) fn read<F: Files>(files: &F) -> Result<Self, OpenError> {
        Self::parse(&text_file::read(files, NAME)?).map_err(|unreadable| match unreadable {
            Unreadable::Format(found) => OpenError::Format { file: files.path(NAME), expected: FORMAT, found },
            Unreadable::Damaged => text_file::damaged(files, NAME),
        })
    }
}

/// Says what is there, where a directory that should be empty is not.
pub(crate) fn expect_none<F: Files>(files: &F) -> Result<(), OpenError> {
    let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
    match names.into_iter().find(|name| name != LOCK && !is_unfinished(name)) {
        None => Ok(()),
        Some(found) => Err(OpenError::Foreign { path: files.path(""), found }),
    }
}

enum Unreadable {
    Format(u32),
    Damaged,
}

fn parse_store(digits: &str) -> Option<StoreId> {
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return None;
    }
    for (place, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(StoreId::new(id))
}
