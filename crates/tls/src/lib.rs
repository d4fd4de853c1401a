//! What server and client share about TLS: certificates and keys from PEM, the names and validity of a certificate, and a
//! socket that is plain or within TLS.
//!
//! Server and client make their own TLS configuration from this, and open their own sockets. Private keys are never
//! shown.

mod certificate;
mod crypto;
mod pem;
mod socket;

pub use certificate::{Certificate, NoCertificate};
pub use crypto::provider;
pub use pem::{Identity, Pem, PemError};
pub use rustls;
pub use socket::Socket;

/// The first byte of a TLS connection: a record that holds a handshake. No kind of frame has this number.
pub const HANDSHAKE: u8 = 0x16;

/// The first byte that a TLS server sends to a client that does not speak TLS: a record that holds an alert. No kind of
/// frame has this number.
pub const ALERT: u8 = 0x15;
