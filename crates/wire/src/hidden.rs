//! Bytes that are nobody's business.

use std::fmt;

/// Bytes of which `Debug` shows only how many there are: values may be secrets, and what is shown ends up in logs and in
/// reports of errors.
///
/// ```
/// use syncline_wire::Hidden;
/// assert_eq!(format!("{:?}", Hidden(b"s3cr3t")), "(6 bytes)");
/// ```
#[derive(Clone, Copy)]
pub struct Hidden<'a>(pub &'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}
