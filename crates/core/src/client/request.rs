//! What a client asks for, and what it is answered.

use super::Versioned;
use super::connection::readable;
use crate::text;
use bytes::Bytes;
use syncline_wire::{Delete, Error, Mark, Message, Operation, Put, PutLarge, Redacted, Revision, Status, Tag, Version};

/// What a client asks for.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub enum Request {
    /// The latest value of a key.
    Get {
        /// Which key.
        key: Bytes,
    },
    /// A write, accepted where the version is the current one plus 1.
    Put {
        /// Which key.
        key: Bytes,
        /// What it holds then.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version that it has then.
        version: Version,
    },
    /// A deletion, accepted where the version is the current one plus 1.
    Delete {
        /// Which key.
        key: Bytes,
        /// The version of the deletion.
        version: Version,
    },
    /// A replica of all keys under a prefix, which is answered once it is whole.
    Watch {
        /// What the keys start with.
        prefix: Bytes,
    },
    /// To be told what others write, from the greeting on at the latest, where that does not come by itself. Answered
    /// once that is so.
    Follow,
    /// That all replicas show what had been committed by now.
    Barrier,
    /// Keys under a prefix, in order.
    List {
        /// What the keys start with.
        prefix: Bytes,
        /// Only those strictly after this one.
        after: Bytes,
        /// The most that are to be told.
        limit: u32,
    },
    /// Operations that are accepted together, or not at all.
    Txn {
        /// What is to be done. A key stands at most once.
        operations: Vec<Operation>,
    },
    /// How the server is.
    Status,
}

impl Request {
    /// Whether it changes nothing, and so may be asked again where no answer came.
    pub const fn is_read(&self) -> bool {
        !matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::Txn { .. })
    }

    /// Whether a server that speaks only the base protocol can answer it.
    pub const fn is_base(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Put { .. } | Self::Follow)
    }

    /// Whether its answer comes in pieces, beside those to other requests.
    pub(super) const fn runs_beside(&self) -> bool {
        matches!(self, Self::Watch { .. } | Self::Follow | Self::List { .. })
    }

    /// Its frame. `since` is from where on a WATCH asks; to a server that speaks only the base protocol every write is a PUT.
    pub(super) fn message(&self, tag: Tag, since: Revision, is_base: bool) -> Message {
        match self.clone() {
            Self::Get { key } => Message::get(tag, key),
            Self::Put { key, value, version } if is_base => Message::put(tag, key, value, version),
            Self::Put { key, value, version } => Message::write(tag, key, value, version),
            Self::Delete { key, version } => Message::delete(tag, key, version),
            Self::Watch { prefix } => Message::watch(tag, prefix, since),
            Self::Follow => Message::watch(tag, "", since),
            Self::Barrier => Message::mark(tag, Revision::ZERO),
            Self::List { prefix, after, limit } => Message::list(tag, prefix, after, limit),
            Self::Txn { operations } => Message::txn(tag, operations),
            Self::Status => Message::status(tag, ""),
        }
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a GET: the latest value.
    Value(Versioned),
    /// To a PUT or DELETE: it was accepted.
    Written,
    /// To a PUT or DELETE: nothing was written, the version is not the current one plus 1.
    Stale,
    /// To a GET: the key is not there.
    NotFound {
        /// The version of its deletion, where the server remembers it: the next write is this plus 1.
        deleted_at: Option<Version>,
    },
    /// To a WATCH: the replica shows the keys under its prefix.
    Watched,
    /// To a barrier: the replicas show what the store held at this revision, or a later one.
    Passed {
        /// At least what had been committed when the barrier arrived.
        revision: Revision,
    },
    /// To a LIST: the keys, in order.
    Listed {
        /// Key by key.
        entries: Vec<(Bytes, Versioned)>,
    },
    /// To a TXN: all of it was accepted.
    Committed {
        /// The revision that all of its writes have.
        revision: Revision,
    },
    /// To a TXN: nothing was written, for this key is at another version.
    StaleKey {
        /// The first key at fault, in quotes, clipped and escaped.
        key: String,
    },
    /// To a STATUS: a JSON object.
    Status {
        /// Its text.
        text: String,
    },
    /// Nothing was done: a limit of the server's was passed.
    TooLarge {
        /// Which, in the server's words.
        text: String,
    },
    /// Nothing was done: who asked has no right to it.
    NotPermitted {
        /// The right that is missing, in the server's words.
        missing: String,
    },
    /// Nothing was done: the server can't, for now.
    Unavailable {
        /// Why, in the server's words.
        reason: String,
    },
    /// Nothing was done, for another reason.
    Refused {
        /// Which, in the server's words.
        text: String,
    },
}

/// The state of a key that a frame tells: of which key, what it holds, and the version of that or of its deletion.
pub(super) fn state(message: &Message) -> Option<(&Bytes, Option<Versioned>, Version)> {
    let (key, version) = (message.key()?, message.version()?);
    Some((key, message.value().map(|value| Versioned { value: value.clone(), version }), version))
}

/// What a single frame says to a request that one frame answers; nothing where it is no answer to it.
pub(super) fn classify(request: &Request, answer: &Message) -> Option<Response> {
    match (request, answer) {
        (
            Request::Get { key },
            Message::Put(Put { key: found, .. }) | Message::PutLarge(PutLarge { key: found, .. }),
        ) => {
            let (_, now, _) = state(answer).filter(|_| key == found)?;
            now.map(Response::Value)
        }
        (Request::Get { key }, Message::Delete(Delete { key: found, version, .. })) => {
            (key == found).then_some(Response::NotFound { deleted_at: Some(*version) })
        }
        (Request::Put { key, value, version }, Message::Put(_) | Message::PutLarge(_)) => {
            let told = (answer.key(), answer.value(), answer.version());
            (told == (Some(key), Some(value), Some(*version))).then_some(Response::Written)
        }
        (Request::Delete { key, version }, Message::Delete(told)) => {
            (told.key == key && told.version == *version).then_some(Response::Written)
        }
        (Request::Barrier, Message::Mark(Mark { revision, .. })) => Some(Response::Passed { revision: *revision }),
        (Request::Follow, Message::Mark(_)) => Some(Response::Watched),
        (Request::Status, Message::Status(Status { text, .. })) => Some(Response::Status { text: readable(text) }),
        (_, Message::Error(error)) => Some(refusal(request, error)),
        _ => None,
    }
}

/// What an ERROR says to a request.
pub(super) fn refusal(request: &Request, Error { text, .. }: &Error) -> Response {
    let stale = text.strip_prefix(text::STALE_PUT.as_bytes());
    match (request, stale) {
        (Request::Get { .. }, _) if text.ends_with(text::NOT_FOUND.as_bytes()) => {
            return Response::NotFound { deleted_at: text::deleted_version(text) };
        }
        (Request::Put { .. } | Request::Delete { .. }, Some(b"")) => return Response::Stale,
        (Request::Txn { .. }, Some(key)) => {
            return Response::StaleKey { key: readable(key.strip_prefix(b": ").unwrap_or(key)) };
        }
        _ => {}
    }
    if let Some(reason) = text.strip_prefix(text::UNAVAILABLE.as_bytes()) {
        Response::Unavailable { reason: readable(reason) }
    } else if let Some(missing) = text.strip_prefix(text::NOT_PERMITTED.as_bytes()) {
        Response::NotPermitted { missing: readable(missing) }
    } else if text.starts_with(text::TOO_LARGE.as_bytes()) {
        Response::TooLarge { text: readable(text) }
    } else {
        Response::Refused { text: readable(text) }
    }
}
