//! The protocol's numbers, each a type of its own, so that one is never taken for another.

use std::fmt;

/// The bytes that a version or a revision takes.
pub(crate) const NUMBER_BYTES: usize = 8;

/// The number that starts at `start` of `frame`.
///
/// # Errors
/// Where it is not whole: the bytes that the frame has at the least.
#[inline]
pub(crate) fn find(frame: &[u8], start: usize) -> Result<u64, usize> {
    match frame.get(start..).and_then(<[u8]>::first_chunk::<NUMBER_BYTES>) {
        Some(number) => Ok(u64::from_le_bytes(*number)),
        None => Err(start + NUMBER_BYTES),
    }
}

/// Correlates an answer with its request: chosen by the client, unique among its requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u16);

impl Tag {
    /// Tag 0: the frame answers no request.
    pub const BROADCAST: Self = Self(0);

    /// The tag of this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number of this tag.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Counts the writes of one key: the first is 1 by custom, each further one is the version before it, plus 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// What a key that is not there counts as.
    pub const ABSENT: Self = Self(0);
    /// Refused in a PUT, so that every key can always be written or deleted once more.
    pub const MAX: Self = Self(u64::MAX);

    /// The version of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this version.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version that the next write of the key has, or `None` after the last.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// Counts the accepted transactions of a store: it only grows, also across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before the first transaction.
    pub const ZERO: Self = Self(0);

    /// The revision of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this revision.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision after this one, or `None` after the last.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
