//! Streams that come in pieces.

/// The sizes of pieces: from a few bytes, over and over, so that little input makes many pieces.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    sizes: &'a [u8],
    next: usize,
}

impl<'a> Pieces<'a> {
    /// Pieces of the sizes that these bytes stand for; of one byte where there are none.
    pub const fn new(sizes: &'a [u8]) -> Self {
        Self { sizes, next: 0 }
    }

    /// How large the next piece is: mostly small, now and then up to 32 KiB; never 0.
    pub fn size(&mut self) -> usize {
        let byte = self.sizes.get(self.next % self.sizes.len().max(1)).copied().unwrap_or(0);
        self.next += 1;
        match byte {
            0..=239 => usize::from(byte) % 24 + 1,
            _ => 1 << (byte % 16),
        }
    }

    /// Takes the next piece off the front of a stream.
    pub fn take<'s>(&mut self, stream: &mut &'s [u8]) -> &'s [u8] {
        let (piece, rest) = stream.split_at(self.size().min(stream.len()));
        *stream = rest;
        piece
    }
}
