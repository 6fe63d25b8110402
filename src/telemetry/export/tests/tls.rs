//! Encrypted connections, with certificates made by the tests.

use std::{error::Error, fs, path::PathBuf};

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::{
    super::{Client, ClientError},
    Answer, Receiver, export,
};
use crate::telemetry::{Export, Signal, TlsConfig};

/// The name in the certificate of the receiver.
const NAME: &str = "collector.test";

/// A certificate authority, and a folder for files of certificates.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: TempDir::new().unwrap() }
    }

    /// Returns a certificate for a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> Option<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    }

    /// Starts a receiver, which may demand certificates of this authority.
    fn receiver(&self, demands_certificate: bool) -> Receiver {
        let (certificate, key) = self.issue(NAME);
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if demands_certificate {
            tls = tls.client_ca_root(Certificate::from_pem(self.issuer.pem()));
        }
        Receiver::start_with(Some(tls), |_| Answer::Take)
    }

    /// Trusts this authority, and looks for the name of the receiver.
    fn trusted(&self) -> TlsConfig {
        let ca_file = self.file("ca.pem", &self.issuer.pem());
        TlsConfig { ca_file, server_name: Some(NAME.into()), ..TlsConfig::default() }
    }
}

fn client(receiver: &Receiver, tls: TlsConfig) -> Result<Client, ClientError> {
    let endpoint = format!("https://{}", receiver.address);
    Client::new(Signal::Traces, &Export { endpoint, tls, ..export("") })
}

#[tokio::test]
async fn a_collector_is_trusted_by_its_authority_and_name() {
    let authority = Authority::new();
    let receiver = authority.receiver(false);
    let accepted = client(&receiver, authority.trusted()).unwrap().export(Bytes::new()).await;
    assert_eq!(accepted.unwrap().rejected, 0);

    let wrong_name = TlsConfig { server_name: Some("other.test".into()), ..authority.trusted() };
    let wrong_authority = TlsConfig { ca_file: None, ..authority.trusted() };
    for tls in [wrong_name, wrong_authority] {
        let error = client(&receiver, tls).unwrap().export(Bytes::new()).await.unwrap_err();
        assert_eq!((error.error_type(), error.is_retryable()), ("tls", true), "{error}");
        assert!(error.to_string().starts_with("invalid peer certificate: "), "{error}");
    }
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_collector_that_demands_a_certificate_gets_it() {
    let authority = Authority::new();
    let receiver = authority.receiver(true);
    let (certificate, key) = authority.issue("flowgen");
    let own = TlsConfig {
        cert_file: authority.file("own.pem", &certificate),
        key_file: authority.file("own.key", &key),
        ..authority.trusted()
    };
    client(&receiver, own).unwrap().export(Bytes::new()).await.unwrap();
    assert_eq!(receiver.calls().len(), 1);
}

/// How the connection breaks is a matter of who is first, so it is tried some times.
#[tokio::test]
async fn a_client_without_the_certificate_that_is_wanted_is_told_what_is_missing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = authority.receiver(true);
    let (certificate, key) = other.issue("flowgen");
    let strange = TlsConfig {
        cert_file: other.file("own.pem", &certificate),
        key_file: other.file("own.key", &key),
        ..authority.trusted()
    };
    for _ in 0..20 {
        for (tls, advice) in [
            (
                authority.trusted(),
                "; the collector may want a client certificate: set `tls.cert_file` and `tls.key_file`",
            ),
            (strange.clone(), "own.pem` (`tls.cert_file`)"),
        ] {
            let error = client(&receiver, tls).unwrap().export(Bytes::new()).await.unwrap_err();
            assert_eq!((error.error_type(), error.is_retryable()), ("tls", true), "{error}");
            assert!(error.to_string().ends_with(advice), "{error}");
        }
    }
    assert_eq!(receiver.calls().len(), 0);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let receiver = authority.receiver(false);
    let told = |tls| {
        let error = client(&receiver, tls).unwrap_err();
        (error.to_string().replace(authority.folder.path().to_str().unwrap(), ""), error.source().is_some())
    };
    let missing = Some(authority.folder.path().join("missing.pem"));
    let ca = |ca_file| TlsConfig { ca_file, ..TlsConfig::default() };
    assert_eq!(told(ca(missing)), ("cannot read `/missing.pem`".into(), true));
    let text = authority.file("text.pem", "no certificate");
    assert_eq!(told(ca(text)), ("`/text.pem` holds no certificate in PEM form".into(), false));
    let (certificate, _) = authority.issue("flowgen");
    let (_, other_key) = authority.issue("flowgen");
    let own = TlsConfig {
        cert_file: authority.file("own.pem", &certificate),
        key_file: authority.file("own.key", &other_key),
        ..TlsConfig::default()
    };
    let message = "cannot set up TLS with the certificate `/own.pem` and the key `/own.key`";
    assert_eq!(told(own), (message.into(), true));
    let name = TlsConfig { server_name: Some("not a name".into()), ..TlsConfig::default() };
    assert_eq!(told(name), ("cannot set up TLS with the server name `not a name`".into(), true));
}
