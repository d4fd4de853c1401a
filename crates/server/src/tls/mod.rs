//! TLS as a server speaks it: its certificate, whom it trusts, and the handshake.

mod files;
mod handshake;

pub use files::{ClientCertificates, Tls, TlsError, TlsFiles};
pub(crate) use handshake::{NoTls, Reason, accept};
