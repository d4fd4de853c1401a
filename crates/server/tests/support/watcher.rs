//! A client that watches prefixes, and checks at every MARK that it holds the state of the store.

use super::{Client, History, Model, change_of};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use syncline_wire::{Message, Revision, ServerHello, Tag, Watch};

/// A client that keeps the state of the prefixes that it watches.
///
/// At every frame and every MARK it checks the promises of the server:
/// - At a MARK, under every prefix whose first catch-up is complete, it holds exactly the state of the store at that
///   revision.
/// - The revisions of MARKs never decrease.
/// - A broadcast is under one of its prefixes, and newer than the state that it holds.
///
/// The MARK at the end of the response to a TXN is an exception: it carries the revision of the transaction. During a
/// catch-up, overwritten changes may be missing before it. The promise holds at the next MARK.
pub struct Watcher {
    pub client: Client,
    hello: ServerHello,
    model: Model,
    history: History,
    /// The received values and tombstones, with their versions.
    holds: BTreeMap<Bytes, (Option<Bytes>, u64)>,
    watches: BTreeMap<Tag, Watched>,
    /// The tags of its writes without a response, and whether each is a TXN.
    writes: BTreeMap<Tag, bool>,
    /// The revision of the last MARK.
    pub marked: u64,
    /// The number of MARKs received.
    pub marks: usize,
    /// The number of broadcasts received.
    pub changes: usize,
    /// The size of all frames received, in bytes.
    pub bytes: usize,
}

struct Watched {
    prefix: Bytes,
    /// Whether a MARK of revision 0 may start it over. True for a WATCH that resumes, until its first MARK.
    may_start_over: bool,
    /// Whether its first catch-up is complete.
    complete: bool,
}

impl Watcher {
    pub fn connect(addr: SocketAddr, history: &History) -> Self {
        Self::on(Client::connect(addr), history)
    }

    pub fn on(mut client: Client, history: &History) -> Self {
        let hello = client.hello();
        Self {
            client,
            hello,
            model: Model::default(),
            history: history.clone(),
            holds: BTreeMap::new(),
            watches: BTreeMap::new(),
            writes: BTreeMap::new(),
            marked: 0,
            marks: 0,
            changes: 0,
            bytes: 0,
        }
    }

    /// Connects, and completes a WATCH of a prefix from the start.
    pub fn of(addr: SocketAddr, history: &History, prefix: &str) -> Self {
        let mut watcher = Self::connect(addr, history);
        watcher.send(&super::watch(1, prefix, 0));
        watcher.until_response(1);
        watcher
    }

    /// Reconnects, and resumes its watches from the last MARK. If the server has another store, its state is forgotten.
    pub fn resume(self, addr: SocketAddr, history: &History) -> Self {
        let mut next = Self::connect(addr, history);
        let is_same = next.hello.store_id == self.hello.store_id;
        if is_same {
            (next.marked, next.holds) = (self.marked, self.holds);
        }
        for (tag, watched) in self.watches {
            next.send(&Message::watch(tag, watched.prefix, Revision::new(next.marked)));
        }
        next
    }

    pub fn store_id(&self) -> [u8; 16] {
        self.hello.store_id
    }

    /// Returns the version of a key that it holds, or 0 if it holds none.
    pub fn version(&self, key: &str) -> u64 {
        self.holds.get(key.as_bytes()).map_or(0, |(_, version)| *version)
    }

    /// Returns the value of a key that it holds.
    #[track_caller]
    pub fn value(&self, key: &str) -> &Bytes {
        self.holds[key.as_bytes()].0.as_ref().expect("a value")
    }

    /// Returns all values that it holds.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.holds.values().filter_map(|(value, _)| value.as_ref())
    }

    /// Returns whether one of its writes has no response yet.
    pub fn is_writing(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Sends a request, and remembers its tag.
    pub fn send(&mut self, message: &Message) {
        self.send_all(std::slice::from_ref(message));
    }

    /// Sends requests at once.
    pub fn send_all(&mut self, messages: &[Message]) {
        messages.iter().for_each(|message| self.note(message));
        self.client.send_bytes(&super::all_encoded(messages));
    }

    fn note(&mut self, message: &Message) {
        match message {
            Message::Watch(Watch { tag, prefix, since }) => {
                let (prefix, may_start_over) = (prefix.clone(), *since != Revision::ZERO);
                self.watches.insert(*tag, Watched { prefix, may_start_over, complete: false });
            }
            Message::Put(_) | Message::PutLarge(_) | Message::Delete(_) | Message::Txn(_) => {
                let is_txn = matches!(message, Message::Txn(_));
                assert!(self.writes.insert(message.tag(), is_txn).is_none(), "tag {} is in flight", message.tag());
            }
            _ => {}
        }
    }

    /// Receives, applies and checks the next frame.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        let message = self.client.receive();
        self.apply(&message);
        message
    }

    /// Receives everything up to the last frame of the response with this tag, and returns it.
    #[track_caller]
    pub fn until_response(&mut self, tag: u16) -> Vec<Message> {
        let mut seen = Vec::new();
        loop {
            let message = self.client.receive();
            let (is_it, starts_over) = (message.tag() == Tag::new(tag), self.starts_over(&message));
            self.apply(&message);
            seen.push(message);
            if is_it && !starts_over {
                return seen;
            }
        }
    }

    /// Receives everything until the first catch-up of all its watches is complete, and returns it.
    #[track_caller]
    pub fn until_complete(&mut self) -> Vec<Message> {
        let mut seen = Vec::new();
        while self.watches.values().any(|watched| !watched.complete) {
            seen.push(self.receive());
        }
        seen
    }

    /// Receives everything up to a MARK of at least this revision, and returns it.
    #[track_caller]
    pub fn until_marked(&mut self, revision: u64) -> Vec<Message> {
        let mut seen = Vec::new();
        while self.marked < revision {
            seen.push(self.receive());
        }
        seen
    }

    /// Returns whether a message is the MARK of revision 0 that starts a watch over.
    fn starts_over(&self, message: &Message) -> bool {
        matches!(message, Message::Mark(mark) if mark.revision == Revision::ZERO)
            && self.watches.get(&message.tag()).is_some_and(|watched| watched.may_start_over)
    }

    #[track_caller]
    fn apply(&mut self, message: &Message) {
        self.bytes += message.encoded_length();
        let tag = message.tag();
        if let Message::Mark(mark) = message {
            // The MARK of a TXN makes no promise: see `Watcher`.
            if self.writes.remove(&tag).is_some() {
                return;
            }
            if self.starts_over(message) {
                self.forget(tag);
            } else {
                self.check(tag, mark.revision.get());
            }
            return;
        }
        let Some((key, value, version)) = change_of(message) else {
            self.writes.remove(&tag);
            return;
        };
        if tag != Tag::BROADCAST && !self.writes.contains_key(&tag) {
            return;
        }
        if tag == Tag::BROADCAST {
            self.changes += 1;
            let watches: Vec<_> = self.watches.values().filter(|watched| key.starts_with(&watched.prefix)).collect();
            assert!(!watches.is_empty(), "{message} is under no watched prefix");
            // With several watches, the first catch-up of one may repeat what another has sent.
            if let Some((_, before)) = self.holds.get(&key)
                && (watches.len() == 1 || watches.iter().all(|watched| watched.complete))
            {
                assert!(*before < version, "{message} after version {before}");
            }
        }
        self.holds.insert(key, (value, version));
        // The response to a TXN ends with a MARK. Any other write has only this response.
        if self.writes.get(&tag) == Some(&false) {
            self.writes.remove(&tag);
        }
    }

    /// Starts a watch over: forgets the state under its prefix.
    #[track_caller]
    fn forget(&mut self, tag: Tag) {
        let watched = self.watches.get_mut(&tag).expect("a MARK of revision 0 is the response to a WATCH");
        assert!(!watched.complete, "a watch starts over after its catch-up");
        watched.may_start_over = false;
        let prefix = &watched.prefix;
        self.holds.retain(|key, _| !key.starts_with(prefix));
    }

    /// Checks at a MARK that the state is that of the store at its revision.
    #[track_caller]
    fn check(&mut self, tag: Tag, revision: u64) {
        assert!(self.marked <= revision, "MARK {revision} after MARK {}", self.marked);
        (self.marked, self.marks) = (revision, self.marks + 1);
        if let Some(watched) = self.watches.get_mut(&tag) {
            (watched.complete, watched.may_start_over) = (true, false);
        }
        self.model.advance(&self.history, revision);
        let complete = |key: &Bytes| self.watches.values().any(|w| w.complete && key.starts_with(&w.prefix));
        let held = self.holds.iter().filter_map(|(key, (value, version))| Some((key, value.as_ref()?, *version)));
        let mut held = held.filter(|(key, ..)| complete(key));
        let mut expected = self.model.live().filter(|(key, ..)| complete(key));
        loop {
            match (held.next(), expected.next()) {
                (None, None) => return,
                (held, expected) if held == expected => {}
                (held, expected) => {
                    let shown =
                        |state: Option<(&Bytes, &Bytes, u64)>| state.map(|(key, _, version)| (key.clone(), version));
                    panic!("at MARK {revision}: held {:?}, expected {:?}", shown(held), shown(expected));
                }
            }
        }
    }
}
