//! The files that a task reads when it is built: when what they hold changes, a reload builds it anew.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::{APPLIED, REFUSED, UNCHANGED, reload, start, told};

/// Scenario: a flow has files with credentials, certificates and keys, and another flow has none; one file after the other
/// is written anew. Guarantee: what holds the same changes nothing, what holds something else restarts its flow alone.
#[test]
fn each_file_of_a_task_is_a_part_of_its_flow() {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certified =
        |key: &KeyPair| CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(key).unwrap().pem();
    let flow = "
http_server: {address: \"127.0.0.1:0\"}
flows:
  - name: other
    tasks: [{generate: {name: in, interval: 1h}}, {drop: {name: out}}]
  - name: api
    tasks:
      - http_endpoint: {name: in, endpoint: /work, auth: {jwt: {keys: [{algorithm: ES256, public_key_file: jwt.pem}]}}}
      - http_request:
          name: out
          endpoint: http://127.0.0.1:1/
          credentials_path: ../secret.json
          tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}
";
    let own = key();
    let (ca, cert, own_key, jwt) =
        (certified(&key()), certified(&own), own.serialize_pem(), key().public_key_pem());
    let token = |token: &str| json!({"bearer_auth": token}).to_string();
    let worker = start(&[
        ("flows/a.yaml", flow),
        ("secret.json", &token("one")),
        ("flows/ca.pem", &ca),
        ("flows/cert.pem", &cert),
        ("flows/key.pem", &own_key),
        ("flows/jwt.pem", &jwt),
    ]);
    let mut generation = 1;
    // Another certificate of the same key, and the same key written in another way.
    let (again, spaced) = (certified(&own), format!("\n{own_key}"));
    for (name, same, other) in [
        ("secret.json", token("one"), token("two")),
        ("flows/ca.pem", ca, certified(&key())),
        ("flows/cert.pem", cert, again),
        ("flows/key.pem", own_key, spaced),
        ("flows/jwt.pem", jwt, key().public_key_pem()),
    ] {
        assert_eq!(told(&reload(&worker, &[(name, &same)])), (UNCHANGED, generation), "{name}");
        let line = reload(&worker, &[(name, &other)]);
        generation += 1;
        assert_eq!((told(&line), &line["restarted"]), ((APPLIED, generation), &"api".into()), "{name}");
    }
    assert_eq!(told(&reload(&worker, &[("secret.json", "{")])), (REFUSED, generation));
}
