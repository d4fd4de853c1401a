//! The driver of one connection: moves bytes between a socket and [`Connection`], and does what that asks for.

use crate::committer::{CommitQueue, Submission};
use crate::hub::Registration;
use crate::status;
use bytes::{Buf, BytesMut};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use syncline_core::server::{Access, Connection, Effect, Input, Terms, unavailable};
use syncline_core::{PageError, Transaction};
use syncline_store::{ChangedError, Store};
use syncline_tls::HANDSHAKE;
use syncline_wire::{Message, Tag};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

/// How much is read at once, at the least.
const READ_SIZE: usize = 16 * 1024;

/// The room for input that an idle connection keeps.
const KEPT_CAPACITY: usize = 2 * READ_SIZE;

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

/// What a server demands of its connections, and where their transactions go.
pub(crate) struct Service<S> {
    pub(crate) store: S,
    pub(crate) queue: CommitQueue,
    pub(crate) terms: Terms,
    pub(crate) started: Instant,
}

/// What is known of a client that was let in.
pub(crate) struct Guest<'a> {
    pub(crate) access: Access,
    /// Called where the first byte is that of TLS, which should not be.
    pub(crate) speaks_tls: Option<&'a (dyn Fn() + Sync)>,
}

/// Serves one connection until either side ends it.
///
/// # Errors
/// What the socket says when it fails.
pub(crate) async fn serve<S, IO>(
    service: &Service<S>,
    registration: Registration,
    socket: IO,
    guest: Guest<'_>,
) -> io::Result<()>
where
    S: Store,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Connection::new(registration.mailbox.id, service.terms, guest.access);
    let mut driver = Driver {
        service,
        registration,
        socket,
        is_flushed: true,
        speaks_tls: guest.speaks_tls,
        connection,
        input: BytesMut::new(),
        wanted: Input::Wanted { expected: 0 },
        turned_away: None,
        ended: false,
        beat: None,
    };
    let mut farewell: Option<Instant> = None;
    let mut abandoned = false;
    loop {
        let shutting_down = driver.registration.hub.is_shutting_down();
        if shutting_down {
            driver.connection.close(SHUTTING_DOWN);
        }
        if !abandoned {
            driver.settle().await;
        }
        if driver.connection.is_finished() && driver.is_flushed {
            break;
        }
        if driver.wanted == Input::Closed && !driver.ended {
            farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
        }
        let event = poll_fn(|context| driver.poll(context));
        match farewell {
            None => event.await?,
            Some(until) => match timeout_at(until, event).await {
                Ok(happened) => happened?,
                Err(_) if abandoned => return Ok(()),
                Err(_) => {
                    // The peer does not take its answers, or the store does not give them.
                    driver.connection.abandon(if shutting_down { SHUTTING_DOWN } else { "no answer in time" });
                    abandoned = true;
                    farewell = Some(Instant::now() + LINGER);
                }
            },
        }
    }
    linger(driver.socket).await
}

struct Driver<'a, S, IO> {
    service: &'a Service<S>,
    registration: Registration,
    socket: IO,
    /// Whether all that was written has left: bytes may wait within TLS.
    is_flushed: bool,
    /// What is to be called where the first byte is that of TLS; `None` once it is known that it is not.
    speaks_tls: Option<&'a (dyn Fn() + Sync)>,
    connection: Connection,
    /// What came from the socket and was not taken yet: at most one frame and one read.
    input: BytesMut,
    /// What the connection has said of that.
    wanted: Input,
    /// A transaction that the commit queue had no room for. Nothing else is done before it is in.
    turned_away: Option<Transaction>,
    /// Whether the peer has ended its side.
    ended: bool,
    /// Half heartbeats, for a connection that watches.
    beat: Option<Interval>,
}

impl<S: Store, IO: AsyncRead + AsyncWrite + Unpin> Driver<'_, S, IO> {
    /// Does everything that can be done without the socket.
    async fn settle(&mut self) {
        for outcome in self.registration.mailbox.take() {
            self.connection.handle_outcome(outcome);
        }
        // Ends: each round takes input or does what an earlier one has asked for, and both are bounded, for nothing is
        // written meanwhile.
        loop {
            let before = self.input.len();
            self.wanted = self.connection.handle_input(&mut self.input);
            self.connection.handle_log(&self.registration.hub.log.read());
            // After the log: whoever has fallen behind it asks the store.
            let acted = self.act().await;
            if acted || self.input.len() != before {
                continue;
            }
            let mailbox = &self.registration.mailbox;
            if !mailbox.set_waits_for_log(self.connection.waits_for_log()) {
                break;
            }
        }
        self.registration.mailbox.set_cursor(self.connection.cursor());
        if self.connection.is_watching() && self.beat.is_none() {
            let half = (self.service.terms.heartbeat / 2).max(MIN_BEAT);
            let mut beat = interval_at(Instant::now() + half, half);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.beat = Some(beat);
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_CAPACITY {
            self.input = BytesMut::new();
        }
    }

    /// Does what the connection asks for, and answers whether that was anything.
    async fn act(&mut self) -> bool {
        if let Some(transaction) = self.turned_away.take()
            && !self.submit(transaction)
        {
            return false;
        }
        let mut acted = false;
        while let Some(effect) = self.connection.poll_effect() {
            acted = true;
            match effect {
                Effect::Commit { transaction } => {
                    if !self.submit(transaction) {
                        break;
                    }
                }
                Effect::Read { key } => {
                    let entry = self.service.store.get(&key).await;
                    self.connection.handle_entry(entry.map_err(|trouble| trouble.0));
                }
                Effect::Changes { prefix, since, max_bytes } => {
                    let page = self.service.store.changed_since(since, &prefix, max_bytes).await;
                    self.connection.handle_changes(page.map_err(|error| match error {
                        ChangedError::Unavailable(trouble) => PageError::Unavailable(trouble.0),
                        untold => PageError::Untold(untold.to_string().into()),
                    }));
                }
                Effect::Keys { prefix, after, max_entries, max_bytes } => {
                    let page = self.service.store.list(&prefix, after.as_deref(), max_entries, max_bytes).await;
                    self.connection.handle_keys(page.map_err(|trouble| trouble.0));
                }
                Effect::Status => {
                    let status = status::tell(self.service, &self.registration.hub);
                    self.connection.handle_status(status);
                }
                // Asked for by `Access::Password` only, which nothing sets yet: nobody is let in unchecked.
                Effect::Verify { .. } => self.connection.handle_verdict(None),
            }
        }
        acted
    }

    /// Gives a transaction to the committer, or keeps it until there is room.
    fn submit(&mut self, transaction: Transaction) -> bool {
        let submission = Submission { transaction, mailbox: self.registration.mailbox.clone() };
        match self.service.queue.submit(submission) {
            Ok(()) => true,
            Err(Submission { transaction, .. }) => {
                self.turned_away = Some(transaction);
                false
            }
        }
    }

    /// Waits until the bell rings, or the socket has taken or given something.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut happened = self.registration.mailbox.bell.heard(context);
        if self.connection.output().has_remaining()
            && let Poll::Ready(written) = pin!(self.socket.write_buf(self.connection.output())).poll(context)
        {
            if written? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_flushed = false;
            happened = true;
        }
        if let Some(room) = self.room_to_read() {
            self.input.reserve(room);
            if let Poll::Ready(read) = pin!(self.socket.read_buf(&mut self.input)).poll(context) {
                if read? == 0 {
                    self.ended = true;
                    self.connection.handle_end();
                }
                if let Some(speaks_tls) = self.speaks_tls.take()
                    && self.input.first() == Some(&HANDSHAKE)
                {
                    speaks_tls();
                }
                happened = true;
            }
        }
        // Always: TLS has things to say of its own, too, of what was read.
        if let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(context) {
            flushed?;
            happened |= !self.is_flushed;
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
        self.connection.output().shrink();
        Poll::Pending
    }

    /// How much should be read now; nothing where the connection or the committer has enough to do.
    fn room_to_read(&self) -> Option<usize> {
        match self.wanted {
            Input::Wanted { expected } if !self.ended && self.turned_away.is_none() => {
                Some(READ_SIZE.max(expected.saturating_sub(self.input.len())))
            }
            _ => None,
        }
    }
}

/// Ends a connection to which everything was said, so that the peer gets to read it.
pub(crate) async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let farewell = async {
        socket.shutdown().await?;
        let mut unread = BytesMut::with_capacity(READ_SIZE);
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
