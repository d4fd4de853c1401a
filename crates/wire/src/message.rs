//! Any frame of the base protocol.

use crate::{Auth, BadMessage, Error, Get, Kind, NotABroadcast, Password, Printable, Put, Tag, Version};
use bytes::{BufMut, Bytes};
use std::fmt;

/// A frame of the base protocol.
///
/// Displayed for people and logs as `kind=PUT tag=43 key=name value=mark version=666`: keys and values clipped (see
/// [`Printable`]), passwords never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for the latest value of a key.
    Get(Get),
    /// Writes a key, or tells its value.
    Put(Put),
    /// Tells what went wrong.
    Error(Error),
    /// Shows a password, or says that it was right.
    Auth(Auth),
}

impl Message {
    /// How many characters of a key or value [`Display`](fmt::Display) shows.
    pub const SHOWN: usize = 10;
    /// How many characters of an ERROR's text it shows.
    pub const TEXT_SHOWN: usize = 200;

    /// A GET: asks for the latest value of `key`.
    pub fn get(tag: Tag, key: impl Into<Bytes>) -> Self {
        Self::Get(Get { tag, key: key.into() })
    }

    /// A PUT: writes `key`, or tells its value.
    pub fn put(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        Self::Put(Put { tag, key: key.into(), value: value.into(), version })
    }

    /// An ERROR: tells what went wrong.
    pub fn error(tag: Tag, text: impl Into<Bytes>) -> Self {
        Self::Error(Error { tag, text: text.into() })
    }

    /// An AUTH: shows a password, or, with an empty one, says that it was right.
    pub fn auth(tag: Tag, password: impl Into<Bytes>) -> Self {
        Self::Auth(Auth { tag, password: Password::new(password) })
    }

    /// What the frame is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Get(_) => Kind::Get,
            Self::Put(_) => Kind::Put,
            Self::Error(_) => Kind::Error,
            Self::Auth(_) => Kind::Auth,
        }
    }

    /// Which request the frame is or answers; every kind has a tag.
    pub const fn tag(&self) -> Tag {
        match self {
            Self::Get(get) => get.tag,
            Self::Put(put) => put.tag,
            Self::Error(error) => error.tag,
            Self::Auth(auth) => auth.tag,
        }
    }

    /// The key, where the kind has one.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Get(get) => Some(&get.key),
            Self::Put(put) => Some(&put.key),
            Self::Error(_) | Self::Auth(_) => None,
        }
    }

    /// The value, where the kind has one.
    pub const fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put(put) => Some(&put.value),
            Self::Get(_) | Self::Error(_) | Self::Auth(_) => None,
        }
    }

    /// The version, where the kind has one.
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::Put(put) => Some(put.version),
            Self::Get(_) | Self::Error(_) | Self::Auth(_) => None,
        }
    }

    /// The same write as it is sent to those who didn't ask: a PUT with tag 0.
    ///
    /// # Errors
    /// [`NotABroadcast`] for any other kind.
    pub fn for_broadcast(&self) -> Result<Self, NotABroadcast> {
        match self {
            Self::Put(put) => Ok(Self::Put(Put { tag: Tag::BROADCAST, ..put.clone() })),
            other => Err(NotABroadcast { kind: other.kind() }),
        }
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// [`BadMessage`] where a string is longer than 65,535 bytes; `out` is as it was then, nothing is truncated.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), BadMessage> {
        match self {
            Self::Get(get) => get.encode(out),
            Self::Put(put) => put.encode(out),
            Self::Error(error) => error.encode(out),
            Self::Auth(auth) => auth.encode(out),
        }
    }

    /// The bytes that the frame takes on the wire.
    pub fn encoded_length(&self) -> usize {
        match self {
            Self::Get(get) => get.encoded_length(),
            Self::Put(put) => put.encoded_length(),
            Self::Error(error) => error.encoded_length(),
            Self::Auth(auth) => auth.encoded_length(),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind={} tag={}", self.kind(), self.tag())?;
        match self {
            Self::Get(get) => write!(f, " key={}", Printable::new(&get.key, Self::SHOWN)),
            Self::Put(put) => write!(
                f,
                " key={} value={} version={}",
                Printable::new(&put.key, Self::SHOWN),
                Printable::new(&put.value, Self::SHOWN),
                put.version
            ),
            Self::Error(error) => write!(f, " text={}", Printable::new(&error.text, Self::TEXT_SHOWN)),
            Self::Auth(auth) => write!(f, " password={}", auth.password),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static [u8], value: &'static [u8]) -> Message {
        Message::put(Tag::new(43), key, value, Version::new(666))
    }

    #[test]
    fn accessors_answer_none_where_a_kind_has_none() {
        let get = Message::get(Tag::new(1), "k");
        assert_eq!((get.kind(), get.tag()), (Kind::Get, Tag::new(1)));
        assert_eq!((get.key().map(Bytes::as_ref), get.value(), get.version()), (Some(&b"k"[..]), None, None));

        let put = put(b"k", b"v");
        assert_eq!((put.kind(), put.tag()), (Kind::Put, Tag::new(43)));
        assert_eq!(put.key().map(Bytes::as_ref), Some(&b"k"[..]));
        assert_eq!(put.value().map(Bytes::as_ref), Some(&b"v"[..]));
        assert_eq!(put.version(), Some(Version::new(666)));

        for (message, kind) in
            [(Message::error(Tag::new(3), "no"), Kind::Error), (Message::auth(Tag::new(3), "pw"), Kind::Auth)]
        {
            assert_eq!((message.kind(), message.tag()), (kind, Tag::new(3)));
            assert_eq!((message.key(), message.value(), message.version()), (None, None, None));
        }
    }

    #[test]
    fn only_a_put_is_broadcast() {
        let broadcast = put(b"k", b"v").for_broadcast().unwrap();
        assert_eq!(broadcast, Message::put(Tag::BROADCAST, "k", "v", Version::new(666)));
        for other in [Message::get(Tag::new(1), "k"), Message::error(Tag::new(1), ""), Message::auth(Tag::new(1), "")] {
            assert_eq!(other.for_broadcast(), Err(NotABroadcast { kind: other.kind() }));
        }
    }

    #[test]
    fn displayed_for_people() {
        let shown = |message: Message| message.to_string();
        assert_eq!(shown(put(b"name", b"mark")), "kind=PUT tag=43 key=name value=mark version=666");
        assert_eq!(shown(put(b"0123456789", b"")), "kind=PUT tag=43 key=0123456789 value= version=666");
        assert_eq!(shown(put(b"0123456789a", b"\x00\xff")), "kind=PUT tag=43 key=0123456789… value=0x00ff version=666");
        assert_eq!(shown(Message::get(Tag::new(42), "name")), "kind=GET tag=42 key=name");
        assert_eq!(shown(Message::error(Tag::new(44), "stale put")), "kind=ERROR tag=44 text=stale put");
        assert_eq!(shown(Message::auth(Tag::new(45), "s3cr3t")), "kind=AUTH tag=45 password=hidden");
        assert_eq!(shown(Message::auth(Tag::new(45), "")), "kind=AUTH tag=45 password=none");
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", Message::auth(Tag::new(45), "s3cr3t")).contains("s3cr3t"));
    }
}
