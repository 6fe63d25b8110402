//! A Collector that takes clients of one authority only (mTLS), with a token in a header, and calls that are compressed.

use std::fs;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    authority::Authority,
    collector::{self, Collector},
    flowgen,
    otlp::Received,
    process::{Ended, Process},
};

const FLOW: &str = r#"
shutdown_timeout: 10s
telemetry:
  enabled: true
  compression: gzip
  headers: {authorization: "Bearer let-me-in"}
  tls: {ca_file: authority.pem}
flow:
  name: orders
  tasks:
    - generate: {name: numbers, count: 200}
    - drop: {name: nowhere}
"#;

/// Returns the configuration that asks for a token, and for a certificate of the authority of `clients`.
fn locked(folder: &TempDir) -> String {
    let path = |name: &str| folder.path().join(name).display().to_string();
    collector::asks_for_a_token(&format!(
        "cert_file: {}, key_file: {}, client_ca_file: {}",
        path("collector.pem"),
        path("collector.key"),
        path("clients.pem")
    ))
}

/// Whose certificate the worker shows.
enum Shown {
    /// None.
    Nobodys,
    /// One of the authority that the Collector asks for.
    Ours,
    /// One of another authority.
    Strangers,
}

/// Runs the flow against the Collector.
fn run(shown: &Shown) -> (Ended, Received) {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    servers.write(&folder.path().join("authority.pem"));
    clients.write(&folder.path().join("clients.pem"));
    servers.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, folder.path(), "collector");
    let issuer = match shown {
        Shown::Nobodys => None,
        Shown::Ours => Some(clients),
        Shown::Strangers => Some(strangers),
    };
    let mut flow = FLOW.to_owned();
    if let Some(issuer) = issuer {
        issuer.issue("worker", ExtendedKeyUsagePurpose::ClientAuth, folder.path(), "worker");
        flow = flow.replace("authority.pem", "authority.pem, cert_file: worker.pem, key_file: worker.key");
    }
    fs::write(folder.path().join("flow.yaml"), flow).unwrap();
    let collector = Collector::start_with(&locked(&folder));
    let mut command = flowgen(&["run", "flow.yaml"]);
    command
        .current_dir(folder.path())
        .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", format!("https://127.0.0.1:{}", collector.port));
    let ended = Process::start(&mut command).end();
    assert_eq!(ended.code, Some(0), "telemetry does not change it: {}", ended.stderr);
    assert_eq!(ended.only("flow drained")["completed"], 200);
    (ended, collector.stop())
}

#[test]
fn a_client_with_a_certificate_delivers_everything() {
    let (ended, received) = run(&Shown::Ours);
    received.assert_whole_traces();
    assert_eq!((received.handled_by("numbers").len(), received.handled_by("nowhere").len()), (200, 200));
    let handled = received.total("task.handle.count", &[("task", "nowhere"), ("outcome", "completed")]);
    assert_eq!(handled.to_bits(), 200_f64.to_bits());
    let flushed = ended.only("telemetry flushed");
    assert_eq!(flushed["spans_exported"], received.spans.len());
    assert_eq!(flushed["points_exported"], received.points.len());
    assert!(ended.lines().all(|line| line["level"] != "WARN"), "{}", ended.stderr);
}

#[test]
fn a_client_without_the_right_certificate_is_told_so_once() {
    for (shown, advice) in [
        (
            Shown::Nobodys,
            "the collector may want a client certificate: set `tls.cert_file` and `tls.key_file`",
        ),
        (
            Shown::Strangers,
            "the collector may not trust the client certificate `./worker.pem` (`tls.cert_file`)",
        ),
    ] {
        let (ended, received) = run(&shown);
        assert!(received.spans.is_empty() && received.points.is_empty());
        let flushed = ended.only("telemetry flushed");
        assert_eq!(flushed["spans_dropped"], flushed["spans_created"]);
        assert_eq!((&flushed["spans_exported"], &flushed["points_exported"]), (&json!(0), &json!(0)));
        let warnings: Vec<_> = ended.lines().filter(|line| line["level"] == "WARN").collect();
        assert_eq!(warnings.len(), 1, "{}", ended.stderr);
        assert_eq!(warnings[0]["error.type"], "tls", "{}", ended.stderr);
        let message = warnings[0]["error.message"].as_str().unwrap();
        assert!(message.ends_with(advice), "{message}");
    }
}
