//! AUTH: carries a password, or confirms that it was right.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────────┐
//!  │ 0x03 │  tag   │ length │ password … │
//!  └──────┴────────┴────────┴────────────┘
//! ```

use crate::frame::Frame;
use crate::layout::Field;
use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Carries a password (from a client), or confirms that it was right (from the server, with an empty password).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The tag of the request.
    pub tag: Tag,
    /// The password; empty in a response.
    pub password: Password,
}

/// A password. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Password(Bytes);

impl Password {
    /// Returns these bytes as a password.
    pub fn new(password: impl Into<Bytes>) -> Self {
        Self(password.into())
    }

    /// Returns the password of a named user, as servers that know users expect it: `name:password`.
    ///
    /// ```
    /// use syncline_wire::Password;
    ///
    /// let password = Password::of_user("tony", b"s3cr3t");
    /// assert_eq!(password.expose(), "tony:s3cr3t");
    /// assert_eq!(format!("{password:?}"), "Password(hidden)");
    /// ```
    pub fn of_user(name: &str, password: &[u8]) -> Self {
        Self([name.as_bytes(), b":", password].concat().into())
    }

    /// Returns the bytes, to check or to send them.
    pub const fn expose(&self) -> &Bytes {
        &self.0
    }

    /// Returns whether the password is empty.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "hidden" })
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({self})")
    }
}

impl Frame for Auth {
    const LAYOUT: &'static [Field] = &[Field::String];

    #[inline]
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, password: Password(string::take_first(buffer)?) })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Auth, self.tag, "password", &self.password.0)
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.password.0.len()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " password={}", self.password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Auth { tag: Tag::new(45), password: Password::new("s3cr3t") }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x03\x2d\x00\x06\x00s3cr3t");
    }

    #[test]
    fn no_text_shows_the_password() {
        let auth = Auth { tag: Tag::new(45), password: Password::new("s3cr3t") };
        for text in [format!("{auth:?}"), format!("{auth:#?}"), auth.password.to_string()] {
            assert!(!text.contains("s3cr3t") && text.contains("hidden"), "{text}");
        }
        assert_eq!(Password::default().to_string(), "none");
    }
}
