//! The unsent output of a connection: small frames are gathered in one buffer, and shared frames are not copied.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;
use syncline_wire::{EncodeError, Message, Redacted};

/// Shared bytes up to this length are copied, which is cheaper than a separate piece of output.
const COPIED: usize = 512;

/// The capacity that is reserved for the first small frame.
const FIRST_CAPACITY: usize = 1024;

/// Bytes to be sent, in order. Read them through [`Buf`].
#[derive(derive_more::Debug, Default)]
pub struct Output {
    /// The first part of the output.
    #[debug(skip)]
    shared: VecDeque<Bytes>,
    /// The total length of `shared`.
    shared_bytes: usize,
    /// The last part of the output.
    #[debug("{:?}", Redacted(gathered))]
    gathered: BytesMut,
}

impl Output {
    /// Creates an empty output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Appends a message.
    ///
    /// # Errors
    /// Returns an error if the message cannot be encoded; nothing is appended then.
    pub(crate) fn push(&mut self, message: &Message) -> Result<(), EncodeError> {
        message.encode(self.gathered())
    }

    /// Appends what `encode` writes.
    ///
    /// # Errors
    /// Returns the error of `encode`.
    pub(crate) fn push_with(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        encode(self.gathered())
    }

    /// Reserves capacity for messages of this total length.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.gathered.reserve(bytes);
    }

    /// Appends frames that are shared with other connections.
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

    /// Returns the buffer for small frames, with capacity for a few of them.
    fn gathered(&mut self) -> &mut BytesMut {
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(FIRST_CAPACITY);
        }
        &mut self.gathered
    }

    /// Releases memory that is not needed. Called when the peer reads slowly.
    ///
    /// An empty output keeps no memory. Shared frames are replaced by a copy, because the smallest remaining part
    /// of them would keep the whole commit batch in memory.
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

    /// Reads everything, `step` bytes at a time, and checks that `chunk` and `chunks_vectored` agree.
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
    fn gathered_and_shared_frames_keep_their_order() {
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
    fn shrinking_keeps_all_bytes_and_releases_shared_frames() {
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
    fn large_shared_frames_are_not_copied() {
        let large = Bytes::from(vec![7; COPIED + 1]);
        let mut output = Output::new();
        output.push_shared(large.clone());
        assert_eq!(output.chunk().as_ptr(), large.as_ptr());
    }
}
