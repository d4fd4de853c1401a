//! A set of prefixes, for the question whether a key is under one of them.

use bytes::Bytes;

/// Prefixes, none of which is under another: what is under a wider one is not kept. In the order of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet(Vec<Bytes>);

impl PrefixSet {
    /// Adds what is under a prefix.
    pub(crate) fn insert(&mut self, prefix: Bytes) {
        if !self.covers(&prefix) {
            self.0.retain(|other| !other.starts_with(&prefix));
            let place = self.0.partition_point(|other| *other < prefix);
            self.0.insert(place, prefix);
        }
    }

    /// Whether a key is under one of them; of a prefix: whether all keys under it are under one of them.
    ///
    /// Of the prefixes up to the key in the order of bytes only the last can be one of its: between a prefix of the key
    /// and the key there are only strings that begin with that prefix, and so none of this set.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let after = self.0.partition_point(|prefix| **prefix <= *key);
        let last = after.checked_sub(1).and_then(|last| self.0.get(last));
        last.is_some_and(|prefix| key.starts_with(prefix))
    }

    /// In the order of bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// A prefix of everything that is under them: the only one, or the empty one.
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
