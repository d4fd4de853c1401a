//! Keys that collide, for hash tables whose hash has no secret.
//!
//! The server's index hashes by SipHash-1-3 under random keys, so that nobody outside knows which keys collide. These
//! collide where the keys of the hash are known, or where there are none.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;

/// Keys that have something in common, or nothing.
#[derive(Debug)]
pub(super) struct KeySet {
    /// What.
    pub(super) name: &'static str,
    pub(super) keys: Vec<String>,
}

/// As many keys of each, made once.
pub(super) fn key_sets(each: usize) -> &'static [KeySet] {
    static SETS: OnceLock<Vec<KeySet>> = OnceLock::new();
    SETS.get_or_init(|| {
        let colliding = |name, letter, hash: fn(&[u8]) -> u64| {
            let keys = (0_u64..).map(|number| format!("{letter}{number:015x}"));
            KeySet { name, keys: keys.filter(|key| falls_into_first_slot(hash(key.as_bytes()))).take(each).collect() }
        };
        vec![
            KeySet {
                name: "that have nothing in common",
                keys: (0..each).map(|number| format!("r{number:015x}")).collect(),
            },
            colliding("that collide under SipHash-1-3 without a secret", 's', sip),
            colliding("that collide under FNV-1a", 'f', fnv),
        ]
    })
}

/// Whether a table whose places are the low bits of a hash puts it into the first sixteenth of every table of the index, and
/// into the first of its 1,024 tables (`store/src/index/slots.rs`).
const fn falls_into_first_slot(hash: u64) -> bool {
    hash & 0xf == 0 && (hash >> 32) & 0x3ff == 0
}

/// The standard library's hash, under keys of zeros.
fn sip(key: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

/// Fowler, Noll and Vo's hash, of 64 bits.
fn fnv(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_collide_under_their_own_hash_and_under_no_other() {
        let sets = key_sets(128);
        let places = |set: usize, hash: fn(&[u8]) -> u64| {
            let place = |key: &String| (hash(key.as_bytes()) & 0xf, (hash(key.as_bytes()) >> 32) & 0x3ff);
            sets[set].keys.iter().map(place).collect::<BTreeSet<_>>().len()
        };
        assert_eq!((places(1, sip), places(2, fnv)), (1, 1));
        // FNV spreads keys that differ in their last letters only over few places.
        for (set, hash) in [(0, sip as fn(&[u8]) -> u64), (0, fnv), (1, fnv), (2, sip)] {
            assert!(places(set, hash) >= 32, "{set}: {}", places(set, hash));
        }
    }

    #[test]
    fn fnv_is_the_one_that_is_known() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
