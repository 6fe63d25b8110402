use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Makes a certificate and its key, both as PEM.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A folder with the files of a server.
struct Files(TempDir);

impl Files {
    fn new((certificate, key): &(String, String)) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put("tls.crt", certificate).put("tls.key", key);
        files
    }

    fn put(&self, name: &str, text: &str) -> &Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    fn load(&self, client_ca_file: Option<&str>) -> Result<ServerTls, String> {
        let config = Config {
            cert_file: "tls.crt".into(),
            key_file: "tls.key".into(),
            client_ca_file: client_ca_file.map(Into::into),
        };
        ServerTls::load(&config, self.0.path(), Instant::now()).map_err(|error| error.to_string())
    }
}

/// Returns the certificate that a server shows, and the protocol that it chose, or what went wrong.
async fn greet(
    server: Arc<ServerConfig>,
    authority: &Authority,
    identity: Option<&(String, String)>,
) -> Result<(CertificateDer<'static>, Vec<u8>), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut client = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                pem::certificates(certificate.as_bytes()).unwrap(),
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(Arc::new(client)).connect(name, near);
    let (connected, accepted) = tokio::join!(connect, TlsAcceptor::from(server).accept(far));
    accepted.map_err(|error| error.to_string())?;
    let connected = connected.map_err(|error| error.to_string())?;
    let (_, session) = connected.get_ref();
    Ok((session.peer_certificates().unwrap()[0].clone(), session.alpn_protocol().unwrap().to_vec()))
}

fn der((certificate, _): &(String, String)) -> CertificateDer<'static> {
    pem::certificates(certificate.as_bytes()).unwrap().remove(0)
}

#[tokio::test]
async fn a_new_certificate_is_used_once_the_pause_is_over_and_not_looked_for_before() {
    let authority = authority();
    let (old, new) = (issue(&authority), issue(&authority));
    let files = Files::new(&old);
    let server = files.load(None).unwrap();
    let start = Instant::now();
    let shown = async |now| greet(server.current(now), &authority, None).await.unwrap();
    assert_eq!(shown(start).await, (der(&old), b"h2".to_vec()));
    files.put("tls.crt", &new.0).put("tls.key", &new.1);
    assert_eq!(shown(start + PAUSE / 2).await.0, der(&old));
    assert_eq!(shown(start + PAUSE * 2).await, (der(&new), b"h2".to_vec()));
}

/// Scenario: the files are replaced one after the other, with a moment in which one is half written. Guarantee: every
/// handshake succeeds, with the old pair until the new one is whole.
#[tokio::test]
async fn a_pair_that_cannot_be_used_changes_nothing_until_it_is_whole() {
    let authority = authority();
    let (old, new) = (issue(&authority), issue(&authority));
    let files = Files::new(&old);
    let server = files.load(None).unwrap();
    let mut now = Instant::now();
    let mut shown = async || {
        now += PAUSE * 2;
        greet(server.current(now), &authority, None).await.unwrap().0
    };
    files.put("tls.crt", &new.0[..new.0.len() / 2]);
    assert_eq!(shown().await, der(&old), "half a certificate");
    files.put("tls.crt", &new.0);
    assert_eq!(shown().await, der(&old), "a key of another certificate");
    fs::remove_file(files.0.path().join("tls.key")).unwrap();
    assert_eq!(shown().await, der(&old), "no key");
    files.put("tls.key", &new.1);
    assert_eq!(shown().await, der(&new));
}

#[tokio::test]
async fn only_clients_of_the_authority_are_let_in_where_one_is_named() {
    let (ours, theirs) = (authority(), authority());
    let files = Files::new(&issue(&ours));
    files.put("clients.crt", &ours.pem());
    let server = files.load(Some("clients.crt")).unwrap().current(Instant::now());
    greet(Arc::clone(&server), &ours, Some(&issue(&ours))).await.unwrap();
    greet(Arc::clone(&server), &ours, Some(&issue(&theirs))).await.unwrap_err();
    greet(server, &ours, None).await.unwrap_err();
}

#[test]
fn an_error_names_the_file_and_the_cause_and_shows_nothing_of_it() {
    let authority = authority();
    let pair = issue(&authority);
    let files = Files::new(&pair);
    let told = |client_ca: Option<&str>| files.load(client_ca).unwrap_err();
    assert!(
        told(Some("none.crt")).contains("none.crt` for TLS: cannot read the file"),
        "{}",
        told(Some("none.crt"))
    );
    assert!(told(Some("tls.key")).contains("tls.key` for TLS: the file holds no certificate"));
    files.put("tls.key", &issue(&authority).1);
    assert!(
        told(None).contains("tls.key` for TLS: the key is that of another certificate than `"),
        "{}",
        told(None)
    );
    files.put("tls.key", &pair.1.replacen('M', "%", 1));
    assert!(
        told(None).contains("tls.key` for TLS: the file holds a private key that is damaged"),
        "{}",
        told(None)
    );
    files.put("tls.crt", "");
    assert!(told(None).contains("tls.crt` for TLS: the file holds no certificate"));
}

#[test]
fn an_empty_path_is_found_at_load() {
    let config = Config { cert_file: "".into(), key_file: "k".into(), client_ca_file: Some("".into()) };
    let mut problems = Problems::default();
    config.check(&mut problems);
    let paths: Vec<_> = problems.into_vec().iter().map(|problem| problem.path.to_string()).collect();
    assert_eq!(paths, ["cert_file", "client_ca_file"]);
}
