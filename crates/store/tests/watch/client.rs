//! One watcher: its connection, and the state that it derives from what it is sent, as a careful client does.

use crate::history::{History, State, apply};
use crate::support::{Coverage, DrivenClient, EffectResult, Link};
use crate::world::RandomWrite;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use syncline_core::RecentLog;
use syncline_core::server::{Access, Effect, Limits, PageRequest};
use syncline_wire::{Decoded, List, Mark, Message, Revision, Tag, decode};

/// What a client requests.
#[derive(Clone, Debug)]
pub(crate) enum RandomRequest {
    Write(RandomWrite),
    StalePut(&'static str),
    Get(&'static str),
    /// A WATCH from the start.
    Watch(&'static str),
    /// A WATCH since a revision that the store never assigned.
    WatchSinceUnknown(&'static str),
    List {
        prefix: &'static str,
        after: &'static str,
        limit: u32,
    },
    Barrier,
}

/// A request without a complete response.
struct SentRequest {
    message: Message,
    /// The revision of the latest commit when it was sent.
    head: Revision,
    /// The keys that a LIST has returned so far.
    listed: Vec<Message>,
}

/// A prefix that the client watches.
struct Watched {
    /// The tag of the WATCH, until its MARK is received.
    pending: Option<Tag>,
    /// The client has discarded what it held, and has not received everything since.
    is_reset: bool,
    /// The client holds the state of an earlier connection, until the MARK is received.
    is_resuming: bool,
    /// The tag of the first WATCH. Own writes after it are responses that belong to the prefix.
    first_tag: Tag,
}

/// A watcher.
pub(crate) struct Client {
    link: Link,
    received: BytesMut,
    next_tag: u16,
    requests: BTreeMap<Tag, SentRequest>,
    watched: BTreeMap<Bytes, Watched>,
    /// What it holds of everything that it watches, changes since the last MARK included.
    held: State,
    /// What it held at the last MARK, and the revision of that MARK.
    marked: (State, Revision),
    /// What the store held at each revision.
    history: Rc<RefCell<History>>,
    pub(crate) coverage: Coverage,
}

fn connect(id: u64) -> Link {
    Link::new(id, Access::open(), Limits::default())
}

impl Client {
    pub(crate) fn new(id: u64, history: Rc<RefCell<History>>) -> Self {
        let mut client = Self {
            link: connect(id),
            received: BytesMut::new(),
            next_tag: 1,
            requests: BTreeMap::new(),
            watched: BTreeMap::new(),
            held: State::new(),
            marked: (State::new(), Revision::ZERO),
            history,
            coverage: Coverage::default(),
        };
        client.send(Revision::ZERO, |tag| Message::hello(tag, ""));
        client
    }

    /// Sends a request. `head` is the revision of the latest commit.
    pub(crate) fn send(&mut self, head: Revision, message: impl FnOnce(Tag) -> Message) {
        let message = message(Tag::new(self.next_tag));
        self.next_tag += 1;
        self.link.send(&message);
        self.requests.insert(message.tag(), SentRequest { message, head, listed: Vec::new() });
    }

    /// Watches a prefix since a revision, unless it is watched already.
    pub(crate) fn watch(&mut self, prefix: &'static str, since: Revision, head: Revision) {
        if !self.watched.contains_key(prefix.as_bytes()) {
            self.send_watch(prefix.into(), since, head, false);
        }
    }

    fn send_watch(&mut self, prefix: Bytes, since: Revision, head: Revision, is_reconnecting: bool) {
        let tag = Tag::new(self.next_tag);
        let is_resuming = is_reconnecting && since > Revision::ZERO;
        // What an incomplete WATCH of a lost connection has sent is worth nothing.
        let is_reset = is_reconnecting && !is_resuming;
        self.watched.insert(prefix.clone(), Watched { pending: Some(tag), is_reset, is_resuming, first_tag: tag });
        self.send(head, |tag| Message::watch(tag, prefix, since));
    }

    /// Loses the connection. The client keeps what it held at the last MARK, and resumes from there.
    pub(crate) fn reconnect(&mut self, id: u64, head: Revision) {
        self.coverage.count("reconnections", 1);
        self.link = connect(id);
        self.received.clear();
        self.requests.clear();
        let (held, since) = self.marked.clone();
        self.held = held;
        self.next_tag = 1;
        self.send(head, |tag| Message::hello(tag, ""));
        for (prefix, watched) in std::mem::take(&mut self.watched) {
            let is_complete = watched.pending.is_none() && !watched.is_reset && since > Revision::ZERO;
            self.coverage.count_if("watches resumed", is_complete);
            self.send_watch(prefix, if is_complete { since } else { Revision::ZERO }, head, true);
        }
        let unknown: Vec<_> = self.held.keys().filter(|key| !self.is_known(key)).cloned().collect();
        unknown.iter().for_each(|key| drop(self.held.remove(key)));
    }

    /// Returns whether a watched prefix covers a key, and none that covers it is reset.
    fn is_known(&self, key: &[u8]) -> bool {
        let mut covering = self.watched.iter().filter(|(prefix, _)| key.starts_with(prefix));
        covering.clone().any(|(_, watched)| watched.pending.is_none() || !watched.is_reset)
            && covering.all(|(_, watched)| !watched.is_reset)
    }

    /// Returns whether a MARK promises that the client holds what the store held of a key.
    fn is_promised(&self, key: &[u8]) -> bool {
        let mut covering = self.watched.iter().filter(|(prefix, _)| key.starts_with(prefix));
        covering.clone().any(|(_, watched)| watched.pending.is_none())
            && covering.all(|(_, watched)| watched.pending.is_none() || !(watched.is_reset || watched.is_resuming))
    }

    fn receive(&mut self, frame: &Message) {
        match frame {
            Message::Mark(mark) if mark.tag == Tag::BROADCAST => {
                self.coverage.count_if("heartbeats", self.marked.1 == mark.revision);
                self.check(mark.revision);
            }
            Message::Mark(mark) => self.receive_mark(mark),
            _ if frame.tag() == Tag::BROADCAST => self.receive_broadcast(frame),
            _ => self.receive_response(frame),
        }
    }

    fn receive_broadcast(&mut self, frame: &Message) {
        if self.requests.values().any(|request| matches!(request.message, Message::Hello(_))) {
            // Before the response to HELLO, the connection is sent every change.
            return;
        }
        let key = frame.key().unwrap();
        assert!(self.watched.keys().any(|prefix| key.starts_with(prefix)), "not watched: {frame}");
        self.coverage.count_if("deletions", matches!(frame, Message::Delete(_)));
        apply(&mut self.held, frame);
    }

    fn receive_response(&mut self, frame: &Message) {
        let request =
            self.requests.get_mut(&frame.tag()).unwrap_or_else(|| panic!("no request has the tag of {frame}"));
        let is_complete = match (&request.message, frame) {
            (Message::Get(get), Message::Put(_) | Message::Delete(_)) => {
                assert_eq!(Some(&get.key), frame.key());
                true
            }
            (_, Message::Error(error)) => {
                self.coverage.count_if("stale", error.text.starts_with(b"stale put"));
                true
            }
            (Message::Hello(_), Message::Hello(_)) => true,
            (Message::List(_), Message::Put(_)) => {
                request.listed.push(frame.clone());
                false
            }
            (Message::Put(_) | Message::Delete(_) | Message::Txn(_), Message::Put(_) | Message::Delete(_)) => {
                let is_txn = matches!(request.message, Message::Txn(_));
                self.coverage.count(if is_txn { "own transactions" } else { "own writes" }, 1);
                let key = frame.key().unwrap();
                if self.watched.iter().any(|(prefix, w)| w.first_tag < frame.tag() && key.starts_with(prefix)) {
                    apply(&mut self.held, frame);
                }
                !is_txn
            }
            (request, _) => panic!("not a response to {request}: {frame}"),
        };
        if is_complete {
            self.requests.remove(&frame.tag());
        }
    }

    /// Receives the MARK that completes a request, or that begins a WATCH afresh.
    fn receive_mark(&mut self, &Mark { tag, revision }: &Mark) {
        let request = self.requests.remove(&tag).unwrap_or_else(|| panic!("no request has the tag of MARK {tag}"));
        match &request.message {
            Message::Watch(watch) => {
                let watched = self.watched.get_mut(&watch.prefix).unwrap();
                // The MARK that completes a WATCH of an empty store has revision 0 too.
                if revision == Revision::ZERO && watch.since > Revision::ZERO && !watched.is_reset {
                    self.coverage.count("watches reset", 1);
                    watched.is_reset = true;
                    self.held.retain(|key, _| !key.starts_with(&watch.prefix));
                    self.requests.insert(tag, request);
                    return;
                }
                if watched.pending == Some(tag) {
                    (watched.pending, watched.is_reset) = (None, false);
                }
                self.coverage.count("watches completed", 1);
                self.check(revision);
            }
            Message::Mark(_) => {
                self.coverage.count("barriers", 1);
                assert!(revision >= request.head, "a barrier at {revision}, expected at least {}", request.head);
                self.check(revision);
            }
            Message::List(list) => self.check_list(list, &request, revision),
            // It carries the revision of the transaction, and promises nothing else.
            Message::Txn(_) => assert!(revision > request.head),
            other => panic!("not a response to {other}: MARK {revision}"),
        }
    }

    /// Checks what a LIST has returned, now that its MARK is received.
    fn check_list(&mut self, list: &List, request: &SentRequest, revision: Revision) {
        self.coverage.count("lists", 1);
        self.coverage.count("listed keys", request.listed.len());
        let history = self.history.borrow();
        let keys: Vec<_> = request.listed.iter().map(|frame| frame.key().unwrap()).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "out of order: {keys:?}");
        assert!(keys.iter().all(|key| key.starts_with(&list.prefix) && **key > list.after), "{keys:?}");
        assert!(keys.len() <= list.limit as usize);
        for frame in &request.listed {
            assert!(history.ever_held(request.head, revision, frame), "not true since the request: {frame}");
        }
        // A key that did not change meanwhile, and is within the limit, is listed.
        let is_below_limit = keys.len() < list.limit as usize;
        let last = keys.last();
        for (key, (_, version)) in history.at(request.head) {
            let is_requested = key.starts_with(&list.prefix) && key > list.after;
            let is_within = is_below_limit || last.is_some_and(|last| key < **last);
            let is_unchanged = history.at(revision).get(&key).is_some_and(|(_, now)| *now == version);
            assert!(!(is_requested && is_within && is_unchanged) || keys.contains(&&key), "{key:?} is not listed");
        }
    }

    /// Checks the promise of a MARK.
    fn check(&mut self, revision: Revision) {
        assert!(self.marked.1 <= revision, "a MARK of {revision} after one of {}", self.marked.1);
        self.coverage.count("marks", 1);
        let promised = |state: &State| -> Vec<(Bytes, u64, usize)> {
            let keys = state.iter().filter(|(key, _)| self.is_promised(key));
            keys.map(|(key, (value, version))| (key.clone(), version.get(), value.len())).collect()
        };
        let (held, expected) = (promised(&self.held), promised(&self.history.borrow().at(revision)));
        assert_eq!(held, expected, "connection {} at revision {revision}", self.link.connection.id());
        self.coverage.count_if("marks with keys", !held.is_empty());
        self.marked = (self.held.clone(), revision);
    }

    /// Panics unless the client holds the part of `state` that it watches.
    pub(crate) fn assert_holds(&self, state: &State) {
        let watched = state.iter().filter(|(key, _)| self.watched.keys().any(|prefix| key.starts_with(prefix)));
        let expected: State = watched.map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(self.held == expected, "connection {} does not hold the latest state", self.link.connection.id());
    }
}

impl DrivenClient for Client {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deliver(&mut self, bytes: usize) -> bool {
        self.link.deliver(bytes) > 0
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.link.connection.poll_effect();
        if let Some(Effect::Page(PageRequest::Changes { max_bytes, .. })) = &effect {
            // A page of a scan is smaller.
            self.coverage.count_if("catch-ups", *max_bytes > 64 * 1024);
        }
        effect
    }

    fn complete(&mut self, result: EffectResult) {
        self.link.complete(result);
    }

    fn show_log(&mut self, log: &RecentLog) {
        self.link.connection.handle_log(log);
    }

    fn read(&mut self, bytes: usize, history: &RecentLog) -> bool {
        self.history.borrow_mut().follow(history);
        let output = self.link.connection.output();
        let count = bytes.min(output.remaining());
        self.received.extend_from_slice(&output.copy_to_bytes(count));
        loop {
            match decode(&mut self.received) {
                Ok(Decoded::Frame(frame)) => self.receive(&frame),
                Ok(Decoded::Incomplete { .. }) => return count > 0,
                other => panic!("{other:?}"),
            }
        }
    }

    fn assert_drained(&mut self) {
        let open: Vec<_> = self.requests.values().map(|request| request.message.to_string()).collect();
        assert!(open.is_empty(), "without a response: {open:?}");
        assert!(self.link.is_drained());
    }
}
