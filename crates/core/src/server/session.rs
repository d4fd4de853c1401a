//! Who may read and write, and what.
//!
//! ```text
//!             AUTH                        wrong password
//!  Unauthenticated ────────▶ Verifying ─────────────────────────────▶ Unauthenticated, or the end: [`MAX_GUESSES`]
//!                         │ right password
//!                         ▼
//!  Access::Granted ──▶ Open(Authorized)
//! ```
//!
//! # Why nothing is read or written without a right
//! Requests are given out to be done by `Requests` alone, and the history is sent by `Timeline` alone. The one takes only
//! what is [`Granted`], the other begins only with an [`Authorized`] and watches only what is [`Granted`]. Only an
//! [`Authorized`] makes a [`Granted`], after it has looked at the rights; only this file makes an [`Authorized`], of
//! rights that its driver has from a client certificate or a right password.

use super::requests::{AtFront, Read, Request};
use super::write::Write;
use crate::{Operation, Rights, text};
use bytes::Bytes;
use std::sync::Arc;

/// What a server demands before it serves a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing more: it has these rights.
    Granted(Arc<Rights>),
    /// The first request must be an AUTH with a right password.
    Password,
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> Self {
        Self::Granted(Arc::new(Rights::all()))
    }
}

/// The most wrong passwords on one connection.
pub(super) const MAX_GUESSES: u8 = 3;

/// The proof that somebody is known, and what they may do. Only this file makes one.
#[derive(Clone, Debug)]
pub(super) struct Authorized(Arc<Rights>);

/// The proof that a request was looked at, and is within the rights of who made it. Only an [`Authorized`] makes one.
#[derive(Debug)]
pub(super) struct Granted<T>(T);

impl<T> Granted<T> {
    /// The request, for who does it.
    pub(super) fn take(self) -> T {
        self.0
    }
}

impl Authorized {
    /// What they may do.
    pub(super) const fn rights(&self) -> &Arc<Rights> {
        &self.0
    }

    /// # Errors
    /// The text that refuses it, and names the right that is missing. It is the same whether there is such a key or not.
    pub(super) fn grant(&self, request: Request) -> Result<Granted<Request>, Bytes> {
        match &request {
            Request::Write(Write { operations, .. }) => operations.iter().try_for_each(|operation| match operation {
                // It tells the version.
                Operation::Check { key, .. } => self.to_read(key),
                Operation::Put { key, .. } | Operation::Delete { key, .. } => self.to_write(key),
            }),
            Request::Read(Read::Get(get)) => self.to_read(&get.key),
            Request::Read(Read::Status(_)) => self.to_administer(),
            Request::AtFront(AtFront::Watch(watch)) => self.to_read_all(&watch.prefix),
            Request::AtFront(AtFront::List(list)) => self.to_read_all(&list.prefix),
            // These tell of no key.
            Request::AtFront(AtFront::Hello(_) | AtFront::Barrier(..)) | Request::Auth(_) | Request::Answered(_) => {
                Ok(())
            }
        }?;
        Ok(Granted(request))
    }

    fn to_read(&self, key: &[u8]) -> Result<(), Bytes> {
        if self.0.may_read(key) { Ok(()) } else { Err(text::no_right_to_read(key)) }
    }

    fn to_read_all(&self, prefix: &[u8]) -> Result<(), Bytes> {
        if self.0.may_read(prefix) { Ok(()) } else { Err(text::no_right_to_read_all(prefix)) }
    }

    fn to_write(&self, key: &[u8]) -> Result<(), Bytes> {
        if self.0.may_write(key) { Ok(()) } else { Err(text::no_right_to_write(key)) }
    }

    fn to_administer(&self) -> Result<(), Bytes> {
        if self.0.is_admin() { Ok(()) } else { Err(text::no_admin()) }
    }
}

/// How far a connection has come.
#[derive(Clone, Debug)]
pub(super) enum Session {
    /// It must authorize itself first, and has tried so often.
    Unauthenticated { guesses: u8 },
    /// Its password is being checked.
    Verifying { guesses: u8 },
    /// It may read and write what its rights allow.
    Open(Authorized),
}

impl Session {
    /// A connection has come in.
    pub(super) fn new(access: Access) -> Self {
        match access {
            Access::Granted(rights) => Self::Open(Authorized(rights)),
            Access::Password => Self::Unauthenticated { guesses: 0 },
        }
    }

    /// The password of [`Session::Verifying`] was judged: it has these rights, or was wrong.
    pub(super) fn judged(guesses: u8, verdict: Option<Arc<Rights>>) -> Self {
        match verdict {
            Some(rights) => Self::Open(Authorized(rights)),
            None => Self::Unauthenticated { guesses: guesses.saturating_add(1) },
        }
    }
}
