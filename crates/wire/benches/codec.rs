//! Encoding and decoding of a PUT with a 24-byte key and a 100-byte value. Target: at most 30 ns each.
//!
//! `cargo bench -p syncline-wire`
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use syncline_wire::{Decoded, Message, Tag, Version, decode};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// How many frames are in a buffer, as when a busy connection reads.
const FRAMES: usize = 400;

fn main() {
    divan::main();
}

fn put() -> Message {
    Message::put(Tag::new(7), vec![b'k'; 24], vec![b'v'; 100], Version::new(1))
}

#[divan::bench]
fn encode_put(bencher: Bencher) {
    let message = put();
    let mut out = BytesMut::with_capacity(FRAMES * message.encoded_length());
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        out.clear();
        for _ in 0..FRAMES {
            black_box(&message).encode(&mut out).unwrap();
        }
        black_box(&out);
    });
}

fn stream() -> BytesMut {
    let mut stream = BytesMut::new();
    (0..FRAMES).for_each(|_| put().encode(&mut stream).unwrap());
    stream
}

/// Decodes each frame, uses its fields, and drops it.
#[divan::bench]
fn decode_put(bencher: Bencher) {
    bencher.counter(ItemsCount::new(FRAMES)).with_inputs(stream).bench_local_refs(|buffer| {
        while let Ok(Decoded::Frame(Message::Put(put))) = decode(buffer) {
            black_box((put.tag, put.key.len(), put.value.len(), put.version));
        }
    });
}

/// Decodes each frame, and moves it elsewhere as a whole.
#[divan::bench]
fn decode_put_and_move_it(bencher: Bencher) {
    bencher.counter(ItemsCount::new(FRAMES)).with_inputs(stream).bench_local_refs(|buffer| {
        while let Ok(Decoded::Frame(frame)) = decode(buffer) {
            black_box(frame);
        }
    });
}

/// Makes two owned handles on a buffer: the lower bound of decoding without a copy.
#[divan::bench]
fn two_handles_on_a_buffer(bencher: Bencher) {
    bencher.counter(ItemsCount::new(FRAMES)).with_inputs(stream).bench_local_refs(|buffer| {
        for _ in 0..FRAMES {
            black_box((buffer.split_to(24).freeze(), buffer.split_to(100).freeze()));
        }
    });
}
