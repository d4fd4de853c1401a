//! Who may come in: passwords, users, and what strangers may cost.
//!
//! ```text
//!  accept ──▶ a place for a stranger ──▶ AUTH ──▶ known? ──▶ line of its address ──▶ turn ──▶ hash ──▶ verdict
//!             (`strangers.rs`)                    (`rules.rs`) (`fair_queue.rs`)                    (`hash.rs`)   │
//!                                                                              wrong: held back (`guesses.rs`)
//! ```
//!
//! [`AccessControl`] is what an operator configures; `Rules` is that in force, until the next; `Authenticator` does the
//! work for connections.
//!
//! # Equal time
//! A name that nobody has, no name at all, and that of a user who shows a certificate all cost a verification, against the
//! hash of one of the users, whose outcome counts for nothing. Which hash is chosen by a keyed hash of the name: the same
//! name always costs the same, and unknown names are spread over kinds and costs of hashes as the known are. So time tells
//! nobody's name, also where hashes of several kinds are mixed. (Who sees the server restarted many times could tell:
//! unknown names change their hash then, known ones don't. One kind and cost for all leaves nothing to see.)

mod authenticator;
mod fair_queue;
mod file;
mod guesses;
mod hash;
mod per_source_limit;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod unauthenticated;
mod users;

pub use file::AccessFileError;
pub use hash::{Hash, HashError, HashingError};
pub use users::{Users, UsersError, UsersProblem};

pub(crate) use authenticator::{Authenticator, Judgement};
pub(crate) use rules::Grant;
pub(crate) use unauthenticated::{TooManyUnauthenticated, UnauthenticatedPermit};

use std::sync::Arc;
use thiserror::Error;

/// Who may come in, as an operator configures it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessControl {
    /// Everybody, who may do everything.
    #[default]
    Open,
    /// Who knows the password of this hash, or shows a certificate that was verified. They may do everything.
    Password(Arc<Hash>),
    /// These users, each with their rights. AUTH's password is `name:password`.
    Users(Users),
}

/// Passwords would travel in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must use TLS if authorization is required")]
pub struct MustUseTls;

impl AccessControl {
    /// Whether somebody must show who they are.
    pub const fn is_required(&self) -> bool {
        !matches!(self, Self::Open)
    }

    /// # Errors
    /// [`MustUseTls`] where passwords are required and there is no TLS.
    pub const fn check(&self, has_tls: bool) -> Result<(), MustUseTls> {
        if self.is_required() && !has_tls { Err(MustUseTls) } else { Ok(()) }
    }
}
