//! The settings of telemetry as the binary resolves them: what it logs, what it warns of and what it refuses.

use std::process::Output;

use serde_json::Value;

use crate::support::flowgen;

const FLOW: &str = "flow:\n  tasks:\n    - generate: {count: 1}\n    - drop:\n";

/// Nothing is exported, so that no test needs a collector.
const NO_EXPORT: [(&str, &str); 2] = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];

fn flowgen_with(command: &str, block: &str, variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.yaml"), format!("{block}\n{FLOW}")).unwrap();
    flowgen(folder.path()).args([command, "flow.yaml"]).envs(variables.iter().copied()).output().unwrap()
}

/// Returns the log lines of a run that went well.
fn logs(block: &str, variables: &[(&str, &str)]) -> Vec<Value> {
    let output = flowgen_with("run", block, variables);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the lines about settings, as `key value source`.
fn settings(logs: &[Value]) -> Vec<String> {
    let told = logs.iter().filter(|line| line["message"] == "telemetry setting from a variable");
    told.map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        assert_eq!(line["level"], "INFO");
        format!("{} {} {} {}", text("signal"), text("key"), text("value"), text("source"))
    })
    .collect()
}

#[test]
fn what_came_from_a_variable_is_logged_once() {
    let variables = [
        ("FLOWGEN_TELEMETRY__SERVICE_NAME", "orders"),
        ("OTEL_SERVICE_NAME", "ambient"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_METRIC_EXPORT_INTERVAL", ""),
    ];
    let block = "telemetry: {enabled: true, trace_sample_rate: 0.25}";
    let logs = logs(block, &[&variables[..], &NO_EXPORT].concat());
    assert_eq!(
        settings(&logs),
        [
            "- service_name orders FLOWGEN_TELEMETRY__SERVICE_NAME",
            "traces exporter none OTEL_TRACES_EXPORTER",
            "metrics exporter none OTEL_METRICS_EXPORTER",
        ]
    );
    assert!(logs.iter().all(|line| line["service"] == "orders"));
}

#[test]
fn the_switch_of_the_sdk_is_logged_and_the_service_keeps_its_name() {
    let variables = [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "x:4318"),
    ];
    let logs = logs("telemetry: {enabled: true}", &variables);
    let expected = [
        "- enabled false OTEL_SDK_DISABLED",
        "- service_name orders OTEL_SERVICE_NAME",
        "- propagators none OTEL_PROPAGATORS",
    ];
    assert_eq!(settings(&logs), expected);
    assert!(logs.iter().all(|line| line["service"] == "orders"));
}

#[test]
fn variables_of_opentelemetry_alone_change_nothing() {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://hunter2:4318"), ("OTEL_SERVICE_NAME", "x")];
    for block in ["", "telemetry: {enabled: false}"] {
        let logs = logs(block, &variables);
        assert_eq!(settings(&logs), Vec::<String>::new());
        assert!(logs.iter().all(|line| line["service"] == "flowgen"));
    }
}

/// Scenario: a program reads the log of a run. Guarantee: a warning of the load is one of its lines.
#[test]
fn a_warning_is_a_log_line_where_lines_are_json() {
    let logs = logs("telemetry: {enabled: true}", &[&[("OTEL_PROPAGATORS", "b3")][..], &NO_EXPORT].concat());
    let warnings: Vec<_> = logs.iter().filter(|line| line["level"] == "WARN").collect();
    let [warning] = &warnings[..] else { panic!("{logs:?}") };
    assert_eq!(warning["source"], "OTEL_PROPAGATORS");
    assert!(warning["message"].as_str().is_some_and(|text| text.starts_with("ignored: ")), "{warning}");
    assert!(warning["hint"].is_string(), "{warning}");
}

#[test]
fn a_variable_that_cannot_be_used_is_one_warning_and_no_refusal() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let output = flowgen_with("validate", "telemetry: {enabled: true}", &variables);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "\
warning: ignored: `http/protobuf` is not spoken: flowgen speaks OTLP/gRPC only
  --> the variable OTEL_EXPORTER_OTLP_PROTOCOL (telemetry.protocol)
hint: instead `protocol` is `grpc` (default)

warning: ignored: port 4318 is OTLP/HTTP, which flowgen does not speak
  --> the variable OTEL_EXPORTER_OTLP_ENDPOINT (telemetry.otlp_endpoint)
hint: use OTLP/gRPC, port 4317; instead `otlp_endpoint` is `http://localhost:4317` (default)

"
    );
}
