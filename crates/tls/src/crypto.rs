//! The cryptography that server and client use.

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// Returns the cryptography that server and client use: that of `ring`.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}
