//! The handshake with one client, and what is said of one that fails.

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Error, ServerConfig, ServerConnection};
use std::fmt;
use std::io;
use std::sync::Arc;
use syncline_tls::{Certificate, HANDSHAKE, Socket};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::debug;

/// A client that speaks TLS.
pub(crate) struct Met {
    pub(crate) socket: Socket,
    /// Whom its certificate names, which was verified in the handshake; `None`: it has shown none.
    pub(crate) names: Option<Vec<String>>,
}

/// The most bytes that wait within TLS for a peer that takes nothing: two records.
const MAX_UNSENT: usize = 32 * 1024;

/// Why there was no handshake, and the socket, for a farewell.
#[derive(Debug)]
pub(crate) enum NoTls {
    /// The client has gone, and has said nothing before.
    Gone,
    /// What came first is no TLS, but may be a frame.
    Plain(TcpStream),
    /// The handshake has failed. An alert has told the client.
    Failed(TcpStream, io::Error),
}

/// Waits for the handshake of a client. Keeps nothing for it but what rustls does.
///
/// # Errors
/// [`NoTls`], with the socket.
pub(crate) async fn accept(config: Arc<ServerConfig>, socket: TcpStream) -> Result<Met, NoTls> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) => return Err(NoTls::Gone),
        Ok(_) if first != [HANDSHAKE] => return Err(NoTls::Plain(socket)),
        Ok(_) => {}
        Err(error) => return Err(NoTls::Failed(socket, error)),
    }
    let limited = |connection: &mut ServerConnection| connection.set_buffer_limit(Some(MAX_UNSENT));
    let accepted = TlsAcceptor::from(config).accept_with(socket, limited).into_fallible().await;
    let socket = accepted.map_err(|(error, socket)| NoTls::Failed(socket, error))?;
    let (_, session) = socket.get_ref();
    let names = session.peer_certificates().map(names);
    debug!(?names, version = ?session.protocol_version(), "speaks TLS");
    Ok(Met { socket: TlsStream::from(socket).into(), names })
}

/// Whom a chain of certificates names.
fn names(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let shown = chain.first().and_then(|shown| Certificate::read(shown).ok());
    shown.map_or_else(Vec::new, |shown| shown.names)
}

/// What people are told of a handshake that has failed.
pub(crate) struct Reason<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            return match self.0.kind() {
                io::ErrorKind::UnexpectedEof => f.write_str("the client left in the middle of the handshake"),
                _ => write!(f, "the connection failed in the handshake: {}", self.0),
            };
        };
        match error {
            // The second: a CA of the same name.
            Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => f.write_str(
                "the client does not trust this server's certificate: it must know the CA that has signed it (--tls-ca)",
            ),
            Error::AlertReceived(AlertDescription::CertificateExpired) => {
                f.write_str("the client says that this server's certificate is not valid at this time")
            }
            Error::AlertReceived(AlertDescription::BadCertificate | AlertDescription::CertificateUnknown) => {
                f.write_str(
                    "the client refuses this server's certificate: is it for the host name by which the client connects?",
                )
            }
            Error::NoCertificatesPresented => {
                f.write_str("the client has shown no certificate, and this server demands one (--tls-client-ca)")
            }
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => write!(f, "the client's certificate is not valid at this time: {error}"),
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                f.write_str("the client's certificate is not signed by a CA that this server knows (--tls-client-ca)")
            }
            Error::InvalidCertificate(error) => write!(f, "the client's certificate can't be accepted: {error}"),
            Error::PeerIncompatible(error) => {
                write!(f, "the client speaks no TLS that this server speaks (1.2 or 1.3): {error:?}")
            }
            Error::InvalidMessage(error) => write!(f, "what the client sends is no TLS: {error:?}"),
            error => write!(f, "the handshake has failed: {error}"),
        }
    }
}
