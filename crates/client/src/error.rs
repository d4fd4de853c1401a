//! The errors of the client, one type per operation.
//!
//! [`RequestError`] holds what can happen to every request. The errors of the operations wrap it and add only the outcomes
//! that are specific to the operation, so that a caller can tell them apart: a stale write, or a write with an
//! unknown outcome.

use crate::endpoints::EndpointError;
use crate::tls_error::TlsError;
use std::io;
use std::time::Duration;
use syncline_tls::PemError;
use syncline_wire::{EncodeError, Version};
use thiserror::Error;

/// The client could not connect.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection could not be established, or it failed during the handshake.
    #[error("can't connect to {address}: {source}")]
    Io {
        /// The address of the server.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The name of the host could not be resolved to addresses.
    #[error("can't connect to {address}: can't resolve the name of the host: {reason}")]
    Resolve {
        /// The address of the server.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The TLS handshake failed, or one side does not use TLS.
    #[error("can't connect to {address}: {problem}")]
    Tls {
        /// The address of the server.
        address: String,
        /// What was expected, what was found, and what to do.
        problem: TlsError,
    },
    /// A configured certificate or key cannot be used.
    #[error("can't speak TLS: {0}")]
    Pem(#[from] PemError),
    /// The system has no trusted CA certificates, and no CA is configured.
    #[error("can't speak TLS: expected CAs that the system trusts, found none: {reason}; name the CA of the server")]
    NoRoots {
        /// Why none were found.
        reason: String,
    },
    /// The server did not respond in time.
    #[error("can't connect to {address}: no answer within {timeout:?}")]
    Timeout {
        /// The address of the server.
        address: String,
        /// The time limit.
        timeout: Duration,
    },
    /// The server refused the connection.
    #[error("{address} refuses: {text}")]
    Refused {
        /// The address of the server.
        address: String,
        /// The reason, in the server's words.
        text: String,
    },
    /// A password is configured, but an endpoint does not use TLS. The password was not sent.
    #[error(
        "{address}: expected TLS, because a password is set and passwords are sent over TLS only; use synclines://"
    )]
    PasswordWithoutTls {
        /// The address of the endpoint.
        address: String,
    },
    /// The password is too long for a frame. It was not sent.
    #[error("can't send the password: {0}")]
    Password(#[from] EncodeError),
    /// The server requires a password or a client certificate.
    #[error("{address} requires a password, and none is set")]
    PasswordRequired {
        /// The address of the server.
        address: String,
    },
    /// The user does not exist, or the password is wrong.
    #[error("{address} refuses: the name or the password is wrong")]
    BadPassword {
        /// The address of the server.
        address: String,
    },
    /// The peer is not a Syncline server.
    #[error("{address} is not a Syncline server: {reason}")]
    NoServer {
        /// The address of the peer.
        address: String,
        /// What was expected, and what was found.
        reason: String,
    },
    /// An endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No endpoint was given.
    #[error("expected at least one address to connect to, found none")]
    NoEndpoint,
    /// Several addresses were tried: those of a host name, or those of several endpoints. All have failed.
    #[error("{}", listed(failures))]
    All {
        /// The failures, in the order in which they happened. None of them is another [`All`](Self::All).
        failures: Vec<Self>,
    },
}

impl ConnectError {
    /// Returns the failure that tells most, if several addresses were tried: a [refusal](Self::is_refusal) if there is
    /// one, then a problem with TLS, then the last failure.
    pub fn cause(&self) -> &Self {
        let Self::All { failures } = self else { return self };
        let refusal = failures.iter().find(|failure| failure.is_refusal());
        let tls = || failures.iter().find(|failure| matches!(failure, Self::Tls { .. }));
        refusal.or_else(tls).or(failures.last()).unwrap_or(self)
    }

    /// Returns whether a server refused to authorize the client: the password is wrong or missing, or the client
    /// certificate is refused or missing. Another attempt with the same [`Options`](crate::Options) would be refused, too.
    ///
    /// All other errors may be temporary. Examples are a server that is not running, that has too many connections, or
    /// that has a certificate which must be renewed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::BadPassword { .. } | Self::PasswordRequired { .. } => true,
            Self::Tls { problem, .. } => {
                matches!(problem, TlsError::CertificateDemanded | TlsError::CertificateRefused { .. })
            }
            Self::All { failures } => failures.iter().any(Self::is_refusal),
            _ => false,
        }
    }

    /// Returns one error for several failures.
    pub(crate) fn all(failures: Vec<Self>) -> Self {
        let flat = |failure| match failure {
            Self::All { failures } => failures,
            failure => vec![failure],
        };
        let mut failures: Vec<_> = failures.into_iter().flat_map(flat).collect();
        match failures.len() {
            1 => failures.swap_remove(0),
            _ => Self::All { failures },
        }
    }
}

/// The maximum number of failures that the text of [`ConnectError::All`] contains.
const MAX_LISTED: usize = 8;

fn listed(failures: &[ConnectError]) -> String {
    let mut texts: Vec<_> = failures.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    if failures.len() > MAX_LISTED {
        texts.push(format!("and {} more", failures.len() - MAX_LISTED));
    }
    texts.join("; ")
}

/// The request needs the protocol extension, but the server speaks only the base protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a server that speaks the extension, found one that speaks only the base protocol")]
pub struct BaseOnly;

/// A request failed. If it was a write, nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server does not support the request.
    #[error(transparent)]
    BaseOnly(#[from] BaseOnly),
    /// The request exceeds a limit of the client or of the server.
    #[error("{text}")]
    TooLarge {
        /// The limit, with what was expected and what was found.
        text: String,
    },
    /// The client lacks a right.
    #[error("not permitted: {missing}")]
    NotPermitted {
        /// The missing right, in the server's words.
        missing: String,
    },
    /// The server refused to authorize the client when it connected again: the password is wrong by now, for example
    /// because the user was removed, or the client certificate is refused. The client has given up for good, see
    /// [`Client`](crate::Client#refusals).
    #[error("not authorized: {reason}; this client has given up, connect again with other credentials")]
    NotAuthorized {
        /// The text of the [`ConnectError`].
        reason: String,
    },
    /// The server did not respond in time, or cannot serve the request at present. The request can be repeated.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// The reason.
        reason: String,
    },
    /// The server refused the request for another reason.
    #[error("the server refused: {text}")]
    Refused {
        /// The reason, in the server's words.
        text: String,
    },
}

impl RequestError {
    /// Returns the error for a client that gives up because of this [refusal](ConnectError::is_refusal).
    pub(crate) fn refused(error: &ConnectError) -> Self {
        Self::NotAuthorized { reason: error.cause().to_string() }
    }
}

/// A key could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GetError {
    /// The key does not exist.
    #[error("not found{}", deleted(deleted_at))]
    NotFound {
        /// The version of the tombstone, if the server still has one. The next write must carry this version plus 1.
        deleted_at: Option<Version>,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A key was not written or deleted, or the outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PutError {
    /// Nothing was written: the version is not the current version plus 1. Read the key, decide, and write again.
    #[error("stale put: the version is not the current one plus 1")]
    StalePut,
    /// The connection was lost, or the time limit expired, while the write was in flight. It may have been accepted or not.
    /// Read the key to find out.
    #[error("the outcome is unknown: {reason}; the write may have been accepted or not")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was written: the request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A transaction was not committed, or the outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TxnError {
    /// Nothing was written: a key is not at the expected version.
    #[error("stale put: {key} is at another version")]
    StaleKey {
        /// The first such key: quoted, escaped, and clipped if it is long.
        key: String,
    },
    /// The connection was lost, or the time limit expired, while the transaction was in flight. Either all of it was
    /// accepted, or nothing. Read one of its keys to find out.
    #[error("the outcome is unknown: {reason}; all of it may have been accepted or none")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was written: the request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A key was not updated, or the outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The key could not be read. Nothing was written.
    #[error("can't read the value: {0}")]
    Get(GetError),
    /// The value could not be written.
    #[error("can't write the value: {0}")]
    Put(PutError),
    /// Other writers changed the key first, in every attempt. Nothing was written.
    #[error("other writers were faster {attempts} times")]
    Contended {
        /// The number of attempts.
        attempts: usize,
    },
}

fn deleted(at: &Option<Version>) -> String {
    at.map_or_else(String::new, |version| format!(" (deleted at version {version})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> ConnectError {
        ConnectError::Io { address: address.into(), source: io::ErrorKind::ConnectionRefused.into() }
    }

    #[test]
    fn one_failure_is_the_error_and_several_are_listed() {
        assert_eq!(ConnectError::all(vec![refused("a:1")]).to_string(), "can't connect to a:1: connection refused");
        let bad = ConnectError::BadPassword { address: "b:1".into() };
        let inner = ConnectError::all(vec![bad, refused("c:1")]);
        let all = ConnectError::all(vec![refused("a:1"), inner]);
        let text = "can't connect to a:1: connection refused; b:1 refuses: the name or the password is wrong; \
                    can't connect to c:1: connection refused";
        assert_eq!(all.to_string(), text);
        assert!(all.is_refusal() && matches!(all.cause(), ConnectError::BadPassword { .. }), "{all:?}");
    }

    #[test]
    fn a_long_list_of_failures_is_cut() {
        let all = ConnectError::all((0..30).map(|number| refused(&format!("a:{number}"))).collect());
        let text = all.to_string();
        assert!(text.ends_with("can't connect to a:7: connection refused; and 22 more"), "{text}");
        assert!(!all.is_refusal());
    }
}
