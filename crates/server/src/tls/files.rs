//! The TLS configuration of a server: its certificate and key, and the client certificates that it accepts.

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::{ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use syncline_tls::{Certificate, Identity, Pem, PemError, provider};
use thiserror::Error;
use tracing::warn;

/// The number of sessions that are kept for TLS 1.2 clients without session tickets. Other clients keep their sessions
/// themselves.
const MAX_SESSIONS: usize = 256;

/// The files of a TLS server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the server, and its key.
    pub identity: Identity,
    /// Which client certificates the server requests and accepts.
    pub clients: ClientCertificates,
}

/// Which client certificates a server requests and accepts.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// The server requests no certificate.
    None,
    /// A client may present a certificate of one of these CAs.
    Accepted(Pem),
    /// A client must present a certificate of one of these CAs. Otherwise the handshake fails.
    Demanded(Pem),
}

/// The TLS configuration for new connections, loaded and checked. It is cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    requests_certificates: bool,
}

/// The files of a TLS server cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The CAs for client certificates cannot verify certificates.
    #[error("{file}: expected certificates of CAs, found some that cannot verify certificates: {source}")]
    ClientCa {
        /// The file with the CAs.
        file: String,
        /// The error of the verifier.
        source: VerifierBuilderError,
    },
    /// TLS cannot be set up. This does not happen with the built-in cryptography.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// Loads and checks the files.
    ///
    /// An expired certificate is accepted with a warning in the log, because only clients can refuse it.
    ///
    /// # Errors
    /// Returns [`TlsError`], which names the file, what was expected in it, and what was found.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let certified = files.identity.load()?;
        warn_if_invalid(&files.identity.certificate, &certified);
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let (cas, is_optional) = match &files.clients {
            ClientCertificates::None => (None, true),
            ClientCertificates::Accepted(cas) => (Some(cas), true),
            ClientCertificates::Demanded(cas) => (Some(cas), false),
        };
        let builder = match cas {
            None => builder.with_no_client_auth(),
            Some(cas) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(cas.roots()?.into(), provider());
                let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
                let failed = |source| TlsError::ClientCa { file: cas.to_string(), source };
                builder.with_client_cert_verifier(verifier.build().map_err(failed)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // New with each load. Otherwise a client with a certificate of an earlier CA could resume its session.
        config.ticketer = Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
        Ok(Self { config: Arc::new(config), requests_certificates: cas.is_some() })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Returns whether the server requests client certificates. If it does, a client without one is not authenticated.
    pub(crate) const fn requests_certificates(&self) -> bool {
        self.requests_certificates
    }
}

/// Shows nothing of the configuration, because it contains the private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Warns if clients will refuse a certificate, for example because it has expired.
fn warn_if_invalid(file: &Pem, certified: &rustls::sign::CertifiedKey) {
    for certificate in &certified.cert {
        let problem = match Certificate::read(certificate) {
            Ok(certificate) => certificate.trouble(SystemTime::now()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            warn!(%file, "clients will refuse this server's certificate: {problem}");
        }
    }
}
