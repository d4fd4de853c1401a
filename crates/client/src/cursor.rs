//! A cursor on the history, over connections of its own.
//!
//! It moves bytes between a socket and [`client::Cursor`], which makes the decisions, and reconnects when the connection is
//! lost.

use crate::dialer::Dialer;
use crate::endpoints::Endpoints;
use crate::error::{BaseOnly, ConnectError, RequestError};
use crate::failure::Failure;
use crate::link::{self, Disconnect, Link};
use crate::options::Options;
use crate::pauses::Pauses;
use bytes::{Buf, Bytes, BytesMut};
use syncline_core::client::{self, CursorEvent, Position, Step};
use syncline_tls::Socket;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tracing::info;

/// The minimum free space of the input buffer before a read, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// The changes under a prefix since a position in the history.
///
/// A cursor has a connection of its own, and keeps no copy of the state. If it is read slowly, the server skips intermediate
/// states; other connections are not delayed.
///
/// # Guarantees
/// - A reader that applies all changes of a [`Step`], after all steps before it, holds what the store held at the revision
///   of the step. A step never contains half of a transaction.
/// - A lost connection is replaced, and the cursor resumes at its position: no change is missed or repeated.
/// - If the cursor cannot resume, a step contains all keys and [`Step::is_reset`] is set. This happens if the store is
///   another one, or if the server no longer has the tombstones.
///
/// # Refusals
/// If a server refuses the password, the certificate, or the WATCH when the cursor connects again, the cursor gives up for
/// good, as a [`Client`](crate::Client#refusals) does. To continue, open another cursor at its last position.
#[derive(Debug)]
pub struct Cursor {
    dialer: Dialer,
    cursor: client::Cursor,
    /// The index of the endpoint of the last connection, which is tried first.
    endpoint: usize,
    pauses: Pauses,
    state: State,
}

/// ```text
///   open ──▶ Connected ──── connection lost ────▶ Disconnected ──── refused ────▶ GivenUp
///              │ ▲                                   │                              ▲
///              │ └──────────── reconnected ──────────┘                              │
///              └──────────────────────────── WATCH refused ─────────────────────────┘
/// ```
#[derive(Debug)]
enum State {
    Connected(Session),
    Disconnected {
        /// Why there is no connection, as it was logged last.
        reason: String,
    },
    GivenUp(RequestError),
}

/// The state of one connection.
#[derive(Debug)]
struct Session {
    stream: Socket,
    input: BytesMut,
    /// Whether the socket buffers no written bytes. TLS may.
    is_flushed: bool,
    /// The last notice of the server about the connection.
    notice: Option<String>,
}

/// What [`Cursor::next`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The cursor has advanced in the history.
    Step(Step),
    /// The connection was lost. The next call reconnects, and no change is missed.
    Disconnected {
        /// The reason.
        reason: String,
    },
    /// The cursor is connected again.
    Reconnected,
}

/// A cursor could not be opened, or cannot continue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The first attempt to connect failed, or a later one was [refused](ConnectError::is_refusal).
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused the WATCH, or does not support it.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Cursor {
    /// Connects, and opens a cursor on all keys under a prefix; the empty prefix selects all keys. Without `since` the first
    /// step contains all keys. With it, the first step contains what changed since then. Must be called within a tokio
    /// runtime.
    ///
    /// Cancellation safe: if the future is dropped, the connection is closed.
    ///
    /// # Errors
    /// [`CursorError::Connect`] if the first attempt to connect fails. [`CursorError::Request`] with
    /// [`RequestError::BaseOnly`] if the server does not support WATCH, or with [`RequestError::TooLarge`] if the prefix is
    /// too long.
    pub async fn open(
        endpoints: impl Into<Endpoints>,
        prefix: impl Into<Bytes>,
        since: Option<Position>,
        options: Options,
    ) -> Result<Self, CursorError> {
        let dialer = Dialer::new(&endpoints.into(), &options)?;
        let mut cursor = client::Cursor::new(prefix, since);
        let link = link::connect(&dialer, 0, false).await?;
        let (endpoint, mut pauses) = (link.endpoint, Pauses::new(&options));
        let state = State::Connected(Session::new(link, &mut cursor)?);
        pauses.connected();
        Ok(Self { dialer, cursor, endpoint, pauses, state })
    }

    /// Waits for the next step, or until the connection is lost or replaced. The first step may contain no change.
    ///
    /// Cancellation safe: if the future is dropped, no step is lost.
    ///
    /// # Errors
    /// [`CursorError::Connect`] if a server refuses to authorize the client. [`CursorError::Request`] if it refuses the
    /// WATCH. After an error, every call returns an error at once.
    pub async fn next(&mut self) -> Result<Progress, CursorError> {
        let next = self.advance().await;
        if let Err(error) = &next {
            self.cursor.lost();
            self.state = State::GivenUp(match error {
                CursorError::Connect(error) => RequestError::refused(error),
                CursorError::Request(error) => error.clone(),
            });
        }
        next
    }

    async fn advance(&mut self) -> Result<Progress, CursorError> {
        loop {
            match &mut self.state {
                State::Connected(session) => match session.next(&mut self.cursor).await {
                    Ok(step) => return Ok(Progress::Step(step?)),
                    Err(disconnect) => {
                        let reason = disconnect.reason(session.notice.take());
                        self.cursor.lost();
                        self.pauses.lost();
                        self.state = State::Disconnected { reason: reason.clone() };
                        return Ok(Progress::Disconnected { reason });
                    }
                },
                State::Disconnected { reason } => {
                    sleep(self.pauses.next()).await;
                    match link::connect(&self.dialer, self.endpoint, false).await {
                        Ok(link) => {
                            self.endpoint = link.endpoint;
                            self.state = State::Connected(Session::new(link, &mut self.cursor)?);
                            self.pauses.connected();
                            return Ok(Progress::Reconnected);
                        }
                        Err(error) if error.is_refusal() => return Err(error.into()),
                        Err(error) => {
                            let error = error.to_string();
                            if *reason != error {
                                info!(error, "can't connect again; trying until it succeeds");
                                *reason = error;
                            }
                        }
                    }
                }
                State::GivenUp(error) => return Err(error.clone().into()),
            }
        }
    }
}

impl Session {
    fn new(link: Link, cursor: &mut client::Cursor) -> Result<Self, RequestError> {
        let hello = link.hello.ok_or(BaseOnly)?;
        cursor.connected(&hello).map_err(Failure::Encode)?;
        Ok(Self { stream: link.stream, input: link.input, is_flushed: true, notice: None })
    }

    async fn next(&mut self, cursor: &mut client::Cursor) -> Result<Result<Step, RequestError>, Disconnect> {
        loop {
            match cursor.handle_input(&mut self.input)? {
                CursorEvent::Step(step) => return Ok(Ok(step)),
                CursorEvent::Refused { response } => return Ok(Err(Failure::Response(response).into())),
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
            if read.await.map_err(|_| Disconnect::Silent(patience))?? == 0 {
                return Err(Disconnect::Closed);
            }
        }
    }
}
