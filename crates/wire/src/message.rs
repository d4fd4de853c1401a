//! A frame of any kind.

use crate::escaped_bytes;
use crate::frame::Frame;
use crate::layout::Field;
use crate::table::frames;
use crate::{
    Auth, Delete, EncodeError, Error, Get, Hello, Kind, List, Mark, NotABroadcast, Operation, Password, Put, PutLarge,
    Redacted, Revision, Status, Tag, Txn, Version, Watch,
};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Generates [`Message`] from the [table of frames](frames), with all that depends on the kind of a frame. Each method
/// delegates to [`Frame`].
macro_rules! define_message {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $text:literal;)*) => {
        /// A frame of any kind.
        ///
        /// Displayed for people and logs as `kind=PUT tag=43 key=name value=mark version=666`. Keys and values are
        /// clipped (see [`EscapedBytes`](crate::EscapedBytes)), and passwords are never shown.
        ///
        /// ```
        /// use syncline_wire::{Kind, Message, Tag, Version};
        ///
        /// let put = Message::put(Tag::new(43), "name", "mark", Version::new(666));
        /// assert_eq!((put.kind(), put.tag(), put.version()), (Kind::Put, Tag::new(43), Some(Version::new(666))));
        /// assert_eq!(put.to_string(), "kind=PUT tag=43 key=name value=mark version=666");
        /// assert_eq!(put.redacted().to_string(), "kind=PUT tag=43 key=name value=(4 bytes) version=666");
        ///
        /// // Every kind is a type of its own, so code that handles messages matches on them.
        /// let Message::Put(put) = put else { panic!("it is a PUT") };
        /// assert_eq!(put.value, "mark");
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $($(#[$doc])* $name($name),)*
        }

        impl Message {
            /// Returns the kind of the frame.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$name,)*
                }
            }

            /// Returns the tag of the frame, which every kind has.
            pub const fn tag(&self) -> Tag {
                match self {
                    $(Self::$name(frame) => frame.tag,)*
                }
            }

            /// Returns the key, if the kind has one.
            #[inline]
            pub fn key(&self) -> Option<&Bytes> {
                match self {
                    $(Self::$name(frame) => frame.key(),)*
                }
            }

            /// Returns the value, if the kind has one.
            #[inline]
            pub fn value(&self) -> Option<&Bytes> {
                match self {
                    $(Self::$name(frame) => frame.value(),)*
                }
            }

            /// Returns the version, if the kind has one.
            #[inline]
            pub fn version(&self) -> Option<Version> {
                match self {
                    $(Self::$name(frame) => frame.version(),)*
                }
            }

            /// Appends the frame to `out`.
            ///
            /// ```
            /// use syncline_wire::{Message, Tag};
            ///
            /// let mut out = Vec::new();
            /// Message::get(Tag::new(1), "name").encode(&mut out)?;
            /// assert_eq!(out, b"\x00\x01\x00\x04\x00name");
            /// # Ok::<(), syncline_wire::EncodeError>(())
            /// ```
            ///
            /// # Errors
            /// [`EncodeError`] if a string is longer than 65,535 bytes, or a transaction has more than 1,024 operations.
            /// `out` is unchanged then: nothing is truncated.
            pub fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(frame) => frame.encode(out),)*
                }
            }

            /// Returns the length of the frame on the wire, in bytes.
            pub fn encoded_length(&self) -> usize {
                match self {
                    $(Self::$name(frame) => frame.encoded_length(),)*
                }
            }

            /// Removes a frame of this kind from the front of `buffer`: see [`Frame::decode`].
            #[inline]
            pub(crate) fn decode(kind: Kind, tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
                match kind {
                    $(Kind::$name => $name::decode(tag, buffer).map(Self::$name),)*
                }
            }

            /// Returns the fields behind the header of a frame of this kind.
            pub(crate) const fn layout(kind: Kind) -> &'static [Field] {
                match kind {
                    $(Kind::$name => $name::LAYOUT,)*
                }
            }

            /// Returns whether frames of this kind may be larger than a decoder wants to hold.
            pub(crate) const fn is_large(kind: Kind) -> bool {
                match kind {
                    $(Kind::$name => $name::IS_LARGE,)*
                }
            }

            fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name(frame) => frame.show_fields(f),)*
                }
            }
        }
    };
}

frames!(define_message);

impl Message {
    /// How many characters of a key or value [`Display`](fmt::Display) shows.
    pub const SHOWN: usize = escaped_bytes::SHOWN;
    /// How many characters of a text, such as that of an ERROR, [`Display`](fmt::Display) shows.
    pub const TEXT_SHOWN: usize = escaped_bytes::TEXT_SHOWN;

    /// Returns a GET, which asks for the latest value of `key`.
    pub fn get(tag: Tag, key: impl Into<Bytes>) -> Self {
        Self::Get(Get { tag, key: key.into() })
    }

    /// Returns a PUT, which writes `key` or carries its value. [`Message::write`] accepts values of any size.
    pub fn put(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        Self::Put(Put { tag, key: key.into(), value: value.into(), version })
    }

    /// Returns an ERROR, which reports what went wrong.
    pub fn error(tag: Tag, text: impl Into<Bytes>) -> Self {
        Self::Error(Error { tag, text: text.into() })
    }

    /// Returns an AUTH, which carries a password or, with an empty one, confirms that it was right.
    pub fn auth(tag: Tag, password: impl Into<Bytes>) -> Self {
        Self::Auth(Auth { tag, password: Password::new(password) })
    }

    /// Returns a HELLO, which starts the extended protocol or, with a [`ServerHello`](crate::ServerHello), describes the
    /// server.
    pub fn hello(tag: Tag, body: impl Into<Bytes>) -> Self {
        Self::Hello(Hello { tag, body: body.into() })
    }

    /// Returns a DELETE, which deletes `key` or reports that it was deleted.
    pub fn delete(tag: Tag, key: impl Into<Bytes>, version: Version) -> Self {
        Self::Delete(Delete { tag, key: key.into(), version })
    }

    /// Returns a WATCH, which asks for everything that changed under `prefix` after `since`, and for every further
    /// change.
    pub fn watch(tag: Tag, prefix: impl Into<Bytes>, since: Revision) -> Self {
        Self::Watch(Watch { tag, prefix: prefix.into(), since })
    }

    /// Returns a MARK: the watermark `revision` or, with revision 0 from a client, a barrier.
    pub const fn mark(tag: Tag, revision: Revision) -> Self {
        Self::Mark(Mark { tag, revision })
    }

    /// Returns a LIST, which asks for at most `limit` keys under `prefix`, in order, strictly after `after`.
    pub fn list(tag: Tag, prefix: impl Into<Bytes>, after: impl Into<Bytes>, limit: u32) -> Self {
        Self::List(List { tag, prefix: prefix.into(), after: after.into(), limit })
    }

    /// Returns a TXN, whose operations are accepted together or refused together.
    pub const fn txn(tag: Tag, operations: Vec<Operation>) -> Self {
        Self::Txn(Txn { tag, operations })
    }

    /// Returns a PUTL, a PUT whose value may exceed what a PUT can carry. [`Message::write`] chooses between the two.
    pub fn put_large(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        Self::PutLarge(PutLarge { tag, key: key.into(), value: value.into(), version })
    }

    /// Returns a PUT if key and value fit into one ([`Put::MAX_ENTRY`]), otherwise a PUTL.
    pub fn write(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        let (key, value) = (key.into(), value.into());
        if key.len() + value.len() > Put::MAX_ENTRY {
            Self::put_large(tag, key, value, version)
        } else {
            Self::put(tag, key, value, version)
        }
    }

    /// Returns a STATUS, which asks for the state of the server or reports it.
    pub fn status(tag: Tag, text: impl Into<Bytes>) -> Self {
        Self::Status(Status { tag, text: text.into() })
    }

    /// Returns a PUT as a server sends it to all other connections: the same write, with tag 0.
    ///
    /// ```
    /// use syncline_wire::{Message, Tag, Version};
    ///
    /// let put = Message::put(Tag::new(7), "name", "tony", Version::new(1));
    /// assert_eq!(put.for_broadcast()?, Message::put(Tag::BROADCAST, "name", "tony", Version::new(1)));
    ///
    /// let error = Message::get(Tag::new(7), "name").for_broadcast().unwrap_err();
    /// assert_eq!(error.to_string(), "only a PUT can be broadcast, found GET");
    /// # Ok::<(), syncline_wire::NotABroadcast>(())
    /// ```
    ///
    /// # Errors
    /// [`NotABroadcast`] if the message is not a PUT.
    pub fn for_broadcast(&self) -> Result<Self, NotABroadcast> {
        match self {
            Self::Put(put) => Ok(Self::Put(Put { tag: Tag::BROADCAST, ..put.clone() })),
            other => Err(NotABroadcast { kind: other.kind() }),
        }
    }

    /// Returns the message for logs and errors: [displayed](fmt::Display) as usual, except that only the length of a
    /// value is shown.
    pub fn redacted(&self) -> impl fmt::Display {
        RedactedMessage(self)
    }

    fn show(
        &self,
        f: &mut fmt::Formatter<'_>,
        show_value: impl FnOnce(&[u8], &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write!(f, "kind={} tag={}", self.kind(), self.tag())?;
        if let Some(key) = self.key() {
            write!(f, " key={}", escaped_bytes::clipped(key))?;
        }
        if let Some(value) = self.value() {
            f.write_str(" value=")?;
            show_value(value, f)?;
        }
        if let Some(version) = self.version() {
            write!(f, " version={version}")?;
        }
        self.show_fields(f)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, |value, f| escaped_bytes::clipped(value).fmt(f))
    }
}

/// A [`Message`] whose value is not shown.
struct RedactedMessage<'a>(&'a Message);

impl fmt::Display for RedactedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f, |value, f| write!(f, "{:?}", Redacted(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static [u8], value: &'static [u8]) -> Message {
        Message::put(Tag::new(43), key, value, Version::new(666))
    }

    #[test]
    fn accessors_return_none_if_the_kind_has_no_such_field() {
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
    fn a_write_is_a_put_if_key_and_value_fit() {
        let kind = |value| Message::write(Tag::new(1), "k", vec![0; value], Version::new(1)).kind();
        assert_eq!((kind(65_524), kind(65_525)), (Kind::Put, Kind::PutLarge));
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
    fn every_kind_is_displayed_with_its_fields() {
        let shown = |message: Message| message.to_string();
        assert_eq!(shown(put(b"name", b"mark")), "kind=PUT tag=43 key=name value=mark version=666");
        assert_eq!(
            put(b"name", b"mark").redacted().to_string(),
            "kind=PUT tag=43 key=name value=(4 bytes) version=666"
        );
        assert_eq!(shown(put(b"0123456789", b"")), "kind=PUT tag=43 key=0123456789 value= version=666");
        assert_eq!(shown(put(b"0123456789a", b"\x00\xff")), "kind=PUT tag=43 key=0123456789… value=0x00ff version=666");
        assert_eq!(shown(Message::get(Tag::new(42), "name")), "kind=GET tag=42 key=name");
        assert_eq!(shown(Message::error(Tag::new(44), "stale put")), "kind=ERROR tag=44 text=stale put");
        assert_eq!(shown(Message::auth(Tag::new(45), "s3cr3t")), "kind=AUTH tag=45 password=hidden");
        assert_eq!(shown(Message::auth(Tag::new(45), "")), "kind=AUTH tag=45 password=none");
        let tag = Tag::new(1);
        assert_eq!(shown(Message::hello(tag, "body")), "kind=HELLO tag=1 bytes=4");
        assert_eq!(shown(Message::delete(tag, "k", Version::new(7))), "kind=DELETE tag=1 key=k version=7");
        assert_eq!(shown(Message::watch(tag, "a/", Revision::new(9))), "kind=WATCH tag=1 prefix=a/ since=9");
        assert_eq!(shown(Message::mark(tag, Revision::new(9))), "kind=MARK tag=1 revision=9");
        assert_eq!(shown(Message::list(tag, "a/", "a/b", 3)), "kind=LIST tag=1 prefix=a/ after=a/b limit=3");
        assert_eq!(shown(Message::txn(tag, Vec::new())), "kind=TXN tag=1 operations=0");
        let large = Message::put_large(tag, "k", vec![0; 70_000], Version::new(7));
        assert_eq!(shown(large), "kind=PUTL tag=1 key=k value=0x0000000000… version=7");
        assert_eq!(shown(Message::status(tag, "{\"keys\":1}")), "kind=STATUS tag=1 text={\"keys\":1}");
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", Message::auth(Tag::new(45), "s3cr3t")).contains("s3cr3t"));
    }
}
