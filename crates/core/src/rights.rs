//! The rights of a client.

use crate::prefix_set::PrefixSet;
use bytes::Bytes;

/// What a client may read and write: the keys under some prefixes or, for an admin, everything.
///
/// A right to write implies no right to read. A client that may only write a key learns from `stale put` whether it guessed
/// the version, and nothing else.
///
/// ```
/// use syncline_core::Rights;
/// let rights = Rights::new(["config/".into(), "flags/".into()], ["config/me/".into()]);
/// assert!(rights.may_read(b"config/theme") && !rights.may_read(b"config"));
/// assert!(rights.may_write(b"config/me/name") && !rights.may_write(b"flags/dark"));
/// assert!(!rights.is_admin() && Rights::all().is_admin());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    read: PrefixSet,
    write: PrefixSet,
    is_admin: bool,
}

impl Rights {
    /// Returns the rights of an admin: to read and write everything, and to get the whole status of the server.
    pub fn all() -> Self {
        let everything = PrefixSet::from_iter([Bytes::new()]);
        Self { read: everything.clone(), write: everything, is_admin: true }
    }

    /// Returns the rights to read the keys under some prefixes and to write the keys under others. The empty prefix covers
    /// all keys.
    pub fn new(read: impl IntoIterator<Item = Bytes>, write: impl IntoIterator<Item = Bytes>) -> Self {
        Self { read: read.into_iter().collect(), write: write.into_iter().collect(), is_admin: false }
    }

    /// Returns whether a key may be read. For a prefix: whether all keys under it may be read.
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.read.covers(key)
    }

    /// Returns whether a key may be written.
    pub fn may_write(&self, key: &[u8]) -> bool {
        self.write.covers(key)
    }

    /// Returns whether these are the rights of an admin.
    pub const fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// Returns the prefixes of everything that may be read. None is under another.
    pub(crate) fn readable(&self) -> impl Iterator<Item = &Bytes> {
        self.read.iter()
    }
}
