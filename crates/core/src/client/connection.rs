//! The client's side of one connection, as a state machine.

use crate::{Output, text};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use syncline_wire::{BadMessage, Decoded, Malformed, Message, MonotoneTags, Put, Tag, Version, decode};
use thiserror::Error;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        value: Bytes,
        /// The version that it has then.
        version: Version,
    },
}

impl Request {
    fn message(&self, tag: Tag) -> Message {
        match self.clone() {
            Self::Get { key } => Message::get(tag, key),
            Self::Put { key, value, version } => Message::put(tag, key, value, version),
        }
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a GET: the latest value.
    Value {
        /// What the key holds.
        value: Bytes,
        /// The version of that.
        version: Version,
    },
    /// To a PUT: it was accepted.
    Written,
    /// To a PUT: nothing was written, the version is not the current one plus 1.
    Stale,
    /// To a GET: the key is not there.
    NotFound {
        /// The version of its deletion, where the server remembers it: the next write is this plus 1.
        deleted_at: Option<Version>,
    },
    /// Nothing was done: a limit of the server's was passed.
    TooLarge {
        /// Which, in the server's words.
        text: String,
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

/// What [`Connection::handle_input`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The answer to a request.
    Answer {
        /// What came with the request.
        token: T,
        /// What the server says.
        answer: Answer,
    },
    /// Somebody else's write was accepted.
    Change {
        /// Which key.
        key: Bytes,
        /// What it holds; empty where it was deleted.
        value: Bytes,
        /// The version of that.
        version: Version,
    },
    /// The server says something of the connection itself; usually that it is about to close it.
    Notice {
        /// What it says.
        text: String,
    },
    /// Nothing whole: more must come.
    Incomplete {
        /// The bytes that the next frame has at the least.
        expected: usize,
    },
}

/// The server does not keep to the protocol. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The bytes are no frame.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A frame that answers nothing that was asked.
    #[error("expected an answer to a request in flight, found {found}")]
    Unasked {
        /// The frame, as logs show it.
        found: String,
    },
    /// A frame that is no answer to the request of its tag.
    #[error("expected an answer to {asked}, found {found}")]
    NoAnswer {
        /// The request, as logs show it.
        asked: String,
        /// The frame, as logs show it.
        found: String,
    },
}

/// A request that was not sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The request.
    pub request: Request,
    /// What came with it.
    pub token: T,
    /// Why it was not sent.
    pub because: RefusedBecause,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefusedBecause {
    /// It can't be encoded.
    #[error(transparent)]
    BadMessage(#[from] BadMessage),
    /// All 65,535 tags are in flight: wait for an answer.
    #[error("expected a free tag, found all 65535 in flight")]
    TagsExhausted,
}

#[derive(Debug)]
struct InFlight<T> {
    /// Counts the requests of the connection.
    sequence: u64,
    request: Request,
    token: T,
}

/// The client's side of one connection. Each request carries a token of the driver's choice, which its answer returns.
///
/// Its driver
/// 1. hands it requests ([`request`](Self::request)) and writes its [`output`](Self::output);
/// 2. hands it what came from the socket ([`handle_input`](Self::handle_input)), again and again until
///    [`Event::Incomplete`];
/// 3. when the connection is lost, asks what was in flight ([`into_in_flight`](Self::into_in_flight)).
#[derive(Debug)]
pub struct Connection<T> {
    tags: MonotoneTags,
    in_flight: BTreeMap<Tag, InFlight<T>>,
    requested: u64,
    output: Output,
}

impl<T> Default for Connection<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Connection<T> {
    /// A connection was made.
    pub fn new() -> Self {
        Self { tags: MonotoneTags::new(), in_flight: BTreeMap::new(), requested: 0, output: Output::new() }
    }

    /// What is to be written.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Adds a request to the output.
    ///
    /// # Errors
    /// [`Refused`] hands it back where it can't be sent.
    pub fn request(&mut self, request: Request, token: T) -> Result<(), Refused<T>> {
        let Some(tag) = self.tags.take() else {
            return Err(Refused { request, token, because: RefusedBecause::TagsExhausted });
        };
        if let Err(bad) = self.output.push(&request.message(tag)) {
            self.tags.give_back(tag);
            return Err(Refused { request, token, because: bad.into() });
        }
        self.in_flight.insert(tag, InFlight { sequence: self.requested, request, token });
        self.requested += 1;
        Ok(())
    }

    /// Takes the next frame off the front of `buffer`.
    ///
    /// # Errors
    /// [`ProtocolError`] where the server does not keep to the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Event<T>, ProtocolError> {
        let message = match decode(buffer)? {
            Decoded::Frame(message) => message,
            Decoded::Incomplete { expected } => return Ok(Event::Incomplete { expected }),
            Decoded::TooLarge { kind, tag, excess, .. } => {
                return Err(ProtocolError::Unasked { found: format!("kind={kind} tag={tag} of {excess}") });
            }
        };
        match message {
            Message::Put(Put { tag: Tag::BROADCAST, key, value, version }) => Ok(Event::Change { key, value, version }),
            Message::Error(error) if error.tag == Tag::BROADCAST => Ok(Event::Notice { text: readable(&error.text) }),
            answer => {
                let tag = answer.tag();
                let Some(InFlight { sequence, request, token }) = self.in_flight.remove(&tag) else {
                    return Err(ProtocolError::Unasked { found: answer.to_string() });
                };
                match classify(&request, &answer) {
                    Some(answer) => {
                        self.tags.give_back(tag);
                        Ok(Event::Answer { token, answer })
                    }
                    None => {
                        let asked = request.message(tag).to_string();
                        self.in_flight.insert(tag, InFlight { sequence, request, token });
                        Err(ProtocolError::NoAnswer { asked, found: answer.to_string() })
                    }
                }
            }
        }
    }

    /// The connection was lost: what is still unanswered, in the order of the requests. What became of the writes among
    /// them is not known, even of one that was never written to the socket in full.
    pub fn into_in_flight(self) -> Vec<(Request, T)> {
        let mut in_flight: Vec<_> = self.in_flight.into_values().collect();
        in_flight.sort_by_key(|in_flight| in_flight.sequence);
        in_flight.into_iter().map(|InFlight { request, token, .. }| (request, token)).collect()
    }
}

/// What a frame says to a request; nothing where it is no answer to it.
fn classify(request: &Request, answer: &Message) -> Option<Answer> {
    match (request, answer) {
        (Request::Get { key }, Message::Put(put)) => {
            (put.key == key).then(|| Answer::Value { value: put.value.clone(), version: put.version })
        }
        (Request::Put { key, value, version }, Message::Put(put)) => {
            (put.key == key && put.value == value && put.version == *version).then_some(Answer::Written)
        }
        (Request::Get { .. }, Message::Error(error)) if error.text.ends_with(text::NOT_FOUND.as_bytes()) => {
            Some(Answer::NotFound { deleted_at: text::deleted_version(&error.text) })
        }
        (Request::Put { .. }, Message::Error(error)) if error.text == text::STALE_PUT => Some(Answer::Stale),
        (_, Message::Error(error)) => Some(match error.text.strip_prefix(text::UNAVAILABLE.as_bytes()) {
            Some(reason) => Answer::Unavailable { reason: readable(reason) },
            None if error.text.starts_with(text::TOO_LARGE.as_bytes()) => {
                Answer::TooLarge { text: readable(&error.text) }
            }
            None => Answer::Refused { text: readable(&error.text) },
        }),
        _ => None,
    }
}

fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    fn get(key: &'static str) -> Request {
        Request::Get { key: key.into() }
    }

    fn put(version: u64) -> Request {
        Request::Put { key: "k".into(), value: "v".into(), version: Version::new(version) }
    }

    fn input(messages: &[Message]) -> BytesMut {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        buffer
    }

    /// The answer that the client makes of one ERROR text.
    fn answer(request: Request, text: &'static str) -> Answer {
        let mut connection = Connection::new();
        connection.request(request, ()).unwrap();
        match connection.handle_input(&mut input(&[Message::error(Tag::new(1), text)])) {
            Ok(Event::Answer { token: (), answer }) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_written_in_order_with_tags_from_1() {
        let mut connection = Connection::new();
        connection.request(get("a"), "first").unwrap();
        connection.request(put(7), "second").unwrap();
        let expected = input(&[Message::get(Tag::new(1), "a"), Message::put(Tag::new(2), "k", "v", Version::new(7))]);
        let output = connection.output();
        assert_eq!(output.copy_to_bytes(output.remaining()), expected);
    }

    #[test]
    fn answers_find_their_requests_and_broadcasts_stand_between() {
        let mut connection = Connection::new();
        connection.request(get("a"), "first").unwrap();
        connection.request(put(7), "second").unwrap();
        let mut buffer = input(&[
            Message::put(Tag::BROADCAST, "x", "y", Version::new(3)),
            Message::put(Tag::new(1), "a", "1", Version::new(5)),
            Message::error(Tag::BROADCAST, "unavailable: shutting down"),
            Message::put(Tag::new(2), "k", "v", Version::new(7)),
        ]);
        let mut next = || connection.handle_input(&mut buffer).unwrap();
        assert_eq!(next(), Event::Change { key: "x".into(), value: "y".into(), version: Version::new(3) });
        let value = Answer::Value { value: "1".into(), version: Version::new(5) };
        assert_eq!(next(), Event::Answer { token: "first", answer: value });
        assert_eq!(next(), Event::Notice { text: "unavailable: shutting down".into() });
        assert_eq!(next(), Event::Answer { token: "second", answer: Answer::Written });
        assert_eq!(next(), Event::Incomplete { expected: 3 });
        assert_eq!(connection.in_flight(), 0);
    }

    #[test]
    fn error_texts_are_told_apart() {
        assert_eq!(answer(put(1), "stale put"), Answer::Stale);
        assert_eq!(answer(get("a"), "\"a\": not found"), Answer::NotFound { deleted_at: None });
        assert_eq!(
            answer(get("a"), "\"a\": deleted at version 7, not found"),
            Answer::NotFound { deleted_at: Some(Version::new(7)) }
        );
        assert_eq!(answer(put(1), "unavailable: disk full"), Answer::Unavailable { reason: "disk full".into() });
        assert_eq!(answer(get("a"), "too large: key"), Answer::TooLarge { text: "too large: key".into() });
        assert_eq!(answer(put(1), "version exhausted"), Answer::Refused { text: "version exhausted".into() });
        assert_eq!(answer(get("a"), "stale put"), Answer::Refused { text: "stale put".into() });
    }

    #[test]
    fn what_was_not_asked_is_an_error() {
        let mut connection = Connection::new();
        connection.request(put(7), ()).unwrap();
        let found = connection.handle_input(&mut input(&[Message::error(Tag::new(2), "stale put")]));
        assert_eq!(found, Err(ProtocolError::Unasked { found: "kind=ERROR tag=2 text=stale put".into() }));
        for wrong in [
            Message::put(Tag::new(1), "k", "v", Version::new(8)),
            Message::put(Tag::new(1), "k", "w", Version::new(7)),
            Message::put(Tag::new(1), "l", "v", Version::new(7)),
            Message::auth(Tag::new(1), ""),
            Message::get(Tag::new(1), "k"),
        ] {
            let error = connection.handle_input(&mut input(std::slice::from_ref(&wrong))).unwrap_err();
            let expected = format!("expected an answer to kind=PUT tag=1 key=k value=v version=7, found {wrong}");
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(connection.into_in_flight(), [(put(7), ())], "still unanswered");
    }

    #[test]
    fn what_is_in_flight_is_told_in_order() {
        let mut connection = Connection::new();
        for tag in 1..=65_535 {
            connection.request(get("k"), tag).unwrap();
        }
        let refused = connection.request(put(1), 0).unwrap_err();
        assert_eq!((refused.request, refused.because), (put(1), RefusedBecause::TagsExhausted));
        // The first is answered, and its tag comes again for the last.
        let mut buffer = input(&[Message::error(Tag::new(1), "\"k\": not found")]);
        connection.handle_input(&mut buffer).unwrap();
        connection.request(put(1), 65_536).unwrap();
        let tokens: Vec<_> = connection.into_in_flight().into_iter().map(|(_, token)| token).collect();
        assert_eq!(tokens, (2..=65_536).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_encoded_is_handed_back() {
        let mut connection = Connection::new();
        let long = Request::Get { key: vec![0; 65_536].into() };
        let refused = connection.request(long.clone(), "token").unwrap_err();
        assert_eq!((refused.request, refused.token), (long, "token"));
        assert_eq!(refused.because.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
        assert!(connection.output().is_empty());
        connection.request(get("a"), "next").unwrap();
        assert_eq!(connection.in_flight(), 1);
    }
}
