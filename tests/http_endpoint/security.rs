//! Who is let in, and what the others are told.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::CertificateDer,
};
use serde_json::json;

use super::{Serving, yaml};
use crate::support::{
    client::{Response, call},
    worker::Worker,
};

/// Answers with what is known of the caller.
fn guarded(keys: &str) -> Serving {
    let tasks = format!(
        "
    - http_endpoint: {{name: in, endpoint: /work, {keys}}}
    - script: {{name: who, code: 'event.meta.auth'}}
"
    );
    Serving::start("", "", &tasks)
}

fn assert_refused(response: &Response, status: u16, challenge: Option<&str>) {
    assert_eq!(
        (response.status, response.header("content-type")),
        (status, Some("application/problem+json"))
    );
    let given = response.header("www-authenticate");
    assert_eq!(given.map(|value| value.split(' ').next().unwrap()), challenge, "{response:?}");
}

#[test]
fn a_caller_says_who_it_is_in_the_way_that_is_asked_for() {
    let bearer = guarded("auth: {bearer: {tokens: [m4rker-1, m4rker-2]}}");
    let say =
        |serving: &Serving, headers: &str, body: &[u8]| call(serving.address, "POST /work", headers, body);
    assert_refused(&say(&bearer, "", b""), 401, Some("Bearer"));
    assert_refused(&say(&bearer, "authorization: Bearer m4rker-3\r\n", b""), 401, Some("Bearer"));
    let known = say(&bearer, "authorization: Bearer m4rker-2\r\n", b"");
    assert_eq!((known.status, known.json()), (200, json!({"scheme": "bearer"})));

    let basic = guarded("auth: {basic: {users: {ada: m4rker}}}");
    assert_refused(&say(&basic, "authorization: Basic YWRhOm5v\r\n", b""), 401, Some("Basic"));
    let known = say(&basic, "authorization: Basic YWRhOm00cmtlcg==\r\n", b"");
    assert_eq!((known.status, known.json()["name"].as_str()), (200, Some("ada")));

    let api_key = guarded("auth: {api_key: {header: x-key, keys: [m4rker]}}");
    assert_eq!(say(&api_key, "x-key: no\r\n", b"").status, 401);
    assert_eq!(say(&api_key, "x-key: m4rker\r\n", b"").status, 200);

    // The example of GitHub's documentation.
    let secret = "It's a Secret to Everybody";
    let signed = guarded(&format!("auth: {{hmac: {{secret: \"{secret}\", format: github}}}}"));
    let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let header = format!("x-hub-signature-256: sha256={signature}\r\n");
    assert_eq!(say(&signed, &header, b"Hello, World!").status, 200);
    assert_eq!(say(&signed, &header, b"Hello, World?").status, 401);

    for serving in [bearer, basic, api_key, signed] {
        let ended = serving.stop();
        assert_eq!(ended.drained()["entered"], 1, "what is refused is no event: {}", ended.stderr);
        assert!(!ended.stderr.contains("m4rker"), "{}", ended.stderr);
    }
}

#[test]
fn a_body_is_not_even_read_of_who_may_not_call() {
    let serving = guarded("auth: {bearer: {tokens: [m4rker]}}");
    let mut client = crate::support::client::Client::connect(serving.address);
    client.send(b"POST /work HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    // It was not asked for: the first answer is the last.
    assert_eq!(client.receive().unwrap().status, 401);
}

#[test]
fn who_calls_too_often_is_told_how_long_to_wait() {
    let serving = guarded("rate_limit: {rate: 0.01, burst: 3, key: {header: x-tenant}}");
    let call = |tenant: &str| call(serving.address, "POST /work", &format!("x-tenant: {tenant}\r\n"), b"");
    let statuses: Vec<_> = (0..5).map(|_| call("a").status).collect();
    assert_eq!(statuses, [204, 204, 204, 429, 429]);
    assert_eq!(call("b").status, 204, "another one has a rate of its own");
    let wait: u64 = call("a").header("retry-after").unwrap().parse().unwrap();
    assert!((1..=100).contains(&wait), "{wait}");
    assert_eq!(serving.stop().drained()["entered"], 4);
}

/// Scenario: somebody who may not call does so again and again. Guarantee: that takes nothing from the rate of those who may,
/// unless each address has a rate of its own.
#[test]
fn who_may_not_call_takes_nothing_from_the_rate_of_others() {
    for (key, expected) in [
        ("all", [401, 200, 200, 429]),
        ("caller", [401, 200, 200, 429]),
        ("{header: x-tenant}", [401, 200, 200, 429]),
        ("address", [429, 429, 429, 429]),
    ] {
        let serving = guarded(&format!(
            "auth: {{basic: {{users: {{ada: m4rker}}}}}}, rate_limit: {{rate: 0.001, burst: 2, key: {key}}}"
        ));
        let call = |password: &str| {
            let headers = format!("x-tenant: a\r\nauthorization: Basic {password}\r\n");
            call(serving.address, "POST /work", &headers, b"").status
        };
        let (wrong, right) = ("YWRhOm5v", "YWRhOm00cmtlcg==");
        for _ in 0..5 {
            call(wrong);
        }
        assert_eq!([call(wrong), call(right), call(right), call(right)], expected, "{key}");
    }
    // Whether a signature is right only the body tells.
    let serving =
        guarded("auth: {hmac: {secret: m4rker, format: github}}, rate_limit: {rate: 0.001, key: all}");
    let call = |signature: &str| {
        let header = format!("x-hub-signature-256: sha256={signature}\r\n");
        call(serving.address, "POST /work", &header, b"hello").status
    };
    let right = "73a9f4c4fc27e106f48902f447cf36764ca9b3006f72251bed88c7b8e3d23f18";
    let wrong = "0".repeat(64);
    assert_eq!([&*wrong, &*wrong, right, right, &*wrong].map(call), [401, 401, 200, 429, 401]);
}

#[test]
fn a_page_of_another_origin_is_let_in_by_its_browser_only_if_it_is_allowed() {
    let serving = guarded(
        "auth: {bearer: {tokens: [m4rker]}}, cors: {allow_origins: [\"https://a.example\"], allow_headers: [authorization]}",
    );
    let preflight = |origin: &str| {
        let headers = format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n"
        );
        call(serving.address, "OPTIONS /work", &headers, b"")
    };
    let allowed = preflight("https://a.example");
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization"),
    ] {
        assert_eq!(allowed.header(name), Some(value), "{allowed:?}");
    }
    assert_eq!(preflight("https://b.example").header("access-control-allow-origin"), None);
    let refused = call(serving.address, "POST /work", "origin: https://a.example\r\n", b"");
    let readable = (refused.status, refused.header("access-control-allow-origin"));
    assert_eq!(readable, (401, Some("https://a.example")), "the page may read why");
}

/// An authority, and the certificates that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a certificate of this machine and its key. Returns the certificate.
    fn sign(&self, folder: &Path) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        certificate.der().clone()
    }
}

/// Makes a request over TLS; returns the response and the server's certificate.
fn call_tls(authority: &Authority, address: SocketAddr) -> (String, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream
        .write_all(b"POST /work HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let certificate = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    (String::from_utf8(text).unwrap(), certificate)
}

/// Scenario: the certificate of a server is replaced while it serves, at first by something broken. Guarantee: it serves
/// on, with the new one as soon as that is whole.
#[test]
fn a_certificate_may_be_replaced_while_the_server_serves() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let first = authority.sign(folder.path());
    let at = folder.path().display();
    let yaml = yaml("", "", "    - http_endpoint: {name: in, endpoint: /work}\n").replace(
        "\"127.0.0.1:0\"",
        &format!("\"127.0.0.1:0\", tls: {{cert_file: {at}/cert.pem, key_file: {at}/key.pem}}"),
    );
    let serving = Serving::started(Worker::start(&yaml, &[]));
    let (text, certificate) = call_tls(&authority, serving.address);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\"path\":\"/work\""), "{text}");
    assert_eq!(certificate, first);
    fs::write(folder.path().join("cert.pem"), "half").unwrap();
    let until = |is_it: &dyn Fn(&CertificateDer<'static>) -> bool| {
        let limit = Instant::now() + Duration::from_secs(60);
        while !is_it(&call_tls(&authority, serving.address).1) {
            assert!(Instant::now() < limit, "it goes on as it was");
        }
    };
    let limit = Instant::now() + Duration::from_secs(60);
    let told = loop {
        assert_eq!(call_tls(&authority, serving.address).1, first);
        if serving.worker.has_logged("connections go on with the old certificate") {
            break true;
        }
        assert!(Instant::now() < limit);
    };
    assert!(told);
    let second = authority.sign(folder.path());
    until(&|certificate| *certificate == second);
    // Who does not speak TLS gets nothing, and disturbs nobody.
    let mut plain = TcpStream::connect(serving.address).unwrap();
    plain.write_all(b"POST /work HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert!(call_tls(&authority, serving.address).0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_before_anything_starts() {
    let yaml = yaml("", "", "    - http_endpoint: {name: in, endpoint: /work}\n")
        .replace("\"127.0.0.1:0\"", "\"127.0.0.1:0\", tls: {cert_file: none.pem, key_file: none.pem}");
    let ended = Worker::start(&yaml, &[]).end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("http_server.tls") && ended.stderr.contains("none.pem"),
        "{}",
        ended.stderr
    );
}
