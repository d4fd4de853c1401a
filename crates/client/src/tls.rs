//! TLS as a client speaks it: whom it trusts, what it shows of itself, and what can go wrong.

use crate::ConnectError;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, InvalidMessage, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use syncline_tls::{Identity, Pem, provider};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a client speaks TLS, to the endpoints that ask for it. Files are read when a client connects first.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The CAs that are trusted; `None`: those that the system trusts.
    pub ca: Option<Pem>,
    /// What the client shows to a server that asks who it is.
    pub identity: Option<Identity>,
}

/// Why there is no TLS connection to a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsProblem {
    /// The server's certificate is signed by somebody who is not trusted.
    #[error(
        "expected a certificate that is signed by a CA of {trusted}, found another one; if it is your server, name the CA that has signed its certificate"
    )]
    UnknownCa {
        /// Who is trusted.
        trusted: String,
    },
    /// The server's certificate was valid earlier, or will be later.
    #[error("expected a certificate that is valid now, found {found}; the server needs a new one, or a clock is wrong")]
    NotValidNow {
        /// From when, or until when, it is valid.
        found: String,
    },
    /// The server's certificate is for another host.
    #[error("expected a certificate for {expected}, found one for {found}; connect by that name, if it is your server")]
    OtherName {
        /// By which name it was connected to.
        expected: String,
        /// For whom it is.
        found: String,
    },
    /// The server's certificate can't be accepted for another reason.
    #[error("expected a certificate of a server, found one that can't be accepted: {reason}")]
    BadCertificate {
        /// Why not.
        reason: String,
    },
    /// What answers speaks no TLS.
    #[error("expected TLS, found something else; if that server speaks no TLS: syncline:// instead of synclines://")]
    NotTls,
    /// The server speaks TLS only, and it was connected to without.
    #[error(
        "expected a server that speaks no TLS, found one that speaks nothing else: synclines:// instead of syncline://"
    )]
    TlsOnly,
    /// The server wants to know who the client is.
    #[error("the server demands a certificate of the client, found none; set one, and its key")]
    CertificateDemanded,
    /// The server does not accept the certificate that this client shows.
    #[error("the server does not accept this client's certificate: it says {alert:?}; {}", what_to_do(*alert))]
    CertificateRefused {
        /// What it says.
        alert: AlertDescription,
    },
    /// Anything else.
    #[error("the TLS handshake has failed: {reason}")]
    Handshake {
        /// What has happened.
        reason: String,
    },
}

fn what_to_do(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "renew it",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "one is needed that is signed by a CA which the server knows"
        }
        _ => "ask the operator which certificates it accepts",
    }
}

/// Speaks TLS to servers.
pub(crate) struct Speaker {
    connector: TlsConnector,
    /// Whom it trusts, in words.
    trusted: String,
    shows_certificate: bool,
}

impl Speaker {
    /// Reads all that is needed.
    ///
    /// # Errors
    /// [`ConnectError::Pem`] and [`ConnectError::NoRoots`] say what is missing.
    pub(crate) fn new(tls: &Tls) -> Result<Self, ConnectError> {
        let (roots, trusted) = match &tls.ca {
            Some(ca) => (ca.roots()?, ca.to_string()),
            None => (system_roots()?, "the system".into()),
        };
        let unexpected = |error: TlsError| ConnectError::NoRoots { reason: error.to_string() };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unexpected)?
            .with_root_certificates(roots);
        let mut config = match &tls.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.load()?))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let shows_certificate = tls.identity.is_some();
        Ok(Self { connector: Arc::new(config).into(), trusted, shows_certificate })
    }

    /// Makes a TLS connection of a socket. The server must prove that it is `host`.
    ///
    /// # Errors
    /// What has failed, for [`Speaker::told`].
    pub(crate) async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.connector.connect(name, socket).await
    }

    /// What a failed connection means, where it is TLS that has failed. A server's word on the client's certificate may
    /// come behind the handshake.
    pub(crate) fn told(&self, error: &io::Error) -> Option<TlsProblem> {
        let error = error.get_ref()?.downcast_ref::<TlsError>()?;
        Some(match error {
            TlsError::InvalidCertificate(error) => self.bad_certificate(error),
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                TlsProblem::NotTls
            }
            TlsError::AlertReceived(AlertDescription::CertificateRequired) => TlsProblem::CertificateDemanded,
            // What older TLS has for it.
            TlsError::AlertReceived(AlertDescription::HandshakeFailure) if !self.shows_certificate => {
                TlsProblem::CertificateDemanded
            }
            TlsError::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => TlsProblem::CertificateRefused { alert: *alert },
            error => TlsProblem::Handshake { reason: error.to_string() },
        })
    }

    fn bad_certificate(&self, error: &CertificateError) -> TlsProblem {
        match error {
            // The second: a CA of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsProblem::UnknownCa { trusted: self.trusted.clone() }
            }
            CertificateError::ExpiredContext { time, not_after } => {
                TlsProblem::NotValidNow { found: format!("one until {}, now is {}", date(*not_after), date(*time)) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                TlsProblem::NotValidNow { found: format!("one from {} on, now is {}", date(*not_before), date(*time)) }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = presented.iter().map(|name| readable(name)).collect::<Vec<_>>();
                let found = if names.is_empty() { "nobody".into() } else { names.join(", ") };
                TlsProblem::OtherName { expected: expected.to_str().into_owned(), found }
            }
            error => TlsProblem::BadCertificate { reason: error.to_string() },
        }
    }
}

/// How many servers' sessions are kept, for quicker handshakes after a lost connection.
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

/// As rustls writes names: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
fn readable(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inner.trim_matches('"').to_owned()
}
