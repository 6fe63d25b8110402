//! How exports reach the collector: split, again, with headers, over TLS.

use std::io::Write;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tonic::{
    Code,
    transport::{Identity, ServerTlsConfig},
};

use super::{Observed, export_to, flushed, number, observe, observe_with, start};
use crate::support::{
    collector::{Answer, Collector, LIMIT, Signal},
    worker::{Ended, Worker},
};

const FLOW: &str = "flow: {tasks: [{generate: {name: numbers, count: 10}}, {drop: {name: nowhere}}]}\n";

fn warnings(ended: &Ended) -> Vec<Value> {
    ended.logs().into_iter().filter(|line| line["level"] == "WARN").collect()
}

/// Scenario: one batch of spans and one collection of metrics are both larger than a gRPC server takes by
/// default. Guarantee: they arrive, in calls that are small enough.
#[test]
fn an_export_that_is_too_large_for_a_receiver_is_split() {
    let requests: String = (0..40)
        .map(|n| {
            format!(
                "    - http_request: {{name: call-{n}, endpoint: 'http://localhost:1', depends_on: none}}\n"
            )
        })
        .collect();
    let yaml = format!(
        "flow:
  name: {}
  tasks:
    - generate: {{name: numbers, count: 1500}}
    - drop: {{name: nowhere}}
    - filter: {{name: none, condition: 'false', depends_on: numbers}}
{requests}",
        "n".repeat(2000)
    );
    let observed = observe_with(&yaml, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "1000000")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__DELAY", "1h");
    });
    observed.assert_shapes(&[("numbers(none:filtered nowhere)", 1500)]);
    for signal in [Signal::Traces, Signal::Metrics] {
        let sizes = || observed.calls.iter().filter(|call| call.signal == signal).map(|call| call.size);
        assert!(sizes().sum::<usize>() > LIMIT, "{signal:?} is not long enough to be split");
        assert!(sizes().all(|size| size <= LIMIT), "{signal:?} was sent as a call that is too long");
    }
    assert!(warnings(&observed.ended).is_empty(), "{}", observed.ended.stderr);
}

#[test]
fn what_is_refused_for_a_while_is_sent_again() {
    let collector =
        Collector::scripted(
            |call| if call.number < 2 { Answer::Refuse(Code::Unavailable) } else { Answer::Accept },
        );
    let worker = start(&collector, FLOW, &[]);
    let observed = Observed::of(worker, &collector);
    observed.assert_shapes(&[("numbers(nowhere)", 10)]);
    assert_eq!(observed.ended.code, Some(0));
}

/// Scenario: the collector takes a call but rejects some of it. Guarantee: that is what counts as dropped.
#[test]
fn what_a_collector_rejects_is_dropped() {
    let collector = Collector::scripted(|call| match (call.signal, call.number) {
        (Signal::Traces, 0) => Answer::RejectSome(3),
        (Signal::Metrics, 0) => Answer::RejectSome(2),
        _ => Answer::Accept,
    });
    let worker = start(&collector, FLOW, &[]);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let line = flushed(&ended);
    assert_eq!(number(&line, "spans_dropped"), 3, "{line}");
    assert_eq!(number(&line, "points_dropped"), 2, "{line}");
    assert_eq!(number(&line, "spans_created"), collector.spans().len() as u64, "{line}");
    assert_eq!(number(&line, "points_exported") + 2, collector.metrics().points, "{line}");
}

/// Scenario: the collector says that it rejected more than it got. Guarantee: no number believes it.
#[test]
fn no_more_is_rejected_than_was_sent() {
    let collector = Collector::scripted(|call| match call.signal {
        Signal::Traces => Answer::RejectSome(i64::MAX),
        Signal::Metrics => Answer::Accept,
    });
    let ended = start(&collector, FLOW, &[]).end();
    let line = flushed(&ended);
    assert_eq!(number(&line, "spans_dropped"), number(&line, "spans_created"), "{line}");
    let warnings = ended.logged("the collector rejects a part of the telemetry");
    assert!(!warnings.is_empty(), "{}", ended.stderr);
    let rejected: u64 = warnings.iter().map(|line| number(line, "rejected")).sum();
    assert!((1..=number(&line, "spans_created")).contains(&rejected), "{}", ended.stderr);
}

#[test]
fn every_call_has_the_headers() {
    let yaml =
        format!("telemetry:\n  enabled: true\n  headers: {{x-api-key: m4rker, x-scope: two words}}\n{FLOW}");
    let observed = observe(&yaml, &[]);
    let calls = &observed.calls;
    assert!(calls.iter().any(|call| call.signal == Signal::Traces));
    assert!(calls.iter().any(|call| call.signal == Signal::Metrics));
    for call in calls {
        assert_eq!(call.header("x-api-key"), Some("m4rker"), "{call:?}");
        assert_eq!(call.header("x-scope"), Some("two words"), "{call:?}");
        let agent = call.header("user-agent").unwrap_or_default();
        assert!(agent.contains("flowgen/"), "{call:?}");
    }
    assert!(!observed.ended.stderr.contains("m4rker"), "{}", observed.ended.stderr);
}

/// An authority of the test, and a certificate of it for the collector.
struct Authority {
    certificate: String,
    server: ServerTlsConfig,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let server = params.signed_by(&key, &issuer).unwrap();
        let identity = Identity::from_pem(server.pem(), key.serialize_pem());
        Self { certificate: issuer.pem(), server: ServerTlsConfig::new().identity(identity) }
    }
}

/// Starts a flow that exports to a collector over TLS and trusts this certificate.
fn over_tls(collector: &Collector, certificate: &str, flow: &str) -> Worker {
    let yaml =
        format!("shutdown_timeout: 2s\ntelemetry:\n  enabled: true\n  tls: {{ca_file: ca.pem}}\n{flow}");
    Worker::start_with(&yaml, &[("ca.pem", certificate.as_bytes())], |command| {
        export_to(&format!("https://{}", collector.address), command);
    })
}

#[test]
fn a_collector_is_trusted_by_the_authority_that_was_named() {
    let authority = Authority::new();
    let collector = Collector::with_tls(authority.server.clone());
    let ended = over_tls(&collector, &authority.certificate, FLOW).end();
    let observed = Observed::after(ended, &collector);
    observed.audit();
    observed.assert_shapes(&[("numbers(nowhere)", 10)]);
}

#[test]
fn a_collector_of_another_authority_gets_nothing() {
    let (known, other) = (Authority::new(), Authority::new());
    let collector = Collector::with_tls(other.server);
    let ended = over_tls(&collector, &known.certificate, FLOW).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(collector.calls().len(), 0);
    let line = flushed(&ended);
    assert_eq!((number(&line, "spans_exported"), number(&line, "points_exported")), (0, 0), "{line}");
    let warnings = warnings(&ended);
    assert_eq!(warnings.len(), 1, "{}", ended.stderr);
    assert!(warnings[0].to_string().contains("certificate"), "{}", warnings[0]);
}

/// Scenario: a connection breaks by which calls were answered. Guarantee: nobody suspects a certificate.
#[test]
fn a_collector_that_has_answered_and_is_gone_is_just_gone() {
    let authority = Authority::new();
    let mut collector = Collector::with_tls(authority.server.clone());
    let flow = "flow: {tasks: [{stdin: {name: lines}}, {drop: {name: nowhere}}]}\n";
    let mut worker = over_tls(&collector, &authority.certificate, flow);
    let mut stdin = worker.stdin();
    collector.wait_until(|received| !received.spans().is_empty() && received.metrics().points > 0);
    collector.follow(|_| Answer::Never);
    let calls = collector.calls().len();
    stdin.write_all(b"1\n").unwrap();
    collector.wait_until(|received| received.calls.len() > calls);
    collector.close();
    worker.until_logged("the collector does not take telemetry");
    drop(stdin);
    let ended = worker.end();
    let warnings = warnings(&ended);
    assert_eq!(warnings.len(), 1, "{}", ended.stderr);
    assert_eq!(warnings[0]["error.type"], "connection", "{}", ended.stderr);
    assert!(!warnings[0].to_string().contains("certificate"), "{}", warnings[0]);
}
