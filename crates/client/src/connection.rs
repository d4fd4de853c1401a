//! The task of a client: drives a [`ClientConnection`] over a socket, and reconnects when the connection is lost.
//!
//! It moves bytes and distributes events. What a frame means is decided in `syncline_core`.

use crate::change::{Change, Subscribers};
use crate::dialer::Dialer;
use crate::endpoints::Endpoints;
use crate::error::RequestError;
use crate::failure::Failure;
use crate::link::{self, Disconnect, Link};
use crate::options::Options;
use crate::pauses::Pauses;
use crate::send_guard::SendGuard;
use crate::shared::Shared;
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::Output;
use syncline_core::client::{
    ClientConnection, Event, LostConnection, ProtocolError, Replicas, Request, Response, SendError, SendErrorKind,
};
use syncline_tls::Socket;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, error, warn};

/// The minimum free space of the input buffer before a read, in bytes.
const READ_SIZE: usize = 16 * 1024;

/// The maximum size of unwritten requests, in bytes. Above it, no command is accepted until some are written.
const MAX_UNSENT: usize = 256 * 1024;

/// The maximum number of requests in flight. The connection needs the other tags for resumed WATCHes.
const MAX_IN_FLIGHT: usize = 60_000;

/// The time limit for an orderly shutdown of the connection.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A request, and the channel for its response.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<Response, Failure>>,
    pub(crate) guard: SendGuard,
}

/// The token of a request in flight.
enum Token {
    /// A caller waits for the response.
    Caller { reply: oneshot::Sender<Result<Response, Failure>>, guard: SendGuard },
    /// The task made the request itself.
    Internal,
}

impl Token {
    /// Sends the response to the caller, which may have dropped its future.
    fn complete(self, response: Result<Response, Failure>) {
        if let Self::Caller { reply, .. } = self {
            let _ = reply.send(response);
        }
    }
}

/// The configuration and the shared state of the task.
pub(crate) struct Setup {
    pub(crate) endpoints: Endpoints,
    pub(crate) dialer: Dialer,
    pub(crate) options: Arc<Options>,
    pub(crate) subscribers: Subscribers,
    pub(crate) shared: Arc<Shared>,
}

/// Executes the commands of a client over one connection after the other, until the last handle is dropped or a server
/// refuses the client.
pub(crate) async fn run(setup: Setup, first: Link, mut commands: mpsc::Receiver<Command>) {
    let mut retries = VecDeque::new();
    let (mut replicas, mut deferred) = (Replicas::new(), Vec::new());
    let mut pauses = Pauses::new(&setup.options);
    let mut next = Ok(Some(first));
    let refusal = loop {
        let Link { stream, input, hello, endpoint } = match next {
            Ok(Some(link)) => link,
            Ok(None) => return,
            Err(refusal) => break refusal,
        };
        let base_only = hello.is_none();
        let connection = match hello {
            Some(hello) => ClientConnection::extended(&hello, replicas, deferred),
            None => ClientConnection::base(replicas, deferred),
        };
        pauses.connected();
        let mut session = Session { setup: &setup, connection, notice: None, has_mark: false, follows: false };
        let Err(disconnect) = session.serve(stream, input, &mut commands, &mut retries).await else { return };
        let reason = disconnect.reason(session.notice.take());
        warn!(endpoints = %setup.endpoints, reason, "connection lost");
        let lost = session.connection.into_lost();
        (replicas, deferred) = requeue(lost, &reason, &mut retries);
        setup.shared.publish(replicas.views());
        next = match disconnect {
            Disconnect::NotPermitted { missing } => Err(RequestError::NotPermitted { missing }),
            _ => reconnect(&setup, endpoint, base_only, &mut pauses, &commands).await,
        };
        // Broadcasts between the two connections were missed.
        setup.subscribers.send(&Change::Gap);
    };
    give_up(&setup, refusal, commands, retries, deferred).await;
}

/// Ends the client for good, and reports the refusal to all that wait for something.
async fn give_up(
    setup: &Setup,
    refusal: RequestError,
    mut commands: mpsc::Receiver<Command>,
    retries: VecDeque<Command>,
    deferred: Vec<(Token, Response)>,
) {
    error!(endpoints = %setup.endpoints, %refusal, "the client has given up");
    setup.shared.give_up(refusal.clone());
    setup.subscribers.end();
    // These writes were accepted, although no replica will show them.
    deferred.into_iter().for_each(|(token, response)| token.complete(Ok(response)));
    // The caller of a request may have given up as well.
    let refuse = |command: Command| drop(command.reply.send(Err(Failure::GivenUp(refusal.clone()))));
    retries.into_iter().for_each(refuse);
    commands.close();
    while let Some(command) = commands.recv().await {
        refuse(command);
    }
}

/// Queues the reads of a lost connection for a retry, before all other commands. Writes end with an unknown outcome.
fn requeue(
    lost: LostConnection<Token>,
    reason: &str,
    retries: &mut VecDeque<Command>,
) -> (Replicas, Vec<(Token, Response)>) {
    for (request, token) in lost.unanswered.into_iter().rev() {
        match token {
            Token::Caller { reply, guard } if request.is_read() => {
                if !reply.is_closed() {
                    guard.requeue();
                    retries.push_front(Command { request, reply, guard });
                }
            }
            token => token.complete(Err(Failure::NoResponse { reason: reason.into() })),
        }
    }
    (lost.replicas, lost.deferred)
}

/// Reconnects, with growing pauses between attempts. Returns `None` if the last handle was dropped.
///
/// # Errors
/// The refusal, if a server refuses the client and no other endpoint accepts it.
async fn reconnect(
    setup: &Setup,
    first: usize,
    base_only: bool,
    pauses: &mut Pauses,
    commands: &mpsc::Receiver<Command>,
) -> Result<Option<Link>, RequestError> {
    pauses.lost();
    loop {
        sleep(pauses.next()).await;
        if commands.is_closed() {
            return Ok(None);
        }
        match link::connect(&setup.dialer, first, base_only).await {
            Ok(link) => {
                debug!(endpoints = %setup.endpoints, endpoint = link.endpoint, "connected again");
                setup.shared.set_connect_error(None);
                return Ok(Some(link));
            }
            Err(error) if error.is_refusal() => return Err(RequestError::refused(&error)),
            Err(error) => setup.shared.set_connect_error(Some(error.to_string())),
        }
    }
}

/// The driver of one connection.
struct Session<'a> {
    setup: &'a Setup,
    connection: ClientConnection<Token>,
    /// The last notice of the server about the connection.
    notice: Option<String>,
    /// Whether a MARK was received that readers do not see yet.
    has_mark: bool,
    /// Whether [`Request::Follow`] was made on this connection.
    follows: bool,
}

impl Session<'_> {
    /// Executes commands until the last handle is dropped, starting with `retries`.
    async fn serve(
        &mut self,
        mut stream: Socket,
        mut input: BytesMut,
        commands: &mut mpsc::Receiver<Command>,
        retries: &mut VecDeque<Command>,
    ) -> Result<(), Disconnect> {
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let mut is_flushed = true;
        let mut silence = SilenceTimer::default();
        loop {
            // This comes first, so that later own writes are not reported as changes.
            self.follow();
            while self.accepts_commands()
                && let Some(command) = retries.pop_front().or_else(|| commands.try_recv().ok())
            {
                self.start(command);
            }
            self.handle_input(&mut input)?;
            input.reserve(READ_SIZE);
            let (accepts_commands, has_output) = (self.accepts_commands(), self.connection.output().has_remaining());
            silence.expect(self.connection.patience());
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(Disconnect::Closed);
                    }
                    silence.reset();
                }
                written = write_some(&mut writer, self.connection.output(), &mut is_flushed), if has_output || !is_flushed => {
                    written?;
                }
                command = commands.recv(), if accepts_commands => match command {
                    Some(command) => {
                        self.follow();
                        self.start(command);
                    }
                    None => break,
                },
                () = self.setup.shared.follow_requested() => {}
                patience = silence.expired() => return Err(Disconnect::Silent(patience)),
            }
        }
        // With TLS, this proves to the server that the stream is not truncated.
        let _ = timeout(SHUTDOWN_TIMEOUT, stream.shutdown()).await;
        Ok(())
    }

    fn accepts_commands(&mut self) -> bool {
        self.connection.in_flight() < MAX_IN_FLIGHT && self.connection.output().remaining() < MAX_UNSENT
    }

    /// Requests the writes of other connections, if a handle wants them.
    fn follow(&mut self) {
        if !self.follows && self.setup.shared.follows() {
            self.follows = true;
            // This cannot fail: a tag is free, and the request fits into a frame.
            let _ = self.connection.request(Request::Follow, Token::Internal);
        }
    }

    /// Sends a request, unless its caller has cancelled it.
    fn start(&mut self, Command { request, reply, guard }: Command) {
        if !guard.claim() {
            return;
        }
        if let Err(SendError { token, kind, .. }) = self.connection.request(request, Token::Caller { reply, guard }) {
            token.complete(Err(match kind {
                SendErrorKind::Encode(error) => Failure::Encode(error),
                SendErrorKind::BaseOnly => Failure::BaseOnly,
                // Tags are never exhausted, because `MAX_IN_FLIGHT` is smaller.
                kind => Failure::NotSent { reason: kind.to_string() },
            }));
        }
    }

    /// Distributes the events of the received bytes.
    fn handle_input(&mut self, input: &mut BytesMut) -> Result<(), ProtocolError> {
        loop {
            match self.connection.handle_input(input)? {
                Event::Response { token, response } => {
                    self.publish();
                    token.complete(Ok(response));
                }
                Event::Change { key, value, version } => {
                    self.setup.subscribers.send(&Change::Put { key, value, version });
                }
                Event::Marked { .. } => self.has_mark = true,
                Event::Notice { text } => self.notice = Some(text),
                Event::Incomplete { .. } => {
                    self.publish();
                    return Ok(());
                }
            }
        }
    }

    /// Shows readers the current views, if a MARK was received since the last call.
    fn publish(&mut self) {
        if std::mem::take(&mut self.has_mark) {
            self.setup.shared.mark_received();
            self.setup.shared.publish(self.connection.replicas().views());
        }
    }
}

/// Writes a part of the output, and flushes the writer after the last part. Cancellation safe: `is_flushed` records
/// whether the writer may still buffer bytes, as TLS does.
async fn write_some(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut Output,
    is_flushed: &mut bool,
) -> Result<(), Disconnect> {
    if output.has_remaining() {
        if writer.write_buf(output).await? == 0 {
            return Err(Disconnect::Closed);
        }
        *is_flushed = false;
        if output.has_remaining() {
            return Ok(());
        }
    }
    writer.flush().await?;
    *is_flushed = true;
    Ok(())
}

/// Measures how long nothing was received, while the server should send heartbeats.
#[derive(Default)]
struct SilenceTimer {
    since: Option<Instant>,
    patience: Option<Duration>,
}

impl SilenceTimer {
    /// Sets the time limit; `None` if the server sends no heartbeats.
    fn expect(&mut self, patience: Option<Duration>) {
        if self.patience.is_none() {
            self.since = None;
        }
        self.patience = patience;
        if patience.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    fn reset(&mut self) {
        self.since = None;
    }

    /// Waits until the time limit expires, and returns it.
    async fn expired(&self) -> Duration {
        match (self.since, self.patience) {
            (Some(since), Some(patience)) => {
                sleep_until(since + patience).await;
                patience
            }
            _ => std::future::pending().await,
        }
    }
}
