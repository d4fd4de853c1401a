//! What must hold of all that a connection sends.

use super::history::{History, State};
use super::requests::{Asked, Reader, frames, may_be_told};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_core::server::Limits;
use syncline_wire::{Kind, Message, Revision, Tag};

/// Looks at both directions of a connection.
#[derive(Debug)]
pub struct Checks {
    reader: Reader,
    received: BytesMut,
    pub asked: Vec<Asked>,
    /// Whether its tags tell requests apart: none is 0, and none was used twice.
    is_clear: bool,
    /// Whether the store says the truth.
    is_true: bool,
    /// What the client may do, since it is known.
    rights: Option<Arc<Rights>>,
    /// It was told that it is.
    is_authorized: bool,
    is_extended: bool,
    tags: BTreeSet<Tag>,
    /// What a replica of what it is told holds.
    held: State,
    /// Of a base connection: the revision of the last change that it was told.
    last: Revision,
    /// The server ends the connection: not everything is answered.
    pub is_closed: bool,
    /// It has said so.
    is_ended: bool,
}

impl Checks {
    pub fn new(limits: &Limits, rights: Option<Arc<Rights>>, is_true: bool) -> Self {
        let is_known = rights.is_some();
        Self {
            reader: Reader::new(limits, is_known),
            received: BytesMut::new(),
            asked: Vec::new(),
            is_clear: true,
            is_true,
            rights,
            is_authorized: is_known,
            is_extended: false,
            tags: BTreeSet::new(),
            held: State::new(),
            last: Revision::ZERO,
            is_closed: false,
            is_ended: false,
        }
    }

    /// A password gives these rights, or is wrong.
    pub fn handle_verdict(&mut self, verdict: Option<Arc<Rights>>, head: Revision) {
        self.reader.handle_verdict(verdict.is_some());
        self.rights = verdict;
        self.handle_input(&[], head);
    }

    /// These bytes come in while the log is at this head.
    pub fn handle_input(&mut self, bytes: &[u8], head: Revision) {
        for asked in self.reader.read(bytes, head) {
            self.is_clear &= asked.tag != Tag::BROADCAST && self.tags.insert(asked.tag);
            self.tags.insert(asked.tag);
            self.asked.push(asked);
        }
    }

    /// These bytes were sent.
    pub fn handle_output(&mut self, bytes: &[u8], history: &History) {
        self.received.extend_from_slice(bytes);
        for frame in frames(&mut self.received) {
            self.check(&frame, history);
        }
    }

    /// Everything was answered, and nothing is there by halves.
    pub fn assert_answered(&self) {
        assert!(self.received.is_empty(), "half a frame");
        if self.is_clear && !self.is_closed && !self.is_ended {
            let open = self.asked.iter().find(|asked| !asked.is_answered);
            assert!(open.is_none(), "never answered: {open:?}");
        }
    }

    /// What is watched is held as the store holds it.
    pub fn assert_holds(&mut self, history: &History, head: Revision) {
        if self.is_clear && self.is_true && !self.is_closed && !self.is_ended {
            self.check_mark(head, history);
        }
    }

    /// A base connection that began at a revision was told of all keys that changed since, at their latest.
    pub fn assert_told(&self, history: &History, since: Revision, head: Revision) {
        if !self.is_clear || !self.is_true || self.is_closed || self.is_ended || self.is_extended {
            return;
        }
        let before = history.at(since);
        for (key, (value, version)) in history.at(head) {
            let is_new = before.get(&key).is_none_or(|(_, old)| *old != version);
            let is_large = key.len() + value.as_ref().map_or(0, |value| value.len()) > Limits::MAX_PUT;
            let may_read = self.rights.as_ref().is_some_and(|rights| rights.may_read(&key));
            if is_new && may_read && !is_large {
                assert_eq!(self.held.get(&key).map(|(_, of)| *of), Some(version), "told of {key:?}");
            }
        }
    }

    fn check(&mut self, frame: &Message, history: &History) {
        let (tag, kind) = (frame.tag(), frame.kind());
        let is_base = matches!(kind, Kind::Put | Kind::Error | Kind::Auth);
        let is_sent = matches!(kind, Kind::Hello | Kind::Delete | Kind::Mark | Kind::PutLarge | Kind::Status);
        assert!(is_base || is_sent, "a server sends no {kind}");
        if kind == Kind::Hello {
            self.is_extended = true;
            // What it was told before, it has not asked for.
            self.held.clear();
        }
        assert!(is_base || self.is_extended, "{frame} before HELLO");
        if kind == Kind::Auth {
            assert!(!self.is_authorized, "AUTH twice");
            self.is_authorized = true;
        }
        assert!(self.is_authorized || kind == Kind::Error, "{frame} to one who is not authorized");
        if !self.is_extended
            && let (Some(key), Some(value)) = (frame.key(), frame.value())
        {
            assert!(key.len() + value.len() <= Limits::MAX_PUT, "{frame} kills a base connection");
        }
        let asked = self.tags.contains(&tag);
        assert!(tag == Tag::BROADCAST || asked, "{frame} has a tag that was never sent");
        let message = |asked: &Asked| asked.message.clone().filter(|_| asked.tag == tag && self.is_clear);
        let request = self.asked.iter().find_map(message);
        // Where tags do not tell requests apart, a key may have been told for the one or the other right.
        if let Some(rights) = &self.rights
            && self.is_clear
        {
            assert!(may_be_told(rights, request.as_ref(), frame), "{frame} is not for one of {rights:?}");
        }
        if !self.is_clear {
            return;
        }
        if tag == Tag::BROADCAST {
            assert!(!matches!(kind, Kind::Hello | Kind::Auth | Kind::Status), "{frame} answers nothing");
            self.is_ended |= kind == Kind::Error;
        } else {
            self.check_answer(frame);
        }
        if self.is_true {
            self.check_told(frame, history);
        }
    }

    fn check_answer(&mut self, frame: &Message) {
        let place = self.asked.iter().position(|asked| asked.tag == frame.tag()).expect("it was sent");
        let before = self.asked[..place].iter().find(|before| !before.is_answered && !before.runs_beside());
        assert!(before.is_none(), "{frame} comes before the answer to {before:?}");
        let asked = &mut self.asked[place];
        assert!(!asked.is_answered, "{frame} answers what was answered");
        asked.take(frame, self.is_extended, self.is_true);
    }

    /// What is told of keys is true, and what stands at a MARK is what the store held.
    fn check_told(&mut self, frame: &Message, history: &History) {
        let asked = self.asked.iter().find(|asked| asked.tag == frame.tag());
        let asks = asked.and_then(|asked| asked.message.as_ref()).map(Message::kind);
        if let (Some(key), Some(version)) = (frame.key(), frame.version()) {
            let value = frame.value().map(|value| &value[..]);
            let mut made = history.find(key, value, version);
            if !self.is_extended && value == Some(b"") {
                made = made.or_else(|| history.find(key, None, version));
            }
            let Some(revision) = made else { panic!("{frame} was never written") };
            if matches!(asks, Some(Kind::Get | Kind::List)) {
                return;
            }
            if !self.is_extended || self.is_kept(key, frame.tag()) {
                self.held.insert(key.clone(), (frame.value().cloned(), version));
            }
            if !self.is_extended {
                assert!(self.last <= revision, "{frame} of revision {revision} after {}", self.last);
                self.last = revision;
            }
        }
        let Message::Mark(mark) = frame else { return };
        if let Some(asked) = asked
            && let Some(Message::Watch(watch)) = &asked.message
            && asked.is_reset
            && !asked.is_answered
        {
            self.held.retain(|key, _| !key.starts_with(&watch.prefix));
            return;
        }
        match asks {
            None | Some(Kind::Watch) => self.check_mark(mark.revision, history),
            Some(Kind::Mark) => {
                let head = asked.map_or(Revision::ZERO, |asked| asked.head);
                assert!(head <= mark.revision, "a barrier is passed at {}, the head was {head}", mark.revision);
                self.check_mark(mark.revision, history);
            }
            _ => {}
        }
    }

    /// Whether a replica keeps what it is told of a key under this tag: there is a WATCH of it, which has begun, for everything
    /// before it is answered.
    fn is_kept(&self, key: &[u8], tag: Tag) -> bool {
        let place = self.asked.iter().position(|asked| tag != Tag::BROADCAST && asked.tag == tag);
        let before = self.asked[..place.unwrap_or(self.asked.len())].iter();
        let begun = before.take_while(|asked| asked.is_answered || asked.runs_beside());
        let mut watches = begun.filter_map(|asked| match &asked.message {
            Some(Message::Watch(watch)) if !asked.is_refused => Some(&watch.prefix),
            _ => None,
        });
        watches.any(|prefix| key.starts_with(prefix))
    }

    /// The promise of a MARK.
    fn check_mark(&self, revision: Revision, history: &History) {
        let is_promised = |key: &[u8]| {
            let watches = self.asked.iter().filter_map(|asked| match &asked.message {
                Some(Message::Watch(watch)) if !asked.is_refused && key.starts_with(&watch.prefix) => {
                    Some((asked, watch.since))
                }
                _ => None,
            });
            let mut is_promised = false;
            for (asked, since) in watches {
                let is_told_all = since == Revision::ZERO || asked.is_reset;
                is_promised |= asked.is_answered && is_told_all;
                if !asked.is_answered && since != Revision::ZERO {
                    return false;
                }
            }
            is_promised
        };
        let promised = |state: &State| -> State {
            let live = state.iter().filter(|(key, (value, _))| value.is_some() && is_promised(key));
            live.map(|(key, state)| (key.clone(), state.clone())).collect()
        };
        assert_eq!(promised(&self.held), promised(&history.at(revision)), "at MARK {revision}");
    }
}
