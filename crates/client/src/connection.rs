//! The task behind a client: drives [`Connection`] over a socket, and makes a new one when that is lost.

use crate::changes::{Change, Readers};
use crate::{ConnectError, Options};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use syncline_core::client::{Answer, Connection, Event, ProtocolError, Refused, RefusedBecause, Request};
use syncline_wire::BadMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How much is read at once, at the least.
const READ_SIZE: usize = 16 * 1024;

/// How many bytes of requests are gathered before some must be written.
const MAX_UNSENT: usize = 256 * 1024;

/// How many requests are in flight at once: the tags that there are.
const MAX_IN_FLIGHT: usize = u16::MAX as usize;

/// A request, and who waits for its answer.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<Answer, Failure>>,
    pub(crate) withdrawal: Withdrawal,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request can't be encoded.
    BadMessage(BadMessage),
    /// It never left the client.
    NotSent { reason: String },
    /// It may have reached the server, or not.
    Lost { reason: String },
}

/// Settles between a caller whose time has run out and the connection's task whether a request was sent.
#[derive(Clone, Default)]
pub(crate) struct Withdrawal(Arc<AtomicU8>);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// What a caller who withdraws a request learns of it.
pub(crate) enum Withdrawn {
    /// It was not sent, and never will be.
    NotSent,
    /// It is on its way.
    InFlight,
}

impl Withdrawal {
    /// The caller waits no longer.
    pub(crate) fn withdraw(&self) -> Withdrawn {
        match self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Withdrawn::NotSent,
            Err(_) => Withdrawn::InFlight,
        }
    }

    /// The task is about to send the request; it must not where this answers no.
    fn may_send(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The request was lost with its connection, and may be sent again.
    fn lost(&self) {
        self.0.store(WAITING, Ordering::Release);
    }
}

/// What comes with a request that is in flight.
struct Token {
    reply: oneshot::Sender<Result<Answer, Failure>>,
    withdrawal: Withdrawal,
}

/// Connects once.
pub(crate) async fn connect(address: &str, within: Duration) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Io { address: address.into(), source };
    match timeout(within, TcpStream::connect(address)).await {
        Err(_) => Err(ConnectError::Timeout { address: address.into(), timeout: within }),
        Ok(Err(source)) => Err(failed(source)),
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream).map_err(failed),
    }
}

/// Serves the commands of a client over one connection after the other, until the last handle is gone.
pub(crate) async fn run(
    address: String,
    options: Options,
    stream: TcpStream,
    mut commands: mpsc::Receiver<Command>,
    readers: Readers,
) {
    let mut retried = VecDeque::new();
    let mut next = Some(stream);
    while let Some(stream) = next {
        let mut link = Link { connection: Connection::new(), readers: &readers, notice: None };
        let Err(lost) = link.serve(stream, &mut commands, &mut retried).await else { return };
        let reason = link.notice.take().map_or_else(|| lost.to_string(), |text| format!("the server says: {text}"));
        warn!(address, reason, "connection lost");
        link.give_back(&reason, &mut retried);
        next = reconnect(&address, &options, &commands).await;
        // Whatever was broadcast meanwhile was missed.
        readers.tell(&Change::Gap);
    }
}

/// Connects again, with growing pauses, until it works; `None` where the last handle is gone.
async fn reconnect(address: &str, options: &Options, commands: &mpsc::Receiver<Command>) -> Option<TcpStream> {
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(options.min_pause)
        .with_max_delay(options.max_pause)
        .without_max_times();
    for pause in pauses.build() {
        sleep(pause).await;
        if commands.is_closed() {
            return None;
        }
        match connect(address, options.connect_timeout).await {
            Ok(stream) => {
                debug!(address, "connected again");
                return Some(stream);
            }
            Err(error) => debug!(%error, "not connected"),
        }
    }
    None
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the server closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

/// One connection.
struct Link<'a> {
    connection: Connection<Token>,
    readers: &'a Readers,
    /// What the server has said of the connection itself.
    notice: Option<String>,
}

impl Link<'_> {
    /// Serves commands until the last handle is gone; first of all those that an earlier connection has lost.
    async fn serve(
        &mut self,
        mut stream: TcpStream,
        commands: &mut mpsc::Receiver<Command>,
        retried: &mut VecDeque<Command>,
    ) -> Result<(), Lost> {
        let (mut reader, mut writer) = stream.split();
        let mut input = BytesMut::new();
        loop {
            while self.has_room()
                && let Some(command) = retried.pop_front().or_else(|| commands.try_recv().ok())
            {
                self.start(command);
            }
            input.reserve(READ_SIZE);
            let (has_room, has_output) = (self.has_room(), self.connection.output().has_remaining());
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(Lost::Closed);
                    }
                    self.take_in(&mut input)?;
                }
                written = writer.write_buf(self.connection.output()), if has_output => {
                    if written? == 0 {
                        return Err(Lost::Closed);
                    }
                }
                command = commands.recv(), if has_room => match command {
                    Some(command) => self.start(command),
                    None => return Ok(()),
                },
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.connection.in_flight() < MAX_IN_FLIGHT && self.connection.output().remaining() < MAX_UNSENT
    }

    /// Puts a request in flight.
    fn start(&mut self, Command { request, reply, withdrawal }: Command) {
        if !withdrawal.may_send() {
            return;
        }
        if let Err(Refused { token, because, .. }) = self.connection.request(request, Token { reply, withdrawal }) {
            // A caller that has gone does not want to know.
            let _ = token.reply.send(Err(match because {
                RefusedBecause::BadMessage(bad) => Failure::BadMessage(bad),
                // Can't be: there is room.
                RefusedBecause::TagsExhausted => Failure::NotSent { reason: because.to_string() },
            }));
        }
    }

    /// Hands on what the server has sent.
    fn take_in(&mut self, input: &mut BytesMut) -> Result<(), ProtocolError> {
        loop {
            match self.connection.handle_input(input)? {
                Event::Answer { token, answer } => {
                    let _ = token.reply.send(Ok(answer));
                }
                Event::Change { key, value, version } => self.readers.tell(&Change::Put { key, value, version }),
                Event::Notice { text } => self.notice = Some(text),
                Event::Incomplete { .. } => return Ok(()),
            }
        }
    }

    /// The connection is lost: reads are to be asked again, first of all; writes have an unknown fate.
    fn give_back(self, reason: &str, retried: &mut VecDeque<Command>) {
        for (request, Token { reply, withdrawal }) in self.connection.into_in_flight().into_iter().rev() {
            match request {
                Request::Get { .. } if !reply.is_closed() => {
                    withdrawal.lost();
                    retried.push_front(Command { request, reply, withdrawal });
                }
                Request::Get { .. } => {}
                Request::Put { .. } => {
                    let _ = reply.send(Err(Failure::Lost { reason: reason.into() }));
                }
            }
        }
    }
}
