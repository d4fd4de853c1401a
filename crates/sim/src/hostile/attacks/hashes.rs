//! Keys that collide in hash tables without a secret hash key.
//!
//! The server's index uses SipHash-1-3 with random hash keys, so attackers cannot know which keys collide. The keys of
//! this module collide under a hash without hash keys, or with known ones.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;

/// A set of keys with a common property.
#[derive(Debug)]
pub(super) struct KeySet {
    /// The property.
    pub(super) name: &'static str,
    pub(super) keys: Vec<String>,
}

/// Returns sets of `each` keys. They are computed once.
pub(super) fn key_sets(each: usize) -> &'static [KeySet] {
    static SETS: OnceLock<Vec<KeySet>> = OnceLock::new();
    SETS.get_or_init(|| {
        let colliding = |name, letter, hash: fn(&[u8]) -> u64| {
            let keys = (0_u64..).map(|number| format!("{letter}{number:015x}"));
            KeySet { name, keys: keys.filter(|key| falls_into_first_slot(hash(key.as_bytes()))).take(each).collect() }
        };
        vec![
            KeySet { name: "without collisions", keys: (0..each).map(|number| format!("r{number:015x}")).collect() },
            colliding("colliding under SipHash-1-3 without a secret", 's', sip),
            colliding("colliding under FNV-1a", 'f', fnv),
        ]
    })
}

/// Returns whether the index would put a key with this hash into the first of its 1,024 tables, and into the first
/// sixteenth of that table (`store/src/index/slots.rs`). The slot follows from the low bits of the hash.
const fn falls_into_first_slot(hash: u64) -> bool {
    hash & 0xf == 0 && (hash >> 32) & 0x3ff == 0
}

/// Returns the hash of the standard library, with zeros as hash keys.
fn sip(key: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

/// Returns the 64-bit FNV-1a hash.
fn fnv(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_collide_only_under_their_own_hash() {
        let sets = key_sets(128);
        let places = |set: usize, hash: fn(&[u8]) -> u64| {
            let place = |key: &String| (hash(key.as_bytes()) & 0xf, (hash(key.as_bytes()) >> 32) & 0x3ff);
            sets[set].keys.iter().map(place).collect::<BTreeSet<_>>().len()
        };
        assert_eq!((places(1, sip), places(2, fnv)), (1, 1));
        // FNV-1a spreads keys that differ only in their last letters over few slots.
        for (set, hash) in [(0, sip as fn(&[u8]) -> u64), (0, fnv), (1, fnv), (2, sip)] {
            assert!(places(set, hash) >= 32, "{set}: {}", places(set, hash));
        }
    }

    #[test]
    fn fnv_matches_the_published_test_vectors() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
