//! What a TLS server is told: its certificate and key, and whose certificates it takes of clients.

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

/// How many sessions are kept for TLS 1.2 clients that know no tickets. All others carry theirs along.
const SESSIONS: usize = 256;

/// Where the certificates and keys of a TLS server are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, and its key.
    pub identity: Identity,
    /// Whether clients show certificates too.
    pub clients: ClientCertificates,
}

/// Whether clients show certificates, and by whom those must be signed.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// They are not asked for one.
    None,
    /// They may show one of these CAs.
    Accepted(Pem),
    /// Whoever shows none of these CAs is turned away.
    Demanded(Pem),
}

/// Everything that a TLS server needs for new connections, read and checked. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    asks_clients: bool,
}

/// The files of a TLS server can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// What is in a file is not what it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The CAs of clients can't be used to verify anything.
    #[error("{file}: expected certificates of CAs, found some that verify nothing: {source}")]
    ClientCa {
        /// The file.
        file: String,
        /// Why not.
        source: VerifierBuilderError,
    },
    /// Can't happen with the cryptography that is built in.
    #[error("can't set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// Reads the files, and checks that they are what they should be. A certificate that has expired is taken, with a
    /// warning in the log: clients refuse it.
    ///
    /// # Errors
    /// [`TlsError`] names the file, what was expected in it and what was found.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let certified = files.identity.load()?;
        warn_if_invalid(&files.identity.certificate, &certified);
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let (cas, may_be_without) = match &files.clients {
            ClientCertificates::None => (None, true),
            ClientCertificates::Accepted(cas) => (Some(cas), true),
            ClientCertificates::Demanded(cas) => (Some(cas), false),
        };
        let builder = match cas {
            None => builder.with_no_client_auth(),
            Some(cas) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(cas.roots()?.into(), provider());
                let verifier = if may_be_without { verifier.allow_unauthenticated() } else { verifier };
                let failed = |source| TlsError::ClientCa { file: cas.to_string(), source };
                builder.with_client_cert_verifier(verifier.build().map_err(failed)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // Made anew with each load: whoever was let in by an earlier client CA is looked at again.
        config.ticketer = Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self { config: Arc::new(config), asks_clients: cas.is_some() })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether clients show certificates: then one that shows none has proved nothing.
    pub(crate) const fn asks_clients(&self) -> bool {
        self.asks_clients
    }
}

/// Nothing of what it holds: there is a key among it.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn warn_if_invalid(file: &Pem, certified: &rustls::sign::CertifiedKey) {
    for certificate in &certified.cert {
        let trouble = match Certificate::read(certificate) {
            Ok(certificate) => certificate.trouble(SystemTime::now()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble {
            warn!(%file, "clients will refuse this server's certificate: {trouble}");
        }
    }
}
