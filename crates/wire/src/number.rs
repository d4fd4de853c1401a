//! The protocol's numbers, each a type of its own, so that they cannot be confused.

use std::fmt;

/// Returns the `N` bytes of the number that starts at `start` of `frame`.
///
/// # Errors
/// The least length of the frame, if the frame does not hold all of them.
#[inline]
pub(crate) fn find<const N: usize>(frame: &[u8], start: usize) -> Result<[u8; N], usize> {
    frame.get(start..).and_then(<[u8]>::first_chunk).copied().ok_or(start + N)
}

/// Correlates a response with its request. The client chooses it, unique among its requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u16);

impl Tag {
    /// Tag 0: the tag of frames that respond to no request.
    pub const BROADCAST: Self = Self(0);

    /// Returns the tag with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns the number of this tag.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Counts the writes of one key. The first write has version 1 by convention, and each further write has the version
/// before it plus 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of a key that was never written.
    pub const ABSENT: Self = Self(0);
    /// The largest version. Refused in a PUT, so that every key can always be written or deleted once more.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the version with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number of this version.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the version of the next write of the key, or `None` after [`Version::MAX`].
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// Counts the accepted transactions of a store. It only grows, also across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a store before its first transaction.
    pub const ZERO: Self = Self(0);

    /// Returns the revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number of this revision.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the revision after this one, or `None` after the last.
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
