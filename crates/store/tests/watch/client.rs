//! One watcher: its connection, what is on the way, and what it makes of what it is sent, as a careful client would.

use crate::history::{History, State, apply};
use crate::support::{Counts, count};
use crate::world::Write;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use syncline_core::server::{
    Access, Effect, Input, Limits, PageRequest, PageResult, ServerConnection, ServerParameters,
};
use syncline_core::{ConnId, Entry, Outcome, RecentLog, StoreId};
use syncline_wire::{Decoded, Message, Revision, Tag, Version, decode};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Write(Write),
    StalePut(&'static str),
    Get(&'static str),
    /// From the start, or where it is watched already, once more.
    Watch(&'static str),
    /// From a revision that the store never gave out.
    WatchUnknown(&'static str),
    List {
        prefix: &'static str,
        after: &'static str,
        limit: u32,
    },
    Barrier,
}

/// What was done for a connection.
pub(crate) enum Done {
    Outcome(Outcome),
    Entry(Option<Entry>),
    Page(PageResult),
}

/// A request that is not answered yet.
struct Request {
    message: Message,
    /// What was committed when it was asked.
    asked_at: Revision,
    /// What a LIST has told so far.
    listed: Vec<Message>,
}

struct Watched {
    /// The tag of the WATCH, until its MARK has come.
    pending: Option<Tag>,
    /// Whether it was told to forget, and not yet everything since.
    is_reset: bool,
    /// Whether it holds what it held on an earlier connection, until the MARK has come.
    resumes: bool,
    /// The tag of the first WATCH: the connection tells of the prefix what is answered after it.
    since: Tag,
}

pub(crate) struct Client {
    id: u64,
    pub(crate) connection: ServerConnection,
    outgoing: BytesMut,
    input: BytesMut,
    /// Whether its input waits until some of what is in flight is answered.
    is_paused: bool,
    pub(crate) done: VecDeque<Done>,
    received: BytesMut,
    next_tag: u16,
    requests: BTreeMap<Tag, Request>,
    watched: BTreeMap<Bytes, Watched>,
    /// What it holds of all that it watches, changes behind the last MARK included.
    held: State,
    /// What it held at the last MARK, and its revision.
    shown: (State, Revision),
    pub(crate) counts: Counts,
}

fn connect(id: u64) -> ServerConnection {
    let parameters =
        ServerParameters { limits: Limits::default(), store: StoreId::new([7; 16]), heartbeat: Duration::from_secs(2) };
    ServerConnection::new(ConnId::new(id), parameters, Access::open())
}

impl Client {
    pub(crate) fn new(id: u64) -> Self {
        let mut client = Self {
            id,
            connection: connect(id),
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            is_paused: false,
            done: VecDeque::new(),
            received: BytesMut::new(),
            next_tag: 1,
            requests: BTreeMap::new(),
            watched: BTreeMap::new(),
            held: State::new(),
            shown: (State::new(), Revision::ZERO),
            counts: Counts::new(),
        };
        client.ask(Revision::ZERO, |tag| Message::hello(tag, ""));
        client
    }

    /// Writes a request to the socket.
    pub(crate) fn ask(&mut self, head: Revision, message: impl FnOnce(Tag) -> Message) {
        let message = message(Tag::new(self.next_tag));
        self.next_tag += 1;
        message.encode(&mut self.outgoing).unwrap();
        self.requests.insert(message.tag(), Request { message, asked_at: head, listed: Vec::new() });
    }

    /// Watches a prefix; since what it knows of it, or since a revision that does not exist.
    pub(crate) fn watch(&mut self, prefix: &'static str, since: Revision, head: Revision) {
        let tag = Tag::new(self.next_tag);
        self.watched.insert(prefix.into(), Watched { pending: Some(tag), is_reset: false, resumes: false, since: tag });
        self.ask(head, |tag| Message::watch(tag, prefix, since));
    }

    pub(crate) fn is_watching(&self, prefix: &str) -> bool {
        self.watched.contains_key(prefix.as_bytes())
    }

    /// The connection is lost. It holds what it held at the last MARK, and resumes from there.
    pub(crate) fn reconnect(&mut self, id: u64, head: Revision) {
        count(&mut self.counts, "reconnections", 1);
        self.id = id;
        self.connection = connect(id);
        self.outgoing.clear();
        self.input.clear();
        self.done.clear();
        self.received.clear();
        self.requests.clear();
        let (held, since) = self.shown.clone();
        self.held = held;
        self.next_tag = 1;
        self.ask(head, |tag| Message::hello(tag, ""));
        for (prefix, watched) in std::mem::take(&mut self.watched) {
            let is_known = watched.pending.is_none() && !watched.is_reset && since > Revision::ZERO;
            if is_known {
                count(&mut self.counts, "watches resumed", 1);
            }
            let tag = Tag::new(self.next_tag);
            let since = if is_known { since } else { Revision::ZERO };
            // What it knows of a prefix that it was not told whole is as good as nothing.
            self.watched.insert(
                prefix.clone(),
                Watched { pending: Some(tag), is_reset: !is_known, resumes: is_known, since: tag },
            );
            self.ask(head, |tag| Message::watch(tag, prefix, since));
        }
        let unknown: Vec<_> = self.held.keys().filter(|key| !self.is_known(key)).cloned().collect();
        unknown.iter().for_each(|key| drop(self.held.remove(key)));
    }

    /// Whether a prefix tells of a key, and it holds all of that.
    fn is_known(&self, key: &[u8]) -> bool {
        let mut above = self.watched.iter().filter(|(prefix, _)| key.starts_with(prefix));
        above.clone().any(|(_, watched)| watched.pending.is_none() || !watched.is_reset)
            && above.all(|(_, watched)| !watched.is_reset)
    }

    /// Whether what it holds of a key is to be that of the store.
    fn is_promised(&self, key: &[u8]) -> bool {
        let mut above = self.watched.iter().filter(|(prefix, _)| key.starts_with(prefix));
        above.clone().any(|(_, watched)| watched.pending.is_none())
            && above.all(|(_, watched)| watched.pending.is_none() || !(watched.is_reset || watched.resumes))
    }

    pub(crate) fn deliver(&mut self, bytes: usize) -> bool {
        let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
        self.input.extend_from_slice(&arrived);
        let before = self.input.len();
        self.is_paused = self.connection.handle_input(&mut self.input) == Input::Paused;
        self.input.len() < before
    }

    /// Whether it goes on when reads were answered, or some of its output was written.
    pub(crate) fn has_work(&self) -> bool {
        self.is_paused || self.connection.has_work()
    }

    pub(crate) fn poll(&mut self) -> Option<Effect> {
        let effect = self.connection.poll_effect();
        if let Some(Effect::Page(PageRequest::Changes { max_bytes, .. })) = &effect {
            count(&mut self.counts, "catch-ups", usize::from(*max_bytes > 64 * 1024));
        }
        effect
    }

    pub(crate) fn hand(&mut self, done: Done) {
        match done {
            Done::Outcome(outcome) => self.connection.handle_outcome(outcome),
            Done::Entry(entry) => self.connection.handle_entry(Ok(entry)),
            Done::Page(page) => self.connection.handle_page(page),
        }
    }

    pub(crate) fn show(&mut self, log: &RecentLog) {
        self.connection.handle_log(log);
    }

    /// Reads some of what it was sent, and checks it against what has happened.
    pub(crate) fn take(&mut self, bytes: usize, history: &History) -> bool {
        let output = self.connection.output();
        let count = bytes.min(output.remaining());
        self.received.extend_from_slice(&output.copy_to_bytes(count));
        loop {
            match decode(&mut self.received) {
                Ok(Decoded::Frame(frame)) => self.receive(&frame, history),
                Ok(Decoded::Incomplete { .. }) => return count > 0,
                other => panic!("{other:?}"),
            }
        }
    }

    fn receive(&mut self, frame: &Message, history: &History) {
        if let Message::Mark(mark) = frame {
            return self.receive_mark(mark.tag, mark.revision, history);
        }
        if frame.tag() == Tag::BROADCAST {
            if self.requests.values().any(|request| matches!(request.message, Message::Hello(_))) {
                // Until HELLO is answered, it is sent everything.
                return;
            }
            assert!(
                self.watched.keys().any(|prefix| frame.key().unwrap().starts_with(prefix)),
                "nobody has asked for {frame}"
            );
            count(&mut self.counts, "deletions", usize::from(matches!(frame, Message::Delete(_))));
            return apply(&mut self.held, frame);
        }
        let request = self.requests.get_mut(&frame.tag()).unwrap_or_else(|| panic!("nobody has asked for {frame}"));
        let is_over = match (&request.message, frame) {
            (Message::Get(get), Message::Put(_) | Message::Delete(_)) => {
                assert_eq!(Some(&get.key), frame.key());
                true
            }
            (_, Message::Error(error)) => {
                count(&mut self.counts, "stale", usize::from(error.text.starts_with(b"stale put")));
                true
            }
            (Message::Hello(_), Message::Hello(_)) => true,
            (Message::List(_), Message::Put(_)) => {
                request.listed.push(frame.clone());
                false
            }
            (Message::Put(_) | Message::Delete(_) | Message::Txn(_), Message::Put(_) | Message::Delete(_)) => {
                let is_txn = matches!(request.message, Message::Txn(_));
                count(&mut self.counts, if is_txn { "own transactions" } else { "own writes" }, 1);
                let key = frame.key().unwrap();
                if self.watched.iter().any(|(prefix, w)| w.since < frame.tag() && key.starts_with(prefix)) {
                    apply(&mut self.held, frame);
                }
                !is_txn
            }
            (asked, _) => panic!("no answer to {asked}: {frame}"),
        };
        if is_over {
            self.requests.remove(&frame.tag());
        }
    }

    fn receive_mark(&mut self, tag: Tag, revision: Revision, history: &History) {
        if tag == Tag::BROADCAST {
            count(&mut self.counts, "heartbeats", usize::from(self.shown.1 == revision));
            return self.check(revision, history);
        }
        let request = self.requests.remove(&tag).unwrap_or_else(|| panic!("a MARK for nobody: tag {tag}"));
        match &request.message {
            Message::Watch(watch) => {
                let watched = self.watched.get_mut(&watch.prefix).unwrap();
                let is_newest = watched.pending == Some(tag);
                // Of an empty store, the MARK that ends it tells 0 too.
                if revision == Revision::ZERO && watch.since > Revision::ZERO && !watched.is_reset {
                    count(&mut self.counts, "watches begun afresh", 1);
                    watched.is_reset = true;
                    self.held.retain(|key, _| !key.starts_with(&watch.prefix));
                    self.requests.insert(tag, request);
                    return;
                }
                if is_newest {
                    (watched.pending, watched.is_reset) = (None, false);
                }
                count(&mut self.counts, "watches answered", 1);
                self.check(revision, history);
            }
            Message::Mark(_) => {
                count(&mut self.counts, "barriers", 1);
                assert!(revision >= request.asked_at, "a barrier at {revision}, expected {}", request.asked_at);
                self.check(revision, history);
            }
            Message::List(list) => {
                count(&mut self.counts, "lists", 1);
                count(&mut self.counts, "listed keys", request.listed.len());
                let keys: Vec<_> = request.listed.iter().map(|frame| frame.key().unwrap()).collect();
                assert!(keys.is_sorted_by(|a, b| a < b), "out of order: {keys:?}");
                assert!(keys.iter().all(|key| key.starts_with(&list.prefix) && **key > list.after), "{keys:?}");
                assert!(keys.len() <= list.limit as usize);
                for frame in &request.listed {
                    assert!(history.ever_held(request.asked_at, revision, frame), "never since it was asked: {frame}");
                }
                // What was there all the time, and within the limit, is listed.
                let is_whole = keys.len() < list.limit as usize;
                let last = keys.last();
                for (key, (_, version)) in history.at(request.asked_at) {
                    let is_asked = key.starts_with(&list.prefix) && key > list.after;
                    let is_within = is_whole || last.is_some_and(|last| key < **last);
                    let is_still = history.at(revision).get(&key).is_some_and(|(_, now)| *now == version);
                    assert!(!(is_asked && is_within && is_still) || keys.contains(&&key), "{key:?} is not listed");
                }
            }
            // It tells the revision of the transaction, no more.
            Message::Txn(_) => assert!(revision > request.asked_at),
            other => panic!("no answer to {other}: MARK {revision}"),
        }
    }

    /// The promise of a MARK.
    fn check(&mut self, revision: Revision, history: &History) {
        assert!(self.shown.1 <= revision, "back from {} to {revision}", self.shown.1);
        count(&mut self.counts, "marks", 1);
        let promised = |state: &State| -> Vec<(Bytes, u64, usize)> {
            let keys = state.iter().filter(|(key, _)| self.is_promised(key));
            keys.map(|(key, (value, version))| (key.clone(), version.get(), value.len())).collect()
        };
        let (held, expected) = (promised(&self.held), promised(&history.at(revision)));
        assert_eq!(held, expected, "connection {} at revision {revision}", self.id);
        count(&mut self.counts, "marks of keys that are there", usize::from(!held.is_empty()));
        self.shown = (self.held.clone(), revision);
    }

    /// Whether nothing is on the way, in either direction.
    pub(crate) fn assert_drained(&self) {
        let open: Vec<_> = self.requests.values().map(|request| request.message.to_string()).collect();
        assert!(open.is_empty(), "not answered: {open:?}");
        assert!(self.outgoing.is_empty() && self.input.is_empty() && self.done.is_empty());
    }

    /// What it holds of all that it watches.
    pub(crate) fn assert_holds(&self, state: &State) {
        let watched = state.iter().filter(|(key, _)| self.watched.keys().any(|prefix| key.starts_with(prefix)));
        let expected: State = watched.map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(self.held == expected, "connection {} does not hold the latest", self.id);
    }
}

/// The version that a write of this client should carry.
pub(crate) fn next(current: Version) -> Version {
    current.next().unwrap()
}
