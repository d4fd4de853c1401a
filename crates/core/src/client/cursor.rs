//! A cursor on the history, as a state machine: it reports what changes under a prefix since a revision, and keeps no copy
//! of the state.

use super::Position;
use super::error::ProtocolError;
use super::request::Request;
use super::response::{Response, refusal, to_text};
use super::scope::Scope;
use crate::{Output, StoreId};
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use syncline_wire::{
    Decoded, Delete, EncodeError, Mark, Message, Put, PutLarge, Redacted, Revision, ServerHello, Tag, Version, decode,
};

/// The tag of the WATCH, which is the only request of a cursor.
const WATCH: Tag = Tag::new(1);

/// What [`Cursor::handle_input`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorEvent {
    /// The cursor has advanced in the history.
    Step(Step),
    /// The server reports a condition of the whole connection. Usually it is about to close it.
    Notice {
        /// The text of the server.
        text: String,
    },
    /// The server refused the WATCH.
    Refused {
        /// The response of the server.
        response: Response,
    },
    /// The buffer contains no complete frame.
    Incomplete {
        /// The minimum length of the next frame, in bytes.
        expected: usize,
    },
}

/// Changes that turn what the store held at one revision into what it held at a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the changes are all keys that exist. If so, discard everything from earlier steps.
    pub is_reset: bool,
    /// The changes. After a catch-up, each key occurs once, and the changes are in key order. Later changes are in the order
    /// in which they were committed.
    pub changes: Vec<KeyChange>,
    /// The position after the step. A cursor that is opened with it continues from here.
    pub at: Position,
}

/// A key that was written or deleted.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// The new value, or `None` if the key was deleted.
    #[debug("{:?}", value.as_deref().map(Redacted))]
    pub value: Option<Bytes>,
    /// The version of the value or tombstone.
    pub version: Version,
}

/// A cursor on the history of the keys under a prefix. It outlives its connections, and has at most one at a time.
///
/// The driver
/// 1. connects, completes the handshake, and calls [`connected`](Self::connected);
/// 2. writes the [`output`](Self::output) to the socket;
/// 3. passes received bytes to [`handle_input`](Self::handle_input) and calls it until it returns
///    [`CursorEvent::Incomplete`]. The bytes that remain in the buffer are passed again when more have arrived;
/// 4. closes the connection after an error, or if nothing was received for as long as [`patience`](Self::patience);
/// 5. calls [`lost`](Self::lost) when the connection is lost, discards the buffer, and continues with 1.
///
/// # Steps
/// A step ends at a MARK, so it never contains half of a transaction. Changes since the last MARK are discarded when a
/// connection is lost; the next connection receives them again. The first step is reported even if it contains no change,
/// because it completes the catch-up. Later steps are reported only if they contain a change. Every step moves the
/// [`position`](Self::position), whether it is reported or not.
#[derive(Debug)]
pub struct Cursor {
    prefix: Bytes,
    /// The position of the last step. `None` at the start of the history.
    position: Option<Position>,
    /// Whether the first step was reported.
    has_stepped: bool,
    output: Output,
    /// `None` if there is no connection.
    session: Option<Session>,
}

/// The state of one connection.
///
/// ```text
///   connected ──▶ catching up ── MARK of the WATCH ──▶ receiving changes as they are committed
///                    │   ▲
///                    └───┘ MARK(0): discard everything, the server sends all keys
/// ```
#[derive(Debug)]
struct Session {
    store: StoreId,
    patience: Duration,
    /// The WATCH, until the server responds to it.
    pending_watch: Option<PendingWatch>,
    /// Whether the next step is a reset.
    is_reset: bool,
    /// The changes since the last MARK.
    changes: Vec<KeyChange>,
}

#[derive(Debug)]
struct PendingWatch {
    request: Message,
    scope: Scope,
}

impl Cursor {
    /// Creates a cursor on the keys under a prefix; the empty prefix selects all keys. Without `since` the first step
    /// contains all keys. With it, the first step contains what changed since that position.
    pub fn new(prefix: impl Into<Bytes>, since: Option<Position>) -> Self {
        Self { prefix: prefix.into(), position: since, has_stepped: false, output: Output::new(), session: None }
    }

    /// Handles a new connection after its HELLO: requests what changed since the position.
    ///
    /// # Errors
    /// [`EncodeError`] if the prefix is too long for a frame.
    pub fn connected(&mut self, hello: &ServerHello) -> Result<(), EncodeError> {
        self.lost();
        let store = StoreId::new(hello.store_id);
        let known = self.position.filter(|position| position.store.is_none_or(|of| of == store));
        let since = known.map_or(Revision::ZERO, |position| position.revision);
        let request = Message::watch(WATCH, self.prefix.clone(), since);
        self.output.push(&request)?;
        self.session = Some(Session {
            store,
            patience: hello.patience(),
            pending_watch: Some(PendingWatch { request, scope: Scope::since(since) }),
            is_reset: self.position.is_some() && known.is_none(),
            changes: Vec::new(),
        });
        Ok(())
    }

    /// Handles the loss of the connection. Changes since the last MARK are discarded.
    pub fn lost(&mut self) {
        self.session = None;
        self.output = Output::new();
    }

    /// Returns the bytes to write to the socket.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Returns the position after the last step, from which the next connection continues. Returns `None` at the start of
    /// the history.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns how long the client waits without receiving anything before it treats the connection as dead. Returns `None`
    /// if there is no connection.
    pub fn patience(&self) -> Option<Duration> {
        self.session.as_ref().map(|session| session.patience)
    }

    /// Consumes frames from the front of `buffer` until they produce an event.
    ///
    /// # Errors
    /// [`ProtocolError`] if the server violates the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<CursorEvent, ProtocolError> {
        loop {
            let message = match decode(buffer)? {
                Decoded::Frame(message) => message,
                Decoded::Incomplete { expected } => return Ok(CursorEvent::Incomplete { expected }),
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            };
            let Some(session) = &mut self.session else {
                return Err(ProtocolError::UnexpectedFrame { found: message.redacted().to_string() });
            };
            match message {
                Message::Error(error) if error.tag == Tag::BROADCAST => {
                    return Ok(CursorEvent::Notice { text: to_text(&error.text) });
                }
                Message::Error(error) if error.tag == WATCH && session.pending_watch.is_some() => {
                    let request = Request::Watch { prefix: self.prefix.clone() };
                    return Ok(CursorEvent::Refused { response: refusal(&request, &error) });
                }
                message => {
                    if let Some(step) = session.handle_frame(message)? {
                        self.position = Some(step.at);
                        let is_first = !std::mem::replace(&mut self.has_stepped, true);
                        if is_first || step.is_reset || !step.changes.is_empty() {
                            return Ok(CursorEvent::Step(step));
                        }
                    }
                }
            }
        }
    }
}

impl Session {
    /// Collects a change. Returns a step if the frame is a MARK that ends one.
    fn handle_frame(&mut self, message: Message) -> Result<Option<Step>, ProtocolError> {
        match (message, &mut self.pending_watch) {
            (
                Message::Put(Put { tag: Tag::BROADCAST, key, value, version })
                | Message::PutLarge(PutLarge { tag: Tag::BROADCAST, key, value, version }),
                _,
            ) => {
                self.changes.push(KeyChange { key, value: Some(value), version });
                Ok(None)
            }
            (Message::Delete(Delete { tag: Tag::BROADCAST, key, version }), _) => {
                self.changes.push(KeyChange { key, value: None, version });
                Ok(None)
            }
            (Message::Mark(Mark { tag: WATCH, revision }), Some(watch)) if watch.scope.is_reset_by(revision) => {
                watch.scope = Scope::Everything;
                self.is_reset = true;
                self.changes.clear();
                Ok(None)
            }
            (Message::Mark(Mark { tag: WATCH, revision }), Some(watch)) => {
                let changes = latest_by_key(std::mem::take(&mut self.changes), watch.scope);
                self.pending_watch = None;
                Ok(Some(self.step(changes, revision)))
            }
            (Message::Mark(Mark { tag: Tag::BROADCAST, revision }), None) => {
                let changes = std::mem::take(&mut self.changes);
                Ok(Some(self.step(changes, revision)))
            }
            // The catch-up is not complete.
            (Message::Mark(Mark { tag: Tag::BROADCAST, .. }), Some(_)) => Ok(None),
            (other, Some(watch)) if other.tag() == WATCH => Err(ProtocolError::WrongResponse {
                request: watch.request.to_string(),
                found: other.redacted().to_string(),
            }),
            (other, _) => Err(ProtocolError::UnexpectedFrame { found: other.redacted().to_string() }),
        }
    }

    fn step(&mut self, changes: Vec<KeyChange>, revision: Revision) -> Step {
        let is_reset = std::mem::take(&mut self.is_reset);
        Step { is_reset, changes, at: Position { store: Some(self.store), revision } }
    }
}

/// Returns the latest change of each key, in key order. If the changes are all keys that exist, keys that were deleted
/// during the catch-up are left out.
fn latest_by_key(mut changes: Vec<KeyChange>, scope: Scope) -> Vec<KeyChange> {
    // The sort is stable, so the changes of one key stay in the order in which they were received.
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes.dedup_by(|later, kept| {
        let is_same = later.key == kept.key;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    changes.retain(|change| scope == Scope::Changes || change.value.is_some());
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    const STORE: StoreId = StoreId::new([7; 16]);
    const OTHER: StoreId = StoreId::new([8; 16]);

    fn hello(store: StoreId) -> ServerHello {
        ServerHello {
            protocol: 1,
            features: 0,
            store_id: store.bytes(),
            head: Revision::new(9),
            heartbeat_ms: 2000,
            max_key: 4096,
            max_entry: 65_525,
        }
    }

    fn at(store: Option<StoreId>, revision: u64) -> Position {
        Position { store, revision: Revision::new(revision) }
    }

    /// Returns a cursor on all keys that was just connected.
    fn connected(since: Option<Position>) -> Cursor {
        let mut cursor = Cursor::new("", since);
        cursor.connected(&hello(STORE)).unwrap();
        cursor
    }

    /// Consumes the output of the cursor, which must be one WATCH, and returns the revision from which it resumes.
    fn since(cursor: &mut Cursor) -> u64 {
        let output = cursor.output();
        let mut sent = BytesMut::from(&*output.copy_to_bytes(output.remaining()));
        match decode(&mut sent) {
            Ok(Decoded::Frame(Message::Watch(watch))) if sent.is_empty() && watch.tag == WATCH => watch.since.get(),
            other => panic!("expected one WATCH, found {other:?} and {sent:?}"),
        }
    }

    fn put(key: &'static str, version: u64) -> Message {
        Message::put(Tag::BROADCAST, key, "v", Version::new(version))
    }

    fn delete(key: &'static str, version: u64) -> Message {
        Message::delete(Tag::BROADCAST, key, Version::new(version))
    }

    fn mark(tag: Tag, revision: u64) -> Message {
        Message::mark(tag, Revision::new(revision))
    }

    /// Returns the events that frames produce, up to the first error.
    fn events(cursor: &mut Cursor, messages: &[Message]) -> Result<Vec<CursorEvent>, ProtocolError> {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        let mut events = Vec::new();
        loop {
            match cursor.handle_input(&mut buffer)? {
                CursorEvent::Incomplete { .. } => return Ok(events),
                event => events.push(event),
            }
        }
    }

    /// Returns the steps that frames produce: the keys with their versions, in lower case if deleted, the revision, and
    /// whether the step is a reset.
    fn steps(cursor: &mut Cursor, messages: &[Message]) -> Vec<(String, u64, bool)> {
        let events = events(cursor, messages).unwrap().into_iter();
        events
            .map(|event| {
                let CursorEvent::Step(step) = event else { panic!("expected a step, found {event:?}") };
                let keys = step.changes.iter().map(|change| {
                    let key = String::from_utf8_lossy(&change.key).into_owned();
                    let key = if change.value.is_some() { key.to_uppercase() } else { key };
                    format!("{key}{}", change.version)
                });
                (keys.collect::<Vec<_>>().join(" "), step.at.revision.get(), step.is_reset)
            })
            .collect()
    }

    #[test]
    fn a_catch_up_is_sorted_by_key_and_later_steps_are_in_commit_order() {
        let mut cursor = connected(None);
        assert_eq!(since(&mut cursor), 0);
        let catch_up = [put("a", 1), put("c", 4), mark(Tag::BROADCAST, 4), put("b", 2), put("a", 2), delete("b", 3)];
        let rest = [mark(WATCH, 5), put("c", 5), delete("a", 3), put("c", 6), mark(Tag::BROADCAST, 8)];
        assert_eq!(steps(&mut cursor, &catch_up), []);
        assert_eq!(cursor.position(), None);
        let expected = [("A2 C4".into(), 5, false), ("C5 a3 C6".into(), 8, false)];
        assert_eq!(steps(&mut cursor, &rest), expected);
    }

    #[test]
    fn an_empty_store_is_a_step_without_changes() {
        assert_eq!(steps(&mut connected(None), &[mark(WATCH, 0)]), [(String::new(), 0, false)]);
        // Also if the store held keys before.
        let mut resumed = connected(Some(at(Some(STORE), 5)));
        assert_eq!(steps(&mut resumed, &[mark(WATCH, 0), mark(WATCH, 0)]), [(String::new(), 0, true)]);
    }

    #[test]
    fn a_resumed_cursor_reports_what_changed_including_deletions() {
        for store in [None, Some(STORE)] {
            let mut cursor = connected(Some(at(store, 5)));
            assert_eq!(since(&mut cursor), 5);
            let frames = [put("b", 2), delete("a", 3), mark(WATCH, 7)];
            assert_eq!(steps(&mut cursor, &frames), [("a3 B2".into(), 7, false)]);
        }
    }

    #[test]
    fn a_cursor_that_cannot_resume_reports_a_reset() {
        // The server no longer has the tombstones.
        let mut too_old = connected(Some(at(Some(STORE), 5)));
        let frames = [put("x", 1), mark(WATCH, 0), put("b", 2), delete("c", 2), mark(WATCH, 7)];
        assert_eq!(steps(&mut too_old, &frames), [("B2".into(), 7, true)]);
        // The store is another one.
        let mut other = connected(Some(at(Some(OTHER), 5)));
        assert_eq!(since(&mut other), 0);
        assert_eq!(steps(&mut other, &[put("b", 2), mark(WATCH, 7)]), [("B2".into(), 7, true)]);
    }

    #[test]
    fn only_the_first_step_and_a_reset_may_be_empty() {
        let mut cursor = connected(None);
        let frames = [mark(WATCH, 5), mark(Tag::BROADCAST, 6), put("a", 1), mark(Tag::BROADCAST, 7)];
        assert_eq!(steps(&mut cursor, &frames), [(String::new(), 5, false), ("A1".into(), 7, false)]);
        assert_eq!(steps(&mut cursor, &[mark(Tag::BROADCAST, 8)]), []);
        assert_eq!(cursor.position(), Some(at(Some(STORE), 8)), "the position moves without a reported step");
        // Nothing changed meanwhile.
        cursor.connected(&hello(STORE)).unwrap();
        assert_eq!(steps(&mut cursor, &[mark(WATCH, 8)]), []);
        cursor.connected(&hello(OTHER)).unwrap();
        assert_eq!(steps(&mut cursor, &[mark(WATCH, 3)]), [(String::new(), 3, true)]);
    }

    #[test]
    fn only_the_position_survives_a_lost_connection() {
        let mut cursor = connected(None);
        assert_eq!(cursor.patience(), Some(Duration::from_secs(6)));
        let frames = [put("a", 1), mark(WATCH, 5), put("b", 1)];
        assert_eq!(steps(&mut cursor, &frames), [("A1".into(), 5, false)]);
        cursor.lost();
        assert!(cursor.output().is_empty(), "unwritten output belongs to the lost connection");
        assert_eq!((cursor.patience(), cursor.position()), (None, Some(at(Some(STORE), 5))));
        let found = events(&mut cursor, &[put("b", 1)]).unwrap_err();
        assert_eq!(found, ProtocolError::UnexpectedFrame { found: put("b", 1).redacted().to_string() });
        cursor.connected(&hello(STORE)).unwrap();
        assert_eq!(since(&mut cursor), 5);
        assert_eq!(steps(&mut cursor, &[put("b", 1), mark(WATCH, 6)]), [("B1".into(), 6, false)]);
    }

    #[test]
    fn a_reset_that_was_interrupted_starts_again() {
        let mut cursor = connected(Some(at(Some(OTHER), 5)));
        assert_eq!(steps(&mut cursor, &[put("a", 1)]), []);
        cursor.connected(&hello(STORE)).unwrap();
        assert_eq!(since(&mut cursor), 0);
        assert_eq!(steps(&mut cursor, &[put("a", 1), mark(WATCH, 7)]), [("A1".into(), 7, true)]);
    }

    #[test]
    fn errors_become_notices_and_refusals() {
        let mut cursor = connected(None);
        let errors = [Message::error(Tag::BROADCAST, "bye"), Message::error(WATCH, "unavailable: disk full")];
        let expected = [
            CursorEvent::Notice { text: "bye".into() },
            CursorEvent::Refused { response: Response::Unavailable { reason: "disk full".into() } },
        ];
        assert_eq!(events(&mut cursor, &errors), Ok(expected.into()));
    }

    #[test]
    fn a_frame_that_is_no_response_to_the_watch_is_an_error() {
        let request = "kind=WATCH tag=1 prefix= since=0";
        for message in [Message::get(WATCH, "k"), Message::put(WATCH, "k", "v", Version::new(1))] {
            let expected =
                ProtocolError::WrongResponse { request: request.into(), found: message.redacted().to_string() };
            assert_eq!(events(&mut connected(None), &[message]), Err(expected));
        }
        let unexpected =
            |message: Message| Err(ProtocolError::UnexpectedFrame { found: message.redacted().to_string() });
        for message in [mark(Tag::new(2), 1), Message::error(Tag::new(2), "no"), Message::get(Tag::BROADCAST, "k")] {
            assert_eq!(events(&mut connected(None), std::slice::from_ref(&message)), unexpected(message));
        }
        // The server responds once.
        for again in [mark(WATCH, 6), Message::error(WATCH, "no")] {
            let mut cursor = connected(None);
            assert_eq!(steps(&mut cursor, &[mark(WATCH, 5)]), [(String::new(), 5, false)]);
            assert_eq!(events(&mut cursor, std::slice::from_ref(&again)), unexpected(again));
        }
    }

    #[test]
    fn a_prefix_that_is_too_long_for_a_frame_is_refused() {
        let error = Cursor::new(vec![0; 65_536], None).connected(&hello(STORE)).unwrap_err();
        assert_eq!(error.to_string(), "bad message: expected a prefix of at most 65535 bytes, found 65536");
    }
}
