//! Choices that the input makes among values that are worth trying. When the input has ended, each choice is the first one.
//!
//! The kept corpora depend on how many bytes each function takes, and on their order.

use arbitrary::Unstructured;
use bytes::Bytes;
use syncline_wire::Put;

/// Keys of which some are prefixes of others.
pub const KEYS: [&[u8]; 10] = [b"a", b"a/1", b"a/2", b"b", b"", b"a/", b"b/1", b"c", b"a/1/x", b"\xff\xff"];

/// Returns any byte.
pub fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or_default()
}

/// Returns a number below `bound`.
pub fn below(input: &mut Unstructured<'_>, bound: usize) -> usize {
    input.int_in_range(0..=bound.saturating_sub(1)).unwrap_or_default()
}

/// Returns one of `all`.
pub fn one_of<T: Copy>(input: &mut Unstructured<'_>, all: &[T]) -> T {
    all[below(input, all.len())]
}

/// Returns a number of bytes: usually a small one, sometimes more than there ever are.
pub fn count(input: &mut Unstructured<'_>) -> usize {
    match byte(input) {
        all @ 192.. => usize::from(all) << 12,
        few => usize::from(few),
    }
}

/// Returns any number; small and very large ones are more likely.
pub fn number(input: &mut Unstructured<'_>) -> u64 {
    match byte(input) {
        small @ 0..200 => small.into(),
        200..220 => u64::MAX - u64::from(byte(input)),
        _ => input.arbitrary().unwrap_or_default(),
    }
}

/// Returns up to 255 bytes of the input unchanged.
pub fn raw(input: &mut Unstructured<'_>) -> Vec<u8> {
    let length = usize::from(byte(input)).min(input.len());
    input.bytes(length).unwrap_or_default().to_vec()
}

/// Returns a key or prefix: usually one of [`KEYS`], sometimes any bytes or a very long key.
pub fn key(input: &mut Unstructured<'_>) -> Bytes {
    match byte(input) {
        any @ 240.. if any < 250 => raw(input).into(),
        any @ 250.. => vec![any; one_of(input, &[4096, 4097, 65_535])].into(),
        few => Bytes::from_static(KEYS[usize::from(few) % KEYS.len()]),
    }
}

/// Returns the length of a value: usually a short one, sometimes more than a PUT can carry.
pub fn length(input: &mut Unstructured<'_>) -> usize {
    match byte(input) {
        few @ 0..230 => usize::from(few) % 20,
        230..250 => one_of(input, &[100, 600, 3000]),
        _ => one_of(input, &[Put::MAX_ENTRY - 8, Put::MAX_ENTRY, 70_000]),
    }
}
