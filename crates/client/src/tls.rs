//! The client's side of TLS: which CAs it trusts, which certificate it presents, and what a failed handshake means.

use crate::error::ConnectError;
use crate::tls_error::TlsError;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use syncline_tls::{Identity, Pem, provider};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The TLS options of a client. They apply to endpoints that use TLS. Files are read when the client connects for the
/// first time.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tls {
    /// The CAs that the client trusts. `None` means the CAs that the system trusts.
    pub ca: Option<Pem>,
    /// The certificate and key that the client presents to a server that requests a client certificate.
    pub identity: Option<Identity>,
}

/// Establishes TLS connections to servers.
pub(crate) struct Connector {
    connector: TlsConnector,
    /// The trusted CAs, as error texts name them.
    trusted: String,
    has_certificate: bool,
}

impl Connector {
    /// Loads the trusted CAs and the client certificate.
    ///
    /// # Errors
    /// [`ConnectError::Pem`] if a file cannot be used, [`ConnectError::NoRoots`] if the system has no trusted CAs.
    pub(crate) fn new(tls: &Tls) -> Result<Self, ConnectError> {
        let (roots, trusted) = match &tls.ca {
            Some(ca) => (ca.roots()?, ca.to_string()),
            None => (system_roots()?, "the system".into()),
        };
        let unexpected = |error: rustls::Error| ConnectError::NoRoots { reason: error.to_string() };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unexpected)?
            .with_root_certificates(roots);
        let mut config = match &tls.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.load()?))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let has_certificate = tls.identity.is_some();
        Ok(Self { connector: Arc::new(config).into(), trusted, has_certificate })
    }

    /// Does the TLS handshake on a socket. The server must present a valid certificate for `host`.
    ///
    /// # Errors
    /// An I/O error. [`Connector::explain`] finds its cause.
    pub(crate) async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.connector.connect(name, socket).await
    }

    /// Returns what an I/O error on a TLS connection means, or `None` if TLS is not its cause. An alert about the client's
    /// certificate may arrive after the handshake, on the first read.
    pub(crate) fn explain(&self, error: &io::Error) -> Option<TlsError> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(error) => self.bad_certificate(error),
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => TlsError::NotTls,
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => TlsError::CertificateDemanded,
            // TLS 1.2 has no alert for a missing certificate.
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) if !self.has_certificate => {
                TlsError::CertificateDemanded
            }
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => TlsError::CertificateRefused { alert: *alert },
            error => TlsError::Handshake { reason: error.to_string() },
        })
    }

    fn bad_certificate(&self, error: &CertificateError) -> TlsError {
        match error {
            // `BadSignature`: the CA has the same name as a trusted one, but another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsError::UnknownCa { trusted: self.trusted.clone() }
            }
            CertificateError::ExpiredContext { time, not_after } => {
                TlsError::NotValidNow { found: format!("one until {}, now is {}", date(*not_after), date(*time)) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                TlsError::NotValidNow { found: format!("one from {} on, now is {}", date(*not_before), date(*time)) }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = presented.iter().map(|name| plain_name(name)).collect::<Vec<_>>();
                let found = if names.is_empty() { "nobody".into() } else { names.join(", ") };
                TlsError::OtherName { expected: expected.to_str().into_owned(), found }
            }
            error => TlsError::BadCertificate { reason: error.to_string() },
        }
    }
}

/// The number of TLS sessions kept for resumption, which makes reconnecting faster.
const SESSIONS: usize = 32;

fn system_roots() -> Result<RootCertStore, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reason = found.errors.first().map_or_else(|| "there are none".into(), ToString::to_string);
        return Err(ConnectError::NoRoots { reason });
    }
    Ok(roots)
}

fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    time.map_or_else(|| "never".into(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// Extracts a name from the form in which rustls reports it: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inner.trim_matches('"').to_owned()
}
