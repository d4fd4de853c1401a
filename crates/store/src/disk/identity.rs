//! The identity of a data directory: which history it holds, and in which format.
//!
//! It is a [`text_file`] of six or seven lines:
//!
//! ```text
//! syncline data
//! format 2
//! store 0123456789abcdef0123456789abcdef
//! seal 01234567
//! segment 33554432
//! unsynced 0123456789abcdef0123456789abcdef
//! crc 89abcdef
//! ```
//!
//! The line `seal` holds the checksum seed, which binds the files of the directory together and never leaves it. The
//! store id is sent to every client, and is in no other file. In every format, the second line names the format.
//!
//! The line `unsynced` exists while writes may be acknowledged before they are synced: it is written before the first
//! of them, and removed when the store is closed. It names the boot of the machine. If a later opening finds another
//! boot, the machine has gone down meanwhile. Revisions that clients have seen may be lost and would be assigned
//! again. So the directory then holds a new history, with a new store id.

use super::boot::Boot;
use super::error::OpenError;
use super::files::FileSystem;
use super::options::Durability;
use super::record::ChecksumSeed;
use super::{names, text_file};
use crate::{Unavailable, new_store_id};
use std::io;
use syncline_core::StoreId;
use tracing::warn;

/// A directory that ext4 and similar file systems have in their root: a whole disk may be a data directory.
const LOST_AND_FOUND: &str = "lost+found";

/// The format of the data directory.
pub(crate) const FORMAT: u32 = 2;

/// The content of the identity file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// The seed of the checksums in the other files.
    pub(crate) seed: ChecksumSeed,
    /// The size of a file of the log, in bytes.
    pub(crate) segment_size: u64,
    /// The boot since which acknowledged writes may be unsynced, if there may be any.
    pub(crate) unsynced: Option<Boot>,
}

impl Identity {
    /// Creates the identity of a new history.
    pub(crate) fn new(segment_size: u64) -> Result<Self, Unavailable> {
        // The seed is as random as the id, but is not sent to clients.
        let seed = ChecksumSeed(crc32c::crc32c(&new_store_id()?.bytes()));
        Ok(Self { store: new_store_id()?, seed, segment_size, unsynced: None })
    }

    fn lines(self) -> String {
        let Self { store, seed, segment_size, unsynced } = self;
        let unsynced = unsynced.map_or_else(String::new, |boot| format!("unsynced {boot}\n"));
        format!(
            "syncline data\nformat {FORMAT}\nstore {store}\nseal {:08x}\nsegment {segment_size}\n{unsynced}",
            seed.0
        )
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
        let seed = field("seal").and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(Unreadable::Damaged)?;
        let segment_size = field("segment").and_then(|number| number.parse().ok()).ok_or(Unreadable::Damaged)?;
        let unsynced = field("unsynced").and_then(|boot| boot.parse().ok());
        let identity = Self { store, seed: ChecksumSeed(seed), segment_size, unsynced };
        if identity.lines() == text { Ok(identity) } else { Err(Unreadable::Damaged) }
    }

    /// Writes the file. It is durable when this returns.
    pub(crate) fn write<F: FileSystem>(self, files: &F) -> io::Result<()> {
        text_file::write(files, names::IDENTITY, &self.lines())?;
        files.sync_names()
    }

    /// Updates the file when the directory has been opened and everything that was found is durable. Returns the
    /// new identity.
    pub(crate) fn opened<F: FileSystem>(
        self,
        files: &F,
        durability: Durability,
        boot: Boot,
    ) -> Result<Self, OpenError> {
        let is_rewound = self.unsynced.is_some_and(|since| !since.is_still(boot));
        let store = if is_rewound { new_store_id()? } else { self.store };
        let opened = Self { store, unsynced: (durability == Durability::Os).then_some(boot), ..self };
        opened.replace(self, files).map_err(OpenError::io("write", files.path(names::IDENTITY)))?;
        if is_rewound {
            warn!(old = %self.store, new = %store, "the machine has gone down since writes were acknowledged that were not synced: the newest may be missing; the store has a new id, so clients start afresh");
        }
        Ok(opened)
    }

    /// Updates the file when the store is closed. `synced` is false if a sync has failed.
    pub(crate) fn closed<F: FileSystem>(self, files: &F, synced: bool) -> io::Result<()> {
        // A failed sync may have lost writes without a restart of the machine.
        let unsynced = self.unsynced.map(|_| Boot::UNKNOWN).filter(|_| !synced);
        Self { unsynced, ..self }.replace(self, files)
    }

    fn replace<F: FileSystem>(self, old: Self, files: &F) -> io::Result<()> {
        if self == old { Ok(()) } else { self.write(files) }
    }

    /// Reads the file.
    pub(crate) fn read<F: FileSystem>(files: &F) -> Result<Self, OpenError> {
        Self::parse(&text_file::read(files, names::IDENTITY)?).map_err(|unreadable| match unreadable {
            Unreadable::Format(found) => {
                OpenError::Format { file: files.path(names::IDENTITY), expected: FORMAT, found }
            }
            Unreadable::Damaged => text_file::damaged(files, names::IDENTITY),
        })
    }
}

/// Returns an error if a directory that must be empty is not. `expected` says what was expected instead.
pub(crate) fn expect_none<F: FileSystem>(files: &F, expected: &'static str) -> Result<(), OpenError> {
    match content(files)? {
        None => Ok(()),
        Some(found) => Err(OpenError::Foreign { path: files.path(""), expected, found: format!("the file `{found}`") }),
    }
}

/// Returns an error if a directory has no identity.
pub(crate) fn expect_one<F: FileSystem>(files: &F) -> Result<(), OpenError> {
    let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
    if names.iter().any(|name| name == names::IDENTITY) {
        return Ok(());
    }
    let found = match content(files)? {
        None => "an empty directory".to_owned(),
        Some(found) => format!("a directory without it, but with `{found}`"),
    };
    Err(OpenError::Foreign { path: files.path(""), expected: "a data directory, with a file `identity`", found })
}

/// Returns the name of a file in a directory, except those that a new data directory may have.
fn content<F: FileSystem>(files: &F) -> Result<Option<String>, OpenError> {
    let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
    let is_content = |name: &String| name != names::LOCK && name != LOST_AND_FOUND && !names::is_unfinished(name);
    Ok(names.into_iter().filter(is_content).min())
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
