//! The task behind a client: drives [`ClientConnection`] over a socket, and makes a new one when that is lost.

use crate::changes::{Change, Readers};
use crate::failure::Failure;
use crate::link::{self, Link, Lost};
use crate::send_guard::SendGuard;
use crate::shared::Shared;
use crate::{Dialer, Endpoints, Options, Socket};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::Output;
use syncline_core::client::{
    ClientConnection, Event, Lost as Left, ProtocolError, Refused, RefusedBecause, Replicas, Request, Response,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

/// How much is read at once, at the least.
const READ_SIZE: usize = 16 * 1024;

/// How many bytes of requests are gathered before some must be written.
const MAX_UNSENT: usize = 256 * 1024;

/// How many requests are in flight at once: the tags that there are, less those that the connection takes for itself.
const MAX_IN_FLIGHT: usize = 60_000;

/// How long a server gets to take the end of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// A request, and who waits for its answer.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<Response, Failure>>,
    pub(crate) guard: SendGuard,
}

/// What comes with a request that is in flight.
enum Token {
    Caller {
        reply: oneshot::Sender<Result<Response, Failure>>,
        guard: SendGuard,
    },
    /// The task itself has asked.
    Nobody,
}

impl Token {
    /// Tells the caller; one that has gone does not want to know.
    fn tell(self, answer: Result<Response, Failure>) {
        if let Self::Caller { reply, .. } = self {
            let _ = reply.send(answer);
        }
    }
}

/// What a client's task needs to know.
pub(crate) struct Setup {
    pub(crate) endpoints: Endpoints,
    pub(crate) dialer: Dialer,
    pub(crate) options: Arc<Options>,
    pub(crate) readers: Readers,
    pub(crate) shared: Arc<Shared>,
}

/// Serves the commands of a client over one connection after the other, until the last handle is gone.
pub(crate) async fn run(setup: Setup, first: Link, mut commands: mpsc::Receiver<Command>) {
    let mut retried = VecDeque::new();
    let (mut replicas, mut held) = (Replicas::new(), Vec::new());
    let mut next = Some(first);
    while let Some(Link { stream, input, greeting, endpoint }) = next {
        let base_only = greeting.is_none();
        let connection = match greeting {
            Some(greeting) => ClientConnection::extended(&greeting, replicas, held),
            None => ClientConnection::base(replicas, held),
        };
        let mut session = Session { setup: &setup, connection, notice: None, is_stale: false, follows: false };
        let Err(lost) = session.serve(stream, input, &mut commands, &mut retried).await else { return };
        let reason = lost.reason(session.notice.take());
        warn!(endpoints = %setup.endpoints, reason, "connection lost");
        let left = session.connection.into_lost();
        (replicas, held) = give_back(left, &reason, &mut retried);
        setup.shared.show(replicas.shown());
        next = reconnect(&setup, endpoint, base_only, &commands).await;
        // Whatever was broadcast meanwhile was missed.
        setup.readers.tell(&Change::Gap);
    }
}

/// What a lost connection leaves: reads are to be asked again, first of all; writes have an unknown fate.
fn give_back(left: Left<Token>, reason: &str, retried: &mut VecDeque<Command>) -> (Replicas, Vec<(Token, Response)>) {
    for (request, token) in left.unanswered.into_iter().rev() {
        match token {
            Token::Caller { reply, guard } if request.is_read() => {
                if !reply.is_closed() {
                    guard.lost();
                    retried.push_front(Command { request, reply, guard });
                }
            }
            token => token.tell(Err(Failure::Lost { reason: reason.into() })),
        }
    }
    (left.replicas, left.held)
}

/// Connects again, with growing pauses, until it works; `None` where the last handle is gone.
async fn reconnect(setup: &Setup, first: usize, base_only: bool, commands: &mpsc::Receiver<Command>) -> Option<Link> {
    let options = &setup.options;
    for pause in options.pauses() {
        sleep(pause).await;
        if commands.is_closed() {
            return None;
        }
        match link::connect(&setup.dialer, first, options.connect_timeout, base_only).await {
            Ok(link) => {
                debug!(endpoints = %setup.endpoints, endpoint = link.endpoint, "connected again");
                setup.shared.set_trouble(None);
                return Some(link);
            }
            Err(error) => setup.shared.set_trouble(Some(error.to_string())),
        }
    }
    None
}

/// One connection.
struct Session<'a> {
    setup: &'a Setup,
    connection: ClientConnection<Token>,
    /// What the server has said of the connection itself.
    notice: Option<String>,
    /// Replicas have gone on, and readers were not shown yet.
    is_stale: bool,
    /// The server was asked to tell what others write.
    follows: bool,
}

impl Session<'_> {
    /// Serves commands until the last handle is gone; first of all those that an earlier connection has lost.
    async fn serve(
        &mut self,
        mut stream: Socket,
        mut input: BytesMut,
        commands: &mut mpsc::Receiver<Command>,
        retried: &mut VecDeque<Command>,
    ) -> Result<(), Lost> {
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let mut is_flushed = true;
        let mut silence = Silence::default();
        loop {
            // First of all, so that own writes that come behind it are not told.
            self.follow();
            while self.has_room()
                && let Some(command) = retried.pop_front().or_else(|| commands.try_recv().ok())
            {
                self.start(command);
            }
            self.take_in(&mut input)?;
            input.reserve(READ_SIZE);
            let (has_room, has_output) = (self.has_room(), self.connection.output().has_remaining());
            silence.expect(self.connection.patience());
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(Lost::Closed);
                    }
                    silence.broken();
                }
                written = write_on(&mut writer, self.connection.output(), &mut is_flushed), if has_output || !is_flushed => {
                    written?;
                }
                command = commands.recv(), if has_room => match command {
                    Some(command) => {
                        self.follow();
                        self.start(command);
                    }
                    None => break,
                },
                () = self.setup.shared.asked_to_follow() => {}
                patience = silence.too_long() => return Err(Lost::Silent(patience)),
            }
        }
        // The server is told that nothing was cut off, where it takes that.
        let _ = timeout(FAREWELL, stream.shutdown()).await;
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.connection.in_flight() < MAX_IN_FLIGHT && self.connection.output().remaining() < MAX_UNSENT
    }

    /// Asks to be told what others write, where somebody wants to know.
    fn follow(&mut self) {
        if !self.follows && self.setup.shared.follows() {
            self.follows = true;
            // Can't be refused: there is room for it, and it fits into a frame.
            let _ = self.connection.request(Request::Follow, Token::Nobody);
        }
    }

    /// Puts a request in flight.
    fn start(&mut self, Command { request, reply, guard }: Command) {
        if !guard.may_send() {
            return;
        }
        if let Err(Refused { token, because, .. }) = self.connection.request(request, Token::Caller { reply, guard }) {
            token.tell(Err(match because {
                RefusedBecause::Encode(bad) => Failure::Encode(bad),
                RefusedBecause::BaseOnly => Failure::BaseOnly,
                // Can't be: there is room.
                RefusedBecause::TagsExhausted => Failure::NotSent { reason: because.to_string() },
            }));
        }
    }

    /// Hands on what the server has sent.
    fn take_in(&mut self, input: &mut BytesMut) -> Result<(), ProtocolError> {
        loop {
            match self.connection.handle_input(input)? {
                Event::Response { token, answer } => {
                    self.show();
                    token.tell(Ok(answer));
                }
                Event::Change { key, value, version } => {
                    self.setup.readers.tell(&Change::Put { key, value, version });
                }
                Event::Marked { .. } => self.is_stale = true,
                Event::Notice { text } => self.notice = Some(text),
                Event::Incomplete { .. } => {
                    self.show();
                    return Ok(());
                }
            }
        }
    }

    /// Shows readers what the replicas are, where that is something else.
    fn show(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.setup.shared.marked();
            self.setup.shared.show(self.connection.replicas().shown());
        }
    }
}

/// Writes some, and flushes it where that was all. May be cancelled: `is_flushed` says whether all has left, for bytes may
/// wait within TLS.
async fn write_on(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut Output,
    is_flushed: &mut bool,
) -> Result<(), Lost> {
    if output.has_remaining() {
        if writer.write_buf(output).await? == 0 {
            return Err(Lost::Closed);
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

/// How long nothing has come, where something should.
#[derive(Default)]
struct Silence {
    since: Option<Instant>,
    patience: Option<Duration>,
}

impl Silence {
    /// Something should come within each such time.
    fn expect(&mut self, patience: Option<Duration>) {
        if self.patience.is_none() {
            self.since = None;
        }
        self.patience = patience;
        if patience.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    fn broken(&mut self) {
        self.since = None;
    }

    /// Waits until it has lasted too long.
    async fn too_long(&self) -> Duration {
        match (self.since, self.patience) {
            (Some(since), Some(patience)) => {
                sleep_until(since + patience).await;
                patience
            }
            _ => std::future::pending().await,
        }
    }
}
