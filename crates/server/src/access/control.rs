//! The access control that an operator configures.

use super::hash::Hash;
use super::users::Users;
use std::sync::Arc;
use thiserror::Error;

/// Which clients may connect, and what they must present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessControl {
    /// Every client may do everything.
    #[default]
    Open,
    /// A client must present the password of this hash, or a verified certificate. It may then do everything.
    Password(Arc<Hash>),
    /// A client must authenticate as one of these users, and has the rights of that user. The password of AUTH is
    /// `name:password`.
    Users(Users),
}

/// An error: access control requires passwords, and the server has no TLS to protect them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must use TLS if authorization is required")]
pub struct MustUseTls;

impl AccessControl {
    /// Returns whether clients must authenticate.
    pub const fn is_required(&self) -> bool {
        !matches!(self, Self::Open)
    }

    /// Checks that passwords are required only together with TLS.
    ///
    /// # Errors
    /// Returns [`MustUseTls`] if clients must authenticate and the server has no TLS.
    pub const fn check(&self, has_tls: bool) -> Result<(), MustUseTls> {
        if self.is_required() && !has_tls { Err(MustUseTls) } else { Ok(()) }
    }
}
