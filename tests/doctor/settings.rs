//! The settings that the doctor shows, and what it says of telemetry that is off or cannot be right.

use serde_json::{Value, json};

use super::{CANARY, Patient};
use crate::support::collector::Collector;

/// Where nothing is expected to listen, and nothing is tried.
const NOWHERE: &str = "http://127.0.0.1:9";

fn notes(patient: &Patient) -> Vec<String> {
    let told = patient.examine(&["--output", "json"]);
    let json = told.json();
    assert_eq!((told.code, &json["ok"], &json["endpoints"]), (Some(0), &json!(true), &json!([])), "{json:#}");
    json["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_setting_is_shown_with_its_source_and_without_secrets() {
    let collector = Collector::start();
    let block = "\
telemetry:
  enabled: true
  metrics_export_interval: 30s
  headers:
    x-api-key: c4n4ry
    x-scope: c4n4ry
  keep_traces:
    limit: 50
  trace_attributes:
    order.id: '{{ event.data.id }}'
";
    let told = Patient::new(block)
        .with("FLOWGEN_TELEMETRY__SERVICE_NAME", "orders")
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint().replace("://", "://user:c4n4ry@"))
        .with("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500")
        .with("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=a%0Ab")
        .with("OTEL_TRACES_SAMPLER", "traceidratio")
        .with("OTEL_TRACES_SAMPLER_ARG", "0.25")
        .with("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "2s")
        .with("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")
        .with("OTEL_PROPAGATORS", "tracecontext")
        .examine(&[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    let (settings, _) = told.stdout.split_once("\n\n").unwrap();
    let expected = format!(
        "\
telemetry:
  enabled                  true                      flow.yaml:2
  service_name             orders                    FLOWGEN_TELEMETRY__SERVICE_NAME
  resource_attributes      k8s.pod.name=a b          OTEL_RESOURCE_ATTRIBUTES
  exporter                 otlp                      default
  protocol                 grpc                      default
  otlp_endpoint            {:24}  OTEL_EXPORTER_OTLP_ENDPOINT
  headers                  x-api-key=***             flow.yaml:5
  headers                  x-scope=***               flow.yaml:6
  compression              none                      default
  timeout (traces)         2s 500ms                  OTEL_EXPORTER_OTLP_TRACES_TIMEOUT
  tls.ca_file              none                      default
  tls.cert_file            none                      default
  tls.key_file             none                      default
  tls.server_name          the endpoint's host       default
  timeout (metrics)        10s                       default
  metrics_export_interval  30s                       flow.yaml:3
  trace_sample_rate        0.25                      OTEL_TRACES_SAMPLER_ARG
  parent_based             false                     OTEL_TRACES_SAMPLER
  keep_traces.errors       true                      default
  keep_traces.slower_than  2s                        FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN
  keep_traces.limit        50                        flow.yaml:8
  trace_attributes         order.id={{{{ event.data.id }}}}  flow.yaml:10
  temporality              cumulative                default
  histogram                explicit                  default
  cardinality_limit        none                      default
  span_queue.size          8192                      default
  span_queue.batch         2048                      default
  span_queue.delay         1s                        default
  exemplars                always_on                 OTEL_METRICS_EXEMPLAR_FILTER
  propagators              tracecontext              OTEL_PROPAGATORS",
        collector.endpoint()
    );
    assert_eq!(settings, expected);
}

#[test]
fn telemetry_that_is_off_is_told_with_why_and_what_to_do() {
    let told = Patient::new("telemetry: {enabled: false}").examine(&[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        told.stdout,
        "\
telemetry:
  enabled       false                     flow.yaml:1
  service_name  flowgen                   default
  propagators   tracecontext, baggage     default

telemetry is off, because flow.yaml:1 says so: write `enabled: true` there, or set FLOWGEN_TELEMETRY__ENABLED=true
"
    );
}

#[test]
fn what_switches_telemetry_off_is_named() {
    let on = || Patient::new("telemetry: {enabled: true}");
    for (patient, said) in [
        (Patient::new(""), "because nothing switches it on: write `telemetry: {enabled: true}` into a file"),
        (
            on().with("OTEL_SDK_DISABLED", "true"),
            "because the variable OTEL_SDK_DISABLED says so: unset it, or",
        ),
        (
            on().with("FLOWGEN_TELEMETRY__ENABLED", "false"),
            "because the variable FLOWGEN_TELEMETRY__ENABLED says so: set FLOWGEN_TELEMETRY__ENABLED=true",
        ),
    ] {
        let notes = notes(&patient);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("telemetry is off, ") && notes[0].contains(said), "{notes:?}");
    }
}

#[test]
fn a_signal_that_goes_nowhere_is_told() {
    let collector = Collector::start();
    let patient = Patient::exporting_to(&collector.endpoint(), "").with("OTEL_METRICS_EXPORTER", "none");
    let told = patient.examine(&["--output", "json"]).json();
    let note = "metrics are not exported, because the variable OTEL_METRICS_EXPORTER says so: unset it, or set it \
                to `otlp`";
    assert_eq!((&told["notes"], &told["endpoints"][0]["signals"]), (&json!([note]), &json!(["traces"])));
    let neither = Patient::exporting_to(NOWHERE, "")
        .with("OTEL_METRICS_EXPORTER", "none")
        .with("OTEL_TRACES_EXPORTER", "none");
    assert_eq!(notes(&neither).len(), 2);
}

#[test]
fn a_configuration_that_is_wrong_is_reported_as_by_validate() {
    let patient = Patient::new("telemetry: {enabled: true, otlp_endpoint: \"http://x:4318\"}");
    let told = patient.examine(&[]);
    assert_eq!((told.code, told.stdout.as_str()), (Some(2), ""));
    assert!(told.stderr.starts_with("error: port 4318 is OTLP/HTTP"), "{}", told.stderr);
    let told = patient.examine(&["--output", "json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(2), ""));
    let json = told.json();
    let problem = &json["problems"][0];
    assert_eq!((&json["ok"], &problem["path"]), (&json!(false), &json!("telemetry.otlp_endpoint")));
    assert_eq!(problem["line"], 1);
}

#[test]
fn warnings_go_where_those_of_validate_go() {
    let patient = Patient::new("telemetry: {service_name: orders}");
    let told = patient.examine(&[]);
    assert_eq!(told.code, Some(0));
    assert!(told.stderr.starts_with("warning: telemetry is off"), "{}", told.stderr);
    let told = patient.examine(&["--output", "json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    assert_eq!(told.json()["warnings"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_key_that_is_another_certificates_is_refused_as_by_run() {
    let key = || rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["flowgen".into()]).unwrap().self_signed(&key()).unwrap();
    let tls = ", tls: {cert_file: own.pem, key_file: own.key}";
    let patient = Patient::exporting_to("https://127.0.0.1:9", tls)
        .file("own.pem", &own.pem())
        .file("own.key", &key().serialize_pem());
    let told = patient.examine(&[]);
    assert_eq!(told.code, Some(2));
    let expected = "error: the key is that of another certificate\n --> flow.yaml:";
    assert!(told.stderr.starts_with(expected), "{}", told.stderr);
    assert!(told.stderr.contains("(telemetry.tls.key_file)"), "{}", told.stderr);
    assert!(told.stderr.contains("hint: `cert_file` and `key_file` belong together"), "{}", told.stderr);
    let told = patient.examine(&["--output", "json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(2), ""));
    let message = told.json()["problems"][0]["message"].as_str().map(str::to_owned).unwrap();
    assert_eq!(message, "the key is that of another certificate");
}

#[test]
fn the_settings_may_stand_in_a_file_of_their_own() {
    let patient = Patient::new("").file("worker.yaml", "telemetry:\n  enabled: false\n");
    let told = patient.examine(&["--config", "worker.yaml", "--output", "json"]).json();
    assert_eq!(told["settings"][0]["source"], "worker.yaml:2");
}

/// Scenario: secrets stand everywhere where they may. Guarantee: `examine` finds none in what is told, and the
/// headers reach the collector nevertheless.
#[test]
fn a_secret_reaches_the_collector_and_nobody_else() {
    let collector = Collector::start();
    let endpoint = collector.endpoint().replace("://", &format!("://{CANARY}:{CANARY}@"));
    let patient = Patient::exporting_to(&endpoint, "")
        .with("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{CANARY}"));
    for arguments in [&[][..], &["--output", "json"]] {
        assert_eq!(patient.examine(arguments).code, Some(0));
    }
    let calls = collector.calls();
    assert_eq!(calls.len(), 8);
    assert!(calls.iter().all(|call| call.header("authorization") == Some("Bearer c4n4ry")));
    let told = patient.examine(&["--output", "json"]).json();
    let rows = told["settings"].as_array().unwrap();
    let shown: Vec<&Value> =
        rows.iter().filter(|row| row["key"] == "headers").map(|row| &row["value"]).collect();
    assert_eq!(shown, ["authorization=***"]);
}
