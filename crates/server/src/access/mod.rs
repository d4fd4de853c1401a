//! Access control: passwords, users, and limits for unauthenticated connections.
//!
//! The path of a connection that must authenticate:
//!
//! ```text
//!  accept ─▶ unauthenticated permit ─▶ AUTH ─▶ verified before? ─▶ queue of its address ─▶ run permit ─▶ hash ─▶ result
//!            (`unauthenticated.rs`)             (`policy.rs`)       (`fair_queue.rs`)                   (`hash.rs`)  │
//!                                                                   failure: delayed (`failed_attempts.rs`) ◀────────┘
//! ```
//!
//! [`AccessControl`] is what an operator configures. `Policy` is the access control in force, until another replaces it.
//! `Authenticator` verifies the passwords of connections.
//!
//! # Equal time
//!
//! The time of an AUTH must not reveal which user names exist. Therefore every AUTH that names an unknown user, no user,
//! or a user with a certificate is verified too, against the hash of one of the users, and the outcome is ignored. A keyed
//! hash of the name selects that hash. So the same name always takes the same time, and unknown names are spread over the
//! kinds and costs of hashes in the same way as known names, even if hashes of several kinds are mixed.
//!
//! One leak remains: unknown names change their hash when the server restarts, and known names do not. An attacker who
//! sees many restarts can tell them apart, unless all hashes have the same kind and cost.

mod authenticator;
mod control;
mod failed_attempts;
mod fair_queue;
mod file;
mod hash;
mod per_source_limit;
mod policy;
mod source;
#[cfg(test)]
mod tests;
mod unauthenticated;
mod users;

pub use control::{AccessControl, MustUseTls};
pub use file::AccessFileError;
pub use hash::{Hash, HashError, HashingError};
pub use users::{Users, UsersError, UsersProblem};

pub(crate) use authenticator::{AuthResult, Authenticator};
pub(crate) use policy::Grant;
pub(crate) use unauthenticated::{TooManyUnauthenticated, UnauthenticatedPermit};
