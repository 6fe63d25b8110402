//! Whom the exporter trusts, and as whom it shows itself.

use std::{fs, path::Path};

use rustls::{AlertDescription, RootCertStore, pki_types::CertificateDer};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use super::error::ClientError;
use crate::{telemetry::TlsConfig, tls};

/// Makes the connections of an endpoint encrypted.
pub(super) fn apply(endpoint: Endpoint, config: &TlsConfig) -> Result<Endpoint, ClientError> {
    let mut tls = ClientTlsConfig::new().trust_anchors(roots(config)?.roots);
    let mut settings = Vec::new();
    if let (Some(certificate), Some(key)) = (&config.cert_file, &config.key_file) {
        certificates(certificate)?;
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        settings.push(format!("the certificate `{}` and the key `{}`", certificate.display(), key.display()));
    }
    if let Some(name) = &config.server_name {
        tls = tls.domain_name(name);
        settings.push(format!("the server name `{name}`"));
    }
    endpoint.tls_config(tls).map_err(|source| ClientError::Tls { settings: settings.join(", "), source })
}

/// Returns whether a server that ends the handshake with this alert is not content with the client's certificate,
/// or that there is none.
pub(super) fn is_about_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            // What OpenSSL says in TLS 1.2 when it gets no certificate.
            | AlertDescription::HandshakeFailure
    )
}

/// Trusts the public roots, those of the machine and the configured one.
pub(super) fn roots(config: &TlsConfig) -> Result<RootCertStore, ClientError> {
    let mut roots = tls::roots();
    if let Some(path) = &config.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| ClientError::Root { path: path.clone(), source })?;
        }
    }
    Ok(roots)
}

/// Returns the certificates of a file: at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    tls::certificates(&read(path)?).map_err(|_| ClientError::NoCertificate(path.to_owned()))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::Unreadable { path: path.to_owned(), source })
}
