//! TLS: whom the worker trusts as a client, and what its files of certificates and keys have to hold.

pub(crate) mod pem;

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
};

/// Returns the one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Returns the public roots and those of the machine. A machine that has none, or a broken one among them, is no
/// reason not to start.
pub(crate) fn roots() -> RootCertStore {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Makes a client that trusts [`roots`]. Reads the machine's certificates.
///
/// # Errors
/// The provider offers no version of TLS.
pub(crate) fn client() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots())
        .with_no_client_auth())
}
