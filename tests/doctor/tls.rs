//! Collectors behind TLS, with certificates made here.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::{HEALTHY, Patient};
use crate::support::{
    collector::Collector,
    http::{Server, response},
};

/// The name that the collectors' certificates are for.
const NAME: &str = "collector.test";

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Orders CA");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns a certificate that is valid until the end of a year, and its key.
    fn issue(&self, year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.not_after = date_time_ymd(year, 12, 31);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self, year: i32) -> ServerTlsConfig {
        let (certificate, key) = self.issue(year);
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
    }

    /// Makes a flow that exports to a collector, trusts this authority and has further keys of `tls`.
    fn trusted_by(&self, endpoint: &str, tls: &str) -> Patient {
        Patient::exporting_to(endpoint, &format!(", tls: {{ca_file: ca.pem{tls}}}"))
            .file("ca.pem", &self.0.pem())
    }
}

fn endpoint(collector: &Collector) -> String {
    format!("https://{}", collector.address)
}

const SERVER_NAME: &str = ", server_name: collector.test";

#[test]
fn a_collector_that_is_trusted() {
    let authority = Authority::new();
    let collector = Collector::with_tls(authority.server(2045));
    let patient = authority.trusted_by(&endpoint(&collector), SERVER_NAME);
    let told = patient.examine(&[]);
    assert_eq!(told.code, Some(0), "{}", told.stdout);
    let line = "  tls               ok N ms  TLS 1.3, certificate of `collector.test` issued by `Orders CA` valid \
                until 2045-12-31\n";
    assert!(told.text().contains(line), "{}", told.text());
    let mut expected = HEALTHY.to_vec();
    expected.insert(2, "tls ok");
    assert_eq!(patient.steps(), expected);
}

#[test]
fn a_collector_of_an_unknown_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::with_tls(authority.server(2045));
    let patient = Patient::exporting_to(&endpoint(&collector), ", tls: {server_name: collector.test}");
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "tls unknown_issuer"]);
    let (detail, hint) = patient.failure();
    assert_eq!(
        detail,
        "nobody who is trusted issued the certificate of `collector.test` issued by `Orders CA` valid until \
         2045-12-31"
    );
    assert!(hint.starts_with("set `tls.ca_file` to the certificate of the authority"), "{hint}");
    let (_, hint) = other.trusted_by(&endpoint(&collector), SERVER_NAME).failure();
    assert!(hint.contains("ca.pem` (`tls.ca_file`), which holds another one"), "{hint}");
}

#[test]
fn a_collector_of_another_name() {
    let authority = Authority::new();
    let collector = Collector::with_tls(authority.server(2045));
    let patient = authority.trusted_by(&endpoint(&collector), "");
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "tls wrong_name"]);
    let (detail, hint) = patient.failure();
    assert_eq!(detail, "the certificate is for `collector.test`, and not for `127.0.0.1`");
    assert!(hint.starts_with("set `tls.server_name` to a name of the certificate"), "{hint}");
}

#[test]
fn a_certificate_that_is_out_of_date() {
    let authority = Authority::new();
    let collector = Collector::with_tls(authority.server(2020));
    let patient = authority.trusted_by(&endpoint(&collector), SERVER_NAME);
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "tls out_of_date"]);
    assert!(patient.failure().0.ends_with("valid until 2020-12-31 is out of date"));
}

#[test]
fn a_collector_that_wants_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server(2045).client_ca_root(Certificate::from_pem(authority.0.pem()));
    let collector = Collector::with_tls(server);
    let without = authority.trusted_by(&endpoint(&collector), SERVER_NAME);
    assert_eq!(without.steps(), ["dns ok", "tcp ok", "tls client_certificate"]);
    let (_, hint) = without.failure();
    assert!(hint.ends_with("set `tls.cert_file` and `tls.key_file`"), "{hint}");

    let with_one_of = |issuer: &Authority| {
        let (certificate, key) = issuer.issue(2045);
        let own = format!("{SERVER_NAME}, cert_file: own.pem, key_file: own.key");
        let patient = authority.trusted_by(&endpoint(&collector), &own);
        patient.file("own.pem", &certificate).file("own.key", &key)
    };
    assert_eq!(with_one_of(&authority).examine(&[]).code, Some(0));
    let strange = with_one_of(&other);
    assert_eq!(strange.steps(), ["dns ok", "tcp ok", "tls client_certificate"]);
    assert!(strange.failure().1.contains("own.pem` (`tls.cert_file`)"));
}

#[test]
fn the_wrong_scheme() {
    let collector = Collector::start();
    let patient = Patient::exporting_to(&endpoint(&collector), "");
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "tls no_tls"]);
    let hint = format!("the server speaks plain text: set `otlp_endpoint` to `{}`", collector.endpoint());
    assert_eq!(patient.failure().1, hint);
    let http1 = Server::start(|_, _| response("200 OK", ""));
    assert_eq!(Patient::exporting_to(&format!("https://{}", http1.address), "").steps()[2], "tls no_tls");

    let collector = Collector::with_tls(Authority::new().server(2045));
    let patient = Patient::exporting_to(&collector.endpoint(), "");
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "http2 only_tls"]);
    let hint = format!("the server speaks TLS: set `otlp_endpoint` to `{}`", endpoint(&collector));
    assert_eq!(patient.failure().1, hint);
}
