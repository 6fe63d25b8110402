//! The TLS handshake by itself, with what the exporter would trust and show.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Failure, FailureKind, Target, broken, certificate::Certificate};
use crate::telemetry::{
    TlsConfig, error_chain,
    export::{error::one_line, tls},
};

/// What HTTP/2 is called in the handshake.
const HTTP2: &[u8] = b"h2";

/// A connection that is encrypted.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The version of the protocol and the server's certificate, for people.
    pub(crate) summary: String,
}

impl Target {
    /// Makes a connection encrypted, and the server prove who it is.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> Result<Secured, Failure> {
        let unusable = |error: &dyn std::error::Error| Failure::new(FailureKind::Tls, error.to_string());
        let name = self.tls().server_name.clone().unwrap_or_else(|| self.host());
        let server_name = ServerName::try_from(name.clone()).map_err(|error| unusable(&error))?;
        let (config, witness) = config(self.tls())?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
        let certificate = || witness.certificate.get().cloned().unwrap_or_default();
        match connecting.await {
            Ok(stream) => {
                let summary = format!("{}, {}", version(&stream), certificate());
                Ok(Secured { stream, summary })
            }
            Err(error) => Err(refine(&error, &certificate(), &name)),
        }
    }
}

impl Secured {
    /// Returns whether the server agreed to speak HTTP/2, which the exporter needs.
    pub(crate) fn has_agreed_on_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(HTTP2)
    }
}

/// Tells what failed in TLS; `None` if it was something else.
pub(super) fn failure(error: &io::Error) -> Option<Failure> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    let kind = match inner {
        Error::InvalidCertificate(invalid) => match invalid {
            // An authority that was made anew under its old name has another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => FailureKind::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                FailureKind::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => FailureKind::OutOfDate,
            _ => FailureKind::Tls,
        },
        Error::InvalidMessage(_) => FailureKind::NoTls,
        Error::AlertReceived(alert) => match alert {
            alert if tls::is_about_client(*alert) => FailureKind::ClientCertificate,
            AlertDescription::NoApplicationProtocol => FailureKind::NotHttp2,
            _ => FailureKind::Tls,
        },
        Error::NoApplicationProtocol => FailureKind::NotHttp2,
        _ => FailureKind::Tls,
    };
    Some(Failure::new(kind, one_line(&error_chain(inner))))
}

/// Adds what the server showed.
fn refine(error: &io::Error, certificate: &Certificate, name: &str) -> Failure {
    let Some(mut failure) = failure(error) else { return broken(error) };
    match failure.kind {
        FailureKind::UnknownIssuer => {
            failure.cause = format!("nobody who is trusted issued the {certificate}")
        }
        FailureKind::WrongName => {
            let names = certificate.names();
            failure.cause = format!("the certificate is for {names}, and not for `{name}`");
        }
        FailureKind::OutOfDate => failure.cause = format!("the {certificate} is out of date"),
        FailureKind::NoTls => failure.cause = "the server answered with something else than TLS".into(),
        _ => {}
    }
    failure
}

fn version(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    }
}

/// Makes what the exporter's connections have in common, and a witness of what the server shows.
fn config(tls: &TlsConfig) -> Result<(ClientConfig, Arc<Witness>), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(FailureKind::Tls, one_line(&error_chain(error)))
    };
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(tls::roots(tls).map_err(|error| failed(&error))?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| failed(&error))?;
    let witness = Arc::new(Witness { verifier, certificate: OnceLock::new() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = tls::certificates(certificate).map_err(|error| failed(&error))?;
            let key = tls::read(key).map_err(|error| failed(&error))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| failed(&error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok((config, witness))
}

/// Keeps the server's certificate, whatever becomes of it. Leaves all decisions to the verifier of rustls.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    certificate: OnceLock<Certificate>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let mut certificate = Certificate::read(end_entity);
        if let Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented, ..
        })) = &verified
        {
            certificate.set_names(presented);
        }
        // A handshake shows one certificate.
        let _ = self.certificate.set(certificate);
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
