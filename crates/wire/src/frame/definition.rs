//! What every kind of frame defines.

use crate::layout::{self, Field, HEADER_LENGTH};
use crate::{EncodeError, Tag, Version};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// One kind of frame: its layout on the wire, and the way to bytes and back.
///
/// Implemented once per kind, in the kind's own file. [`Message`](crate::Message) delegates to it.
pub(crate) trait Frame: Sized {
    /// The fields behind the header.
    const LAYOUT: &'static [Field];

    /// The least length of a frame of this kind: all strings empty, no operations.
    const MIN_LENGTH: usize = HEADER_LENGTH + layout::min_length(Self::LAYOUT);

    /// Whether frames of this kind may be larger than a decoder wants to hold: see [`layout::is_large`].
    const IS_LARGE: bool = layout::is_large(Self::LAYOUT);

    /// Removes the frame from the front of `buffer`, which starts with the frame's kind and tag.
    ///
    /// If frames of this kind may [be large](Self::IS_LARGE), the caller has checked with a
    /// `FrameScanner` that the whole frame is there.
    ///
    /// # Errors
    /// The least length of the frame, if the buffer does not hold all of it. The buffer is unchanged then.
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize>;

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] if a field is too long. `out` is unchanged then.
    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError>;

    /// Returns the length of the frame on the wire, in bytes.
    fn encoded_length(&self) -> usize;

    /// Returns the key, if the kind has one.
    fn key(&self) -> Option<&Bytes> {
        None
    }

    /// Returns the value, if the kind has one.
    fn value(&self) -> Option<&Bytes> {
        None
    }

    /// Returns the version, if the kind has one.
    fn version(&self) -> Option<Version> {
        None
    }

    /// Writes the fields other than key, value and version for people, each as ` name=field`. Shows no secrets.
    fn show_fields(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
