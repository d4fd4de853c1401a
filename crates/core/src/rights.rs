//! What somebody may read and write.

use crate::prefix_set::PrefixSet;
use bytes::Bytes;

/// What somebody may read and write: the keys under some prefixes, or, as an admin, everything.
///
/// A right to write is none to read. Who may write a key learns by a stale write whether it guessed the version, no more.
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
    /// Those of an admin: to read and write everything, and to learn how the server is.
    pub fn all() -> Self {
        let everything = PrefixSet::from_iter([Bytes::new()]);
        Self { read: everything.clone(), write: everything, is_admin: true }
    }

    /// To read what is under some prefixes, and to write what is under others. The empty prefix is that of all keys.
    pub fn new(read: impl IntoIterator<Item = Bytes>, write: impl IntoIterator<Item = Bytes>) -> Self {
        Self { read: read.into_iter().collect(), write: write.into_iter().collect(), is_admin: false }
    }

    /// Whether a key may be read; of a prefix: whether all keys under it may.
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.read.covers(key)
    }

    /// Whether a key may be written.
    pub fn may_write(&self, key: &[u8]) -> bool {
        self.write.covers(key)
    }

    /// Whether these are the rights of an admin.
    pub const fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// The prefixes of all that may be read, none of which is under another.
    pub(crate) fn readable(&self) -> impl Iterator<Item = &Bytes> {
        self.read.iter()
    }
}
