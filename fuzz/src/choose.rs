//! Choices among what is worth trying, made by the input. Where it has ended, each is the first one.

use arbitrary::Unstructured;
use bytes::Bytes;
use syncline_wire::Put;

/// Keys that begin with one another, so that prefixes have something to tell apart.
pub const KEYS: [&[u8]; 10] = [b"a", b"a/1", b"a/2", b"b", b"", b"a/", b"b/1", b"c", b"a/1/x", b"\xff\xff"];

/// A byte.
pub fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or_default()
}

/// A number below a bound.
pub fn below(input: &mut Unstructured<'_>, bound: usize) -> usize {
    input.int_in_range(0..=bound.saturating_sub(1)).unwrap_or_default()
}

/// One of several.
pub fn one_of<T: Copy>(input: &mut Unstructured<'_>, all: &[T]) -> T {
    all[below(input, all.len())]
}

/// How many bytes: mostly few, sometimes all.
pub fn count(input: &mut Unstructured<'_>) -> usize {
    match byte(input) {
        all @ 192.. => usize::from(all) << 12,
        few => usize::from(few),
    }
}

/// Any number, the borders more often.
pub fn number(input: &mut Unstructured<'_>) -> u64 {
    match byte(input) {
        small @ 0..200 => small.into(),
        200..220 => u64::MAX - u64::from(byte(input)),
        _ => input.arbitrary().unwrap_or_default(),
    }
}

/// Some bytes as they are.
pub fn raw(input: &mut Unstructured<'_>) -> Vec<u8> {
    let length = usize::from(byte(input)).min(input.len());
    input.bytes(length).unwrap_or_default().to_vec()
}

/// A key or prefix: mostly one of a few.
pub fn key(input: &mut Unstructured<'_>) -> Bytes {
    match byte(input) {
        any @ 240.. if any < 250 => raw(input).into(),
        any @ 250.. => vec![any; one_of(input, &[4096, 4097, 65_535])].into(),
        few => Bytes::from_static(KEYS[usize::from(few) % KEYS.len()]),
    }
}

/// How long a value is: mostly short, some over what a PUT carries.
pub fn length(input: &mut Unstructured<'_>) -> usize {
    match byte(input) {
        few @ 0..230 => usize::from(few) % 20,
        230..250 => one_of(input, &[100, 600, 3000]),
        _ => one_of(input, &[Put::MAX_ENTRY - 8, Put::MAX_ENTRY, 70_000]),
    }
}
