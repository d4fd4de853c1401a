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
