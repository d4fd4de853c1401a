//! What a server responds, and how frames become responses.

use super::Versioned;
use super::request::{Request, writes};
use crate::text;
use bytes::Bytes;
use syncline_wire::{Delete, Error, Mark, Message, Operation, Put, PutLarge, Revision, Status, Version};

/// The response to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// GET: the latest value.
    Value(Versioned),
    /// PUT or DELETE: the write was accepted.
    Written,
    /// PUT or DELETE: nothing was written, because the version is not the current version plus 1.
    Stale,
    /// GET: the key does not exist.
    NotFound {
        /// The version of the tombstone, if the server still has one. The next write must carry this version plus 1.
        deleted_at: Option<Version>,
    },
    /// WATCH: the replica shows the keys under its prefix.
    Watched,
    /// Barrier: the replicas show what the store held at this revision, or at a later one.
    Passed {
        /// A revision that includes everything committed before the server received the barrier.
        revision: Revision,
    },
    /// LIST: the keys, in key order.
    Listed {
        /// The keys with their values.
        entries: Vec<(Bytes, Versioned)>,
    },
    /// TXN: all operations were accepted.
    Committed {
        /// The revision of all writes of the transaction.
        revision: Revision,
    },
    /// TXN: nothing was written, because a key is at another version.
    StaleKey {
        /// The first such key: quoted, escaped, and clipped if it is long.
        key: String,
    },
    /// STATUS: a JSON object.
    Status {
        /// The text of the object.
        text: String,
    },
    /// The server did nothing, because the request exceeds one of its limits.
    TooLarge {
        /// The limit, in the server's words.
        text: String,
    },
    /// The server did nothing, because the client lacks a right.
    NotPermitted {
        /// The missing right, in the server's words.
        missing: String,
    },
    /// The server did nothing, because it cannot serve the request at present.
    Unavailable {
        /// The reason, in the server's words.
        reason: String,
    },
    /// The server did nothing, for another reason.
    Refused {
        /// The reason, in the server's words.
        text: String,
    },
}

/// Returns the state of a key that a frame carries: the key, its value, and the version of the value or tombstone.
pub(super) fn state(message: &Message) -> Option<(&Bytes, Option<Versioned>, Version)> {
    let (key, version) = (message.key()?, message.version()?);
    Some((key, message.value().map(|value| Versioned { value: value.clone(), version }), version))
}

/// Returns the response that a frame carries, for a request that has a single frame as response. Returns `None` if the frame
/// is not a response to the request.
pub(super) fn classify(request: &Request, frame: &Message) -> Option<Response> {
    match (request, frame) {
        (
            Request::Get { key },
            Message::Put(Put { key: found, .. }) | Message::PutLarge(PutLarge { key: found, .. }),
        ) => {
            let (_, now, _) = state(frame).filter(|_| key == found)?;
            now.map(Response::Value)
        }
        (Request::Get { key }, Message::Delete(Delete { key: found, version, .. })) => {
            (key == found).then_some(Response::NotFound { deleted_at: Some(*version) })
        }
        (Request::Put { key, value, version }, Message::Put(_) | Message::PutLarge(_)) => {
            let echoed = (frame.key(), frame.value(), frame.version());
            (echoed == (Some(key), Some(value), Some(*version))).then_some(Response::Written)
        }
        (Request::Delete { key, version }, Message::Delete(echo)) => {
            (echo.key == key && echo.version == *version).then_some(Response::Written)
        }
        (Request::Barrier, Message::Mark(Mark { revision, .. })) => Some(Response::Passed { revision: *revision }),
        (Request::Follow, Message::Mark(_)) => Some(Response::Watched),
        (Request::Status, Message::Status(Status { text, .. })) => Some(Response::Status { text: to_text(text) }),
        (_, Message::Error(error)) => Some(refusal(request, error)),
        _ => None,
    }
}

/// Returns the response that an ERROR carries.
pub(super) fn refusal(request: &Request, Error { text, .. }: &Error) -> Response {
    let stale = text.strip_prefix(text::STALE_PUT.as_bytes());
    match (request, stale) {
        (Request::Get { .. }, _) if text.ends_with(text::NOT_FOUND.as_bytes()) => {
            return Response::NotFound { deleted_at: text::deleted_version(text) };
        }
        (Request::Put { .. } | Request::Delete { .. }, Some(b"")) => return Response::Stale,
        (Request::Txn { .. }, Some(key)) => {
            return Response::StaleKey { key: to_text(key.strip_prefix(b": ").unwrap_or(key)) };
        }
        _ => {}
    }
    if let Some(reason) = text.strip_prefix(text::UNAVAILABLE.as_bytes()) {
        Response::Unavailable { reason: to_text(reason) }
    } else if let Some(missing) = text.strip_prefix(text::NOT_PERMITTED.as_bytes()) {
        Response::NotPermitted { missing: to_text(missing) }
    } else if text.starts_with(text::TOO_LARGE.as_bytes()) {
        Response::TooLarge { text: to_text(text) }
    } else {
        Response::Refused { text: to_text(text) }
    }
}

/// Returns how many operations of a transaction are acknowledged after this frame, given how many were before. Returns
/// `None` if the frame is not the echo of the next write.
pub(super) fn acknowledged_by(operations: &[Operation], before: usize, frame: &Message) -> Option<usize> {
    let (number, next) = writes(operations, before).next()?;
    let is_echo = match (next, frame) {
        (Operation::Put { key, value, version }, Message::Put(_) | Message::PutLarge(_)) => {
            (frame.key(), frame.value(), frame.version()) == (Some(key), Some(value), Some(*version))
        }
        (Operation::Delete { key, version }, Message::Delete(echo)) => echo.key == key && echo.version == *version,
        _ => false,
    };
    is_echo.then_some(number + 1)
}

/// Converts the text of a frame, which may not be UTF-8.
pub(super) fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_wire::Tag;

    #[test]
    fn error_texts_become_distinct_responses() {
        let refusal_of =
            |request: &Request, text: &'static str| refusal(request, &Error { tag: Tag::new(1), text: text.into() });
        let get = Request::Get { key: "a".into() };
        let put = Request::Put { key: "k".into(), value: "v".into(), version: Version::new(1) };
        assert_eq!(refusal_of(&put, "stale put"), Response::Stale);
        assert_eq!(refusal_of(&get, "\"a\": not found"), Response::NotFound { deleted_at: None });
        assert_eq!(
            refusal_of(&get, "\"a\": deleted at version 7, not found"),
            Response::NotFound { deleted_at: Some(Version::new(7)) }
        );
        assert_eq!(refusal_of(&put, "unavailable: disk full"), Response::Unavailable { reason: "disk full".into() });
        let missing = "expected the right to read \"a\"".to_owned();
        assert_eq!(
            refusal_of(&get, "not permitted: expected the right to read \"a\""),
            Response::NotPermitted { missing }
        );
        assert_eq!(refusal_of(&get, "too large: key"), Response::TooLarge { text: "too large: key".into() });
        assert_eq!(refusal_of(&put, "version exhausted"), Response::Refused { text: "version exhausted".into() });
        assert_eq!(refusal_of(&get, "stale put"), Response::Refused { text: "stale put".into() });
    }
}
