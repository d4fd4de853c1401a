//! The identity of a data directory: which history it holds, in which format. Written once, when it is made.
//!
//! A file of five lines, for people to read:
//!
//! ```text
//! syncline data
//! format 1
//! store 0123456789abcdef0123456789abcdef
//! segment 33554432
//! crc 89abcdef
//! ```

use super::OpenError;
use super::files::{Files, Handle};
use super::log::NOT_READY;
use syncline_core::StoreId;

/// The name of the file.
pub(crate) const NAME: &str = "identity";

/// The format of the directory as a whole.
pub(crate) const FORMAT: u32 = 1;

/// The file is never longer.
const MAX_LENGTH: usize = 4096;

/// Which history a data directory holds, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// The bytes of a file of the log.
    pub(crate) segment_size: u64,
}

impl Identity {
    fn text(self) -> String {
        let body = format!("syncline data\nformat {FORMAT}\nstore {}\nsegment {}\n", self.store, self.segment_size);
        format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()))
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
        let segment_size = field("segment").and_then(|number| number.parse().ok()).ok_or(Unreadable::Damaged)?;
        let identity = Self { store, segment_size };
        if identity.text() == text { Ok(identity) } else { Err(Unreadable::Damaged) }
    }

    /// Writes the file; it is durable when this returns.
    pub(crate) fn write<F: Files>(self, files: &F) -> Result<(), OpenError> {
        let not_ready = format!("{NAME}{NOT_READY}");
        let write = || {
            let handle = files.create(&not_ready)?;
            handle.write_at(self.text().as_bytes(), 0)?;
            handle.sync()?;
            files.rename(&not_ready, NAME)?;
            files.sync_names()
        };
        write().map_err(OpenError::io("write", files.path(NAME)))
    }

    /// Reads the file.
    pub(crate) fn read<F: Files>(files: &F) -> Result<Self, OpenError> {
        let path = || files.path(NAME);
        let handle = files.open(NAME).map_err(OpenError::io("open", path()))?;
        let mut bytes = vec![0; MAX_LENGTH];
        let length = handle.read_at(&mut bytes, 0).map_err(OpenError::io("read", path()))?;
        bytes.truncate(length);
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|unreadable| match unreadable {
            Unreadable::Format(found) => OpenError::Format { file: path(), expected: FORMAT, found },
            Unreadable::Damaged => {
                OpenError::Damaged { file: path(), offset: 0, what: "the identity is not as it was written".into() }
            }
        })
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
