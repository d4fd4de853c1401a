//! The names in a certificate, and the time during which it is valid.

use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// The names and the validity of a certificate. Reading it verifies nothing: it may be forged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The names that it is issued to: its DNS names, and the common name of its subject, without duplicates.
    pub names: Vec<String>,
    not_before: ASN1Time,
    not_after: ASN1Time,
}

/// The bytes are not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a certificate, found none: {0}")]
pub struct NoCertificate(String);

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`NoCertificate`] if the bytes are not one.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, NoCertificate> {
        let failed = |error: &dyn std::fmt::Display| NoCertificate(error.to_string());
        let (_, read) = X509Certificate::from_der(certificate).map_err(|error| failed(&error))?;
        let alternatives = read.subject_alternative_name().map_err(|error| failed(&error))?;
        let alternatives = alternatives.iter().flat_map(|names| names.value.general_names.iter());
        let mut names: Vec<String> = alternatives
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        names.extend(read.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned));
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let validity = read.validity();
        Ok(Self { names, not_before: validity.not_before, not_after: validity.not_after })
    }

    /// Returns why the certificate is not valid at a time, in words, or `None` if it is valid.
    pub fn trouble(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let now = i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok())?;
        if now > self.not_after {
            Some(format!("it has expired: it was valid until {}", self.not_after))
        } else if now < self.not_before {
            Some(format!("it is not valid yet: it is from {}", self.not_before))
        } else {
            None
        }
    }
}
