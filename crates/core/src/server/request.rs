//! The requests that a server executes, decoded and checked against the limits.
//!
//! A new kind of request gets a variant here, a line in [`ServerRequest::from_message`], and its right in
//! `session.rs`.

use super::effect::StatusScope;
use super::limits::Limits;
use super::write::{Write, check_key, copied};
use crate::{ConnId, text};
use bytes::Bytes;
use syncline_wire::{Auth, Get, Kind, List, Message, Revision, Tag, Watch};

/// A request that is neither refused nor completed yet.
#[derive(Clone, Debug)]
pub(super) enum ServerRequest {
    Write(Write),
    Read(Read),
    Auth(Auth),
    Ordered(Ordered),
}

/// A request that is completed with the current state of the store or the server.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Get(Get),
    Status(Tag, StatusScope),
}

/// A request that starts when everything before it is completed and sent; nothing after it starts earlier.
#[derive(Clone, Debug)]
pub(super) enum Ordered {
    Hello(Tag),
    /// A MARK, and the head of the log when the request reached the front of the queue.
    Barrier(Tag, Option<Revision>),
    Watch(Watch),
    List(List),
}

impl ServerRequest {
    /// Returns the request that `message` makes on connection `id`, before or after HELLO.
    ///
    /// # Errors
    /// The text of an ERROR if the protocol or the limits do not allow it.
    // Inlined into its only caller: a call would copy the message and the request, 70 instructions for each PUT.
    #[inline]
    pub(super) fn from_message(
        message: Message,
        id: ConnId,
        after_hello: bool,
        limits: &Limits,
    ) -> Result<Self, Bytes> {
        let (tag, kind) = (message.tag(), message.kind());
        let is_base = matches!(kind, Kind::Get | Kind::Put | Kind::Error | Kind::Auth);
        Ok(match message {
            Message::Hello(_) if !after_hello => Self::Ordered(Ordered::Hello(tag)),
            _ if !is_base && !after_hello => return Err(text::before_hello(kind)),
            Message::Get(get) => {
                check_key(&get.key, limits)?;
                Self::Read(Read::Get(get))
            }
            Message::Put(put) => Self::Write(Write::put(id, put, limits)?),
            Message::PutLarge(put) => Self::Write(Write::put_large(id, put, limits)?),
            Message::Delete(delete) => Self::Write(Write::delete(id, delete, limits)?),
            Message::Txn(txn) => Self::Write(Write::txn(id, txn, limits)?),
            Message::Watch(Watch { tag, prefix, since }) => {
                check_key(&prefix, limits)?;
                Self::Ordered(Ordered::Watch(Watch { tag, prefix: copied(&prefix), since }))
            }
            Message::List(List { tag, prefix, after, limit }) => {
                check_key(&prefix, limits)?;
                check_key(&after, limits)?;
                Self::Ordered(Ordered::List(List { tag, prefix: copied(&prefix), after: copied(&after), limit }))
            }
            Message::Mark(_) => Self::Ordered(Ordered::Barrier(tag, None)),
            Message::Status(_) => Self::Read(Read::Status(tag, StatusScope::Health)),
            Message::Hello(_) | Message::Error(_) | Message::Auth(_) => return Err(text::cannot_be_applied(kind)),
        })
    }

    /// Stops sharing memory with the input that the request was decoded from. Only GETs do: all other requests are copied
    /// when they are decoded.
    pub(super) fn own_key(&mut self) {
        if let Self::Read(Read::Get(get)) = self {
            get.key = copied(&get.key);
        }
    }

    /// Returns the bytes that the request counts as until it is completed.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.bytes(),
            Self::Read(Read::Get(get)) => get.key.len(),
            Self::Auth(auth) => auth.password.expose().len(),
            Self::Ordered(Ordered::Watch(watch)) => watch.prefix.len(),
            Self::Ordered(Ordered::List(list)) => list.prefix.len() + list.after.len(),
            Self::Read(Read::Status(..)) | Self::Ordered(Ordered::Hello(_) | Ordered::Barrier(..)) => 0,
        }
    }
}
