//! Bytes that are nobody's business.

use std::fmt;

/// Bytes of which `Debug` shows only how many there are: values may be secrets, and what is shown ends up in logs and in
/// reports of errors.
///
/// ```
/// use syncline_wire::Redacted;
/// assert_eq!(format!("{:?}", Redacted(b"s3cr3t")), "(6 bytes)");
/// ```
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a [u8]);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}
