//! Certificates and private keys in PEM, from files or from memory.

use crate::crypto::provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// The longest PEM file that is read. The root certificates of a whole system take a quarter of that.
const MAX_BYTES: u64 = 1024 * 1024;

/// The start of the line in front of each item in PEM.
const BEGIN: &str = "-----BEGIN ";

/// Data in PEM: in a file, which is read when it is needed, or in memory.
#[derive(Clone)]
pub struct Pem(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

/// The identity of one side of a connection: a certificate chain and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificates: its own, then those that lead to its CA.
    pub certificate: Pem,
    /// The private key of the first certificate.
    pub key: Pem,
}

/// A PEM file does not hold what was expected.
#[derive(Debug, Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("can't read {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is too long to be the right one.
    #[error("{file}: expected at most {MAX_BYTES} bytes of PEM, found more; is it the right file?")]
    TooLong {
        /// The file.
        file: String,
    },
    /// The file is not PEM, or damaged.
    #[error("{file}: expected PEM, found it damaged: {reason}; copy the file again")]
    Damaged {
        /// The file.
        file: String,
        /// What is damaged.
        reason: String,
    },
    /// The file holds no certificate.
    #[error("{file}: expected a certificate (-----BEGIN CERTIFICATE-----), found {found}")]
    NoCertificate {
        /// The file.
        file: String,
        /// What it holds.
        found: String,
    },
    /// A certificate in the file cannot be used.
    #[error("{file}: expected a certificate, found one that can't be used: {reason}")]
    BadCertificate {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The file holds no private key.
    #[error("{file}: expected a private key (-----BEGIN PRIVATE KEY-----), found {found}")]
    NoKey {
        /// The file.
        file: String,
        /// What it holds.
        found: String,
    },
    /// The key is encrypted, and a server cannot ask for its password.
    #[error("{file}: expected a private key that can be read, found an encrypted one; `openssl pkey` decrypts it")]
    EncryptedKey {
        /// The file.
        file: String,
    },
    /// The private key is of an unknown type, or cannot be used.
    #[error("{file}: expected an RSA, ECDSA or Ed25519 key, found one that can't be used: {reason}")]
    BadKey {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("{key} is not the key of the certificate in {certificate}; name the key that it was made with")]
    OtherKey {
        /// The file of the key.
        key: String,
        /// The file of the certificate.
        certificate: String,
    },
}

impl Pem {
    /// Returns the PEM in a file, which is read when it is needed.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Returns the PEM in these bytes.
    pub fn bytes(pem: impl AsRef<[u8]>) -> Self {
        Self(Source::Bytes(pem.as_ref().into()))
    }

    /// Returns the certificates, in order. There is at least one.
    ///
    /// # Errors
    /// [`PemError`] if there is none, or the file cannot be read.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let bytes = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match certificates.map_err(|error| self.damaged(&error))? {
            none if none.is_empty() => Err(PemError::NoCertificate { file: self.to_string(), found: found(&bytes) }),
            certificates => Ok(certificates),
        }
    }

    /// Returns the certificates as trusted CAs.
    ///
    /// # Errors
    /// As [`Pem::certificates`]; [`PemError::BadCertificate`] if one of them cannot be a CA.
    pub fn roots(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|error| PemError::BadCertificate { file: self.to_string(), reason: error.to_string() })?;
        }
        Ok(roots)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        let bytes = self.read()?;
        // Checked here, because the parser would only report that there is no key.
        if ["ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"].iter().any(|text| contains(&bytes, text)) {
            return Err(PemError::EncryptedKey { file: self.to_string() });
        }
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => PemError::NoKey { file: self.to_string(), found: found(&bytes) },
            error => self.damaged(&error),
        })
    }

    fn read(&self) -> Result<Vec<u8>, PemError> {
        let path = match &self.0 {
            Source::File(path) => path,
            Source::Bytes(bytes) => return Ok(bytes.to_vec()),
        };
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(source) => Err(PemError::Io { file: self.to_string(), source }),
            Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(PemError::TooLong { file: self.to_string() }),
            Ok(_) => Ok(bytes),
        }
    }

    fn damaged(&self, error: &pem::Error) -> PemError {
        PemError::Damaged { file: self.to_string(), reason: error.to_string() }
    }
}

impl Identity {
    /// Returns the identity with its certificate in one file and its private key in another.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: Pem::file(certificate), key: Pem::file(key) }
    }

    /// Reads both files, and checks that they belong together.
    ///
    /// # Errors
    /// [`PemError`] if they do not, or one of them cannot be used.
    pub fn load(&self) -> Result<CertifiedKey, PemError> {
        let (chain, key) = (self.certificate.certificates()?, self.key.key()?);
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                PemError::OtherKey { key: self.key.to_string(), certificate: self.certificate.to_string() }
            }
            error @ rustls::Error::InvalidCertificate(_) => {
                PemError::BadCertificate { file: self.certificate.to_string(), reason: error.to_string() }
            }
            error => PemError::BadKey { file: self.key.to_string(), reason: error.to_string() },
        })
    }
}

/// Shows where the PEM is, and never its content, which may be a private key.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => path.display().fmt(f),
            Source::Bytes(_) => f.write_str("PEM"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({self})")
    }
}

/// Returns what PEM holds, in a few words: the names of its items, and nothing of their content.
fn found(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let names = text.lines().filter_map(|line| line.strip_prefix(BEGIN)?.trim_end().strip_suffix("-----"));
    match (names.take(4).collect::<Vec<_>>().join(", "), bytes) {
        (_, []) => "an empty file".into(),
        (names, _) if names.is_empty() => "nothing in PEM".into(),
        (names, _) => names,
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
