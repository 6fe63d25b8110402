//! What hosted backends ask for: TLS with a private root, a token in a header, and gzip.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::{
    collector::{self, Collector},
    flowgen,
    otlp::Received,
    process::{Ended, Process},
};

/// Twenty events, of which each fifth fails for good.
const FLOW: &str = r#"
telemetry:
  enabled: true
  compression: gzip
  headers: {authorization: "Bearer ${TOKEN}"}
  tls: {ca_file: certificate.pem}
  resource_attributes: {deployment.environment.name: test}
flow:
  name: orders
  tasks:
    - generate: {name: numbers, count: 20}
    - script: {name: check, code: 'if parse_int(event.id) % 5 == 0 { throw "no such order" } event'}
"#;

/// Runs the flow against a Collector that takes the token `let-me-in` only.
fn run(token: &str) -> (Ended, Received) {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start_with(&locked(&folder));
    fs::write(folder.path().join("flow.yaml"), FLOW).unwrap();
    let mut command = flowgen(&["run", "flow.yaml"]);
    command
        .current_dir(folder.path())
        .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", format!("https://127.0.0.1:{}", collector.port))
        .env("TOKEN", token);
    let ended = Process::start(&mut command).end();
    assert_eq!(ended.code, Some(3), "telemetry does not change it: {}", ended.stderr);
    assert!(!ended.stderr.contains(token), "{}", ended.stderr);
    (ended, collector.stop())
}

/// Returns the configuration that asks for TLS and a token, after making the certificate.
fn locked(folder: &TempDir) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    collector::asks_for_a_token(&format!(
        "cert_file: {}, key_file: {}",
        path("certificate.pem"),
        path("key.pem")
    ))
}

#[test]
fn with_the_right_token_everything_arrives_failures_too() {
    let (ended, received) = run("let-me-in");
    received.assert_whole_traces();
    assert_eq!(received.handled_by("numbers").len(), 20);
    let (failed, passed): (Vec<_>, Vec<_>) =
        received.handled_by("check").into_iter().partition(|span| span.status == 2);
    assert_eq!((failed.len(), passed.len()), (4, 16));
    for span in &failed {
        assert_eq!(span.attributes["outcome"], "failed");
        assert_eq!(span.attributes["error.type"], "script");
    }
    assert_eq!(failed[0].resource["deployment.environment.name"], "test");
    let errors = received.total("task.handle.errors", &[("task", "check"), ("error.type", "script")]);
    assert_eq!(errors.to_bits(), 4_f64.to_bits());
    assert_eq!(ended.only("telemetry flushed")["spans_dropped"], 0);
}

#[test]
fn with_a_wrong_token_the_flow_runs_and_says_what_was_dropped() {
    let (ended, received) = run("wrong-one");
    assert!(received.spans.is_empty() && received.points.is_empty());
    assert_eq!(ended.only("flow drained")["failed"], 4);
    let flushed = ended.only("telemetry flushed");
    assert_eq!(flushed["spans_dropped"], flushed["spans_created"]);
    assert_eq!((&flushed["spans_exported"], &flushed["points_exported"]), (&json!(0), &json!(0)));
    assert_ne!(flushed["points_dropped"], 0);
    let mut warnings = ended.lines().filter(|line| line["error.type"] == "unauthenticated");
    let warning = warnings.next().unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(warning["endpoint"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{warning}");
}
