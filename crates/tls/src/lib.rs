//! What both sides of Syncline know of TLS: certificates and keys from PEM, what a certificate says, and the socket
//! that speaks it or does not.
//!
//! Server and client make their own settings of it, and open their sockets. No key is ever shown.

mod certificate;
mod pem;
mod socket;

pub use certificate::{Certificate, NoCertificate};
pub use pem::{Identity, Pem, PemError};
pub use rustls;
pub use socket::Socket;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// The first byte of a TLS connection: a record that holds a handshake. No kind of frame has this number.
pub const HANDSHAKE: u8 = 0x16;

/// The first byte of what a TLS server says to somebody who speaks no TLS: a record that holds an alert. No kind of frame
/// has this number.
pub const ALERT: u8 = 0x15;

/// The cryptography that both sides use: ring's.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}
