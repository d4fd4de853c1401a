//! A client that watches, holds what it is told, and at every MARK looks whether that is what the store held.

use super::{Client, History, Model, told};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use syncline_wire::{Message, Revision, ServerHello, Tag, Watch};

/// Holds what it is told of the prefixes that it watches.
///
/// The promises that it looks after, at every frame and every MARK:
/// - after a MARK it holds just what the store held at that revision, under every prefix that it was told all of;
/// - no MARK is older than one before it;
/// - what it is told without having asked is under one of its prefixes, and newer than what it was told before.
///
/// A MARK that ends the answer to a TXN tells its revision. Of one who catches up, what was overwritten since may be left
/// out before it: the promise holds at the next MARK.
pub struct Watcher {
    pub client: Client,
    greeting: ServerHello,
    model: Model,
    history: History,
    /// Values and tombstones, as told.
    holds: BTreeMap<Bytes, (Option<Bytes>, u64)>,
    watches: BTreeMap<Tag, Watched>,
    /// The tags of its own writes that are not answered yet, and whether each is a TXN.
    writes: BTreeMap<Tag, bool>,
    /// The revision of the last MARK.
    pub marked: u64,
    /// How many MARKs it was sent.
    pub marks: usize,
    /// How many changes of others it was told.
    pub changes: usize,
    /// The bytes of all frames that it was sent.
    pub bytes: usize,
}

struct Watched {
    prefix: Bytes,
    /// Whether a MARK of 0 says that it starts over: it resumes, and has not been told so before.
    may_start_over: bool,
    /// Whether a MARK has said that all was told.
    complete: bool,
}

impl Watcher {
    pub fn connect(addr: SocketAddr, history: &History) -> Self {
        Self::on(Client::connect(addr), history)
    }

    pub fn on(mut client: Client, history: &History) -> Self {
        let greeting = client.greet();
        Self {
            client,
            greeting,
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

    /// Watches everything under a prefix, from the start, and was told it.
    pub fn of(addr: SocketAddr, history: &History, prefix: &str) -> Self {
        let mut watcher = Self::connect(addr, history);
        watcher.send(&super::watch(1, prefix, 0));
        watcher.until_answered(1);
        watcher
    }

    /// A new connection that holds what this one has held at its last MARK, and resumes its watches from there.
    /// Forgets it all where that belongs to another store.
    pub fn resume(self, addr: SocketAddr, history: &History) -> Self {
        let mut next = Self::connect(addr, history);
        let is_same = next.greeting.store_id == self.greeting.store_id;
        if is_same {
            (next.marked, next.holds) = (self.marked, self.holds);
        }
        for (tag, watched) in self.watches {
            next.send(&Message::watch(tag, watched.prefix, Revision::new(next.marked)));
        }
        next
    }

    pub fn store_id(&self) -> [u8; 16] {
        self.greeting.store_id
    }

    /// The version of a key that it holds; 0 where it holds none.
    pub fn version(&self, key: &str) -> u64 {
        self.holds.get(key.as_bytes()).map_or(0, |(_, version)| *version)
    }

    /// The value of a key that it holds.
    #[track_caller]
    pub fn value(&self, key: &str) -> &Bytes {
        self.holds[key.as_bytes()].0.as_ref().expect("a value")
    }

    /// All values that it holds.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.holds.values().filter_map(|(value, _)| value.as_ref())
    }

    /// Whether one of its own writes is not answered yet.
    pub fn is_writing(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Sends a request, and knows it again when it is answered.
    pub fn send(&mut self, message: &Message) {
        self.send_all(std::slice::from_ref(message));
    }

    /// Sends requests in one piece.
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

    /// The next frame, applied and looked at.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        let message = self.client.receive();
        self.apply(&message);
        message
    }

    /// Everything up to the MARK, answer to a write, or ERROR of this tag, that included.
    #[track_caller]
    pub fn until_answered(&mut self, tag: u16) -> Vec<Message> {
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

    /// Everything up to the MARK that says of the last of its watches that all was told, that included.
    #[track_caller]
    pub fn until_complete(&mut self) -> Vec<Message> {
        let mut seen = Vec::new();
        while self.watches.values().any(|watched| !watched.complete) {
            seen.push(self.receive());
        }
        seen
    }

    /// Everything up to a MARK of at least this revision, that included.
    #[track_caller]
    pub fn until_marked(&mut self, revision: u64) -> Vec<Message> {
        let mut seen = Vec::new();
        while self.marked < revision {
            seen.push(self.receive());
        }
        seen
    }

    /// Whether a message is the MARK of 0 that says: forget all under this prefix.
    fn starts_over(&self, message: &Message) -> bool {
        matches!(message, Message::Mark(mark) if mark.revision == Revision::ZERO)
            && self.watches.get(&message.tag()).is_some_and(|watched| watched.may_start_over)
    }

    #[track_caller]
    fn apply(&mut self, message: &Message) {
        self.bytes += message.encoded_length();
        let tag = message.tag();
        if let Message::Mark(mark) = message {
            // Behind the writes of a TXN it tells their revision, and promises nothing: see `Watcher`.
            if self.writes.remove(&tag).is_some() {
                return;
            }
            if self.starts_over(message) {
                self.forget(tag);
            } else {
                self.look(tag, mark.revision.get());
            }
            return;
        }
        let Some((key, value, version)) = told(message) else {
            self.writes.remove(&tag);
            return;
        };
        if tag != Tag::BROADCAST && !self.writes.contains_key(&tag) {
            return;
        }
        if tag == Tag::BROADCAST {
            self.changes += 1;
            let above: Vec<_> = self.watches.values().filter(|watched| key.starts_with(&watched.prefix)).collect();
            assert!(!above.is_empty(), "{message} is under none of the prefixes");
            // Where one of several has not told all yet, it may tell what another has told.
            if let Some((_, before)) = self.holds.get(&key)
                && (above.len() == 1 || above.iter().all(|watched| watched.complete))
            {
                assert!(*before < version, "{message} after version {before}");
            }
        }
        self.holds.insert(key, (value, version));
        // A TXN is answered by its MARK, any other write by this.
        if self.writes.get(&tag) == Some(&false) {
            self.writes.remove(&tag);
        }
    }

    /// A watch starts over: what it has told is forgotten.
    #[track_caller]
    fn forget(&mut self, tag: Tag) {
        let watched = self.watches.get_mut(&tag).expect("a MARK of 0 answers a WATCH");
        assert!(!watched.complete, "a watch starts over after all was told");
        watched.may_start_over = false;
        let prefix = &watched.prefix;
        self.holds.retain(|key, _| !key.starts_with(prefix));
    }

    /// A MARK has come: what is held now is what the store held at that revision.
    #[track_caller]
    fn look(&mut self, tag: Tag, revision: u64) {
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
