//! Why a TLS connection to a server failed, and what to do about it.

use rustls::AlertDescription;
use thiserror::Error;

/// Why a TLS connection to a server failed. The text says what was expected, what was found, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate of the server is signed by a CA that the client does not trust.
    #[error(
        "expected a certificate that is signed by a CA of {trusted}, found another one; if it is your server, name the CA that has signed its certificate"
    )]
    UnknownCa {
        /// The trusted CAs.
        trusted: String,
    },
    /// The certificate of the server has expired, or is not valid yet.
    #[error("expected a certificate that is valid now, found {found}; the server needs a new one, or a clock is wrong")]
    NotValidNow {
        /// When the certificate becomes valid or expires.
        found: String,
    },
    /// The certificate of the server is for another host.
    #[error("expected a certificate for {expected}, found one for {found}; connect by that name, if it is your server")]
    OtherName {
        /// The host name or address that the client connected to.
        expected: String,
        /// The names in the certificate.
        found: String,
    },
    /// The certificate of the server is not acceptable for another reason.
    #[error("expected a certificate of a server, found one that can't be accepted: {reason}")]
    BadCertificate {
        /// The reason.
        reason: String,
    },
    /// The peer does not use TLS.
    #[error("expected TLS, found something else; if that server speaks no TLS: syncline:// instead of synclines://")]
    NotTls,
    /// The server accepts only TLS connections, but the endpoint does not use TLS.
    #[error(
        "expected a server that speaks no TLS, found one that speaks nothing else: synclines:// instead of syncline://"
    )]
    TlsOnly,
    /// The server requires a client certificate, but none is configured.
    #[error("the server demands a certificate of the client, found none; set one, and its key")]
    CertificateDemanded,
    /// The server does not accept the client certificate.
    #[error("the server does not accept this client's certificate: it says {alert:?}; {}", remedy(*alert))]
    CertificateRefused {
        /// The TLS alert of the server.
        alert: AlertDescription,
    },
    /// The handshake failed for another reason.
    #[error("the TLS handshake has failed: {reason}")]
    Handshake {
        /// The reason.
        reason: String,
    },
}

fn remedy(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "renew it",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "one is needed that is signed by a CA which the server knows"
        }
        _ => "ask the operator which certificates it accepts",
    }
}
