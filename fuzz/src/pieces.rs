//! Splits a stream into pieces, as a network does.

/// The sizes of pieces. A few bytes determine them, and are used again and again, so that a short input makes many pieces.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    sizes: &'a [u8],
    next: usize,
}

impl<'a> Pieces<'a> {
    /// Returns pieces with the sizes that `sizes` encodes. If it is empty, every piece has one byte.
    pub const fn new(sizes: &'a [u8]) -> Self {
        Self { sizes, next: 0 }
    }

    /// Returns the size of the next piece: usually a small one, sometimes up to 32 KiB, never 0.
    pub fn size(&mut self) -> usize {
        let byte = self.sizes.get(self.next % self.sizes.len().max(1)).copied().unwrap_or(0);
        self.next += 1;
        match byte {
            0..=239 => usize::from(byte) % 24 + 1,
            _ => 1 << (byte % 16),
        }
    }

    /// Splits the next piece off the front of `stream`, and returns it.
    pub fn take<'s>(&mut self, stream: &mut &'s [u8]) -> &'s [u8] {
        let (piece, rest) = stream.split_at(self.size().min(stream.len()));
        *stream = rest;
        piece
    }
}
