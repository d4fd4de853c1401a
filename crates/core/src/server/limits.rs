//! The limits of one connection: what it may request, and what it may make the server hold.

use syncline_wire::{Kind, MAX_FRAME_LENGTH, MAX_STRING_LENGTH, Put, Txn};
use thiserror::Error;

/// The limits of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes. Longer keys are refused with ERROR `too large: …`.
    pub max_key: usize,
    /// The most bytes of key and value together. More is refused with ERROR `too large: …`. Entries above
    /// [`Limits::MAX_PUT`] are sent as PUTL.
    pub max_entry: usize,
    /// The most requests in flight. At this limit, the server stops reading from the connection until one is completed.
    pub max_requests: usize,
    /// The most bytes of requests in flight and of unsent responses. At this limit, the server stops reading from the
    /// connection until some are sent. One more request or response may exceed the limit.
    pub max_unsent: usize,
}

/// The bytes of keys and values that a transaction may hold, whatever the limit of an entry is.
const MAX_TRANSACTION: usize = 1024 * 1024;

/// An upper bound for the bytes that an operation of a TXN takes besides its key and value.
const OPERATION_OVERHEAD: usize = 32;

/// Limits that contradict the protocol.
///
/// It is exhaustive, with one variant for each field of [`Limits`]: callers match it to name the setting at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// A key is a string of at most 65,535 bytes.
    #[error("the longest key: expected at most {MAX_STRING_LENGTH} bytes, found {0}")]
    MaxKey(usize),
    /// No frame carries more than [`Limits::MAX_ENTRY`].
    #[error("key and value together: expected at most {max} bytes, found {0}", max = Limits::MAX_ENTRY)]
    MaxEntry(usize),
    /// At least one request must be possible.
    #[error("requests in flight: expected at least 1, found 0")]
    MaxRequests,
    /// At least one response must be possible.
    #[error("bytes of unsent answers: expected at least 1, found 0")]
    MaxUnsent,
}

impl Limits {
    /// The most bytes of key and value in one PUT. Decoders written in 16-bit arithmetic exist, which a larger PUT kills, so
    /// a base connection is never sent one.
    pub const MAX_PUT: usize = Put::MAX_ENTRY;

    /// The most bytes of key and value that [`Limits::max_entry`] may allow (`docs/protocol.md`, PUTL).
    pub const MAX_ENTRY: usize = 16 * 1024 * 1024;

    /// The most prefixes that one connection may watch.
    pub const MAX_WATCHES: usize = 256;

    /// Returns the most bytes of keys and values in one transaction.
    pub const fn max_transaction(&self) -> usize {
        if self.max_entry > MAX_TRANSACTION { self.max_entry } else { MAX_TRANSACTION }
    }

    /// Returns the most bytes of a frame. Longer frames are skipped as they arrive.
    pub const fn max_frame(&self) -> usize {
        self.max_transaction() + Txn::MAX_OPERATIONS * OPERATION_OVERHEAD
    }

    /// Returns the most bytes that a frame can have which begins with the byte `first` and has at least `expected` bytes.
    pub const fn longest_frame(&self, first: u8, expected: usize) -> usize {
        match Kind::from_byte(first) {
            Some(Kind::Txn) => self.max_frame(),
            // The length of its value may be unknown so far.
            Some(Kind::PutLarge) if expected <= MAX_FRAME_LENGTH => self.max_frame(),
            Some(Kind::PutLarge) => expected,
            _ => MAX_FRAME_LENGTH,
        }
    }

    /// Returns the limits unchanged, if the protocol allows them.
    ///
    /// # Errors
    /// [`LimitError`] names the first limit that the protocol does not allow.
    pub const fn validated(self) -> Result<Self, LimitError> {
        if self.max_key > MAX_STRING_LENGTH {
            Err(LimitError::MaxKey(self.max_key))
        } else if self.max_entry > Self::MAX_ENTRY {
            Err(LimitError::MaxEntry(self.max_entry))
        } else if self.max_requests == 0 {
            Err(LimitError::MaxRequests)
        } else if self.max_unsent == 0 {
            Err(LimitError::MaxUnsent)
        } else {
            Ok(self)
        }
    }
}

impl Default for Limits {
    /// Returns the defaults: keys of 4,096 bytes, entries of 65,525 (`docs/protocol.md`, Sizes); 4,096 requests and 1 MiB in flight.
    fn default() -> Self {
        Self { max_key: 4096, max_entry: Self::MAX_PUT, max_requests: 4096, max_unsent: 1024 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use syncline_wire::{Decoded, Message, Operation, Tag, Version, decode_within};

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Limits::default().validated(), Ok(Limits::default()));
    }

    #[test]
    fn no_frame_is_longer_than_longest_frame_returned() {
        let limits = Limits { max_entry: Limits::MAX_ENTRY, ..Limits::default() };
        let (key, value) = ([b'k'; MAX_STRING_LENGTH], [b'v'; MAX_STRING_LENGTH]);
        let tag = Tag::new(1);
        let put = Operation::Put { key: b"k"[..].into(), value: vec![0; 60_000].into(), version: Version::new(1) };
        for frame in [
            Message::put(tag, key.to_vec(), value.to_vec(), Version::new(1)),
            Message::list(tag, key.to_vec(), value.to_vec(), 1),
            Message::get(tag, key.to_vec()),
            Message::write(tag, key.to_vec(), vec![0; 5_000_000], Version::new(1)),
            Message::txn(tag, vec![put; 250]),
        ] {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes).unwrap();
            for there in (3..bytes.len()).step_by(997) {
                let mut begun = BytesMut::from(&bytes[..there]);
                let Ok(Decoded::Incomplete { expected }) = decode_within(&mut begun, limits.max_frame()) else {
                    panic!("{}: {there} bytes", frame.kind());
                };
                let longest = limits.longest_frame(bytes[0], expected);
                assert!(bytes.len() <= longest && longest <= limits.max_frame(), "{}: {longest}", frame.kind());
            }
        }
    }

    #[test]
    fn what_the_protocol_forbids_is_named() {
        let refused = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.validated().unwrap_err().to_string()
        };
        assert_eq!(refused(|l| l.max_key = 65_536), "the longest key: expected at most 65535 bytes, found 65536");
        assert_eq!(
            refused(|l| l.max_entry = 16_777_217),
            "key and value together: expected at most 16777216 bytes, found 16777217"
        );
        assert_eq!(refused(|l| l.max_requests = 0), "requests in flight: expected at least 1, found 0");
        assert_eq!(refused(|l| l.max_unsent = 0), "bytes of unsent answers: expected at least 1, found 0");
    }
}
