//! The keys of the load generator, their versions, and their values.
//!
//! ```text
//!  value:  0               8               16                24
//!          ┌───────────────┬───────────────┬─────────────────┬───────
//!          │ when written  │ which key     │ which write     │ v v v …     cut after the size of the value
//!          └───────────────┴───────────────┴─────────────────┴───────
//! ```

use crate::Error;
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The prefix of all keys of the load generator.
pub const PREFIX: &str = "syncline-bench/";

/// The key that is written last of all.
const LAST: &str = "syncline-bench/last";

/// The length of a number in a value, in bytes. The first number, a time, is in every value.
pub const STAMP: usize = 8;

/// The length of a key in bytes, for up to a billion of them.
const KEY_SIZE: usize = 24;

/// The keys of one server, with their known versions. Clones share the versions.
#[derive(Clone, Debug)]
pub struct Keys {
    /// All names, one after the other, so that [`Keys::name`] copies nothing.
    names: Bytes,
    /// The version of each key, that of the last key included.
    versions: Arc<[AtomicU64]>,
    value_size: usize,
}

impl Keys {
    /// Returns `count` keys, at least one, whose versions are not known.
    pub fn new(count: usize, value_size: usize) -> Self {
        let count = count.max(1);
        let mut names = BytesMut::with_capacity(count * KEY_SIZE);
        for number in 0..count {
            names.put_slice(PREFIX.as_bytes());
            names.put_slice(format!("{number:09}").as_bytes());
        }
        Self {
            names: names.freeze(),
            versions: (0..=count).map(|_| AtomicU64::new(0)).collect(),
            value_size: value_size.max(STAMP),
        }
    }

    /// Returns the same keys on another server, where their versions are not known.
    #[must_use]
    pub fn elsewhere(&self) -> Self {
        Self { versions: (0..self.versions.len()).map(|_| AtomicU64::new(0)).collect(), ..self.clone() }
    }

    /// Returns how many keys there are, without the last key.
    pub fn count(&self) -> usize {
        self.versions.len() - 1
    }

    /// Returns the number of the key that is written last of all.
    pub fn last(&self) -> usize {
        self.count()
    }

    /// Returns the name of a key.
    pub fn name(&self, number: usize) -> Bytes {
        let start = number * KEY_SIZE;
        match self.names.len() {
            length if start + KEY_SIZE <= length => self.names.slice(start..start + KEY_SIZE),
            _ => Bytes::from_static(LAST.as_bytes()),
        }
    }

    /// Returns the known version of a key. 0: the key was never written, or its version is not known.
    pub fn version(&self, number: usize) -> u64 {
        self.versions.get(number).map_or(0, |version| version.load(Ordering::Relaxed))
    }

    /// Sets the known version of a key.
    pub fn set_version(&self, number: usize, version: u64) {
        if let Some(known) = self.versions.get(number) {
            known.store(version, Ordering::Relaxed);
        }
    }

    /// Returns a value for a key, which holds when it was written, and which write of this run it is.
    pub fn value(&self, number: usize, stamp: u64, write: u64) -> Bytes {
        let mut value = BytesMut::with_capacity(self.value_size);
        for part in [stamp, number as u64, write] {
            if value.len() + STAMP <= self.value_size {
                value.put_u64_le(part);
            }
        }
        value.resize(self.value_size, b'v');
        value.freeze()
    }

    /// Checks that this is a value of a key.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if it is not.
    pub fn check(&self, number: usize, value: &[u8]) -> Result<(), Error> {
        if value.len() != self.value_size {
            return Err(Error::unexpected(format!("{} bytes", self.value_size), format!("{} bytes", value.len())));
        }
        match part(value, 1) {
            Some(key) if key != number as u64 => {
                Err(Error::unexpected(format!("the value of key {number}"), format!("that of key {key}")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns a number of a value.
fn part(value: &[u8], place: usize) -> Option<u64> {
    value.get(place * STAMP..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// Returns the three numbers of a value that is large enough: when it was written (0: it is the last), which key it
/// belongs to, and which write it is.
pub fn parse_stamp(value: &[u8]) -> Option<[u64; 3]> {
    Some([part(value, 0)?, part(value, 1)?, part(value, 2)?])
}

/// Returns when a value was written. 0: it is the last.
pub(crate) fn stamp(value: &[u8]) -> Option<u64> {
    part(value, 0)
}

/// Returns which write of the run a value is, if the value is large enough to hold that.
pub(crate) fn write(value: &[u8]) -> Option<u64> {
    part(value, 2).filter(|_| value.len() >= 3 * STAMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_the_number_of_its_key() {
        let keys = Keys::new(10, 100);
        assert_eq!(keys.name(7).as_ref(), b"syncline-bench/000000007");
        assert_eq!(keys.name(keys.last()).as_ref(), b"syncline-bench/last");
        let value = keys.value(7, 123, 45);
        assert_eq!((value.len(), stamp(&value), write(&value)), (100, Some(123), Some(45)));
        keys.check(7, &value).unwrap();
        let wrong = keys.check(8, &value).unwrap_err().to_string();
        assert_eq!(wrong, "expected the value of key 8, found that of key 7");
        let short = keys.check(7, b"short").unwrap_err().to_string();
        assert_eq!(short, "expected 100 bytes, found 5 bytes");
    }

    #[test]
    fn a_small_value_holds_a_time() {
        let keys = Keys::new(10, 8);
        let value = keys.value(7, 123, 45);
        assert_eq!((value.len(), stamp(&value), write(&value)), (8, Some(123), None));
        keys.check(8, &value).unwrap();
    }

    #[test]
    fn clones_share_versions() {
        let keys = Keys::new(2, 8);
        let others = keys.clone();
        keys.set_version(1, 5);
        keys.set_version(keys.last(), 6);
        assert_eq!((keys.elsewhere().version(1), keys.elsewhere().name(1)), (0, keys.name(1)));
        assert_eq!((others.version(0), others.version(1), others.version(others.last())), (0, 5, 6));
    }
}
