//! TLS on the server: its certificate, the client certificates that it accepts, and the handshake.

mod files;
mod handshake;

pub use files::{ClientCertificates, Tls, TlsError, TlsFiles};
pub(crate) use handshake::{FailureReason, HandshakeError, accept};
