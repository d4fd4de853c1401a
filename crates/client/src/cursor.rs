//! The driver of a cursor on the history: moves bytes between [`client::Cursor`], which decides, and a socket, and connects
//! again when that is lost.

use crate::failure::Failure;
use crate::link::{self, Link, Lost};
use crate::{BaseOnly, ConnectError, Dialer, Endpoints, Options, RequestError, Socket};
use backon::ExponentialBackoff;
use bytes::{Buf, Bytes, BytesMut};
use syncline_core::client::{self, CursorEvent, Position, Step};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// How much is read at once, at the least.
const READ_SIZE: usize = 64 * 1024;

/// What changes under a prefix, from a revision on.
///
/// It has a connection of its own, and keeps nothing of what it has told. Who reads it slowly is told of fewer intermediate
/// states, by the server, and holds up nobody.
///
/// # What is promised
/// - Whoever applies all changes, to the last of a [`Step`], holds what the store held at the revision of that step. No
///   transaction is told by halves.
/// - A connection that is lost is made again, and goes on where it was: no change is missed, and none is told twice.
/// - Where that can't be, for the history is another one or what was deleted since is forgotten, a step says so
///   ([`Step::is_reset`]), and tells everything.
#[derive(Debug)]
pub struct Cursor {
    dialer: Dialer,
    options: Options,
    cursor: client::Cursor,
    /// Where to connect first: where the last connection led to.
    endpoint: usize,
    state: State,
}

/// ```text
///   open ──▶ Connected ──── connection lost ────▶ Away
///                ▲                                 │
///                └──────────── connected again ────┘
/// ```
#[derive(Debug)]
enum State {
    Connected(Session),
    Away { pauses: ExponentialBackoff },
}

/// One connection.
#[derive(Debug)]
struct Session {
    stream: Socket,
    input: BytesMut,
    /// Whether all that was written has left: bytes may wait within TLS.
    is_flushed: bool,
    /// What the server has said of the connection itself.
    notice: Option<String>,
}

/// What a cursor tells next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It has moved on in the history.
    To(Step),
    /// The connection was lost. It is made again, and nothing is missed.
    Lost {
        /// What happened.
        reason: String,
    },
    /// The connection was made again.
    Back,
}

/// A cursor could not be opened, or can't go on.
#[derive(Debug, Error)]
pub enum CursorError {
    /// There is no server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not tell what changes.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Cursor {
    /// A cursor on all keys under a prefix; the empty one: on all that there are. Without `since` its first step tells all
    /// keys; with it, what has changed since then. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`CursorError::Connect`] where the first attempt to connect fails; [`RequestError::BaseOnly`] where the server does
    /// not know the extension.
    pub async fn open(
        endpoints: impl Into<Endpoints>,
        prefix: impl Into<Bytes>,
        since: Option<Position>,
        options: Options,
    ) -> Result<Self, CursorError> {
        let dialer = Dialer::new(&endpoints.into(), &options)?;
        let mut cursor = client::Cursor::new(prefix, since);
        let link = link::connect(&dialer, 0, options.connect_timeout, false).await?;
        let endpoint = link.endpoint;
        let state = State::Connected(Session::new(link, &mut cursor)?);
        Ok(Self { dialer, options, cursor, endpoint, state })
    }

    /// Waits for the next step, or for something else worth knowing. The first step comes even where it tells nothing.
    /// May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`CursorError::Request`] where the server refuses to tell.
    pub async fn next(&mut self) -> Result<Moved, CursorError> {
        loop {
            match &mut self.state {
                State::Connected(session) => match session.next(&mut self.cursor).await {
                    Ok(told) => return Ok(Moved::To(told?)),
                    Err(lost) => {
                        let reason = lost.reason(session.notice.take());
                        self.cursor.lost();
                        self.state = State::Away { pauses: self.options.pauses() };
                        return Ok(Moved::Lost { reason });
                    }
                },
                State::Away { pauses } => {
                    sleep(pauses.next().unwrap_or(self.options.max_pause)).await;
                    let within = self.options.connect_timeout;
                    if let Ok(link) = link::connect(&self.dialer, self.endpoint, within, false).await {
                        self.endpoint = link.endpoint;
                        self.state = State::Connected(Session::new(link, &mut self.cursor)?);
                        return Ok(Moved::Back);
                    }
                }
            }
        }
    }
}

impl Session {
    fn new(link: Link, cursor: &mut client::Cursor) -> Result<Self, RequestError> {
        let greeting = link.greeting.ok_or(BaseOnly)?;
        cursor.connected(&greeting).map_err(Failure::Encode)?;
        Ok(Self { stream: link.stream, input: link.input, is_flushed: true, notice: None })
    }

    async fn next(&mut self, cursor: &mut client::Cursor) -> Result<Result<Step, RequestError>, Lost> {
        loop {
            match cursor.handle_input(&mut self.input)? {
                CursorEvent::Step(step) => return Ok(Ok(step)),
                CursorEvent::Refused { answer } => return Ok(Err(Failure::Answered(answer).into())),
                CursorEvent::Notice { text } => {
                    self.notice = Some(text);
                    continue;
                }
                CursorEvent::Incomplete { .. } => {}
            }
            while cursor.output().has_remaining() {
                self.stream.write_buf(cursor.output()).await?;
                self.is_flushed = false;
            }
            if !self.is_flushed {
                self.stream.flush().await?;
                self.is_flushed = true;
            }
            self.input.reserve(READ_SIZE);
            let patience = cursor.patience().unwrap_or_default();
            let read = timeout(patience, self.stream.read_buf(&mut self.input));
            if read.await.map_err(|_| Lost::Silent(patience))?? == 0 {
                return Err(Lost::Closed);
            }
        }
    }
}
