//! One client of the random schedule: its connection, what is on the way to it and from it, and all that it was sent.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::server::{Access, Effect, Input, Limits, PageResult, ServerConnection, ServerParameters};
use syncline_core::{ConnId, Entry, Outcome, Page, RecentLog, Rights, StoreId, Transaction};
use syncline_wire::{Decoded, Message, Put, Revision, Tag, Version, decode};

use crate::support::{Counts, count};
use crate::world::Skew;

/// How much unsent output makes a connection wait with more.
const OUTPUT_ROOM: usize = 128 * 1024;
/// The largest frame that a connection is sent.
const LARGEST: usize = Put::OVERHEAD + Limits::MAX_PUT;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get {
        key: usize,
    },
    Put {
        key: usize,
        skew: Skew,
        size: usize,
    },
    /// A PUT that is refused without asking anybody.
    Refused,
}

/// One request, and what became of it.
pub(crate) struct Request {
    pub(crate) message: Message,
    /// The answer, once it is known.
    pub(crate) answer: Option<Message>,
    /// Where a write stands in the history, or the revision at which it was found to be stale.
    pub(crate) at: Option<Revision>,
    /// The version that was read.
    pub(crate) read: Option<Version>,
}

impl Request {
    pub(crate) fn new(message: Message) -> Self {
        Self { message, answer: None, at: None, read: None }
    }

    pub(crate) fn is_put(&self) -> bool {
        matches!(self.message, Message::Put(_))
    }

    /// The bytes that are held for it.
    fn held(&self) -> usize {
        match (&self.answer, &self.message) {
            (Some(answer), _) => answer.encoded_length(),
            (None, Message::Get(get)) => get.key.len(),
            (None, message) => message.encoded_length(),
        }
    }

    /// Whether it was a PUT that was accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.is_put() && self.answer.as_ref() == Some(&self.message)
    }

    /// Whether it was a PUT that was refused for its version.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_put() && self.at.is_some() && !self.is_accepted()
    }
}

/// What was done, and is not handed to the connection yet.
pub(crate) enum Done {
    Verdict,
    Outcome(Outcome),
    Entry(Option<Entry>),
    /// A read that the store was not asked yet.
    Asked(Bytes),
    Page(Page),
}

pub(crate) struct Client {
    pub(crate) connection: ServerConnection,
    limits: Limits,
    /// What was written to the socket and has not arrived.
    pub(crate) outgoing: BytesMut,
    pub(crate) input: BytesMut,
    /// All that it has ever asked.
    pub(crate) requests: Vec<Request>,
    /// How many of them the connection has taken.
    taken: usize,
    /// Input that was taken, of a request that is not counted in `taken`.
    partly_taken: usize,
    pub(crate) done: VecDeque<Done>,
    /// All that the connection has ever sent, when it was put into the output.
    pub(crate) frames: Vec<Message>,
    /// The end of that, where it is no whole frame.
    partial: BytesMut,
    /// How much of the output is in `frames` already.
    looked_at: usize,
    /// How many requests are answered by `frames`.
    answered: usize,
    /// Where it has started to follow the log.
    pub(crate) joined: Option<Revision>,
    is_open: bool,
    /// The head of the log that it was shown last.
    shown: Revision,
    /// Whether it was ever behind what the log held.
    pub(crate) has_caught_up: bool,
    pub(crate) counts: Counts,
}

impl Client {
    pub(crate) fn new(id: u64, access: Access, limits: Limits) -> Self {
        let is_open = access != Access::Password;
        let mut client = Self {
            connection: ServerConnection::new(
                ConnId::new(id),
                ServerParameters {
                    limits: limits.validated().unwrap(),
                    store: StoreId::new([0; 16]),
                    heartbeat: Duration::from_secs(2),
                },
                access,
            ),
            limits,
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            requests: Vec::new(),
            taken: 0,
            partly_taken: 0,
            done: VecDeque::new(),
            frames: Vec::new(),
            partial: BytesMut::new(),
            looked_at: 0,
            answered: 0,
            joined: None,
            is_open,
            shown: Revision::ZERO,
            has_caught_up: false,
            counts: Counts::new(),
        };
        if !is_open {
            client.ask(|tag| Message::auth(tag, "secret"));
        }
        client
    }

    /// Writes a request to the socket.
    pub(crate) fn ask(&mut self, message: impl FnOnce(Tag) -> Message) {
        let message = message(Tag::new(u16::try_from(self.requests.len() + 1).unwrap()));
        message.encode(&mut self.outgoing).unwrap();
        let mut request = Request::new(message);
        if request.message.version() == Some(Version::MAX) {
            request.answer = Some(Message::error(request.message.tag(), "version exhausted"));
        } else if let Some(missing) = self.missing(&request.message) {
            let text = format!("not permitted: expected the right to {missing}");
            request.answer = Some(Message::error(request.message.tag(), text));
        }
        self.requests.push(request);
    }

    /// The right that it does not have to what it asks for.
    fn missing(&self, message: &Message) -> Option<String> {
        // Whoever still has to show a password may do everything then.
        let rights = self.connection.rights()?;
        let shown = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        match message {
            Message::Get(get) if !rights.may_read(&get.key) => Some(format!("read \"{}\"", shown(&get.key))),
            Message::Put(put) if !rights.may_write(&put.key) => Some(format!("write \"{}\"", shown(&put.key))),
            _ => None,
        }
    }

    /// Bytes arrive; answers whether the connection has taken any.
    pub(crate) fn deliver(&mut self, bytes: usize) -> bool {
        let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
        self.input.extend_from_slice(&arrived);
        let before = self.input.len();
        if self.connection.handle_input(&mut self.input) == Input::Paused && !self.input.is_empty() {
            count(&mut self.counts, "paused", 1);
        }
        let taken = before - self.input.len();
        self.partly_taken += taken;
        while let Some(next) = self.requests.get(self.taken)
            && next.message.encoded_length() <= self.partly_taken
        {
            self.partly_taken -= next.message.encoded_length();
            self.taken += 1;
        }
        assert_eq!(self.partly_taken, 0, "only whole frames are taken");
        self.look();
        taken > 0
    }

    /// Asks what is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        let effect = self.connection.poll_effect();
        self.look();
        effect
    }

    /// Hands over what was done first.
    pub(crate) fn hand(&mut self, done: Done) {
        match done {
            Done::Verdict => {
                let request = self.decide();
                request.answer = Some(Message::auth(request.message.tag(), ""));
                self.connection.handle_verdict(Some(Arc::new(Rights::all())));
                self.is_open = true;
            }
            Done::Outcome(outcome) => {
                let is_ahead = matches!(outcome, Outcome::Accepted { revision } if revision > self.shown);
                count(&mut self.counts, "outcomes before the log was shown", usize::from(is_ahead));
                let request = self.decide();
                match &outcome {
                    Outcome::Accepted { revision } => {
                        (request.at, request.answer) = (Some(*revision), Some(request.message.clone()));
                    }
                    Outcome::Stale { at, .. } => {
                        let answer = Message::error(request.message.tag(), "stale put");
                        (request.at, request.answer) = (Some(*at), Some(answer));
                    }
                    Outcome::Unavailable { reason } | Outcome::Unknown { reason } => panic!("unavailable: {reason}"),
                }
                self.connection.handle_outcome(outcome);
            }
            Done::Entry(entry) => {
                let request = self.decide();
                let (tag, key) = (request.message.tag(), request.message.key().unwrap().clone());
                request.read = Some(entry.as_ref().map_or(Version::ABSENT, |entry| entry.version));
                let shown = str::from_utf8(&key).unwrap();
                request.answer = Some(match &entry {
                    None => Message::error(tag, format!("\"{shown}\": not found")),
                    Some(Entry { value: None, version, .. }) => {
                        Message::error(tag, format!("\"{shown}\": deleted at version {version}, not found"))
                    }
                    Some(Entry { value: Some(value), version, .. }) => Message::put(tag, key, value.clone(), *version),
                });
                self.connection.handle_entry(Ok(entry));
            }
            Done::Asked(_) => panic!("a read that was not done"),
            Done::Page(page) => {
                let waiting = self.requests[self.answered..].iter();
                let merged =
                    waiting.filter(|request| request.is_accepted() && request.at <= Some(page.through)).count();
                count(&mut self.counts, "own answers merged into pages", merged);
                count(&mut self.counts, "pages", 1);
                self.has_caught_up = true;
                self.connection.handle_page(PageResult::Changes(Ok(page)));
            }
        }
        self.look();
    }

    /// The earliest request that is neither answered nor refused at once.
    fn decide(&mut self) -> &mut Request {
        self.requests[..self.taken].iter_mut().find(|request| request.answer.is_none()).unwrap()
    }

    pub(crate) fn show(&mut self, log: &RecentLog) {
        let is_ahead =
            |done: &Done| matches!(done, Done::Outcome(Outcome::Accepted { revision }) if *revision <= log.head());
        if self.done.iter().any(is_ahead) {
            count(&mut self.counts, "own writes in the log before their outcomes", 1);
        }
        if self.joined.is_none() && self.is_open {
            self.joined = Some(log.head());
            count(&mut self.counts, "clients that came late", usize::from(log.head() > Revision::ZERO));
        }
        self.shown = log.head();
        self.connection.handle_log(log);
        self.look();
    }

    /// Takes bytes of the output, answers how many.
    pub(crate) fn take(&mut self, bytes: usize) -> usize {
        let output = self.connection.output();
        let taken = bytes.min(output.remaining());
        output.advance(taken);
        self.looked_at -= taken;
        taken
    }

    /// How many of its own writes of a key are not decided yet.
    pub(crate) fn undecided_writes(&self, key: &Bytes) -> u64 {
        let writes = |request: &&Request| request.is_put() && request.answer.is_none();
        self.requests.iter().filter(writes).filter(|request| request.message.key() == Some(key)).count() as u64
    }

    /// Whether a read waits that the store was not asked yet.
    pub(crate) fn is_reading(&self) -> bool {
        self.done.iter().any(|done| matches!(done, Done::Asked(_)))
    }

    /// The transaction that it is to have asked for now.
    pub(crate) fn check_effect(&self, transaction: &Transaction) {
        assert_eq!(transaction.origin, Some(self.connection.id()));
    }

    /// Whether nothing is on the way, in either direction.
    pub(crate) fn is_drained(&self) -> bool {
        self.outgoing.is_empty()
            && self.input.is_empty()
            && self.done.is_empty()
            && self.answered == self.requests.len()
    }

    /// Copies what is new in the output, and checks that what is held is bounded.
    fn look(&mut self) {
        let output = self.connection.output();
        let unsent = output.remaining();
        let mut slices = [IoSlice::new(&[]); 1024];
        let chunks = output.chunks_vectored(&mut slices);
        let mut skipped = self.looked_at;
        for chunk in &slices[..chunks] {
            let skip = skipped.min(chunk.len());
            skipped -= skip;
            self.partial.extend_from_slice(&chunk[skip..]);
        }
        self.looked_at = unsent;
        loop {
            match decode(&mut self.partial) {
                Ok(Decoded::Frame(frame)) => {
                    self.answered += usize::from(frame.tag() != Tag::BROADCAST);
                    self.frames.push(frame);
                }
                Ok(Decoded::Incomplete { .. }) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(self.partial.is_empty(), "half a frame");
        count(&mut self.counts, "full outputs", usize::from(unsent >= OUTPUT_ROOM));

        let in_flight = &self.requests[self.answered..self.taken];
        assert!(in_flight.len() <= self.limits.max_requests, "{} requests in flight", in_flight.len());
        let held: usize = in_flight.iter().map(Request::held).sum();
        // Requests up to the limit and one more, answers up to the limit and one more, and what fills the output: a page
        // or broadcasts, and a transaction of two large values more.
        let bound = 2 * (self.limits.max_unsent + LARGEST) + OUTPUT_ROOM + 2 * LARGEST;
        assert!(held + unsent < bound, "{held} held and {unsent} unsent, expected less than {bound}");
    }
}
