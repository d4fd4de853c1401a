//! Bytes that must not appear in logs and errors.

use std::fmt;

/// Bytes of which `Debug` shows only the length. Values may be secrets, and debug output ends up in logs and error
/// reports.
///
/// ```
/// use syncline_wire::Redacted;
///
/// assert_eq!(format!("{:?}", Redacted(b"s3cr3t")), "(6 bytes)");
/// ```
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a [u8]);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}
