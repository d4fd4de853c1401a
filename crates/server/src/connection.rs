//! The driver of one connection: moves bytes between a socket and [`ServerConnection`], and does what that asks for.

use crate::access::{AuthResult, Authenticator, Grant, UnauthenticatedPermit};
use crate::broadcaster::Registration;
use crate::committer::{CommitQueue, Submission};
use crate::input_budget::{InputBudget, InputPermit, OWN};
use crate::priority_gate::{GatePermit, PriorityGate};
use crate::status;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::take;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use syncline_core::server::{Access, Effect, Input, ServerConnection, ServerParameters, unavailable};
use syncline_core::{Entry, PageError, Transaction};
use syncline_store::{ChangedError, Store};
use syncline_tls::HANDSHAKE;
use syncline_wire::{Message, Tag};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};
use tracing::debug;

/// How much is read at once, at the most.
const READ_SIZE: usize = 16 * 1024;

/// How much is read at once of a stranger, and kept of what it has sent: more than the longest AUTH.
const UNAUTHENTICATED_READ_SIZE: usize = 4 * 1024;

/// The room for input that an idle connection keeps: that of a small request.
const KEPT_CAPACITY: usize = 512;

thread_local! {
    /// What a read goes to first, so that connections need room of their own only for what has come. Used while one is
    /// polled, so by one at a time.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// More bytes than this wait for a turn to be sent.
pub(crate) const MUCH: usize = 64 * 1024;

/// How much a connection has done before that is sent, and others have their turn: else one that asks for much at once, over and
/// over, would make all others wait for all of it, and its client, too.
const TURN: usize = 64;

/// The same of what it does first: half of that, so that a client goes on sooner.
pub(crate) const FIRST_TURN: usize = 32;

/// How much is read of a connection before others have their turn, for the same reason.
const TURN_BYTES: usize = READ_SIZE;

/// The bytes of keys and values that are read together: more only where the last one alone is larger. They share memory until
/// the last of them is sent, so large ones come one by one.
const READ_TOGETHER: usize = 16 * 1024;

/// How long a connection that the server ends gets to take what it is owed.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, the server still listens to a peer that it has said farewell to. Closing on bytes
/// that nobody has read would make the peer's kernel throw the farewell away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// The shortest time between two looks at whether a heartbeat is due.
const MIN_BEAT: Duration = Duration::from_millis(1);

/// What connections are told that a shutdown ends.
const SHUTTING_DOWN: &str = "shutting down";

/// What connections are told whose user is gone or is another.
const RIGHTS_CHANGED: &str = "the rights of this user have changed; connect again";

/// What a server demands of its connections, and where their transactions go.
pub(crate) struct Service<S> {
    pub(crate) store: S,
    pub(crate) queue: CommitQueue,
    pub(crate) input_budget: Arc<InputBudget>,
    pub(crate) send_gate: PriorityGate,
    pub(crate) arrival_gate: PriorityGate,
    pub(crate) parameters: ServerParameters,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) authorize_within: Duration,
    pub(crate) started: Instant,
}

/// Somebody who has come in.
pub(crate) struct Peer<'a> {
    pub(crate) addr: SocketAddr,
    /// By what it may do what it may; `None`: it must show who it is.
    pub(crate) grant: Option<Grant>,
    /// The place that it has until then.
    pub(crate) place: Option<UnauthenticatedPermit>,
    /// Until when it must have shown it.
    pub(crate) deadline: Instant,
    /// Which access control was looked at last.
    pub(crate) generation: Option<u64>,
    /// Called where the first byte is that of TLS, which should not be; `None` once it is known that it is not.
    pub(crate) speaks_tls: Option<&'a (dyn Fn() + Sync)>,
}

impl Peer<'_> {
    /// Somebody who has shown nothing yet.
    pub(crate) const fn new(addr: SocketAddr, place: Option<UnauthenticatedPermit>, deadline: Instant) -> Self {
        Self { addr, grant: None, place, deadline, generation: None, speaks_tls: None }
    }

    /// Somebody who may do this.
    pub(crate) fn grant(&mut self, grant: Grant) {
        (self.grant, self.place) = (Some(grant), None);
    }

    /// Whether what it was granted is no longer.
    fn is_revoked(&mut self, authenticator: &Authenticator) -> bool {
        if self.generation == Some(authenticator.generation()) {
            return false;
        }
        let policy = authenticator.policy();
        self.generation = Some(policy.generation);
        self.grant.as_ref().is_some_and(|grant| !policy.still_grants(grant))
    }
}

/// Serves one connection until either side ends it.
///
/// # Errors
/// What the socket says when it fails.
pub(crate) async fn serve<S, IO>(
    service: &Service<S>,
    registration: Registration,
    socket: IO,
    peer: Peer<'_>,
) -> io::Result<()>
where
    S: Store,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let access = peer.grant.as_ref().map_or(Access::Password, |grant| Access::Granted(grant.rights()));
    let connection = ServerConnection::new(registration.handle.id, service.parameters, access);
    // On the heap once, rather than in every state of what waits for it.
    let mut driver = Box::new(Driver {
        service,
        registration,
        socket,
        send_permit: GatePermit::None,
        arrival_permit: Some(GatePermit::None),
        is_flushed: true,
        connection,
        peer,
        verification: None,
        input: BytesMut::new(),
        bytes_since_yield: 0,
        input_permit: InputPermit::Own,
        wanted: Input::Wanted { expected: 0 },
        page: None,
        turned_away: None,
        unannounced: false,
        has_more: false,
        ended: false,
        abandoned: false,
        beat: None,
    });
    let mut farewell: Option<Instant> = None;
    loop {
        let shutting_down = driver.registration.broadcaster.is_shutting_down();
        if shutting_down && driver.verification.is_some() {
            driver.abandon(SHUTTING_DOWN);
        } else if shutting_down && !driver.abandoned {
            driver.connection.close(SHUTTING_DOWN);
        }
        if !driver.abandoned {
            driver.settle().await;
        }
        if driver.connection.is_finished() && driver.is_flushed {
            break;
        }
        if driver.wanted == Input::Closed && (driver.abandoned || !driver.ended) {
            farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
        }
        if driver.bytes_since_yield >= TURN_BYTES {
            driver.bytes_since_yield = 0;
            driver.send_permit.release();
            yield_now().await;
        }
        let until = farewell.or(driver.deadline());
        let event = poll_fn(|context| driver.poll(context));
        match until {
            None => event.await?,
            Some(until) => match timeout_at(until, event).await {
                Ok(happened) => happened?,
                Err(_) if driver.abandoned => return Ok(()),
                Err(_) if farewell.is_none() => driver.give_up(),
                Err(_) => {
                    // The peer does not take its answers, or the store does not give them.
                    driver.abandon(if shutting_down { SHUTTING_DOWN } else { "no answer in time" });
                    farewell = Some(Instant::now() + LINGER);
                }
            },
        }
        if driver.has_more {
            // What was done is on its way while others have their turn.
            driver.send_permit.release();
            yield_now().await;
        }
    }
    linger(driver.socket).await
}

struct Driver<'a, S, IO> {
    service: &'a Service<S>,
    registration: Registration,
    socket: IO,
    /// Its turn to send much.
    send_permit: GatePermit,
    /// Its turn to have its first request done; `None` when it had that.
    arrival_permit: Option<GatePermit>,
    /// Whether all that was written has left: bytes may wait within TLS.
    is_flushed: bool,
    connection: ServerConnection,
    peer: Peer<'a>,
    /// The judgement of a password, while it is under way.
    verification: Option<Pin<Box<dyn Future<Output = AuthResult> + Send>>>,
    /// What came from the socket and was not taken yet: at most one frame and one read.
    input: BytesMut,
    /// How much of that came since others had their turn.
    bytes_since_yield: usize,
    /// What the frame may take that comes in.
    input_permit: InputPermit,
    /// What the connection has said of that.
    wanted: Input,
    /// A page of the store that the connection has asked for: it is read when it is its turn.
    page: Option<Effect>,
    /// A transaction that the commit queue had no room for. Nothing else is done before it is in.
    turned_away: Option<Transaction>,
    /// Whether the commit queue was given something that it does not know to be there yet.
    unannounced: bool,
    /// Whether its turn ended before it had done all.
    has_more: bool,
    /// Whether the peer has ended its side.
    ended: bool,
    /// Whether nothing but what is left of the output still is for the peer.
    abandoned: bool,
    /// Half heartbeats, for a connection that watches.
    beat: Option<Interval>,
}

impl<S: Store, IO: AsyncRead + AsyncWrite + Unpin> Driver<'_, S, IO> {
    /// Does everything that can be done without the socket.
    async fn settle(&mut self) {
        for outcome in self.registration.handle.take() {
            self.connection.handle_outcome(outcome);
        }
        // Ends: each round but the last takes input or does what an earlier one has asked for, and both are bounded, for
        // nothing is written meanwhile.
        loop {
            let before = self.input.len();
            if self.arrival_permit.is_none() {
                self.wanted = self.connection.handle_input(&mut self.input);
            }
            if self.input.len() != before && !matches!(self.input_permit, InputPermit::Own) {
                // Neither what is left over nor what it has asked for must keep the room of the frame before it.
                self.input = BytesMut::from(&*self.input);
                self.connection.own_keys();
                self.input_permit = InputPermit::Own;
            }
            self.show_log();
            // After the log: whoever has fallen behind it asks the store.
            let acted = self.act().await;
            let has_page = self.read_page().await;
            self.announce();
            if self.abandoned {
                return;
            }
            if self.has_more {
                break;
            }
            if has_page || ((acted || self.input.len() != before) && self.has_work()) {
                continue;
            }
            let handle = &self.registration.handle;
            if !handle.set_waits_for_log(self.connection.waits_for_log()) {
                break;
            }
        }
        self.registration.handle.set_cursor(self.connection.cursor());
        if self.connection.rights().is_some() {
            self.peer.place = None;
        }
        if self.connection.is_watching() && self.beat.is_none() {
            let half = (self.service.parameters.heartbeat / 2).max(MIN_BEAT);
            let mut beat = interval_at(Instant::now() + half, half);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.beat = Some(beat);
        }
        if let Input::Wanted { expected } = self.wanted {
            self.input_permit.request(&self.service.input_budget, expected, self.longest_frame(expected));
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_CAPACITY {
            self.input = BytesMut::new();
        }
    }

    /// Whether the connection may have more to say now that requests of it were done, or some of its output was written.
    fn has_work(&self) -> bool {
        !matches!(self.wanted, Input::Wanted { .. }) || self.connection.has_work()
    }

    /// Shows the connection the log, where it still may see it.
    fn show_log(&mut self) {
        let log = self.registration.broadcaster.log.read();
        // While the log stands still: what comes into it later is told by the rights that are in force then.
        if !self.peer.is_revoked(&self.service.authenticator) {
            return self.connection.handle_log(&log);
        }
        drop(log);
        self.abandon(RIGHTS_CHANGED);
    }

    /// Whether the connection has ended, maybe just now: for what it was granted is no longer.
    fn has_lost_rights(&mut self) -> bool {
        if !self.abandoned && self.peer.is_revoked(&self.service.authenticator) {
            self.abandon(RIGHTS_CHANGED);
        }
        self.abandoned
    }

    /// What was read, where the connection may still be told.
    async fn still_granted<T>(&mut self, read: impl Future<Output = T>) -> Option<T> {
        self.announce();
        let mut read = pin!(read);
        let read = poll_fn(|context| {
            let done = read.as_mut().poll(context);
            if done.is_pending() {
                // Nobody else need wait for the store.
                self.send_permit.release();
            }
            done
        })
        .await;
        (!self.has_lost_rights()).then_some(read)
    }

    /// Ends the connection at once: from here on it is only written.
    fn abandon(&mut self, reason: &str) {
        self.connection.abandon(reason);
        (self.abandoned, self.has_more) = (true, false);
        self.wanted = Input::Closed;
        (self.turned_away, self.verification, self.page) = (None, None, None);
        (self.input, self.input_permit) = (BytesMut::new(), InputPermit::Own);
    }

    /// Whether its first request is there, and was not done yet.
    fn arrives(&self) -> bool {
        self.arrival_permit.is_some() && !self.input.is_empty()
    }

    /// Until when the client must have done what is up to it: show who it is, or send the rest of a large request.
    fn deadline(&self) -> Option<Instant> {
        match self.connection.rights() {
            None => {
                let is_up_to_us = self.abandoned || self.verification.is_some() || self.arrives();
                (!is_up_to_us).then_some(self.peer.deadline)
            }
            Some(_) => self.input_permit.deadline(),
        }
    }

    /// Ends the connection of somebody who takes too long, where others need what it has.
    fn give_up(&mut self) {
        if self.connection.rights().is_none() {
            self.give_up_unauthenticated();
        } else if let Some(overdue) = self.input_permit.handle_deadline(&self.service.input_budget) {
            debug!(id = %self.connection.id(), peer = %self.peer.addr, "ended: {overdue}");
            self.connection.close(&overdue.to_string());
        }
    }

    /// Ends the connection of somebody who takes too long to show who it is.
    fn give_up_unauthenticated(&mut self) {
        let reason = format!("not authorized within {:?}", self.service.authorize_within);
        self.service.authenticator.log_rejection(self.peer.addr, &reason);
        self.abandon(&reason);
    }

    /// Does what the connection asks for, and answers whether some of that may be answered by now.
    async fn act(&mut self) -> bool {
        let turn = if take(&mut self.has_more) { TURN } else { FIRST_TURN };
        if let Some(transaction) = self.turned_away.take()
            && !self.submit(transaction)
        {
            return false;
        }
        let service = self.service;
        let mut done = 0;
        while !self.has_lost_rights()
            && done < turn
            && let Some(effect) = self.connection.poll_effect()
        {
            // Transactions go to the committer together: there are no more of them than of requests in flight.
            done += usize::from(!matches!(effect, Effect::Commit { .. }));
            match effect {
                Effect::Commit { transaction } => {
                    if !self.submit(transaction) {
                        break;
                    }
                }
                Effect::Read { key } => match self.connection.poll_read() {
                    None => {
                        let Some(entry) = self.still_granted(service.store.get(&key)).await else { break };
                        self.connection.handle_entry(entry.map_err(|trouble| trouble.0));
                    }
                    // Many are found sooner together.
                    Some(second) => {
                        let mut keys = vec![key, second];
                        done += 1;
                        while done < turn
                            && let Some(key) = self.connection.poll_read()
                        {
                            keys.push(key);
                            done += 1;
                        }
                        let entries = service.store.get_all(&keys, READ_TOGETHER);
                        let Some(entries) = self.still_granted(entries).await else { break };
                        self.handle_entries(keys.len(), entries.map_err(|trouble| trouble.0));
                    }
                },
                page @ (Effect::Changes { .. } | Effect::Keys { .. }) => self.page = Some(page),
                Effect::Status => {
                    let status = status::report(
                        &service.store,
                        &service.authenticator,
                        &self.registration.broadcaster,
                        service.started,
                    );
                    self.connection.handle_status(status);
                }
                Effect::Verify { password } => {
                    let authenticator = service.authenticator.clone();
                    let judgement = authenticator.authenticate(self.connection.id(), self.peer.addr, password);
                    self.verification = Some(Box::pin(judgement));
                }
            }
        }
        self.has_more = done >= turn && !self.abandoned && self.has_work();
        done > 0
    }

    /// Reads the page that the connection has asked for, where it is its turn; answers whether it was.
    async fn read_page(&mut self) -> bool {
        let service = self.service;
        let Some(page) = self.page.take_if(|_| self.send_permit.is_taken()) else { return false };
        match page {
            Effect::Changes { prefix, since, max_bytes } => {
                let page = self.still_granted(service.store.changed_since(since, &prefix, max_bytes)).await;
                let Some(page) = page else { return true };
                self.connection.handle_changes(page.map_err(|error| match error {
                    ChangedError::Unavailable(trouble) => PageError::Unavailable(trouble.0),
                    untold => PageError::Untold(untold.to_string().into()),
                }));
            }
            Effect::Keys { prefix, after, max_entries, max_bytes } => {
                let page = service.store.list(&prefix, after.as_deref(), max_entries, max_bytes);
                let Some(page) = self.still_granted(page).await else { return true };
                self.connection.handle_keys(page.map_err(|trouble| trouble.0));
            }
            Effect::Commit { .. } | Effect::Read { .. } | Effect::Status | Effect::Verify { .. } => {
                debug_assert!(false, "only pages wait for their turn");
            }
        }
        true
    }

    /// Answers so many reads, or as many as there are entries; the rest is asked for again, when there is room.
    fn handle_entries(&mut self, asked: usize, entries: Result<Vec<Option<Entry>>, Arc<str>>) {
        match entries {
            Ok(entries) => {
                let is_all = entries.len() == asked;
                entries.into_iter().for_each(|entry| self.connection.handle_entry(Ok(entry)));
                if !is_all {
                    self.connection.take_back_reads();
                }
            }
            Err(reason) => (0..asked).for_each(|_| self.connection.handle_entry(Err(reason.clone()))),
        }
    }

    /// Gives a transaction to the committer, or keeps it until there is room.
    fn submit(&mut self, transaction: Transaction) -> bool {
        let submission = Submission { transaction, handle: self.registration.handle.clone() };
        match self.service.queue.submit(submission) {
            Ok(()) => {
                self.unannounced = true;
                true
            }
            Err(Submission { transaction, .. }) => {
                self.turned_away = Some(transaction);
                false
            }
        }
    }

    /// Has the committer look at what it was given.
    fn announce(&mut self) {
        if take(&mut self.unannounced) {
            self.service.queue.announce();
        }
    }

    /// Waits until the notify rings, or the socket has taken or given something.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut happened = self.has_more | self.registration.handle.notify.notified(context);
        happened |= self.poll_write(context)?;
        if let Some(verification) = &mut self.verification
            && let Poll::Ready(judgement) = verification.as_mut().poll(context)
        {
            self.verification = None;
            self.handle_judgement(judgement);
            happened = true;
        }
        // A new time begins.
        happened |= self.input_permit.poll_granted(context);
        if let Some(most) = self.room_to_read()
            && let Poll::Ready(read) = self.poll_read(most, context)
        {
            if read? == 0 {
                self.ended = true;
                self.connection.handle_end();
            }
            if let Some(speaks_tls) = self.peer.speaks_tls.take()
                && self.input.first() == Some(&HANDSHAKE)
            {
                speaks_tls();
            }
            happened = true;
        }
        // Last: what was read is looked at before more is.
        if self.arrives()
            && let Some(turn) = &mut self.arrival_permit
            && turn.poll_acquire(&self.service.arrival_gate, context).is_ready()
        {
            self.arrival_permit = None;
            happened = true;
        }
        // Always: TLS has things to say of its own, too, of what was read.
        if let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(context) {
            flushed?;
            // Only the end waits for that.
            happened |= !self.is_flushed && self.connection.is_finished();
            self.is_flushed = true;
        }
        if let Some(beat) = &mut self.beat
            && beat.poll_tick(context).is_ready()
        {
            self.connection.handle_beat();
            happened = true;
        }
        if happened {
            return Poll::Ready(Ok(()));
        }
        self.connection.own_keys();
        // What is to be sent soon is not copied before.
        if !self.send_permit.is_waiting() || self.connection.output().remaining() <= MUCH {
            self.connection.output().shrink();
        }
        Poll::Pending
    }

    /// Writes what there is, much of it only in its turn; answers whether there is something to do now.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let unsent = self.connection.output().remaining();
        let needs_turn = unsent > MUCH || self.page.is_some();
        let has_turn = needs_turn && self.send_permit.poll_acquire(&self.service.send_gate, context).is_ready();
        let mut happened = has_turn && self.page.is_some();
        let has_work = self.has_work();
        if unsent > 0
            && (has_turn || unsent <= MUCH)
            && let Poll::Ready(written) = self.poll_write_some(context)
        {
            if written? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.is_flushed = false;
            // What is left is written as soon as the socket says that it takes more, so it is asked until it does not.
            happened |= has_work || !self.connection.output().is_empty();
        }
        if self.page.is_none() && (has_turn || !needs_turn) {
            // What it was for is done, or the socket takes no more.
            self.send_permit = GatePermit::None;
        }
        Ok(happened)
    }

    /// Writes as much as the socket takes.
    fn poll_write_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let output = self.connection.output();
        let first = output.chunk();
        if first.len() < output.remaining() {
            return pin!(self.socket.write_buf(output)).poll(context);
        }
        // One piece is a shorter way for the kernel than a list of one.
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, first))?;
        output.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Reads what there is, but not more than this; 0 at the end.
    fn poll_read(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|read| {
            let most = most.min(read.len());
            let mut read = ReadBuf::new(read.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut read))?;
            if let (InputPermit::Shared { .. }, Input::Wanted { expected }) = (&self.input_permit, self.wanted) {
                // For all of it: it is not moved while it grows.
                self.input.reserve(self.longest_frame(expected).saturating_sub(self.input.len()));
            }
            self.input.extend_from_slice(read.filled());
            self.bytes_since_yield += read.filled().len();
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    fn handle_judgement(&mut self, judgement: AuthResult) {
        match judgement {
            Ok(grant) => {
                self.connection.handle_verdict(grant.as_ref().map(Grant::rights));
                // By the access control of just now, which may be another by the time that this is looked at.
                (self.peer.grant, self.peer.generation) = (grant, None);
            }
            Err(too_many) => self.abandon(&too_many.to_string()),
        }
    }

    /// How long the frame may get that comes in, and of which so much is expected by now.
    fn longest_frame(&self, expected: usize) -> usize {
        let first = self.input.first().copied().unwrap_or_default();
        self.service.parameters.limits.longest_frame(first, expected)
    }

    /// How much may be read now; nothing where the connection or the committer has enough to do, or there is no room.
    fn room_to_read(&self) -> Option<usize> {
        let there = self.input.len();
        match self.wanted {
            _ if self.arrives() => None,
            Input::Wanted { .. } if !self.ended && self.connection.rights().is_none() => {
                Some(UNAUTHENTICATED_READ_SIZE.saturating_sub(there).max(1))
            }
            _ if self.ended || self.has_more || self.turned_away.is_some() => None,
            Input::Wanted { expected } => match self.input_permit {
                InputPermit::Own if expected <= OWN => Some(OWN.saturating_sub(there).max(1)),
                InputPermit::Own | InputPermit::Waiting { .. } => None,
                InputPermit::Shared { .. } => Some(READ_SIZE),
            },
            _ => None,
        }
    }
}

/// Ends a connection to which everything was said, so that the peer gets to read it.
pub(crate) async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let farewell = async {
        socket.shutdown().await?;
        let mut unread = BytesMut::with_capacity(UNAUTHENTICATED_READ_SIZE);
        let mut heard = 0;
        while heard < LINGER_BYTES {
            match socket.read_buf(&mut unread).await? {
                0 => break,
                read => heard += read,
            }
            unread.clear();
        }
        Ok(())
    };
    timeout(LINGER, farewell).await.unwrap_or(Ok(()))
}

/// Turns away a connection that has no place here, and tells it why.
///
/// # Errors
/// What the socket says when it fails.
pub(crate) async fn refuse(mut socket: impl AsyncRead + AsyncWrite + Unpin, reason: &str) -> io::Result<()> {
    let mut farewell = BytesMut::new();
    if Message::error(Tag::BROADCAST, unavailable(reason)).encode(&mut farewell).is_ok() {
        timeout(FAREWELL, socket.write_all(&farewell)).await.unwrap_or(Ok(()))?;
    }
    linger(socket).await
}
