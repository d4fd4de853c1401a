//! The checks of everything that a connection sends.

use super::history::{History, State};
use super::requests::{Request, RequestReader, frames, may_receive};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_core::server::Limits;
use syncline_wire::{Kind, Message, Revision, Tag};

/// Reads both directions of a connection, and panics if the server breaks a promise.
#[derive(Debug)]
pub struct Checks {
    reader: RequestReader,
    received: BytesMut,
    pub requests: Vec<Request>,
    /// Whether the tags identify the requests: none is 0, and none was used twice.
    has_unique_tags: bool,
    /// Whether the store is honest: it returns what was committed, not arbitrary values.
    is_honest: bool,
    /// The rights of the client, or `None` if it is unauthenticated.
    rights: Option<Arc<Rights>>,
    /// Whether the client knows that it is authenticated.
    is_authorized: bool,
    is_extended: bool,
    tags: BTreeSet<Tag>,
    /// The content of a replica that the client keeps.
    replica: State,
    /// On a base connection: the revision of the last change that was received.
    last_revision: Revision,
    /// Whether the server ends the connection. Some requests may then get no response.
    pub is_closing: bool,
    /// Whether the client has received the ERROR that announces it.
    has_final_error: bool,
}

impl Checks {
    pub fn new(limits: &Limits, rights: Option<Arc<Rights>>, is_honest: bool) -> Self {
        let is_authenticated = rights.is_some();
        Self {
            reader: RequestReader::new(limits, is_authenticated),
            received: BytesMut::new(),
            requests: Vec::new(),
            has_unique_tags: true,
            is_honest,
            rights,
            is_authorized: is_authenticated,
            is_extended: false,
            tags: BTreeSet::new(),
            replica: State::new(),
            last_revision: Revision::ZERO,
            is_closing: false,
            has_final_error: false,
        }
    }

    /// Handles the result of a password check: rights, or `None` if the password is wrong.
    pub fn handle_verdict(&mut self, verdict: Option<Arc<Rights>>, head: Revision) {
        self.reader.handle_verdict(verdict.is_some());
        self.rights = verdict;
        self.handle_input(&[], head);
    }

    /// Handles bytes that arrive at the server while the log is at `head`.
    pub fn handle_input(&mut self, bytes: &[u8], head: Revision) {
        for request in self.reader.read(bytes, head) {
            self.has_unique_tags &= request.tag != Tag::BROADCAST && self.tags.insert(request.tag);
            self.tags.insert(request.tag);
            self.requests.push(request);
        }
    }

    /// Checks bytes that the server sent.
    pub fn handle_output(&mut self, bytes: &[u8], history: &History) {
        self.received.extend_from_slice(bytes);
        for frame in frames(&mut self.received) {
            self.check(&frame, history);
        }
    }

    /// Checks that every request has its response, and that the output ends between two frames.
    pub fn assert_complete(&self) {
        assert!(self.received.is_empty(), "an incomplete frame");
        if self.has_unique_tags && !self.is_closing && !self.has_final_error {
            let open = self.requests.iter().find(|request| !request.is_complete);
            assert!(open.is_none(), "no response to {open:?}");
        }
    }

    /// Checks that the replica holds the watched keys as the store does.
    pub fn assert_replica_is_current(&mut self, history: &History, head: Revision) {
        if self.has_unique_tags && self.is_honest && !self.is_closing && !self.has_final_error {
            self.check_mark(head, history);
        }
    }

    /// Checks that a base connection that began at `since` has received the latest state of all keys that changed after it.
    pub fn assert_base_is_current(&self, history: &History, since: Revision, head: Revision) {
        if !self.has_unique_tags || !self.is_honest || self.is_closing || self.has_final_error || self.is_extended {
            return;
        }
        let before = history.at(since);
        for (key, (value, version)) in history.at(head) {
            let is_new = before.get(&key).is_none_or(|(_, old)| *old != version);
            let is_large = key.len() + value.as_ref().map_or(0, |value| value.len()) > Limits::MAX_PUT;
            let may_read = self.rights.as_ref().is_some_and(|rights| rights.may_read(&key));
            if is_new && may_read && !is_large {
                assert_eq!(self.replica.get(&key).map(|(_, of)| *of), Some(version), "received of {key:?}");
            }
        }
    }

    fn check(&mut self, frame: &Message, history: &History) {
        let (tag, kind) = (frame.tag(), frame.kind());
        let is_base = matches!(kind, Kind::Put | Kind::Error | Kind::Auth);
        let is_extension = matches!(kind, Kind::Hello | Kind::Delete | Kind::Mark | Kind::PutLarge | Kind::Status);
        assert!(is_base || is_extension, "a server never sends {kind}");
        if kind == Kind::Hello {
            self.is_extended = true;
            // The client did not request the broadcasts that it received before HELLO.
            self.replica.clear();
        }
        assert!(is_base || self.is_extended, "{frame} before HELLO");
        if kind == Kind::Auth {
            assert!(!self.is_authorized, "AUTH twice");
            self.is_authorized = true;
        }
        assert!(self.is_authorized || kind == Kind::Error, "{frame} to an unauthenticated client");
        if !self.is_extended
            && let (Some(key), Some(value)) = (frame.key(), frame.value())
        {
            assert!(key.len() + value.len() <= Limits::MAX_PUT, "{frame} is too large for a base connection");
        }
        let is_known = self.tags.contains(&tag);
        assert!(tag == Tag::BROADCAST || is_known, "{frame} has a tag that the client never sent");
        let message =
            |request: &Request| request.message.clone().filter(|_| request.tag == tag && self.has_unique_tags);
        let request = self.requests.iter().find_map(message);
        // If two requests share a tag, it is unknown which right permits the frame.
        if let Some(rights) = &self.rights
            && self.has_unique_tags
        {
            assert!(may_receive(rights, request.as_ref(), frame), "{frame} to a client with {rights:?}");
        }
        if !self.has_unique_tags {
            return;
        }
        if tag == Tag::BROADCAST {
            assert!(!matches!(kind, Kind::Hello | Kind::Auth | Kind::Status), "{frame} is never a broadcast");
            self.has_final_error |= kind == Kind::Error;
        } else {
            self.check_response(frame);
        }
        if self.is_honest {
            self.check_content(frame, history);
        }
    }

    fn check_response(&mut self, frame: &Message) {
        let index = self.requests.iter().position(|request| request.tag == frame.tag()).expect("the tag was checked");
        let earlier = self.requests[..index].iter().find(|earlier| !earlier.is_complete && !earlier.is_paged());
        assert!(earlier.is_none(), "{frame} is sent before the response to {earlier:?}");
        let request = &mut self.requests[index];
        assert!(!request.is_complete, "{frame} is a second response");
        request.handle_response(frame, self.is_extended, self.is_honest);
    }

    /// Checks that the content of a frame was committed, that a base connection receives it in order, and the promise of a MARK.
    fn check_content(&mut self, frame: &Message, history: &History) {
        let request = self.requests.iter().find(|request| request.tag == frame.tag());
        let kind = request.and_then(|request| request.message.as_ref()).map(Message::kind);
        if let (Some(key), Some(version)) = (frame.key(), frame.version()) {
            let value = frame.value().map(|value| &value[..]);
            let mut found = history.find(key, value, version);
            if !self.is_extended && value == Some(b"") {
                found = found.or_else(|| history.find(key, None, version));
            }
            let Some(revision) = found else { panic!("{frame} was never written") };
            if matches!(kind, Some(Kind::Get | Kind::List)) {
                return;
            }
            if !self.is_extended || self.is_watched(key, frame.tag()) {
                self.replica.insert(key.clone(), (frame.value().cloned(), version));
            }
            if !self.is_extended {
                assert!(self.last_revision <= revision, "{frame} of revision {revision} after {}", self.last_revision);
                self.last_revision = revision;
            }
        }
        let Message::Mark(mark) = frame else { return };
        if let Some(request) = request
            && let Some(Message::Watch(watch)) = &request.message
            && request.is_reset
            && !request.is_complete
        {
            self.replica.retain(|key, _| !key.starts_with(&watch.prefix));
            return;
        }
        match kind {
            None | Some(Kind::Watch) => self.check_mark(mark.revision, history),
            Some(Kind::Mark) => {
                let head = request.map_or(Revision::ZERO, |request| request.head);
                assert!(head <= mark.revision, "a barrier completed at {}, but the head was {head}", mark.revision);
                self.check_mark(mark.revision, history);
            }
            _ => {}
        }
    }

    /// Returns whether a replica applies a change of `key` that has this tag: a WATCH covers the key, and has begun, because all
    /// earlier requests are complete.
    fn is_watched(&self, key: &[u8], tag: Tag) -> bool {
        let index = self.requests.iter().position(|request| tag != Tag::BROADCAST && request.tag == tag);
        let earlier = self.requests[..index.unwrap_or(self.requests.len())].iter();
        let begun = earlier.take_while(|request| request.is_complete || request.is_paged());
        let mut watches = begun.filter_map(|request| match &request.message {
            Some(Message::Watch(watch)) if !request.is_refused => Some(&watch.prefix),
            _ => None,
        });
        watches.any(|prefix| key.starts_with(prefix))
    }

    /// Checks the promise of a MARK: the replica holds the watched keys as the store did at `revision`.
    fn check_mark(&self, revision: Revision, history: &History) {
        let is_promised = |key: &[u8]| {
            let watches = self.requests.iter().filter_map(|request| match &request.message {
                Some(Message::Watch(watch)) if !request.is_refused && key.starts_with(&watch.prefix) => {
                    Some((request, watch.since))
                }
                _ => None,
            });
            let mut is_promised = false;
            for (request, since) in watches {
                let is_from_start = since == Revision::ZERO || request.is_reset;
                is_promised |= request.is_complete && is_from_start;
                if !request.is_complete && since != Revision::ZERO {
                    return false;
                }
            }
            is_promised
        };
        let promised = |state: &State| -> State {
            let live = state.iter().filter(|(key, (value, _))| value.is_some() && is_promised(key));
            live.map(|(key, state)| (key.clone(), state.clone())).collect()
        };
        assert_eq!(promised(&self.replica), promised(&history.at(revision)), "at MARK {revision}");
    }
}
