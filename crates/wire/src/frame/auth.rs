//! AUTH: shows a password, or says that it was right.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────────┐
//!  │ 0x03 │  tag   │ length │ password … │
//!  └──────┴────────┴────────┴────────────┘
//! ```

use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Shows a password (client), or says that it was right (server, with an empty password).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Which request this is or answers.
    pub tag: Tag,
    /// The password; empty in an answer.
    pub password: Password,
}

/// A password, which no `Debug` or `Display` shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Password(Bytes);

impl Password {
    /// Keeps the bytes from view.
    pub fn new(password: impl Into<Bytes>) -> Self {
        Self(password.into())
    }

    /// The password of somebody who has a name, as servers that know users expect it: `name:password`.
    ///
    /// ```
    /// use syncline_wire::Password;
    /// assert_eq!(Password::of_user("tony", b"s3cr3t").expose(), "tony:s3cr3t");
    /// ```
    pub fn of_user(name: &str, password: &[u8]) -> Self {
        Self([name.as_bytes(), b":", password].concat().into())
    }

    /// The bytes, for the one who checks or sends them.
    pub const fn expose(&self) -> &Bytes {
        &self.0
    }

    /// Whether there is none.
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

impl Auth {
    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    #[inline]
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, password: Password(string::decode_only(buffer)?) })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Auth, self.tag, "password", &self.password.0)
    }

    pub(crate) fn encoded_length(&self) -> usize {
        string::ONLY_OVERHEAD + self.password.0.len()
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
