//! The driver of one connection: moves bytes between a socket and its [`ServerConnection`], and executes its effects.

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
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use syncline_core::server::{Access, Effect, Input, PageRequest, ServerConnection, ServerParameters, unavailable};
use syncline_core::{Entry, Transaction};
use syncline_store::{Store, read_page};
use syncline_tls::HANDSHAKE;
use syncline_wire::{Message, Tag};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};
use tracing::debug;

/// The most bytes of one read.
const READ_SIZE: usize = 16 * 1024;

/// The most bytes of one read from an unauthenticated connection, and of the input that is kept of it: more than the longest
/// AUTH.
const UNAUTHENTICATED_READ_SIZE: usize = 4 * 1024;

/// The input buffer that an idle connection keeps: enough for a small request.
const KEPT_CAPACITY: usize = 512;

thread_local! {
    /// The buffer of every read, so that a connection needs memory only for bytes that have arrived. It is used while a
    /// connection is polled, so by one at a time.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// Output above this size waits for a send permit.
pub(crate) const LARGE_OUTPUT: usize = 64 * 1024;

/// The most effects of a connection before its output is written and it yields. Otherwise a client that pipelines many
/// requests would delay all other connections, and its own first responses.
const EFFECT_BUDGET: usize = 64;

/// The same before its first yield: half of that, so that the client can continue sooner.
pub(crate) const FIRST_BUDGET: usize = 32;

/// The most bytes that are read from a connection before it yields, for the same reason.
const READ_BUDGET_BYTES: usize = READ_SIZE;

/// The bytes of keys and values that are read together; the last entry may exceed them. They share memory until the last of
/// them is sent, so large entries are read one by one.
const GET_BATCH_BYTES: usize = 16 * 1024;

/// How long a connection that the server closes may take to read its last responses.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, the server reads on after it has sent everything. Closing a socket with unread input
/// resets the connection, and the peer would lose the last responses.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// The shortest interval between two beats.
const MIN_BEAT: Duration = Duration::from_millis(1);

/// The reason that is sent to connections which a shutdown closes.
const SHUTTING_DOWN: &str = "shutting down";

/// The reason that is sent to connections whose user was removed or changed.
const RIGHTS_CHANGED: &str = "the rights of this user have changed; connect again";

/// The reason that is sent to a connection if another one has taken its permit.
const EVICTED: &str = "this connection had sent nothing, and made room for a new one";

/// What all connections of a server share.
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
    pub(crate) log_lines_dropped: Arc<AtomicU64>,
}

/// The client of a new connection, as far as it is known.
pub(crate) struct Peer<'a> {
    pub(crate) addr: SocketAddr,
    /// What gives the client its rights; `None`: it must authenticate itself.
    pub(crate) grant: Option<Grant>,
    /// Its share of the limit for unauthenticated connections, until it is authenticated.
    pub(crate) place: Option<UnauthenticatedPermit>,
    /// When it must be authenticated.
    pub(crate) deadline: Instant,
    /// The generation of the access rules that the grant was last checked against.
    pub(crate) generation: Option<u64>,
    /// Called if the first byte starts a TLS handshake, on a server without TLS; `None` once the first byte was checked.
    pub(crate) speaks_tls: Option<&'a (dyn Fn() + Sync)>,
}

impl Peer<'_> {
    /// Returns a client that is not authenticated.
    pub(crate) const fn new(addr: SocketAddr, place: Option<UnauthenticatedPermit>, deadline: Instant) -> Self {
        Self { addr, grant: None, place, deadline, generation: None, speaks_tls: None }
    }

    /// Gives the client the rights of `grant`.
    pub(crate) fn grant(&mut self, grant: Grant) {
        (self.grant, self.place) = (Some(grant), None);
    }

    /// Records that something was read from the client.
    pub(crate) fn end_silence(&mut self) {
        if let Some(place) = &mut self.place {
            place.end_silence();
        }
    }

    /// Records that the TLS handshake is complete, and that no frame has arrived.
    pub(crate) fn begin_silence(&mut self) {
        if let Some(place) = &mut self.place {
            place.begin_silence();
        }
    }

    /// Returns whether the permit of the client was given to another connection.
    pub(crate) fn is_evicted(&self) -> bool {
        self.place.as_ref().is_some_and(UnauthenticatedPermit::is_evicted)
    }

    /// Does the same, and registers the task of `context` to be woken when it happens.
    fn poll_evicted(&self, context: &Context<'_>) -> bool {
        self.place.as_ref().is_some_and(|place| place.poll_evicted(context))
    }

    /// Waits until the permit of the client is given to another connection.
    pub(crate) async fn evicted(&self) {
        poll_fn(|context| if self.poll_evicted(context) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Returns whether the access rules in force no longer give the client its grant.
    fn is_revoked(&mut self, authenticator: &Authenticator) -> bool {
        if self.generation == Some(authenticator.generation()) {
            return false;
        }
        let policy = authenticator.policy();
        self.generation = Some(policy.generation);
        self.grant.as_ref().is_some_and(|grant| !policy.still_grants(grant))
    }
}

/// Serves one connection until either side closes it.
///
/// # Errors
/// The error of the socket if it fails.
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
    // On the heap once, rather than in every state of the futures that wait for it.
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
        not_submitted: None,
        must_notify_committer: false,
        has_more: false,
        ended: false,
        abandoned: false,
        beat: None,
    });
    let mut close_by: Option<Instant> = None;
    loop {
        if driver.peer.is_evicted() {
            return driver.end_at_once(EVICTED).await;
        }
        let shutting_down = driver.registration.broadcaster.is_shutting_down();
        if shutting_down && driver.verification.is_some() {
            driver.abandon(SHUTTING_DOWN);
        } else if shutting_down && !driver.abandoned {
            driver.connection.close(SHUTTING_DOWN);
        }
        if !driver.abandoned {
            driver.run().await;
        }
        if driver.connection.is_finished() && driver.is_flushed {
            break;
        }
        if driver.wanted == Input::Closed && (driver.abandoned || !driver.ended) {
            close_by.get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT);
        }
        if driver.bytes_since_yield >= READ_BUDGET_BYTES {
            driver.bytes_since_yield = 0;
            driver.send_permit.release();
            yield_now().await;
        }
        let until = close_by.or(driver.deadline());
        let event = poll_fn(|context| driver.poll(context));
        match until {
            None => event.await?,
            Some(until) => match timeout_at(until, event).await {
                Ok(happened) => happened?,
                Err(_) if driver.abandoned => return Ok(()),
                Err(_) if close_by.is_none() => driver.give_up(),
                Err(_) => {
                    // The peer does not read its responses, or the store does not return.
                    driver.abandon(if shutting_down { SHUTTING_DOWN } else { "no answer in time" });
                    close_by = Some(Instant::now() + LINGER);
                }
            },
        }
        if driver.has_more {
            // The output is on its way while other connections are served.
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
    /// The permit to send a large output, or to read a page.
    send_permit: GatePermit,
    /// The permit for the first request; `None` once the connection had it.
    arrival_permit: Option<GatePermit>,
    /// Whether everything written was flushed: TLS may hold bytes back.
    is_flushed: bool,
    connection: ServerConnection,
    peer: Peer<'a>,
    /// The check of a password that is running.
    verification: Option<Pin<Box<dyn Future<Output = AuthResult> + Send>>>,
    /// The input that is not decoded yet: at most one frame and one read.
    input: BytesMut,
    /// The bytes read since the connection yielded.
    bytes_since_yield: usize,
    /// The permit for the memory of the frame that arrives.
    input_permit: InputPermit,
    /// What the state machine wants of the input.
    wanted: Input,
    /// The page of the store to be read, as soon as the connection has a send permit.
    page: Option<PageRequest>,
    /// A transaction that did not fit the commit queue. No further effect is executed before it is submitted.
    not_submitted: Option<Transaction>,
    /// Whether transactions were submitted since the committer was last notified.
    must_notify_committer: bool,
    /// Whether the connection must yield although it has more effects to execute.
    has_more: bool,
    /// Whether the peer has closed its side.
    ended: bool,
    /// Whether only the rest of the output is still written.
    abandoned: bool,
    /// Ticks every half heartbeat, if the connection watches.
    beat: Option<Interval>,
}

impl<S: Store, IO: AsyncRead + AsyncWrite + Unpin> Driver<'_, S, IO> {
    /// Does everything that needs no socket.
    async fn run(&mut self) {
        for outcome in self.registration.handle.take() {
            self.connection.handle_outcome(outcome);
        }
        // Ends: each iteration except the last decodes input or executes effects, and both are bounded, because nothing is
        // written meanwhile.
        loop {
            let before = self.input.len();
            if self.arrival_permit.is_none() {
                self.wanted = self.connection.handle_input(&mut self.input);
            }
            if self.input.len() != before && !matches!(self.input_permit, InputPermit::Own) {
                // Neither the rest of the input nor the requests may hold the memory of the frame before them.
                self.input = BytesMut::from(&*self.input);
                self.connection.own_keys();
                self.input_permit = InputPermit::Own;
            }
            self.show_log();
            // After the log: a connection that has fallen behind the log asks the store.
            let executed = self.execute_effects().await;
            let has_page = self.read_page().await;
            self.notify_committer();
            if self.abandoned {
                return;
            }
            if self.has_more {
                break;
            }
            if has_page || ((executed || self.input.len() != before) && self.has_work()) {
                continue;
            }
            let handle = &self.registration.handle;
            if !handle.set_waits_for_log(self.connection.waits_for_log()) {
                break;
            }
        }
        self.registration.handle.set_cursor(self.connection.cursor());
        self.registration.handle.set_base(self.connection.is_base());
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

    /// Returns whether the connection may continue after effects were executed or output was written.
    fn has_work(&self) -> bool {
        !matches!(self.wanted, Input::Wanted { .. }) || self.connection.has_work()
    }

    /// Shows the connection the log, unless its rights were revoked.
    fn show_log(&mut self) {
        let log = self.registration.broadcaster.log.read();
        // Under the lock of the log: later commits are filtered by the rights that are in force then.
        if !self.peer.is_revoked(&self.service.authenticator) {
            return self.connection.handle_log(&log);
        }
        drop(log);
        self.abandon(RIGHTS_CHANGED);
    }

    /// Abandons the connection if its rights were revoked. Returns whether it is abandoned.
    fn abandon_if_revoked(&mut self) -> bool {
        if !self.abandoned && self.peer.is_revoked(&self.service.authenticator) {
            self.abandon(RIGHTS_CHANGED);
        }
        self.abandoned
    }

    /// Waits for `read` and returns its result, unless the rights of the connection were revoked meanwhile.
    async fn unless_revoked<T>(&mut self, read: impl Future<Output = T>) -> Option<T> {
        self.notify_committer();
        let mut read = pin!(read);
        let read = poll_fn(|context| {
            let done = read.as_mut().poll(context);
            if done.is_pending() {
                // Other connections need not wait for the store.
                self.send_permit.release();
            }
            done
        })
        .await;
        (!self.abandon_if_revoked()).then_some(read)
    }

    /// Abandons the connection: from here on its output is written and nothing else happens.
    fn abandon(&mut self, reason: &str) {
        self.connection.abandon(reason);
        (self.abandoned, self.has_more) = (true, false);
        self.wanted = Input::Closed;
        (self.not_submitted, self.verification, self.page) = (None, None, None);
        (self.input, self.input_permit) = (BytesMut::new(), InputPermit::Own);
    }

    /// Ends the connection without waiting for anything: the client is sent the reason if the socket takes it now.
    ///
    /// # Errors
    /// The error of the socket if it fails.
    async fn end_at_once(mut self: Box<Self>, reason: &str) -> io::Result<()> {
        self.connection.abandon(reason);
        let end = async {
            self.socket.write_all_buf(self.connection.output()).await?;
            self.socket.shutdown().await
        };
        timeout(Duration::ZERO, end).await.unwrap_or(Ok(()))
    }

    /// Returns whether the first request has arrived and waits for its permit.
    fn waits_for_arrival_permit(&self) -> bool {
        self.arrival_permit.is_some() && !self.input.is_empty()
    }

    /// Returns when the client must have authenticated itself, or sent the rest of a large request.
    fn deadline(&self) -> Option<Instant> {
        match self.connection.rights() {
            None => {
                let is_up_to_us = self.abandoned || self.verification.is_some() || self.waits_for_arrival_permit();
                (!is_up_to_us).then_some(self.peer.deadline)
            }
            Some(_) => self.input_permit.deadline(),
        }
    }

    /// Closes a connection that missed its deadline, if others need its resources.
    fn give_up(&mut self) {
        if self.connection.rights().is_none() {
            self.give_up_unauthenticated();
        } else if let Some(overdue) = self.input_permit.handle_deadline(&self.service.input_budget) {
            debug!(id = %self.connection.id(), peer = %self.peer.addr, "ended: {overdue}");
            self.connection.close(&overdue.to_string());
        }
    }

    /// Abandons a connection that was not authenticated in time.
    fn give_up_unauthenticated(&mut self) {
        let reason = format!("not authorized within {:?}", self.service.authorize_within);
        self.service.authenticator.log_rejection(self.peer.addr, &reason);
        self.abandon(&reason);
    }

    /// Executes effects. Returns whether some of them may be complete by now.
    async fn execute_effects(&mut self) -> bool {
        let budget = if take(&mut self.has_more) { EFFECT_BUDGET } else { FIRST_BUDGET };
        if let Some(transaction) = self.not_submitted.take()
            && !self.submit(transaction)
        {
            return false;
        }
        let service = self.service;
        let mut done = 0;
        while !self.abandon_if_revoked()
            && done < budget
            && let Some(effect) = self.connection.poll_effect()
        {
            // Transactions do not count: they go to the committer together, and the requests in flight bound them.
            done += usize::from(!matches!(effect, Effect::Commit { .. }));
            match effect {
                Effect::Commit { transaction } => {
                    if !self.submit(transaction) {
                        break;
                    }
                }
                Effect::Get { key } => match self.connection.poll_get() {
                    None => {
                        let Some(entry) = self.unless_revoked(service.store.get(&key)).await else { break };
                        self.connection.handle_entry(entry.map_err(|trouble| trouble.0));
                    }
                    // Several keys are found faster together.
                    Some(second) => {
                        let mut keys = vec![key, second];
                        done += 1;
                        while done < budget
                            && let Some(key) = self.connection.poll_get()
                        {
                            keys.push(key);
                            done += 1;
                        }
                        let entries = service.store.get_all(&keys, GET_BATCH_BYTES);
                        let Some(entries) = self.unless_revoked(entries).await else { break };
                        self.handle_entries(keys.len(), entries.map_err(|trouble| trouble.0));
                    }
                },
                Effect::Page(request) => self.page = Some(request),
                Effect::Status(scope) => {
                    let status = status::report(scope, service, &self.registration.broadcaster);
                    self.connection.handle_status(status);
                }
                Effect::Verify { password } => {
                    let authenticator = service.authenticator.clone();
                    let judgement = authenticator.authenticate(self.connection.id(), self.peer.addr, password);
                    self.verification = Some(Box::pin(judgement));
                }
            }
        }
        self.has_more = done >= budget && !self.abandoned && self.has_work();
        done > 0
    }

    /// Reads the page that the connection needs, if it has a send permit. Returns whether it did.
    async fn read_page(&mut self) -> bool {
        let service = self.service;
        let Some(request) = self.page.take_if(|_| self.send_permit.is_taken()) else { return false };
        if let Some(page) = self.unless_revoked(read_page(&service.store, &request)).await {
            self.connection.handle_page(page);
        }
        true
    }

    /// Completes as many reads as there are entries. The others are polled again when there is room for their responses.
    fn handle_entries(&mut self, asked: usize, entries: Result<Vec<Option<Entry>>, Arc<str>>) {
        match entries {
            Ok(entries) => {
                let is_all = entries.len() == asked;
                entries.into_iter().for_each(|entry| self.connection.handle_entry(Ok(entry)));
                if !is_all {
                    self.connection.requeue_reads();
                }
            }
            Err(reason) => (0..asked).for_each(|_| self.connection.handle_entry(Err(reason.clone()))),
        }
    }

    /// Submits a transaction to the committer, or keeps it until the queue has room. Returns whether it was submitted.
    fn submit(&mut self, transaction: Transaction) -> bool {
        let submission = Submission { transaction, handle: self.registration.handle.clone() };
        match self.service.queue.submit(submission) {
            Ok(()) => {
                self.must_notify_committer = true;
                true
            }
            Err(Submission { transaction, .. }) => {
                self.not_submitted = Some(transaction);
                false
            }
        }
    }

    /// Notifies the committer of the transactions that were submitted.
    fn notify_committer(&mut self) {
        if take(&mut self.must_notify_committer) {
            self.service.queue.announce();
        }
    }

    /// Waits until the connection is notified, or the socket has read or written something.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut happened = self.has_more | self.registration.handle.notify.notified(context);
        happened |= self.peer.poll_evicted(context);
        happened |= self.poll_write(context)?;
        if let Some(verification) = &mut self.verification
            && let Poll::Ready(judgement) = verification.as_mut().poll(context)
        {
            self.verification = None;
            self.handle_judgement(judgement);
            happened = true;
        }
        // A new deadline begins.
        happened |= self.input_permit.poll_granted(context);
        if let Some(most) = self.room_to_read()
            && let Poll::Ready(read) = self.poll_read(most, context)
        {
            if read? == 0 {
                self.ended = true;
                self.connection.handle_end();
            }
            self.peer.end_silence();
            if let Some(speaks_tls) = self.peer.speaks_tls.take()
                && self.input.first() == Some(&HANDSHAKE)
            {
                speaks_tls();
            }
            happened = true;
        }
        // Last: what was read is handled before more is read.
        if self.waits_for_arrival_permit()
            && let Some(turn) = &mut self.arrival_permit
            && turn.poll_acquire(&self.service.arrival_gate, context).is_ready()
        {
            self.arrival_permit = None;
            happened = true;
        }
        // Always: TLS has frames of its own to send, also after reads.
        if let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(context) {
            flushed?;
            // Only the end of the connection waits for a flush.
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
        // Output that will be written soon is not copied before.
        if !self.send_permit.is_waiting() || self.connection.output().remaining() <= LARGE_OUTPUT {
            self.connection.output().shrink();
        }
        Poll::Pending
    }

    /// Writes the output; a large output needs a send permit. Returns whether there is more to do now.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let unsent = self.connection.output().remaining();
        let needs_permit = unsent > LARGE_OUTPUT || self.page.is_some();
        let has_permit = needs_permit && self.send_permit.poll_acquire(&self.service.send_gate, context).is_ready();
        let mut happened = has_permit && self.page.is_some();
        let has_work = self.has_work();
        if unsent > 0
            && (has_permit || unsent <= LARGE_OUTPUT)
            && let Poll::Ready(written) = self.poll_write_some(context)
        {
            if written? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.is_flushed = false;
            // The socket must be polled until it is not ready, or it would not wake the task for the rest.
            happened |= has_work || !self.connection.output().is_empty();
        }
        if self.page.is_none() && (has_permit || !needs_permit) {
            // The page or the write is done, or the socket is full.
            self.send_permit = GatePermit::None;
        }
        Ok(happened)
    }

    /// Writes as much as the socket accepts.
    fn poll_write_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let output = self.connection.output();
        let first = output.chunk();
        if first.len() < output.remaining() {
            return pin!(self.socket.write_buf(output)).poll(context);
        }
        // A single slice is cheaper for the kernel than a list of one.
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, first))?;
        output.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Reads at most `most` bytes. Returns 0 at the end of the input.
    fn poll_read(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|read| {
            let most = most.min(read.len());
            let mut read = ReadBuf::new(read.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut read))?;
            if let (InputPermit::Shared { .. }, Input::Wanted { expected }) = (&self.input_permit, self.wanted) {
                // Reserved for the whole frame, so that it is not moved while it grows.
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
                // The rules may have changed since the password was checked, so the grant is checked again.
                (self.peer.grant, self.peer.generation) = (grant, None);
            }
            Err(too_many) => self.abandon(&too_many.to_string()),
        }
    }

    /// Returns the most bytes that the arriving frame can have, of which at least `expected` are known to follow.
    fn longest_frame(&self, expected: usize) -> usize {
        let first = self.input.first().copied().unwrap_or_default();
        self.service.parameters.limits.longest_frame(first, expected)
    }

    /// Returns how many bytes may be read now; `None` if the connection or the committer has a backlog, or the frame waits
    /// for an input permit.
    fn room_to_read(&self) -> Option<usize> {
        let there = self.input.len();
        match self.wanted {
            _ if self.waits_for_arrival_permit() => None,
            Input::Wanted { .. } if !self.ended && self.connection.rights().is_none() => {
                Some(UNAUTHENTICATED_READ_SIZE.saturating_sub(there).max(1))
            }
            _ if self.ended || self.has_more || self.not_submitted.is_some() => None,
            Input::Wanted { expected } => match self.input_permit {
                InputPermit::Own if expected <= OWN => Some(OWN.saturating_sub(there).max(1)),
                InputPermit::Own | InputPermit::Waiting { .. } => None,
                InputPermit::Shared { .. } => Some(READ_SIZE),
            },
            _ => None,
        }
    }
}

/// Closes a connection to which everything was sent, so that the peer can read it.
pub(crate) async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let close_by = async {
        socket.shutdown().await?;
        let mut unread = BytesMut::with_capacity(UNAUTHENTICATED_READ_SIZE);
        let mut read_bytes = 0;
        while read_bytes < LINGER_BYTES {
            match socket.read_buf(&mut unread).await? {
                0 => break,
                read => read_bytes += read,
            }
            unread.clear();
        }
        Ok(())
    };
    timeout(LINGER, close_by).await.unwrap_or(Ok(()))
}

/// Refuses a connection and sends it the reason.
///
/// # Errors
/// The error of the socket if it fails.
pub(crate) async fn refuse(mut socket: impl AsyncRead + AsyncWrite + Unpin, reason: &str) -> io::Result<()> {
    let mut close_by = BytesMut::new();
    if Message::error(Tag::BROADCAST, unavailable(reason)).encode(&mut close_by).is_ok() {
        timeout(CLOSE_TIMEOUT, socket.write_all(&close_by)).await.unwrap_or(Ok(()))?;
    }
    linger(socket).await
}
