//! The bytes that a connection is to write: small frames gathered, shared ones not copied.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;
use syncline_wire::{EncodeError, Message, Redacted};

/// Shared bytes of up to this length are cheaper to copy than to keep apart.
const COPIED: usize = 512;

/// The room for small frames that is made when there is the first of them.
const FIRST_CAPACITY: usize = 1024;

/// Bytes to be written, in order. Read it as a [`Buf`].
#[derive(derive_more::Debug, Default)]
pub struct Output {
    /// What comes first.
    #[debug(skip)]
    shared: VecDeque<Bytes>,
    /// The bytes in `shared`.
    shared_bytes: usize,
    /// What comes then.
    #[debug("{:?}", Redacted(gathered))]
    gathered: BytesMut,
}

impl Output {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Where it can't be encoded; nothing was added then.
    pub(crate) fn push(&mut self, message: &Message) -> Result<(), EncodeError> {
        message.encode(self.gathered())
    }

    /// Adds what `encode` appends.
    ///
    /// # Errors
    /// Those of `encode`.
    pub(crate) fn push_with(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        encode(self.gathered())
    }

    /// Makes room for so many bytes of messages.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.gathered.reserve(bytes);
    }

    /// Adds frames that others are sent too.
    pub(crate) fn push_shared(&mut self, frames: Bytes) {
        if frames.len() <= COPIED {
            self.gathered().extend_from_slice(&frames);
            return;
        }
        if !self.gathered.is_empty() {
            let gathered = self.gathered.split().freeze();
            self.shared_bytes += gathered.len();
            self.shared.push_back(gathered);
        }
        self.shared_bytes += frames.len();
        self.shared.push_back(frames);
    }

    /// Where small frames go, with room from the start for a few of them.
    fn gathered(&mut self) -> &mut BytesMut {
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(FIRST_CAPACITY);
        }
        &mut self.gathered
    }

    /// Keeps no more memory than it needs, for when the peer takes no more for now: none where it is empty, and of shared
    /// frames a copy, for the least part of them keeps all that they were cut from.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        } else if !self.shared.is_empty() {
            let mut copy = BytesMut::with_capacity(self.remaining());
            self.shared.iter().for_each(|frames| copy.extend_from_slice(frames));
            copy.extend_from_slice(&self.gathered);
            *self = Self { gathered: copy, ..Self::default() };
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.shared_bytes + self.gathered.len()
    }

    fn chunk(&self) -> &[u8] {
        self.shared.front().map_or(&self.gathered, |first| first)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let chunks =
            self.shared.iter().map(Bytes::as_ref).chain((!self.gathered.is_empty()).then_some(&*self.gathered));
        out.iter_mut().zip(chunks).map(|(slot, chunk)| *slot = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.shared.front_mut() {
            let taken = count.min(first.len());
            first.advance(taken);
            count -= taken;
            self.shared_bytes -= taken;
            if !first.is_empty() {
                return;
            }
            self.shared.pop_front();
        }
        self.gathered.advance(count.min(self.gathered.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_wire::{Tag, Version};

    /// Writes all, `step` bytes at a time, and checks that the ways to look at it agree.
    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = output.chunks_vectored(&mut slices);
            let seen: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(seen.len(), output.remaining());
            assert!(!output.chunk().is_empty() && seen.starts_with(output.chunk()));
            let step = step.min(seen.len());
            written.extend_from_slice(&seen[..step]);
            output.advance(step);
        }
        written
    }

    #[test]
    fn in_order_whatever_is_shared() {
        let large = Bytes::from(vec![7; COPIED + 1]);
        for step in [1, 3, 600, 10_000] {
            let mut output = Output::new();
            let mut expected = BytesMut::new();
            for tag in 1..4 {
                let message = Message::get(Tag::new(tag), "key");
                output.push(&message).unwrap();
                message.encode(&mut expected).unwrap();
                output.push_shared(Bytes::from_static(b"small"));
                expected.extend_from_slice(b"small");
                output.push_shared(large.clone());
                expected.extend_from_slice(&large);
            }
            let last = Message::put(Tag::BROADCAST, "k", "v", Version::new(1));
            output.push_with(|out| last.encode(out)).unwrap();
            last.encode(&mut expected).unwrap();
            assert_eq!(drain(&mut output, step), expected, "step {step}");
        }
    }

    #[test]
    fn shrinking_loses_nothing_and_keeps_nothing_shared() {
        let large = Bytes::from(vec![7; COPIED + 1]);
        let mut output = Output::new();
        let message = Message::get(Tag::new(1), "key");
        let mut expected = BytesMut::new();
        for _ in 0..2 {
            output.push(&message).unwrap();
            output.push_shared(large.clone());
            message.encode(&mut expected).unwrap();
            expected.extend_from_slice(&large);
        }
        output.push(&message).unwrap();
        message.encode(&mut expected).unwrap();
        output.advance(10);
        output.shrink();
        assert!(large.is_unique());
        assert_eq!(drain(&mut output, 100), expected[10..]);
        output.shrink();
        assert!(output.is_empty());
    }

    #[test]
    fn what_is_large_is_not_copied() {
        let large = Bytes::from(vec![7; COPIED + 1]);
        let mut output = Output::new();
        output.push_shared(large.clone());
        assert_eq!(output.chunk().as_ptr(), large.as_ptr());
    }
}
