//! A set of prefixes that tells whether a key is under one of them.

use bytes::Bytes;

/// Prefixes in the order of their bytes. None is under another: a prefix under a wider one is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet(Vec<Bytes>);

impl PrefixSet {
    /// Adds a prefix.
    pub(crate) fn insert(&mut self, prefix: Bytes) {
        if !self.covers(&prefix) {
            self.0.retain(|other| !other.starts_with(&prefix));
            let index = self.0.partition_point(|other| *other < prefix);
            self.0.insert(index, prefix);
        }
    }

    /// Returns whether `key` is under one of the prefixes. For a prefix: whether all keys under it are.
    ///
    /// Only the last prefix that is not greater than the key can be a prefix of it: every string between a prefix of the
    /// key and the key begins with that prefix, so none of them is in the set.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let after = self.0.partition_point(|prefix| **prefix <= *key);
        let last = after.checked_sub(1).and_then(|last| self.0.get(last));
        last.is_some_and(|prefix| key.starts_with(prefix))
    }

    /// Returns the prefixes in the order of their bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// Returns a prefix of everything in the set: its only prefix, or the empty one.
    pub(crate) fn common(&self) -> Bytes {
        match self.0.first() {
            Some(only) if self.0.len() == 1 => only.clone(),
            _ => Bytes::new(),
        }
    }
}

impl FromIterator<Bytes> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Bytes>>(prefixes: I) -> Self {
        let mut set = Self::default();
        prefixes.into_iter().for_each(|prefix| set.insert(prefix));
        set
    }
}
