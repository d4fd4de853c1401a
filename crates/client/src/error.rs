//! What can go wrong, one type for each thing that a user does.

use crate::{EndpointError, TlsProblem};
use std::io;
use std::time::Duration;
use syncline_tls::PemError;
use syncline_wire::{EncodeError, Version};
use thiserror::Error;

/// No connection could be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address, or the server behind it, does not answer.
    #[error("can't connect to {address}: {source}")]
    Io {
        /// The address.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// TLS, or the lack of it, stands between the client and the server.
    #[error("can't connect to {address}: {problem}")]
    Tls {
        /// The address.
        address: String,
        /// What was expected and found, and what to do.
        problem: TlsProblem,
    },
    /// A certificate or key that this client was told of can't be used.
    #[error("can't speak TLS: {0}")]
    Pem(#[from] PemError),
    /// The system trusts nobody, as far as can be told.
    #[error("can't speak TLS: expected CAs that the system trusts, found none: {reason}; name the CA of the server")]
    NoRoots {
        /// Why not.
        reason: String,
    },
    /// The server took too long.
    #[error("can't connect to {address}: no answer within {timeout:?}")]
    Timeout {
        /// The address.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The server turns this client away.
    #[error("{address} refuses: {text}")]
    Refused {
        /// The address.
        address: String,
        /// In the server's words.
        text: String,
    },
    /// A password is set, and would travel without TLS: it was not sent.
    #[error("{address}: expected TLS, for a password is set, and those travel over TLS only; synclines:// speaks it")]
    PasswordWithoutTls {
        /// The address.
        address: String,
    },
    /// The password is longer than a server takes. It was not sent.
    #[error("can't show the password: {0}")]
    Password(#[from] EncodeError),
    /// The server serves only those who show a password, or a certificate.
    #[error("{address} requires a password, and none is set")]
    PasswordRequired {
        /// The address.
        address: String,
    },
    /// The password is wrong, or nobody has that name.
    #[error("{address} refuses: the name or the password is wrong")]
    BadPassword {
        /// The address.
        address: String,
    },
    /// Something answers that is no Syncline server.
    #[error("{address} is no Syncline server: {reason}")]
    NoServer {
        /// The address.
        address: String,
        /// What was expected and found.
        reason: String,
    },
    /// This does not say where a server is.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no address to connect to.
    #[error("expected at least one address to connect to, found none")]
    NoEndpoint,
}

/// A server that does not know the extension was asked for something that is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a server that speaks the extension, found one that speaks only the base protocol")]
pub struct BaseOnly;

/// Something could not be learned: by WATCH, LIST, STATUS or a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The server does not know the extension.
    #[error(transparent)]
    BaseOnly(#[from] BaseOnly),
    /// A limit was passed: the client's or the server's.
    #[error("{text}")]
    TooLarge {
        /// Which limit, with what was expected and found.
        text: String,
    },
    /// Who asks has no right to it.
    #[error("not permitted: {missing}")]
    NotPermitted {
        /// The right that is missing, in the server's words.
        missing: String,
    },
    /// No answer was to be had in time, or the server can't tell for now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The server refused for another reason.
    #[error("the server refused: {text}")]
    Refused {
        /// In the server's words.
        text: String,
    },
}

/// A transaction was not committed, or it is not known whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxnError {
    /// Nothing was written: this key is not at the version that was expected.
    #[error("stale put: {key} is at another version")]
    StaleKey {
        /// The first key at fault, in quotes, escaped, and clipped where it is long.
        key: String,
    },
    /// The connection was lost, or time ran out, while the transaction was in flight: all of it may have been accepted or
    /// none. Get a key of it to find out.
    #[error("the outcome is unknown: {reason}; all of it may have been accepted or none")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was written: the server does not know the extension.
    #[error(transparent)]
    BaseOnly(#[from] BaseOnly),
    /// Nothing was written: a limit was passed, the client's or the server's.
    #[error("{text}")]
    TooLarge {
        /// Which limit, with what was expected and found.
        text: String,
    },
    /// Nothing was written: who asks has no right to it.
    #[error("not permitted: {missing}")]
    NotPermitted {
        /// The right that is missing, in the server's words.
        missing: String,
    },
    /// Nothing was written: the server could not be reached in time, or can't write for now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Nothing was written: the server refused for another reason.
    #[error("the server refused: {text}")]
    Refused {
        /// In the server's words.
        text: String,
    },
}

/// A key could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GetError {
    /// The key is not there.
    #[error("not found{}", deleted(deleted_at))]
    NotFound {
        /// The version of its deletion, where the server remembers it. The next write must carry this plus 1.
        deleted_at: Option<Version>,
    },
    /// A limit was passed: the client's or the server's.
    #[error("{text}")]
    TooLarge {
        /// Which limit, with what was expected and found.
        text: String,
    },
    /// Who asks has no right to it.
    #[error("not permitted: {missing}")]
    NotPermitted {
        /// The right that is missing, in the server's words.
        missing: String,
    },
    /// No answer was to be had in time, or the server can't tell for now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The server refused for another reason.
    #[error("the server refused: {text}")]
    Refused {
        /// In the server's words.
        text: String,
    },
}

/// A key was not written or deleted, or it is not known whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    /// Nothing was written: the version is not the current one plus 1. Get, decide, and put again.
    #[error("stale put: the version is not the current one plus 1")]
    StalePut,
    /// The connection was lost, or time ran out, while the write was in flight: it may have been accepted or not. Get
    /// the key to find out.
    #[error("the outcome is unknown: {reason}; the write may have been accepted or not")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was written: the server does not know the extension, of which a deletion is part.
    #[error(transparent)]
    BaseOnly(#[from] BaseOnly),
    /// Nothing was written: a limit was passed, the client's or the server's.
    #[error("{text}")]
    TooLarge {
        /// Which limit, with what was expected and found.
        text: String,
    },
    /// Nothing was written: who asks has no right to it.
    #[error("not permitted: {missing}")]
    NotPermitted {
        /// The right that is missing, in the server's words.
        missing: String,
    },
    /// Nothing was written: the server could not be reached in time, or can't write for now.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Nothing was written: the server refused for another reason.
    #[error("the server refused: {text}")]
    Refused {
        /// In the server's words.
        text: String,
    },
}

/// A key was not updated, or it is not known whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpdateError {
    /// Its value could not be read.
    #[error("can't read the value: {0}")]
    Get(GetError),
    /// Its value could not be written.
    #[error("can't write the value: {0}")]
    Put(PutError),
    /// Others were faster, again and again. Nothing was written.
    #[error("others were faster {attempts} times")]
    Contended {
        /// How often it was tried.
        attempts: usize,
    },
}

fn deleted(at: &Option<Version>) -> String {
    at.map_or_else(String::new, |version| format!(" (deleted at version {version})"))
}
