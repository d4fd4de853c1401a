//! Any frame.

use crate::{
    Auth, Delete, EncodeError, Error, EscapedBytes, Get, Hello, Kind, List, Mark, NotABroadcast, Operation, Password,
    Put, PutLarge, Redacted, Revision, Status, Tag, Txn, Version, Watch,
};
use bytes::{BufMut, Bytes};
use std::fmt;

/// A frame.
///
/// Displayed for people and logs as `kind=PUT tag=43 key=name value=mark version=666`: keys and values clipped (see
/// [`EscapedBytes`]), passwords never.
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
    /// Says that the extension is spoken, and what the server is.
    Hello(Hello),
    /// Deletes a key, or tells that it was deleted.
    Delete(Delete),
    /// Asks for all that changes under a prefix.
    Watch(Watch),
    /// Says up to which revision all was told, or asks for that.
    Mark(Mark),
    /// Asks for the keys under a prefix.
    List(List),
    /// Several operations, all or none.
    Txn(Txn),
    /// A PUT that is larger than a PUT can be.
    PutLarge(PutLarge),
    /// Asks how a server is, or tells it.
    Status(Status),
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

    /// A HELLO: says that the extension is spoken, or, with a [`ServerHello`](crate::ServerHello), what the server is.
    pub fn hello(tag: Tag, body: impl Into<Bytes>) -> Self {
        Self::Hello(Hello { tag, body: body.into() })
    }

    /// A DELETE: deletes `key`, or tells that it was deleted.
    pub fn delete(tag: Tag, key: impl Into<Bytes>, version: Version) -> Self {
        Self::Delete(Delete { tag, key: key.into(), version })
    }

    /// A WATCH: asks for all that has changed under `prefix` after `since`, and that changes.
    pub fn watch(tag: Tag, prefix: impl Into<Bytes>, since: Revision) -> Self {
        Self::Watch(Watch { tag, prefix: prefix.into(), since })
    }

    /// A MARK: says that all up to `revision` was told, or, with revision 0, asks for that.
    pub const fn mark(tag: Tag, revision: Revision) -> Self {
        Self::Mark(Mark { tag, revision })
    }

    /// A LIST: asks for at most `limit` keys under `prefix`, in order, strictly after `after`.
    pub fn list(tag: Tag, prefix: impl Into<Bytes>, after: impl Into<Bytes>, limit: u32) -> Self {
        Self::List(List { tag, prefix: prefix.into(), after: after.into(), limit })
    }

    /// A TXN: several operations, all or none.
    pub const fn txn(tag: Tag, operations: Vec<Operation>) -> Self {
        Self::Txn(Txn { tag, operations })
    }

    /// A PUTL: a PUT that is larger than a PUT can be. [`Message::write`] is for any size.
    pub fn put_large(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        Self::PutLarge(PutLarge { tag, key: key.into(), value: value.into(), version })
    }

    /// A PUT where key and value fit into one ([`Put::MAX_ENTRY`]), else a PUTL.
    pub fn write(tag: Tag, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        let (key, value) = (key.into(), value.into());
        if key.len() + value.len() > Put::MAX_ENTRY {
            Self::put_large(tag, key, value, version)
        } else {
            Self::put(tag, key, value, version)
        }
    }

    /// A STATUS: asks how the server is, or tells it.
    pub fn status(tag: Tag, text: impl Into<Bytes>) -> Self {
        Self::Status(Status { tag, text: text.into() })
    }

    /// What the frame is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Get(_) => Kind::Get,
            Self::Put(_) => Kind::Put,
            Self::Error(_) => Kind::Error,
            Self::Auth(_) => Kind::Auth,
            Self::Hello(_) => Kind::Hello,
            Self::Delete(_) => Kind::Delete,
            Self::Watch(_) => Kind::Watch,
            Self::Mark(_) => Kind::Mark,
            Self::List(_) => Kind::List,
            Self::Txn(_) => Kind::Txn,
            Self::PutLarge(_) => Kind::PutLarge,
            Self::Status(_) => Kind::Status,
        }
    }

    /// Which request the frame is or answers; every kind has a tag.
    pub const fn tag(&self) -> Tag {
        match self {
            Self::Get(get) => get.tag,
            Self::Put(put) => put.tag,
            Self::Error(error) => error.tag,
            Self::Auth(auth) => auth.tag,
            Self::Hello(hello) => hello.tag,
            Self::Delete(delete) => delete.tag,
            Self::Watch(watch) => watch.tag,
            Self::Mark(mark) => mark.tag,
            Self::List(list) => list.tag,
            Self::Txn(txn) => txn.tag,
            Self::PutLarge(put) => put.tag,
            Self::Status(status) => status.tag,
        }
    }

    /// The key, where the kind has one.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Get(get) => Some(&get.key),
            Self::Put(put) => Some(&put.key),
            Self::Delete(delete) => Some(&delete.key),
            Self::PutLarge(put) => Some(&put.key),
            _ => None,
        }
    }

    /// The value, where the kind has one.
    pub const fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put(put) => Some(&put.value),
            Self::PutLarge(put) => Some(&put.value),
            _ => None,
        }
    }

    /// The version, where the kind has one.
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::Put(put) => Some(put.version),
            Self::Delete(delete) => Some(delete.version),
            Self::PutLarge(put) => Some(put.version),
            _ => None,
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
    /// [`EncodeError`] where a string is longer than 65,535 bytes, or a transaction has more than 1,024 operations; `out`
    /// is as it was then, nothing is truncated.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        match self {
            Self::Get(get) => get.encode(out),
            Self::Put(put) => put.encode(out),
            Self::Error(error) => error.encode(out),
            Self::Auth(auth) => auth.encode(out),
            Self::Hello(hello) => hello.encode(out),
            Self::Delete(delete) => delete.encode(out),
            Self::Watch(watch) => watch.encode(out),
            Self::Mark(mark) => {
                mark.encode(out);
                Ok(())
            }
            Self::List(list) => list.encode(out),
            Self::Txn(txn) => txn.encode(out),
            Self::PutLarge(put) => put.encode(out),
            Self::Status(status) => status.encode(out),
        }
    }

    /// The bytes that the frame takes on the wire.
    pub fn encoded_length(&self) -> usize {
        match self {
            Self::Get(get) => get.encoded_length(),
            Self::Put(put) => put.encoded_length(),
            Self::Error(error) => error.encoded_length(),
            Self::Auth(auth) => auth.encoded_length(),
            Self::Hello(hello) => hello.encoded_length(),
            Self::Delete(delete) => delete.encoded_length(),
            Self::Watch(watch) => watch.encoded_length(),
            Self::Mark(_) => Mark::LENGTH,
            Self::List(list) => list.encoded_length(),
            Self::Txn(txn) => txn.encoded_length(),
            Self::PutLarge(put) => put.encoded_length(),
            Self::Status(status) => status.encoded_length(),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, |value, f| write!(f, "{}", EscapedBytes::new(value, Self::SHOWN)))
    }
}

/// A [`Message`] for logs and errors.
struct RedactedMessage<'a>(&'a Message);

impl fmt::Display for RedactedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f, |value, f| write!(f, "{:?}", Redacted(value)))
    }
}

impl Message {
    /// The message as it is [displayed](fmt::Display), but of a value only how long it is: for logs and errors.
    pub fn redacted(&self) -> impl fmt::Display {
        RedactedMessage(self)
    }

    fn show(
        &self,
        f: &mut fmt::Formatter<'_>,
        show_value: impl FnOnce(&[u8], &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write!(f, "kind={} tag={}", self.kind(), self.tag())?;
        let clipped = |bytes| EscapedBytes::new(bytes, Self::SHOWN);
        if let Some(key) = self.key() {
            write!(f, " key={}", clipped(key))?;
        }
        if let Some(value) = self.value() {
            f.write_str(" value=")?;
            show_value(value, f)?;
        }
        if let Some(version) = self.version() {
            write!(f, " version={version}")?;
        }
        match self {
            Self::Get(_) | Self::Put(_) | Self::Delete(_) | Self::PutLarge(_) => Ok(()),
            Self::Error(error) => write!(f, " text={}", EscapedBytes::new(&error.text, Self::TEXT_SHOWN)),
            Self::Auth(auth) => write!(f, " password={}", auth.password),
            Self::Hello(hello) => write!(f, " bytes={}", hello.body.len()),
            Self::Watch(watch) => write!(f, " prefix={} since={}", clipped(&watch.prefix), watch.since),
            Self::Mark(mark) => write!(f, " revision={}", mark.revision),
            Self::List(list) => {
                write!(f, " prefix={} after={} limit={}", clipped(&list.prefix), clipped(&list.after), list.limit)
            }
            Self::Txn(txn) => write!(f, " operations={}", txn.operations.len()),
            Self::Status(status) => write!(f, " text={}", EscapedBytes::new(&status.text, Self::TEXT_SHOWN)),
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
    fn a_write_is_a_put_where_one_can_carry_it() {
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
    fn displayed_for_people() {
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
