//! Who may read and write, and what: no request is executed without the right to it.
//!
//! ```text
//!                    AUTH              wrong password
//!  Unauthenticated ───────▶ Verifying ────────────────▶ Unauthenticated; after MAX_ATTEMPTS the connection closes
//!                               │ right password
//!                               ▼
//!  Access::Granted ───────▶ Open(Authorized)
//! ```
//!
//! # Why nothing is read or written without a right
//! Only the `RequestQueue` starts requests, and only the `Timeline` sends the history. The queue accepts nothing but
//! [`Granted`] requests, and the timeline begins only with an [`Authorized`] and watches only prefixes of [`Granted`] requests.
//! Only an [`Authorized`] makes a [`Granted`], after it has checked the rights. Only this file makes an [`Authorized`], from
//! the rights that the driver has from a client certificate or a right password.

use super::effect::StatusScope;
use super::request::{Ordered, Read, ServerRequest};
use super::write::Write;
use crate::{Operation, Rights, Transaction, text};
use bytes::Bytes;
use std::sync::Arc;

/// What a server requires of a connection before it serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing more: the connection has these rights.
    Granted(Arc<Rights>),
    /// The first request must be an AUTH with the right password.
    Password,
}

impl Access {
    /// Returns the access of a server that requires no authentication: all rights for every connection.
    pub fn open() -> Self {
        Self::Granted(Arc::new(Rights::all()))
    }
}

/// The most wrong passwords on one connection.
pub(super) const MAX_ATTEMPTS: u8 = 3;

/// The proof that a client is authenticated, and its rights. Only this file makes one.
#[derive(Clone, Debug)]
pub(super) struct Authorized(Arc<Rights>);

/// The proof that a request is within the rights of its sender. Only an [`Authorized`] makes one.
#[derive(Debug)]
pub(super) struct Granted<T>(T);

impl<T> Granted<T> {
    /// Returns the request, to execute it.
    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl Authorized {
    pub(super) const fn rights(&self) -> &Arc<Rights> {
        &self.0
    }

    /// Checks the rights that a request needs, and limits a STATUS to what its sender may see.
    ///
    /// # Errors
    /// The text of an ERROR that names the missing right. It is the same whether the key exists or not.
    pub(super) fn grant(&self, mut request: ServerRequest) -> Result<Granted<ServerRequest>, Bytes> {
        match &mut request {
            ServerRequest::Write(Write { transaction: Transaction { operations, .. }, .. }) => {
                operations.iter().try_for_each(|operation| match operation {
                    // Its outcome reveals the version.
                    Operation::Check { key, .. } => self.may_read(key),
                    Operation::Put { key, .. } | Operation::Delete { key, .. } => self.may_write(key),
                })
            }
            ServerRequest::Read(Read::Get(get)) => self.may_read(&get.key),
            ServerRequest::Read(Read::Status(_, scope)) => {
                *scope = if self.0.is_admin() { StatusScope::Everything } else { StatusScope::Health };
                Ok(())
            }
            ServerRequest::Ordered(Ordered::Watch(watch)) => self.may_read_all(&watch.prefix),
            ServerRequest::Ordered(Ordered::List(list)) => self.may_read_all(&list.prefix),
            // These reveal nothing of any key.
            ServerRequest::Ordered(Ordered::Hello(_) | Ordered::Barrier(..)) | ServerRequest::Auth(_) => Ok(()),
        }?;
        Ok(Granted(request))
    }

    fn may_read(&self, key: &[u8]) -> Result<(), Bytes> {
        if self.0.may_read(key) { Ok(()) } else { Err(text::no_right_to_read(key)) }
    }

    fn may_read_all(&self, prefix: &[u8]) -> Result<(), Bytes> {
        if self.0.may_read(prefix) { Ok(()) } else { Err(text::no_right_to_read_all(prefix)) }
    }

    fn may_write(&self, key: &[u8]) -> Result<(), Bytes> {
        if self.0.may_write(key) { Ok(()) } else { Err(text::no_right_to_write(key)) }
    }
}

/// How far the authentication of a connection is.
#[derive(Clone, Debug)]
pub(super) enum Session {
    /// The client must send a password. So many were wrong.
    Unauthenticated { attempts: u8 },
    /// A password is being checked.
    Verifying { attempts: u8 },
    /// The client may read and write what its rights allow.
    Open(Authorized),
}

impl Session {
    /// Returns the state of a new connection.
    pub(super) fn new(access: Access) -> Self {
        match access {
            Access::Granted(rights) => Self::Open(Authorized(rights)),
            Access::Password => Self::Unauthenticated { attempts: 0 },
        }
    }

    /// Returns the state after the verdict on the password of [`Session::Verifying`]: the rights that it gives, or `None`
    /// if it was wrong.
    pub(super) fn after_verdict(attempts: u8, verdict: Option<Arc<Rights>>) -> Self {
        match verdict {
            Some(rights) => Self::Open(Authorized(rights)),
            None => Self::Unauthenticated { attempts: attempts.saturating_add(1) },
        }
    }
}
