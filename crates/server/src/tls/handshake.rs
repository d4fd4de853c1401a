//! The TLS handshake with a client, and the reasons why it fails.

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Error, ServerConfig, ServerConnection};
use std::fmt;
use std::io;
use std::sync::Arc;
use syncline_tls::{Certificate, HANDSHAKE, Socket};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::debug;

/// A client whose handshake succeeded.
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    /// The names in its certificate, which the handshake verified. `None` if it presented no certificate.
    pub(crate) certificate_names: Option<Vec<String>>,
}

/// The maximum number of unsent bytes that rustls buffers for a peer: two records.
const MAX_UNSENT: usize = 32 * 1024;

/// A failed handshake, with the socket, so that the caller can send a last message.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client closed the connection without sending anything.
    Closed,
    /// The first byte is not TLS. It may be a frame.
    NotTls(TcpStream),
    /// The handshake failed. The client was sent an alert.
    Failed(TcpStream, io::Error),
}

/// Performs the handshake with a client. It allocates nothing beyond what rustls needs.
///
/// # Errors
/// Returns [`HandshakeError`], with the socket.
pub(crate) async fn accept(config: Arc<ServerConfig>, socket: TcpStream) -> Result<Accepted, HandshakeError> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) => return Err(HandshakeError::Closed),
        Ok(_) if first != [HANDSHAKE] => return Err(HandshakeError::NotTls(socket)),
        Ok(_) => {}
        Err(error) => return Err(HandshakeError::Failed(socket, error)),
    }
    let limited = |connection: &mut ServerConnection| connection.set_buffer_limit(Some(MAX_UNSENT));
    let accepted = TlsAcceptor::from(config).accept_with(socket, limited).into_fallible().await;
    let socket = accepted.map_err(|(error, socket)| HandshakeError::Failed(socket, error))?;
    let (_, session) = socket.get_ref();
    let certificate_names = session.peer_certificates().map(names);
    debug!(?certificate_names, version = ?session.protocol_version(), "TLS handshake complete");
    Ok(Accepted { socket: TlsStream::from(socket).into(), certificate_names })
}

/// Returns the names in the first certificate of a chain.
fn names(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let certificate = chain.first().and_then(|certificate| Certificate::read(certificate).ok());
    certificate.map_or_else(Vec::new, |certificate| certificate.names)
}

/// Explains a failed handshake to a human reader.
pub(crate) struct FailureReason<'a>(pub(crate) &'a io::Error);

impl fmt::Display for FailureReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
            return match self.0.kind() {
                io::ErrorKind::UnexpectedEof => f.write_str("the client closed the connection during the handshake"),
                _ => write!(f, "the connection failed during the handshake: {}", self.0),
            };
        };
        match error {
            // DecryptError: the client knows a CA with the same name and another key.
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
            Error::InvalidCertificate(error) => write!(f, "the client's certificate is not acceptable: {error}"),
            Error::PeerIncompatible(error) => {
                write!(f, "the client speaks no TLS that this server speaks (1.2 or 1.3): {error:?}")
            }
            Error::InvalidMessage(error) => write!(f, "the client sent something other than TLS: {error:?}"),
            error => write!(f, "the handshake failed: {error}"),
        }
    }
}
