//! What the codec allocates: nothing per frame, and never more than a frame.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use allocation_counter::measure;
use bytes::BytesMut;
use syncline_wire::{Decoded, Decoder, MAX_FRAME_LENGTH, Message, Tag, Version, decode};

const FRAMES: u64 = 1000;

fn stream() -> BytesMut {
    let put = Message::put(Tag::new(1), vec![b'k'; 24], vec![b'v'; 100], Version::new(1));
    let mut stream = BytesMut::new();
    for _ in 0..FRAMES {
        put.encode(&mut stream).unwrap();
    }
    stream
}

#[test]
fn decoding_allocates_per_buffer_not_per_frame() {
    let mut buffer = stream();
    let mut frames = 0;
    let info = measure(|| {
        while let Ok(Decoded::Frame(_)) = decode(&mut buffer) {
            frames += 1;
        }
    });
    assert_eq!(frames, FRAMES);
    assert!(info.count_total <= 1, "{} allocations for {FRAMES} frames", info.count_total);
}

#[test]
fn encoding_into_a_reused_buffer_allocates_nothing() {
    let mut out = stream();
    let put = Message::put(Tag::new(1), vec![b'k'; 24], vec![b'v'; 100], Version::new(1));
    let info = measure(|| {
        out.clear();
        for _ in 0..FRAMES {
            put.encode(&mut out).unwrap();
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_length_reserves_no_memory_before_its_bytes_arrive() {
    // A PUT that claims the longest key and value, of which the stream holds nothing.
    let info = measure(|| {
        let mut decoder = Decoder::new(&b"\x01\x01\x00\xff\xff"[..]);
        assert!(decoder.read().is_err());
    });
    assert!(info.bytes_max < MAX_FRAME_LENGTH as u64 / 4, "{} bytes for 5", info.bytes_max);

    // A PUTL of the largest size that is accepted, and a TXN of as many operations as there can be.
    for claim in [&b"\x0a\x01\x00\x00\x00\x00\x00\x00\x01"[..], &b"\x09\x01\x00\x00\x04"[..]] {
        let info = measure(|| assert!(Decoder::new(claim).read().is_err()));
        assert!(info.bytes_max < MAX_FRAME_LENGTH as u64 / 4, "{} bytes for {}", info.bytes_max, claim.len());
    }

    // A frame that is there takes its own size, and at most twice that while the buffer grows.
    let mut stream = BytesMut::new();
    Message::put(Tag::new(1), vec![0; 65_535], vec![0; 65_535], Version::MAX).encode(&mut stream).unwrap();
    let info = measure(|| {
        let mut decoder = Decoder::new(stream.as_ref());
        assert!(decoder.read().unwrap().is_some());
    });
    assert!(info.bytes_max < 4 * MAX_FRAME_LENGTH as u64, "{} bytes for the longest frame", info.bytes_max);
}
