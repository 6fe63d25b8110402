//! TLS: what PEM files hold, and whom the worker trusts by itself. Must not know who connects to whom.
//!
//! Errors of PEM may quote the file: they are for deciding, not for showing.

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// Returns the certificates of a file's content: at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

/// Returns the first private key of a file's content.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(content)
}

/// Returns the public roots and those of the machine; a machine that has none, or a broken one among them, is no reason
/// not to start.
pub(crate) fn roots() -> RootCertStore {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
