//! A cursor on the history: what changes under a prefix, from a revision on, told and not kept.

use crate::link::{self, Link};
use crate::{BaseOnly, ConnectError, Endpoints, Options, RequestError};
use backon::ExponentialBackoff;
use bytes::{Buf, Bytes, BytesMut};
use std::time::Duration;
use syncline_core::StoreId;
use syncline_wire::{Decoded, Error, Greeting, Mark, Message, Put, PutLarge, Revision, Tag, Version, decode};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How much is read at once, at the least.
const READ_SIZE: usize = 64 * 1024;

/// The tag of the WATCH. Nothing else is asked.
const WATCH: Tag = Tag::new(1);

/// What changes under a prefix, from a revision on.
///
/// It has a connection of its own, and keeps nothing of what it has told. Who reads it slowly is told of fewer intermediate
/// states, by the server, and holds up nobody.
///
/// # What is promised
/// - Whoever applies all changes, to the last of a [`Step`], holds what the store held at the revision of that step. No
///   transaction is told by halves.
/// - A connection that is lost is made again, and goes on where it was: no change is missed, and none is told twice.
/// - Where that can't be, for the history is another one or what was deleted since is forgotten, a step says so
///   ([`Step::is_reset`]), and tells everything.
#[derive(Debug)]
pub struct Cursor {
    endpoints: Endpoints,
    options: Options,
    prefix: Bytes,
    /// Up to where everything was told; nothing at the start of the history.
    position: Option<Position>,
    /// The first step was told.
    has_begun: bool,
    /// Where to connect first: where the last connection led to.
    endpoint: usize,
    state: State,
}

/// ```text
///   open ──▶ Connected ──── connection lost ────▶ Away
///                ▲                                 │
///                └──────────── connected again ────┘
/// ```
#[derive(Debug)]
enum State {
    Connected(Box<Session>),
    Away { pauses: ExponentialBackoff },
}

/// A point in a history. Shown and read as `STORE:REVISION`, or as the revision alone where it is not known of which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose history it is; nothing: of whatever store is found.
    pub store: Option<StoreId>,
    /// As of when.
    pub revision: Revision,
}

/// What a cursor tells next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It has moved on in the history.
    To(Step),
    /// The connection was lost. It is made again, and nothing is missed.
    Lost {
        /// What happened.
        reason: String,
    },
    /// The connection was made again.
    Back,
}

/// Changes that take what the store held at one revision to what it held at a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was told before, if anything, is to be forgotten: these are all keys that there are.
    pub is_reset: bool,
    /// Key by key, in the order in which they happened; what is told of a longer time, each once and in the order of the
    /// keys.
    pub changes: Vec<KeyChange>,
    /// Where this leads to: what to give to [`Cursor::open`] to go on from here.
    pub at: Position,
}

/// A key that was written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Which key.
    pub key: Bytes,
    /// What it holds; `None`: it was deleted.
    pub value: Option<Bytes>,
    /// The version of that, or of its deletion.
    pub version: Version,
}

/// A cursor could not be opened, or can't go on.
#[derive(Debug, Error)]
pub enum CursorError {
    /// There is no server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not tell what changes.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Cursor {
    /// A cursor on all keys under a prefix; the empty one: on all that there are. Without `since` its first step tells all
    /// keys; with it, what has changed since then. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`CursorError::Connect`] where the first attempt to connect fails; [`RequestError::BaseOnly`] where the server does
    /// not know the extension.
    pub async fn open(
        endpoints: impl Into<Endpoints>,
        prefix: impl Into<Bytes>,
        since: Option<Position>,
        options: Options,
    ) -> Result<Self, CursorError> {
        let (endpoints, prefix) = (endpoints.into(), prefix.into());
        let link = link::connect(&endpoints, 0, options.connect_timeout, false).await?;
        let endpoint = link.endpoint;
        let state = State::Connected(Box::new(Session::new(link, &prefix, since)?));
        Ok(Self { endpoints, options, prefix, position: since, has_begun: false, endpoint, state })
    }

    /// Waits for the next step, or for something else worth knowing. The first step comes even where it tells nothing.
    /// May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`CursorError::Request`] where the server refuses to tell.
    pub async fn next(&mut self) -> Result<Moved, CursorError> {
        loop {
            match &mut self.state {
                State::Connected(session) => match session.next().await {
                    Ok(step) => {
                        self.position = Some(step.at);
                        let is_first = !std::mem::replace(&mut self.has_begun, true);
                        if is_first || step.is_reset || !step.changes.is_empty() {
                            return Ok(Moved::To(step));
                        }
                    }
                    Err(Ended::Refused(error)) => return Err(error.into()),
                    Err(Ended::Lost(reason)) => {
                        self.state = State::Away { pauses: self.options.pauses() };
                        return Ok(Moved::Lost { reason });
                    }
                },
                State::Away { pauses } => {
                    sleep(pauses.next().unwrap_or(self.options.max_pause)).await;
                    let within = self.options.connect_timeout;
                    if let Ok(link) = link::connect(&self.endpoints, self.endpoint, within, false).await {
                        self.endpoint = link.endpoint;
                        self.state = State::Connected(Box::new(Session::new(link, &self.prefix, self.position)?));
                        return Ok(Moved::Back);
                    }
                }
            }
        }
    }
}

/// Why a connection is over.
enum Ended {
    Lost(String),
    Refused(RequestError),
}

/// One connection.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    gathering: Gathering,
    /// How long the server may be silent.
    patience: Duration,
    /// What the server has said of the connection itself.
    notice: Option<String>,
}

impl Session {
    fn new(link: Link, prefix: &Bytes, position: Option<Position>) -> Result<Self, RequestError> {
        let greeting = link.greeting.ok_or(BaseOnly)?;
        let gathering = Gathering::new(&greeting, position);
        let mut output = BytesMut::new();
        Message::watch(WATCH, prefix.clone(), gathering.since)
            .encode(&mut output)
            .map_err(|bad| RequestError::TooLarge { text: bad.to_string() })?;
        let patience = greeting.patience();
        Ok(Self { stream: link.stream, input: link.input, output, gathering, patience, notice: None })
    }

    async fn next(&mut self) -> Result<Step, Ended> {
        loop {
            while let Some(message) = self.received()? {
                if let Some(step) = self.take(message)? {
                    return Ok(step);
                }
            }
            while self.output.has_remaining() {
                self.stream.write_buf(&mut self.output).await.map_err(|error| self.lost(failed(&error)))?;
            }
            self.input.reserve(READ_SIZE);
            match timeout(self.patience, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Err(self.lost("the server closed the connection".into())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.lost(failed(&error))),
                Err(_) => return Err(self.lost(format!("the server was silent for {:?}", self.patience))),
            }
        }
    }

    fn received(&mut self) -> Result<Option<Message>, Ended> {
        match decode(&mut self.input) {
            Ok(Decoded::Frame(message)) => Ok(Some(message)),
            Ok(Decoded::Incomplete { .. }) => Ok(None),
            Ok(Decoded::TooLarge { kind, excess, .. }) => {
                Err(Ended::Lost(unexpected(&format!("a {kind} of {excess}"))))
            }
            Err(error) => Err(Ended::Lost(unexpected(&error.to_string()))),
        }
    }

    fn take(&mut self, message: Message) -> Result<Option<Step>, Ended> {
        match message {
            Message::Error(Error { tag: WATCH, text }) => {
                Err(Ended::Refused(RequestError::Refused { text: String::from_utf8_lossy(&text).into_owned() }))
            }
            Message::Error(Error { text, .. }) => {
                self.notice = Some(format!("the server says: {}", String::from_utf8_lossy(&text)));
                Ok(None)
            }
            message => self.gathering.take(message).map_err(|found| Ended::Lost(unexpected(&found))),
        }
    }

    /// The connection is over, for what the server has said, or else for this.
    fn lost(&mut self, reason: String) -> Ended {
        Ended::Lost(self.notice.take().unwrap_or(reason))
    }
}

fn failed(error: &std::io::Error) -> String {
    format!("the connection failed: {error}")
}

fn unexpected(found: &str) -> String {
    format!("the server does not keep to the protocol: expected what a WATCH is answered with, found {found}")
}

/// What was told on one connection since the last MARK.
#[derive(Debug)]
struct Gathering {
    store: StoreId,
    /// From where on was asked.
    since: Revision,
    is_reset: bool,
    /// All that was missed was told.
    is_whole: bool,
    /// Whether the server has said that it can't tell what was missed.
    has_forgotten: bool,
    changes: Vec<KeyChange>,
}

impl Gathering {
    fn new(greeting: &Greeting, position: Option<Position>) -> Self {
        let store = StoreId::new(greeting.store_id);
        let known = position.filter(|position| position.store.is_none_or(|of| of == store));
        let since = known.map_or(Revision::ZERO, |position| position.revision);
        let is_reset = position.is_some() && known.is_none();
        Self { store, since, is_reset, is_whole: false, has_forgotten: false, changes: Vec::new() }
    }

    /// # Errors
    /// What was found, where it is not what a WATCH is answered with.
    fn take(&mut self, message: Message) -> Result<Option<Step>, String> {
        match message {
            Message::Put(Put { tag: Tag::BROADCAST, key, value, version })
            | Message::PutLarge(PutLarge { tag: Tag::BROADCAST, key, value, version }) => {
                self.changes.push(KeyChange { key, value: Some(value), version });
                Ok(None)
            }
            Message::Delete(syncline_wire::Delete { tag: Tag::BROADCAST, key, version }) => {
                self.changes.push(KeyChange { key, value: None, version });
                Ok(None)
            }
            Message::Mark(Mark { tag: WATCH, revision }) if !self.is_whole => {
                // Who asks from the start on is not told to forget: this is then an empty store.
                if revision == Revision::ZERO && self.since != Revision::ZERO && !self.has_forgotten {
                    (self.has_forgotten, self.is_reset) = (true, true);
                    self.changes.clear();
                    return Ok(None);
                }
                self.is_whole = true;
                let is_all = self.since == Revision::ZERO || self.has_forgotten;
                let changes = in_order(std::mem::take(&mut self.changes), is_all);
                Ok(Some(self.step(changes, revision)))
            }
            Message::Mark(Mark { tag: Tag::BROADCAST, revision }) if self.is_whole => {
                let changes = std::mem::take(&mut self.changes);
                Ok(Some(self.step(changes, revision)))
            }
            // What was told so far is not all of it.
            Message::Mark(Mark { tag: Tag::BROADCAST, .. }) => Ok(None),
            other => Err(other.to_string()),
        }
    }

    fn step(&mut self, changes: Vec<KeyChange>, revision: Revision) -> Step {
        let is_reset = std::mem::take(&mut self.is_reset);
        Step { is_reset, changes, at: Position { store: Some(self.store), revision } }
    }
}

/// The keys in their order, each at its latest; where these are all that there are, without those that were deleted
/// meanwhile.
fn in_order(mut changes: Vec<KeyChange>, is_all: bool) -> Vec<KeyChange> {
    // The sort is stable: of a key, what was told last stands last.
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes.dedup_by(|later, kept| {
        let is_same = later.key == kept.key;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    changes.retain(|change| !is_all || change.value.is_some());
    changes
}

/// What is no position.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {found}")]
pub struct NoPosition {
    found: String,
}

impl std::str::FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let no = || NoPosition { found: text.to_owned() };
        let (store, revision) = match text.split_once(':') {
            None => (None, text),
            Some((store, revision)) => (Some(store_id(store).ok_or_else(no)?), revision),
        };
        Ok(Self { store, revision: Revision::new(revision.parse().map_err(|_| no())?) })
    }
}

fn store_id(text: &str) -> Option<StoreId> {
    let number = u128::from_str_radix(text, 16).ok()?;
    let is_canonical = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_canonical.then(|| StoreId::new(number.to_be_bytes()))
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.store {
            Some(store) => write!(f, "{store}:{}", self.revision),
            None => self.revision.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId::new([7; 16]);

    fn gathering(position: Option<Position>) -> Gathering {
        let greeting = Greeting {
            protocol: 1,
            features: 0,
            store_id: STORE.bytes(),
            head: Revision::new(9),
            heartbeat_ms: 2000,
            max_key: 4096,
            max_entry: 65_525,
        };
        Gathering::new(&greeting, position)
    }

    fn at(store: Option<StoreId>, revision: u64) -> Position {
        Position { store, revision: Revision::new(revision) }
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

    /// The steps that messages make, each as its keys with their versions, in lower case where they were deleted.
    fn steps(gathering: &mut Gathering, messages: &[Message]) -> Vec<(String, u64, bool)> {
        let told = messages.iter().filter_map(|message| gathering.take(message.clone()).unwrap());
        told.map(|step| {
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
        let mut gathering = gathering(None);
        assert_eq!(gathering.since, Revision::ZERO);
        let told = [put("a", 1), put("c", 4), mark(Tag::BROADCAST, 4), put("b", 2), put("a", 2), delete("b", 3)];
        let first = [mark(WATCH, 5), put("c", 5), delete("a", 3), put("c", 6), mark(Tag::BROADCAST, 8)];
        assert_eq!(steps(&mut gathering, &told), []);
        let expected = [("A2 C4".into(), 5, false), ("C5 a3 C6".into(), 8, false)];
        assert_eq!(steps(&mut gathering, &first), expected);
    }

    #[test]
    fn an_empty_store_is_told_as_such() {
        assert_eq!(steps(&mut gathering(None), &[mark(WATCH, 0)]), [(String::new(), 0, false)]);
        // One that was full before, too.
        let mut emptied = gathering(Some(at(Some(STORE), 5)));
        assert_eq!(steps(&mut emptied, &[mark(WATCH, 0), mark(WATCH, 0)]), [(String::new(), 0, true)]);
    }

    #[test]
    fn it_goes_on_where_it_was_and_is_told_of_deletions() {
        for store in [None, Some(STORE)] {
            let mut gathering = gathering(Some(at(store, 5)));
            assert_eq!(gathering.since, Revision::new(5));
            let told = [put("b", 2), delete("a", 3), mark(WATCH, 7)];
            assert_eq!(steps(&mut gathering, &told), [("a3 B2".into(), 7, false)]);
        }
    }

    #[test]
    fn where_it_cannot_go_on_a_step_tells_everything_and_says_so() {
        // The server has forgotten what was deleted since.
        let mut forgotten = gathering(Some(at(Some(STORE), 5)));
        let told = [put("x", 1), mark(WATCH, 0), put("b", 2), delete("c", 2), mark(WATCH, 7), mark(Tag::BROADCAST, 7)];
        assert_eq!(steps(&mut forgotten, &told), [("B2".into(), 7, true), (String::new(), 7, false)]);
        // The history is another one.
        let mut other = gathering(Some(at(Some(StoreId::new([8; 16])), 5)));
        assert_eq!(other.since, Revision::ZERO);
        assert_eq!(steps(&mut other, &[put("b", 2), mark(WATCH, 7)]), [("B2".into(), 7, true)]);
    }

    #[test]
    fn what_is_no_answer_to_a_watch_is_refused() {
        for message in [Message::get(WATCH, "k"), Message::put(WATCH, "k", "v", Version::new(1)), mark(Tag::new(2), 1)]
        {
            let shown = message.to_string();
            assert_eq!(gathering(None).take(message), Err(shown));
        }
    }

    #[test]
    fn positions_can_be_shown_and_read() {
        let shown = format!("{}:17", "07".repeat(16));
        assert_eq!(at(Some(STORE), 17).to_string(), shown);
        assert_eq!(shown.parse(), Ok(at(Some(STORE), 17)));
        assert_eq!("17".parse(), Ok(at(None, 17)));
        for text in ["", "x", "7:17", "-1", ":1", &format!("+{}:1", "7".repeat(31)), &format!("{}:", "07".repeat(16))] {
            let expected =
                format!("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {text}");
            assert_eq!(text.parse::<Position>().unwrap_err().to_string(), expected);
        }
    }
}
