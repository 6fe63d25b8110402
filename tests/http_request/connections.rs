//! TLS with an authority and certificates of one's own, HTTP/2, and proxies.

use std::{net::SocketAddr, sync::Arc, thread};

use flowgen::task::Output;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    ONE, assert_completed, assert_failed, assert_given_up, call, call_with,
    spans::{build, event},
};
use crate::support::http::{self, Server, response};

/// A certificate and its key, PEM.
struct Certificate {
    chain: String,
    key: String,
}

/// Issues certificates that nobody knows.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        Certificate { chain: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// Makes a server that shows a certificate, and wants one too if there is an authority for clients.
    fn server(&self, clients: Option<&Self>) -> ServerConfig {
        let own = self.issue(ExtendedKeyUsagePurpose::ServerAuth);
        let chain = vec![CertificateDer::from_pem_slice(own.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.0.pem().as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start_tls(authority.server(None), |n, _| http::json(n));
    let (ca, wrong) = (authority.0.pem(), other.0.pem());
    let files = [("ca.pem", &*ca), ("wrong.pem", &*wrong)];
    let keys = "endpoint: https://HOST\ntls: {ca_file: ca.pem}";
    assert_completed(&call_with(&server, keys, ONE, &files), &[json!(0)]);
    for keys in [
        "endpoint: https://HOST\non_error: drop",
        "endpoint: https://HOST\non_error: drop\ntls: {ca_file: wrong.pem}",
    ] {
        assert_given_up(&call_with(&server, keys, ONE, &files), "tls");
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Server::start_tls(authority.server(Some(&clients)), |n, _| http::json(n));
    let (ca, own) = (authority.0.pem(), clients.issue(ExtendedKeyUsagePurpose::ClientAuth));
    let strange = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let files = [
        ("ca.pem", &*ca),
        ("own.pem", &*own.chain),
        ("own.key", &*own.key),
        ("strange.pem", &*strange.chain),
        ("strange.key", &*strange.key),
        ("text.pem", "m4rker"),
    ];
    let with = |tls: &str, more: &str| {
        call_with(
            &server,
            &format!("endpoint: https://HOST\ntls: {{ca_file: ca.pem{tls}}}{more}"),
            ONE,
            &files,
        )
    };
    assert_completed(&with(", cert_file: own.pem, key_file: own.key", ""), &[json!(0)]);
    for tls in ["", ", cert_file: strange.pem, key_file: strange.key"] {
        assert_given_up(&with(tls, "\non_error: drop"), "tls");
    }
    assert_eq!(server.requests().len(), 1);
    for (tls, code, said) in [
        (", cert_file: own.pem", 2, "a certificate without its key"),
        (", key_file: own.key", 2, "a key without its certificate"),
        (", cert_file: own.pem, key_file: strange.key", 1, "cannot be used"),
        (", cert_file: text.pem, key_file: own.key", 1, "text.pem` holds no certificate in PEM form"),
        (", cert_file: own.pem, key_file: ca.pem", 1, "ca.pem` holds no private key in PEM form"),
        (", cert_file: missing.pem, key_file: own.key", 1, "cannot read `tls.cert_file`"),
    ] {
        let ended = with(tls, "");
        assert_eq!(ended.code, Some(code), "{tls}: {}", ended.stderr);
        assert!(ended.stderr.contains(said) && !ended.stderr.contains("m4rker"), "{}", ended.stderr);
    }
}

/// Starts a server that speaks HTTP/2 alone, and answers everything with `[2]`.
fn http2(mut config: ServerConfig) -> SocketAddr {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, acceptor) =
        (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), TlsAcceptor::from(Arc::new(config)));
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let stream = acceptor.accept(stream).await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(::http::Response::new(()), false).unwrap();
                    body.send_data("[2]".into(), true).unwrap();
                }
            }
        });
    });
    address
}

#[tokio::test]
async fn http_2_is_spoken_with_a_server_that_can() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.0.pem()).unwrap();
    let address = http2(authority.server(None));
    let config =
        json!({"endpoint": format!("https://{address}/"), "tls": {"ca_file": ca_file}, "proxy": "none"});
    let mut output = Output::default();
    output.trace(true);
    let task = build(&config.to_string()).await;
    for _ in 0..2 {
        task.handle(&event(), &mut output).await.unwrap();
    }
    assert_eq!(output.take_attributes().get("network.protocol.version"), Some(&"2".into()));
    assert_eq!(output.len(), 2);
}

#[test]
fn requests_go_through_the_proxy_that_is_named() {
    let proxy = Server::start(|_, request| match request.line.split(' ').next() {
        Some("CONNECT") => response("403 Forbidden", ""),
        _ => http::json("by the proxy"),
    });
    let through = |endpoint: &str| format!("endpoint: {endpoint}\nproxy: 'http://user:s3cret@HOST'");
    let ended = call(&proxy, &through("http://nowhere.invalid/x?y=1"), ONE);
    assert_completed(&ended, &[json!("by the proxy")]);
    // What is encrypted goes through a tunnel, whose end nobody here looks up.
    let ended = call(&proxy, &format!("{}\non_error: drop", through("https://nowhere.invalid/x")), ONE);
    assert_given_up(&ended, "connect");
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    let requests = proxy.requests();
    assert_eq!(requests[0].line, "GET http://nowhere.invalid/x?y=1");
    assert_eq!(requests[1].line, "CONNECT nowhere.invalid:443");
    for request in &*requests {
        assert_eq!(request.header("proxy-authorization"), Some("Basic dXNlcjpzM2NyZXQ="));
    }
    drop(requests);
    let guarded =
        format!("{}\nallow_hosts: [api.example.com]", through("'http://{{ \"nowhere\" }}.invalid/'"));
    assert_failed(&call(&proxy, &guarded, ONE), "refused");
}

#[test]
fn the_environment_names_a_proxy_unless_the_task_does() {
    let proxy = Server::start(|_, _| http::json("by the proxy"));
    let server = Server::start(|_, _| http::json("straight"));
    for (keys, expected) in
        [("", "by the proxy"), ("proxy: none", "straight"), ("proxy: null", "by the proxy")]
    {
        let yaml = super::flow(&format!("endpoint: http://{}\n{keys}", server.address));
        let worker =
            crate::support::worker::Worker::start_with(&yaml, &[("input", ONE.as_bytes())], |command| {
                command.env("HTTP_PROXY", format!("http://{}", proxy.address)).env("NO_PROXY", "");
            });
        assert_completed(&worker.end(), &[json!(expected)]);
    }
    for wrong in ["socks5://a:1", "a:1", "''"] {
        assert_eq!(
            call(&server, &format!("endpoint: http://HOST\nproxy: {wrong}"), ONE).code,
            Some(2),
            "{wrong}"
        );
    }
}
