//! The server's side of one connection, as a state machine.

use super::effect::{Effect, PageRequest, PageResult};
use super::limits::Limits;
use super::parameters::ServerParameters;
use super::queue::RequestQueue;
use super::request::{Ordered, Read, ServerRequest};
use super::response::{Body, ServerResponse};
use super::scan::{Scan, Scans};
use super::session::{Access, MAX_ATTEMPTS, Session};
use super::timeline::{Behind, MAX_UNSENT_OUTPUT, Timeline};
use crate::commit_batch::{Dialect, is_large};
use crate::{ConnId, Entry, Outcome, Output, Page, PageError, RecentLog, Rights, text};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use syncline_wire::{
    Auth, DecodeError, Decoded, FrameSkipper, Get, Kind, List, Message, Revision, Tag, decode_bounded, decode_within,
};

/// The longest frame that is accepted from an unauthenticated connection: an AUTH whose user and password have 1 KiB
/// together. Longer frames are skipped as they arrive.
const MAX_AUTH_FRAME: usize = 5 + 1024;

/// The most bytes of responses that may wait to be sent to an unauthenticated connection.
const MAX_UNSENT_UNAUTHENTICATED: usize = 2048;

/// What [`ServerConnection::handle_input`] says about the bytes that it leaves in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// They are the beginning of a frame, or nothing.
    Wanted {
        /// The least bytes that the frame has.
        expected: usize,
    },
    /// They wait until some of what is in flight is completed and sent: the driver must read no more before.
    Paused,
    /// The connection is closing: the driver discards them and everything after them.
    Closed,
}

/// The server's side of one connection.
///
/// Holds everything that is decided and does no I/O. Its driver
/// 1. passes on what the socket has received ([`handle_input`](Self::handle_input)), and the end of that
///    ([`handle_end`](Self::handle_end));
/// 2. executes its effects until there are none ([`poll_effect`](Self::poll_effect)), and passes on their results;
/// 3. shows it the recent log ([`handle_log`](Self::handle_log)) after 1 and 2, and whenever the log has grown, which may
///    lead to further effects (2);
/// 4. writes its [`output`](Self::output), and continues with 1 to 3 after some of it was written, if the connection
///    [has work](Self::has_work) then;
/// 5. makes it [own its keys](Self::own_keys) before it waits for anything;
/// 6. calls [`handle_beat`](Self::handle_beat) twice in each heartbeat, and continues with 3;
/// 7. closes the socket when it [is finished](Self::is_finished).
///
/// # The order of what is sent
/// Everything that a connection is sent is one timeline. Its position is a revision: everything up to there was sent. A
/// change advances it. A response is true at a revision, and is sent when the position has reached it. From this one rule
/// follows:
/// - The response to an accepted PUT takes the place of its broadcast.
/// - `stale put` comes after the write that won.
/// - The response to a GET comes after the broadcast of the value that it carries.
/// - A page of a WATCH or LIST comes after everything that was committed when it was read.
///
/// Responses are sent in the order of the requests, except those pages.
///
/// # What a connection is sent
/// Before HELLO: every change, as a PUT. After HELLO: the changes under the prefixes that it watches, each group followed
/// by a MARK (`timeline.rs`).
///
/// # Catch-up
/// What lies between the position and the head is read from the recent log. A connection whose position the log no longer
/// holds asks the store instead ([`PageRequest::Changes`]) and is sent each key once. Its own responses are merged in by
/// their revisions. A page of the store does not say which connection wrote what, so it is read only while no write of
/// this connection is in flight.
#[derive(Debug)]
pub struct ServerConnection {
    id: ConnId,
    parameters: ServerParameters,
    session: Session,
    /// HELLO was received, so the extension may be used.
    after_hello: bool,
    /// The rest of a frame that is being skipped.
    skip: Option<FrameSkipper>,
    requests: RequestQueue,
    scans: Scans,
    timeline: Timeline,
    /// The log no longer holds what comes next.
    behind: bool,
    /// What the page of the store is for that is being read.
    page_in_flight: Option<PageUse>,
    /// No more requests are accepted. The connection is finished when those that were accepted are completed and sent.
    closing: bool,
}

/// What a page of the store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageUse {
    /// The catch-up of the connection.
    CatchUp,
    /// The first scan.
    Scan,
}

impl ServerConnection {
    /// Returns the state of a new connection.
    pub fn new(id: ConnId, parameters: ServerParameters, access: Access) -> Self {
        Self {
            id,
            parameters,
            session: Session::new(access),
            after_hello: false,
            skip: None,
            requests: RequestQueue::default(),
            scans: Scans::default(),
            timeline: Timeline::new(id),
            behind: false,
            page_in_flight: None,
            closing: false,
        }
    }

    /// Returns the id of the connection.
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// Returns what is to be written. The driver removes what it has written, which makes room for more.
    pub const fn output(&mut self) -> &mut Output {
        self.timeline.output()
    }

    /// Stops sharing memory with the input that the requests were decoded from.
    pub fn own_keys(&mut self) {
        self.requests.own_keys();
    }

    /// Returns the revision up to which everything that the connection follows was added to its output; `None` if it
    /// follows nothing.
    pub fn cursor(&self) -> Option<Revision> {
        self.timeline.follows_anything().then(|| self.timeline.position())
    }

    /// Returns whether the connection is sent all changes as a client of the base protocol: it is authenticated, and its
    /// HELLO was not answered yet.
    pub fn is_base(&self) -> bool {
        self.rights().is_some() && self.timeline.dialect() == Dialect::Base
    }

    /// Returns whether the connection watches something, and so needs [`handle_beat`](Self::handle_beat).
    pub fn is_watching(&self) -> bool {
        self.timeline.is_watching()
    }

    /// Returns the rights of the client; `None` before it is authenticated.
    pub fn rights(&self) -> Option<&Arc<Rights>> {
        match &self.session {
            Session::Open(authorized) => Some(authorized.rights()),
            Session::Unauthenticated { .. } | Session::Verifying { .. } => None,
        }
    }

    /// Returns whether the connection must be shown the log when that grows. If not, it need not be shown the log before
    /// something else has happened.
    pub fn waits_for_log(&mut self) -> bool {
        self.timeline.follows_anything()
            || self.requests.front_response().is_some()
            || self.requests.front_ordered().is_some()
            || !self.scans.is_empty()
            || self.timeline.owed_marks() > 0
    }

    /// Returns whether the connection can continue after reads were completed or some of its output was written. If not,
    /// it need be neither shown the log nor polled for effects before something else has happened.
    pub fn has_work(&self) -> bool {
        self.closing
            || self.behind
            || !self.is_idle()
            || !self.timeline.has_room()
            || !self.accepts_requests()
            || self.timeline.is_beat_due()
    }

    /// Returns whether everything is completed and written and nothing more will come: the socket can be closed.
    pub fn is_finished(&self) -> bool {
        self.closing && self.is_idle() && self.timeline.unsent() == 0
    }

    /// Returns whether every request was completed and added to the output.
    fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.scans.is_empty() && self.timeline.owed_marks() == 0
    }

    /// Decodes frames off the front of `buffer`, as many as may be in flight.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Input {
        loop {
            if self.closing {
                buffer.clear();
                return Input::Closed;
            }
            if !self.accepts_requests() {
                return Input::Paused;
            }
            if let Some(skip) = &mut self.skip {
                match skip.skip(buffer) {
                    Ok(true) => self.skip = None,
                    Ok(false) => return Input::Wanted { expected: buffer.len() + 1 },
                    Err(error) => self.handle_decode_error(error),
                }
                continue;
            }
            let decoded = match self.session {
                Session::Open(_) => decode_within(buffer, self.parameters.limits.max_frame()),
                Session::Unauthenticated { .. } | Session::Verifying { .. } => decode_bounded(buffer, MAX_AUTH_FRAME),
            };
            match decoded {
                Ok(Decoded::Frame(message)) => self.handle_message(message),
                Ok(Decoded::Incomplete { expected }) => return Input::Wanted { expected },
                Ok(Decoded::TooLarge { kind, tag, excess, skip }) => {
                    self.skip = Some(skip);
                    let text = match self.session {
                        Session::Open(_) if self.after_hello => text::frame_too_large(kind, excess),
                        Session::Open(_) => text::before_hello(kind),
                        _ if kind == Kind::Auth => text::frame_too_large(kind, excess),
                        Session::Unauthenticated { .. } | Session::Verifying { .. } => text::BAD_MESSAGE_TYPE.into(),
                    };
                    self.respond_now(Message::error(tag, text));
                }
                Err(error) => self.handle_decode_error(error),
            }
        }
    }

    /// Refuses a frame whose length is unknown, and closes: what follows must not be taken for frames.
    fn handle_decode_error(&mut self, error: DecodeError) {
        let (tag, text) = match error {
            DecodeError::UnknownKind { tag, .. } => (tag, text::UNKNOWN_KIND.into()),
            DecodeError::UnknownOperation { tag, .. } => (tag, error.to_string()),
        };
        self.respond_now(Message::error(tag, text));
        self.closing = true;
    }

    fn handle_message(&mut self, message: Message) {
        let tag = message.tag();
        match (&self.session, message) {
            (Session::Open(_), message) => {
                if let Err(text) = self.accept(message) {
                    self.respond_now(Message::error(tag, text));
                }
            }
            (Session::Unauthenticated { attempts }, Message::Auth(auth)) => {
                self.session = Session::Verifying { attempts: *attempts };
                self.requests.push_auth(auth);
            }
            (Session::Unauthenticated { .. }, _) => self.respond_now(Message::error(tag, text::BAD_MESSAGE_TYPE)),
            (Session::Verifying { .. }, _) => debug_assert!(false, "nothing is decoded before the verdict"),
        }
    }

    /// Queues the request of an authenticated client.
    ///
    /// # Errors
    /// The text of the ERROR that refuses it.
    fn accept(&mut self, message: Message) -> Result<(), Bytes> {
        let Session::Open(authorized) = &self.session else { return Ok(()) };
        let is_hello = matches!(message, Message::Hello(_));
        let request = ServerRequest::from_message(message, self.id, self.after_hello, &self.parameters.limits)?;
        if matches!(request, ServerRequest::Ordered(Ordered::Watch(_)))
            && self.timeline.watched() + self.requests.pending_watches() >= Limits::MAX_WATCHES
        {
            return Err(text::too_many_watches(Limits::MAX_WATCHES));
        }
        self.requests.push(authorized.grant(request)?);
        self.after_hello |= is_hello;
        Ok(())
    }

    /// Handles the end of the input. Requests that were received are still completed.
    pub const fn handle_end(&mut self) {
        self.closing = true;
    }

    /// Handles that half a heartbeat has passed.
    pub fn handle_beat(&mut self) {
        self.timeline.beat();
    }

    /// Closes the connection from this side. Requests that were received are completed first, except WATCHes and LISTs;
    /// then the client is sent `reason`.
    pub fn close(&mut self, reason: &str) {
        if !self.closing {
            self.scans.clear();
            self.respond_now(Message::error(Tag::BROADCAST, text::unavailable(reason)));
            self.closing = true;
        }
    }

    /// Closes the connection at once, because it cannot be sent what it must be sent next: requests that are not completed
    /// yet never are. The client is sent `reason`, so that no gap is silent. From here on the driver only writes.
    pub fn abandon(&mut self, reason: &str) {
        while let Some(response) = self.requests.pop_response_if(|_| true) {
            self.send(&response);
        }
        self.requests = RequestQueue::default();
        self.scans.clear();
        (self.behind, self.page_in_flight) = (false, None);
        self.timeline.abandon();
        self.timeline.push(&Message::error(Tag::BROADCAST, text::unavailable(reason)));
        self.closing = true;
    }

    /// Returns the next effect to be executed, if there is one.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.needs_scan_page()
            && self.timeline.has_room_for_page()
            && let Some(request) = self.scans.page_request()
        {
            self.page_in_flight = Some(PageUse::Scan);
            return Some(Effect::Page(request));
        }
        if self.behind {
            // No response to a new request could be sent before the connection has caught up.
            if self.page_in_flight.is_some() || self.requests.is_busy() || !self.timeline.has_room_for_page() {
                return None;
            }
            self.page_in_flight = Some(PageUse::CatchUp);
            let max_bytes = MAX_UNSENT_OUTPUT.saturating_sub(self.timeline.unsent());
            let (prefix, since) = (self.timeline.common_prefix(), self.timeline.position());
            return Some(Effect::Page(PageRequest::Changes { prefix, since, max_bytes }));
        }
        // Responses that are sent before the connection follows the log could be outdated without a broadcast.
        if !self.timeline.has_begun() && matches!(self.session, Session::Open(_)) {
            return None;
        }
        self.requests.start(self.max_response_bytes())
    }

    /// Returns the key of the next request, if it can be read together with that of the [`Effect::Get`] that was just
    /// polled. Each key is completed with [`handle_entry`](Self::handle_entry).
    pub fn poll_get(&mut self) -> Option<Bytes> {
        let max_response_bytes = self.max_response_bytes();
        if self.behind || self.needs_scan_page() { None } else { self.requests.start_get(max_response_bytes) }
    }

    /// Takes back all reads in flight, none of which was executed: they are polled again.
    pub fn requeue_reads(&mut self) {
        self.requests.requeue_reads();
    }

    /// Returns the bytes that responses may still take.
    fn max_response_bytes(&self) -> usize {
        self.parameters.limits.max_unsent.saturating_sub(self.timeline.unsent())
    }

    /// Handles the verdict on the password of [`Effect::Verify`]: the rights that it gives, or `None` if it is wrong. The
    /// connection closes after the third wrong password.
    pub fn handle_verdict(&mut self, verdict: Option<Arc<Rights>>) {
        if self.was_abandoned() {
            return;
        }
        let Session::Verifying { attempts } = self.session else {
            return debug_assert!(false, "a verdict that was not asked for");
        };
        let is_right = verdict.is_some();
        self.session = Session::after_verdict(attempts, verdict);
        self.complete(|request| match request {
            ServerRequest::Auth(Auth { tag, .. }) if is_right => Some(ServerResponse::now(Message::auth(*tag, ""))),
            ServerRequest::Auth(Auth { tag, .. }) => {
                Some(ServerResponse::now(Message::error(*tag, text::BAD_PASSWORD)))
            }
            _ => None,
        });
        if matches!(self.session, Session::Unauthenticated { attempts } if attempts >= MAX_ATTEMPTS) {
            self.closing = true;
        }
    }

    /// Handles the outcome of the earliest [`Effect::Commit`] in flight. If it is unknown, no response would be true, so
    /// the connection is abandoned.
    pub fn handle_outcome(&mut self, outcome: Outcome) {
        if self.was_abandoned() {
            return;
        }
        if let Outcome::Unknown { reason } = &outcome {
            return self.abandon(reason);
        }
        self.complete(|request| match (request, outcome) {
            (ServerRequest::Write(write), Outcome::Accepted { revision }) => {
                Some(ServerResponse::accepted(write.clone(), revision))
            }
            (ServerRequest::Write(write), Outcome::Stale { operation, at }) => {
                Some(ServerResponse::at(write.stale(operation), at))
            }
            (ServerRequest::Write(write), Outcome::Unavailable { reason } | Outcome::Unknown { reason }) => {
                Some(ServerResponse::now(Message::error(write.tag, text::unavailable(&reason))))
            }
            _ => None,
        });
    }

    /// Handles the result of the earliest [`Effect::Get`] in flight: the latest state of the key, `None` if the store does
    /// not know it, or the reason why the store is unavailable.
    pub fn handle_entry(&mut self, entry: Result<Option<Entry>, Arc<str>>) {
        if self.was_abandoned() {
            return;
        }
        let dialect = self.timeline.dialect();
        self.complete(|request| match request {
            ServerRequest::Read(Read::Get(Get { tag, key })) => Some(match entry {
                Ok(Some(entry)) => {
                    let at = entry.revision;
                    ServerResponse::at(get_response(dialect, *tag, entry), at)
                }
                Ok(None) => ServerResponse::now(Message::error(*tag, text::not_found(key))),
                Err(reason) => ServerResponse::now(Message::error(*tag, text::unavailable(&reason))),
            }),
            _ => None,
        });
    }

    /// Handles the status of the server, for the earliest [`Effect::Status`] in flight.
    pub fn handle_status(&mut self, status: impl Into<Bytes>) {
        if self.was_abandoned() {
            return;
        }
        self.complete(|request| match request {
            ServerRequest::Read(Read::Status(tag, _)) => Some(ServerResponse::now(Message::status(*tag, status))),
            _ => None,
        });
    }

    /// Completes the earliest request in flight, and sends its response if that is due.
    fn complete(&mut self, respond: impl FnOnce(&ServerRequest) -> Option<ServerResponse>) {
        let timeline = &self.timeline;
        let is_due = |response: &ServerResponse| timeline.has_room() && response.at <= timeline.position();
        if let Some(response) = self.requests.complete(is_due, respond) {
            self.send(&response);
        }
    }

    /// Handles the page of the store that [`Effect::Page`] has asked for.
    pub fn handle_page(&mut self, page: PageResult) {
        match (self.page_in_flight.take(), page) {
            (Some(PageUse::CatchUp), PageResult::Changes(Ok(page))) => self.catch_up(page),
            (Some(PageUse::CatchUp), PageResult::Changes(Err(error))) => {
                let (PageError::Untold(reason) | PageError::Unavailable(reason)) = error;
                self.abandon(&reason);
            }
            (Some(PageUse::Scan), PageResult::Changes(Ok(page))) => self.scans.accept_changes(page),
            (Some(PageUse::Scan), PageResult::Changes(Err(PageError::Untold(_)))) => {
                self.scans.restart(self.timeline.position());
            }
            (Some(PageUse::Scan), PageResult::Keys(Ok(page))) => self.scans.accept_keys(page),
            (
                Some(PageUse::Scan),
                PageResult::Changes(Err(PageError::Unavailable(reason))) | PageResult::Keys(Err(reason)),
            ) => self.fail_scan(&reason),
            // It was asked for before the connection was abandoned.
            (None, _) | (Some(PageUse::CatchUp), PageResult::Keys(_)) => {
                debug_assert!(self.was_abandoned(), "a page that was not asked for");
            }
        }
    }

    /// Refuses the WATCH or LIST whose page the store could not read.
    fn fail_scan(&mut self, reason: &str) {
        let Some((tag, watched)) = self.scans.remove_failed() else { return };
        self.timeline.push(&Message::error(tag, text::unavailable(reason)));
        if let Some(prefix) = watched {
            self.timeline.unwatch(&prefix);
        }
    }

    /// Sends what changed while the connection was behind the log, and the responses that belong in between.
    fn catch_up(&mut self, Page { entries, through, head }: Page) {
        if through <= self.timeline.position() {
            return self.abandon("the store has lost track of what changed");
        }
        self.behind = false;
        self.timeline.extend_horizon(head);
        self.timeline.reserve(&entries);
        for entry in entries {
            while self.send_due(|at| at < entry.revision) {}
            let is_own =
                self.requests.front_response().is_some_and(|r| r.is_accepted_write() && r.at == entry.revision);
            self.timeline.catch_up_with(&entry, is_own);
        }
        self.timeline.caught_up(through);
        while self.send_due(|at| at <= through) {}
    }

    /// Sends what may be sent: changes that the log holds, and responses in their places. An authorized connection follows
    /// the log from the first call on; no request of it starts before.
    pub fn handle_log(&mut self, log: &RecentLog) {
        if let Session::Open(authorized) = &self.session {
            self.timeline.begin(authorized, log.head());
            self.timeline.skip_to(log.head());
        }
        loop {
            let position = self.timeline.position();
            while self.timeline.has_room() && (self.send_due(|at| at <= position) || self.start_ordered(log)) {}
            // While a read or a page is in flight, the position must not pass the revision at which it was read.
            let may_follow = self.timeline.follows_anything()
                && position < log.head()
                && !self.behind
                && self.page_in_flight.is_none()
                && !self.requests.is_reading()
                && !self.needs_scan_page();
            // A connection that closes is sent only what its responses need.
            if !may_follow || !self.timeline.has_room() || (self.closing && self.is_idle()) {
                break;
            }
            let response = self.requests.front_response().map(|response| response.at);
            match self.timeline.follow(log, response, self.scans.at()) {
                Err(Behind) => {
                    self.behind = true;
                    break;
                }
                Ok(step) if step.is_break() || self.timeline.position() == position => break,
                Ok(_) => {}
            }
        }
        self.timeline.mark();
    }

    /// Returns whether a page of a scan must be read before anything else is sent. Otherwise a steady flow of changes
    /// would keep a WATCH from ever being completed.
    fn needs_scan_page(&self) -> bool {
        self.page_in_flight.is_none() && self.timeline.has_room() && self.scans.page_request().is_some()
    }

    /// Sends the response at the front, or the page of a scan, if it is due. Returns whether it sent something.
    fn send_due(&mut self, is_due: impl Fn(Revision) -> bool) -> bool {
        if let Some(response) = self.requests.pop_response_if(|response| is_due(response.at)) {
            self.send(&response);
            return true;
        }
        if !self.scans.at().is_some_and(&is_due) {
            return false;
        }
        let Some(page) = self.scans.take_page() else { return false };
        if let Some(tag) = page.reset {
            self.timeline.push(&Message::mark(tag, Revision::ZERO));
        }
        self.timeline.reserve(&page.entries);
        for entry in &page.entries {
            self.timeline.push_entry(page.tag, entry);
        }
        if let Some(tag) = page.last {
            self.timeline.owe_mark(tag);
            // As early as possible: what the log holds next is not part of the page.
            self.timeline.mark();
        }
        true
    }

    /// Starts the ordered request at the front, if everything before it is completed and sent. Returns whether it did.
    fn start_ordered(&mut self, log: &RecentLog) -> bool {
        let (position, is_settled) = (self.timeline.position(), self.timeline.is_settled());
        match self.requests.front_ordered() {
            None => return false,
            // The content of a page depends on what the connection followed when the page was asked for.
            Some(_) if self.page_in_flight.is_some() => return false,
            Some(Ordered::Barrier(_, head)) => {
                // Everything that was acknowledged to any client before the barrier arrived is in the log.
                if *head.get_or_insert(log.head()) > position || !is_settled {
                    return false;
                }
            }
            Some(Ordered::Hello(_) | Ordered::Watch(_) | Ordered::List(_)) => {}
        }
        match self.requests.pop_ordered() {
            None => return false,
            Some(Ordered::Hello(tag)) => {
                self.behind = false;
                self.timeline.extend(log.head());
                let hello = self.parameters.hello(log.head());
                self.timeline.push(&Message::hello(tag, hello.encode()));
            }
            Some(Ordered::Barrier(tag, _)) => {
                self.timeline.owe_mark(tag);
                self.timeline.mark();
            }
            Some(Ordered::Watch(watch)) => {
                self.timeline.watch(watch.prefix.clone());
                self.scans.begin(Scan::watch(watch, position));
            }
            Some(Ordered::List(List { tag, limit: 0, .. })) => self.timeline.owe_mark(tag),
            Some(Ordered::List(list)) => self.scans.begin(Scan::list(list)),
        }
        true
    }

    fn send(&mut self, response: &ServerResponse) {
        match &response.body {
            Body::Frame(message) => self.timeline.push(message),
            Body::Accepted(write) => self.timeline.push_accepted(write, response.at),
        }
    }

    /// Completes a request that just arrived.
    fn respond_now(&mut self, message: Message) {
        self.requests.push_response(ServerResponse::now(message));
    }

    fn accepts_requests(&self) -> bool {
        let limits = &self.parameters.limits;
        let max_unsent = match self.session {
            Session::Open(_) => limits.max_unsent,
            Session::Unauthenticated { .. } => limits.max_unsent.min(MAX_UNSENT_UNAUTHENTICATED),
            Session::Verifying { .. } => return false,
        };
        self.requests.len() + self.scans.len() < limits.max_requests
            && self.requests.bytes() + self.timeline.unsent() < max_unsent
    }

    /// Returns whether the requests were dropped, so that results of their effects are ignored.
    fn was_abandoned(&self) -> bool {
        self.closing && self.is_idle()
    }
}

/// Returns the response to a GET of a key that has, or had, a value.
fn get_response(dialect: Dialect, tag: Tag, entry: Entry) -> Message {
    let Entry { key, value, version, .. } = entry;
    match (dialect, value) {
        (Dialect::Base, None) => Message::error(tag, text::deleted(&key, version)),
        (Dialect::Base, Some(value)) if is_large(&key, &value) => {
            Message::error(tag, text::entry_too_large(key.len() + value.len(), Limits::MAX_PUT))
        }
        (Dialect::Extended, None) => Message::delete(tag, key, version),
        (Dialect::Base | Dialect::Extended, Some(value)) => Message::write(tag, key, value, version),
    }
}
