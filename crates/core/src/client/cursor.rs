//! A cursor on the history, as a state machine: what changes under a prefix, from a revision on, told and not kept.

use super::Position;
use super::connection::{ProtocolError, readable};
use super::request::{Request, Response, refusal};
use super::scope::Scope;
use crate::{Output, StoreId};
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use syncline_wire::{
    Decoded, Delete, EncodeError, Mark, Message, Put, PutLarge, Redacted, Revision, ServerHello, Tag, Version, decode,
};

/// The tag of the WATCH. Nothing else is asked.
const WATCH: Tag = Tag::new(1);

/// What [`Cursor::handle_input`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorEvent {
    /// It has moved on in the history.
    Step(Step),
    /// The server says something of the connection itself; usually that it is about to close it.
    Notice {
        /// What it says.
        text: String,
    },
    /// The server refuses to tell.
    Refused {
        /// What it answers instead.
        answer: Response,
    },
    /// Nothing whole: more must come.
    Incomplete {
        /// The bytes that the next frame has at the least.
        expected: usize,
    },
}

/// Changes that take what the store held at one revision to what it held at a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was told before, if anything, is to be forgotten: these are all keys that there are.
    pub is_reset: bool,
    /// Key by key, in the order in which they happened; what is told of a longer time, each once and in the order of the
    /// keys.
    pub changes: Vec<KeyChange>,
    /// Where this leads to: what to open a cursor with to go on from here.
    pub at: Position,
}

/// A key that was written or deleted.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Which key.
    pub key: Bytes,
    /// What it holds; `None`: it was deleted.
    #[debug("{:?}", value.as_deref().map(Redacted))]
    pub value: Option<Bytes>,
    /// The version of that, or of its deletion.
    pub version: Version,
}

/// What changes under a prefix, from a position on. It outlives its connections, of which it has one at a time.
///
/// Its driver
/// 1. makes a connection, up to the greeting, and tells it so ([`connected`](Self::connected));
/// 2. writes its [`output`](Self::output);
/// 3. hands it what comes from the socket ([`handle_input`](Self::handle_input)), again and again until
///    [`CursorEvent::Incomplete`], and what is left in the buffer again when more has come;
/// 4. gives the connection up where nothing came for as long as [`patience`](Self::patience), or at an error;
/// 5. when it is lost, tells it so ([`lost`](Self::lost)), throws away what is left in the buffer, and begins at 1.
///
/// # Steps
/// A step is told at a MARK, so no transaction is told by halves, and what was told of the next one when a connection is
/// lost is forgotten: it is told again. The first step comes even where it tells nothing, for it says that this is all;
/// later ones only where they tell something. The [`position`](Self::position) moves with all of them.
#[derive(Debug)]
pub struct Cursor {
    prefix: Bytes,
    /// Up to where everything was told; nothing at the start of the history.
    position: Option<Position>,
    /// The first step was told.
    has_begun: bool,
    output: Output,
    /// Nothing where there is no connection.
    session: Option<Session>,
}

/// What is known of one connection, and was told on it since the last MARK.
///
/// ```text
///   connected ──▶ what was missed ── MARK of the WATCH ──▶ what changes, as it commits
///                    │   ▲
///                    └───┘ MARK of revision 0: everything instead
/// ```
#[derive(Debug)]
struct Session {
    store: StoreId,
    patience: Duration,
    /// The WATCH, until it is answered.
    asked: Option<Asked>,
    /// The next step says that what was told before is to be forgotten.
    is_reset: bool,
    changes: Vec<KeyChange>,
}

#[derive(Debug)]
struct Asked {
    watch: Message,
    scope: Scope,
}

impl Cursor {
    /// A cursor on all keys under a prefix; the empty one: on all that there are. Without `since` its first step tells all
    /// keys; with it, what has changed since then.
    pub fn new(prefix: impl Into<Bytes>, since: Option<Position>) -> Self {
        Self { prefix: prefix.into(), position: since, has_begun: false, output: Output::new(), session: None }
    }

    /// A connection was made, and its server has answered HELLO: asks for what comes after the position.
    ///
    /// # Errors
    /// [`EncodeError`] where the prefix is too long for a frame.
    pub fn connected(&mut self, greeting: &ServerHello) -> Result<(), EncodeError> {
        self.lost();
        let store = StoreId::new(greeting.store_id);
        let known = self.position.filter(|position| position.store.is_none_or(|of| of == store));
        let since = known.map_or(Revision::ZERO, |position| position.revision);
        let watch = Message::watch(WATCH, self.prefix.clone(), since);
        self.output.push(&watch)?;
        self.session = Some(Session {
            store,
            patience: greeting.patience(),
            asked: Some(Asked { watch, scope: Scope::since(since) }),
            is_reset: self.position.is_some() && known.is_none(),
            changes: Vec::new(),
        });
        Ok(())
    }

    /// The connection was lost. What was told since the last MARK is forgotten.
    pub fn lost(&mut self) {
        self.session = None;
        self.output = Output::new();
    }

    /// What is to be written.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Up to where everything was told, which is where it goes on; nothing at the start of the history.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// How long a silence means that the connection is dead; `None` where there is none.
    pub fn patience(&self) -> Option<Duration> {
        self.session.as_ref().map(|session| session.patience)
    }

    /// Takes frames off the front of `buffer` until they say something.
    ///
    /// # Errors
    /// [`ProtocolError`] where the server does not keep to the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<CursorEvent, ProtocolError> {
        loop {
            let message = match decode(buffer)? {
                Decoded::Frame(message) => message,
                Decoded::Incomplete { expected } => return Ok(CursorEvent::Incomplete { expected }),
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            };
            let Some(session) = &mut self.session else {
                return Err(ProtocolError::Unasked { found: message.redacted().to_string() });
            };
            match message {
                Message::Error(error) if error.tag == Tag::BROADCAST => {
                    return Ok(CursorEvent::Notice { text: readable(&error.text) });
                }
                Message::Error(error) if error.tag == WATCH && session.asked.is_some() => {
                    let request = Request::Watch { prefix: self.prefix.clone() };
                    return Ok(CursorEvent::Refused { answer: refusal(&request, &error) });
                }
                message => {
                    if let Some(step) = session.take(message)? {
                        self.position = Some(step.at);
                        let is_first = !std::mem::replace(&mut self.has_begun, true);
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
    /// What a frame makes of what was told before it: at a MARK, a step.
    fn take(&mut self, message: Message) -> Result<Option<Step>, ProtocolError> {
        match (message, &mut self.asked) {
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
            (Message::Mark(Mark { tag: WATCH, revision }), Some(asked)) if asked.scope.is_forgotten_at(revision) => {
                asked.scope = Scope::All;
                self.is_reset = true;
                self.changes.clear();
                Ok(None)
            }
            (Message::Mark(Mark { tag: WATCH, revision }), Some(asked)) => {
                let changes = in_order(std::mem::take(&mut self.changes), asked.scope);
                self.asked = None;
                Ok(Some(self.step(changes, revision)))
            }
            (Message::Mark(Mark { tag: Tag::BROADCAST, revision }), None) => {
                let changes = std::mem::take(&mut self.changes);
                Ok(Some(self.step(changes, revision)))
            }
            // What was told so far is not all of it.
            (Message::Mark(Mark { tag: Tag::BROADCAST, .. }), Some(_)) => Ok(None),
            (other, Some(asked)) if other.tag() == WATCH => {
                Err(ProtocolError::NoAnswer { asked: asked.watch.to_string(), found: other.redacted().to_string() })
            }
            (other, _) => Err(ProtocolError::Unasked { found: other.redacted().to_string() }),
        }
    }

    fn step(&mut self, changes: Vec<KeyChange>, revision: Revision) -> Step {
        let is_reset = std::mem::take(&mut self.is_reset);
        Step { is_reset, changes, at: Position { store: Some(self.store), revision } }
    }
}

/// The keys in their order, each at its latest; where these are all that there are, without those that were deleted
/// meanwhile.
fn in_order(mut changes: Vec<KeyChange>, scope: Scope) -> Vec<KeyChange> {
    // The sort is stable: of a key, what was told last stands last.
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes.dedup_by(|later, kept| {
        let is_same = later.key == kept.key;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    changes.retain(|change| scope == Scope::Missed || change.value.is_some());
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    const STORE: StoreId = StoreId::new([7; 16]);
    const OTHER: StoreId = StoreId::new([8; 16]);

    fn greeting(store: StoreId) -> ServerHello {
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

    /// A cursor on all keys that was just connected.
    fn connected(since: Option<Position>) -> Cursor {
        let mut cursor = Cursor::new("", since);
        cursor.connected(&greeting(STORE)).unwrap();
        cursor
    }

    /// The revision from which the cursor asks. Takes its output.
    fn since(cursor: &mut Cursor) -> u64 {
        let output = cursor.output();
        let mut asked = BytesMut::from(&*output.copy_to_bytes(output.remaining()));
        match decode(&mut asked) {
            Ok(Decoded::Frame(Message::Watch(watch))) if asked.is_empty() && watch.tag == WATCH => watch.since.get(),
            other => panic!("expected one WATCH, found {other:?} and {asked:?}"),
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

    /// All that messages have the cursor say, up to the first error.
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

    /// The steps that messages make, each as its keys with their versions, in lower case where they were deleted.
    fn steps(cursor: &mut Cursor, messages: &[Message]) -> Vec<(String, u64, bool)> {
        let told = events(cursor, messages).unwrap().into_iter();
        told.map(|event| {
            let CursorEvent::Step(step) = event else { panic!("expected a step, found {event:?}") };
            let shown = step.changes.iter().map(|change| {
                let key = String::from_utf8_lossy(&change.key).into_owned();
                let key = if change.value.is_some() { key.to_uppercase() } else { key };
                format!("{key}{}", change.version)
            });
            (shown.collect::<Vec<_>>().join(" "), step.at.revision.get(), step.is_reset)
        })
        .collect()
    }

    #[test]
    fn the_first_step_tells_each_key_once_and_in_order_later_ones_all_that_is_told() {
        let mut cursor = connected(None);
        assert_eq!(since(&mut cursor), 0);
        let told = [put("a", 1), put("c", 4), mark(Tag::BROADCAST, 4), put("b", 2), put("a", 2), delete("b", 3)];
        let first = [mark(WATCH, 5), put("c", 5), delete("a", 3), put("c", 6), mark(Tag::BROADCAST, 8)];
        assert_eq!(steps(&mut cursor, &told), []);
        assert_eq!(cursor.position(), None);
        let expected = [("A2 C4".into(), 5, false), ("C5 a3 C6".into(), 8, false)];
        assert_eq!(steps(&mut cursor, &first), expected);
    }

    #[test]
    fn an_empty_store_is_told_as_such() {
        assert_eq!(steps(&mut connected(None), &[mark(WATCH, 0)]), [(String::new(), 0, false)]);
        // One that was full before, too.
        let mut emptied = connected(Some(at(Some(STORE), 5)));
        assert_eq!(steps(&mut emptied, &[mark(WATCH, 0), mark(WATCH, 0)]), [(String::new(), 0, true)]);
    }

    #[test]
    fn it_goes_on_where_it_was_and_is_told_of_deletions() {
        for store in [None, Some(STORE)] {
            let mut cursor = connected(Some(at(store, 5)));
            assert_eq!(since(&mut cursor), 5);
            let told = [put("b", 2), delete("a", 3), mark(WATCH, 7)];
            assert_eq!(steps(&mut cursor, &told), [("a3 B2".into(), 7, false)]);
        }
    }

    #[test]
    fn where_it_cannot_go_on_a_step_tells_everything_and_says_so() {
        // The server has forgotten what was deleted since.
        let mut forgotten = connected(Some(at(Some(STORE), 5)));
        let told = [put("x", 1), mark(WATCH, 0), put("b", 2), delete("c", 2), mark(WATCH, 7)];
        assert_eq!(steps(&mut forgotten, &told), [("B2".into(), 7, true)]);
        // The history is another one.
        let mut other = connected(Some(at(Some(OTHER), 5)));
        assert_eq!(since(&mut other), 0);
        assert_eq!(steps(&mut other, &[put("b", 2), mark(WATCH, 7)]), [("B2".into(), 7, true)]);
    }

    #[test]
    fn only_the_first_step_and_a_reset_may_tell_nothing() {
        let mut cursor = connected(None);
        let told = [mark(WATCH, 5), mark(Tag::BROADCAST, 6), put("a", 1), mark(Tag::BROADCAST, 7)];
        assert_eq!(steps(&mut cursor, &told), [(String::new(), 5, false), ("A1".into(), 7, false)]);
        assert_eq!(steps(&mut cursor, &[mark(Tag::BROADCAST, 8)]), []);
        assert_eq!(cursor.position(), Some(at(Some(STORE), 8)), "it moves without a word");
        // Nothing was missed.
        cursor.connected(&greeting(STORE)).unwrap();
        assert_eq!(steps(&mut cursor, &[mark(WATCH, 8)]), []);
        cursor.connected(&greeting(OTHER)).unwrap();
        assert_eq!(steps(&mut cursor, &[mark(WATCH, 3)]), [(String::new(), 3, true)]);
    }

    #[test]
    fn a_lost_connection_leaves_the_position_and_nothing_else() {
        let mut cursor = connected(None);
        assert_eq!(cursor.patience(), Some(Duration::from_secs(6)));
        let told = [put("a", 1), mark(WATCH, 5), put("b", 1)];
        assert_eq!(steps(&mut cursor, &told), [("A1".into(), 5, false)]);
        cursor.lost();
        assert!(cursor.output().is_empty(), "what was not written belongs to the lost connection");
        assert_eq!((cursor.patience(), cursor.position()), (None, Some(at(Some(STORE), 5))));
        let found = events(&mut cursor, &[put("b", 1)]).unwrap_err();
        assert_eq!(found, ProtocolError::Unasked { found: put("b", 1).redacted().to_string() });
        cursor.connected(&greeting(STORE)).unwrap();
        assert_eq!(since(&mut cursor), 5);
        assert_eq!(steps(&mut cursor, &[put("b", 1), mark(WATCH, 6)]), [("B1".into(), 6, false)]);
    }

    #[test]
    fn a_reset_that_was_cut_off_is_begun_again() {
        let mut cursor = connected(Some(at(Some(OTHER), 5)));
        assert_eq!(steps(&mut cursor, &[put("a", 1)]), []);
        cursor.connected(&greeting(STORE)).unwrap();
        assert_eq!(since(&mut cursor), 0);
        assert_eq!(steps(&mut cursor, &[put("a", 1), mark(WATCH, 7)]), [("A1".into(), 7, true)]);
    }

    #[test]
    fn what_the_server_says_is_handed_on() {
        let mut cursor = connected(None);
        let said = [Message::error(Tag::BROADCAST, "bye"), Message::error(WATCH, "unavailable: disk full")];
        let expected = [
            CursorEvent::Notice { text: "bye".into() },
            CursorEvent::Refused { answer: Response::Unavailable { reason: "disk full".into() } },
        ];
        assert_eq!(events(&mut cursor, &said), Ok(expected.into()));
    }

    #[test]
    fn what_is_no_answer_to_a_watch_is_an_error() {
        let asked = "kind=WATCH tag=1 prefix= since=0";
        for message in [Message::get(WATCH, "k"), Message::put(WATCH, "k", "v", Version::new(1))] {
            let expected = ProtocolError::NoAnswer { asked: asked.into(), found: message.redacted().to_string() };
            assert_eq!(events(&mut connected(None), &[message]), Err(expected));
        }
        let unasked = |message: Message| Err(ProtocolError::Unasked { found: message.redacted().to_string() });
        for message in [mark(Tag::new(2), 1), Message::error(Tag::new(2), "no"), Message::get(Tag::BROADCAST, "k")] {
            assert_eq!(events(&mut connected(None), std::slice::from_ref(&message)), unasked(message));
        }
        // It is answered once.
        for again in [mark(WATCH, 6), Message::error(WATCH, "no")] {
            let mut cursor = connected(None);
            assert_eq!(steps(&mut cursor, &[mark(WATCH, 5)]), [(String::new(), 5, false)]);
            assert_eq!(events(&mut cursor, std::slice::from_ref(&again)), unasked(again));
        }
    }

    #[test]
    fn a_prefix_that_fits_no_frame_is_refused() {
        let bad = Cursor::new(vec![0; 65_536], None).connected(&greeting(STORE)).unwrap_err();
        assert_eq!(bad.to_string(), "bad message: expected a prefix of at most 65535 bytes, found 65536");
    }
}
