//! `flowgen doctor` as a process: the settings it shows, the steps it takes, and what it says of each failure.

mod failures;
mod settings;
mod tls;

use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    collector::{Answer, Collector, Signal},
    flowgen,
};

const FLOW: &str = "flow:\n  tasks:\n    - generate: {count: 1}\n    - drop:\n";

/// What is set everywhere as a secret, and must be shown nowhere.
const CANARY: &str = "c4n4ry";

/// A flow whose telemetry is to be examined, in a folder of its own.
struct Patient {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What the doctor said.
struct Told {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{} {}", self.stdout, self.stderr))
    }

    /// Returns the text without what differs from run to run.
    fn text(&self) -> String {
        let text = Regex::new(r" +\d+ ms").unwrap().replace_all(&self.stdout, " N ms");
        Regex::new("[0-9a-f]{32}").unwrap().replace_all(&text, "ID").into_owned()
    }

    /// Returns the part of the text that is about endpoints, without what differs.
    fn endpoints(&self) -> String {
        let text = self.text();
        text[text.find("\nhttp").unwrap_or(0)..].trim_start().to_owned()
    }
}

impl Patient {
    /// Makes a flow in a file that starts with `block`.
    fn new(block: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("flow.yaml"), format!("{block}\n{FLOW}")).unwrap();
        Self { folder, variables: Vec::new() }
    }

    /// Makes one whose telemetry is on and goes to `endpoint`; `more` are further keys, in braces' notation.
    fn exporting_to(endpoint: &str, more: &str) -> Self {
        Self::new(&format!("telemetry: {{enabled: true, otlp_endpoint: \"{endpoint}\"{more}}}"))
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = flowgen(self.folder.path());
        // Where the tests run is no matter of theirs.
        command.env_remove("KUBERNETES_SERVICE_HOST");
        command.envs(self.variables.clone()).arg("doctor").args(arguments).arg("flow.yaml");
        command
    }

    /// Examines it, and checks that no secret is told.
    fn examine(&self, arguments: &[&str]) -> Told {
        let output = self.command(arguments).output().unwrap();
        let told = Told {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!told.stdout.contains(CANARY) && !told.stderr.contains(CANARY), "{}", told.stdout);
        told
    }

    /// Examines it, and returns the steps to its only endpoint as `name signal error`.
    fn steps(&self) -> Vec<String> {
        let told = self.examine(&["--output", "json"]);
        let json = told.json();
        let endpoints = json["endpoints"].as_array().unwrap();
        assert_eq!(endpoints.len(), 1, "{json:#}");
        let steps: Vec<_> = endpoints[0]["steps"].as_array().unwrap().iter().map(short).collect();
        let is_ok = steps.iter().all(|step| step.ends_with(" ok"));
        assert_eq!(told.code, Some(i32::from(!is_ok)), "{json:#}");
        assert_eq!((&json["ok"], &endpoints[0]["ok"]), (&json!(is_ok), &json!(is_ok)), "{json:#}");
        steps
    }

    /// Examines it, and returns the detail and the hint of its only step that failed.
    fn failure(&self) -> (String, String) {
        let json = self.examine(&["--output", "json"]).json();
        let endpoints = json["endpoints"].as_array().unwrap().iter();
        let steps = endpoints.flat_map(|endpoint| endpoint["steps"].as_array().unwrap());
        let failed: Vec<_> = steps.filter(|step| step["ok"] == false).collect();
        assert_eq!(failed.len(), 1, "{json:#}");
        let text = |key: &str| failed[0][key].as_str().unwrap().to_owned();
        (text("detail"), text("hint"))
    }
}

/// Returns a step as `name signal error`.
fn short(step: &Value) -> String {
    let signal = step["signal"].as_str().map_or_else(String::new, |signal| format!(" {signal}"));
    assert_eq!(step["ok"] == true, step["error"].is_null() && step["hint"].is_null(), "{step:#}");
    format!("{}{signal} {}", step["step"].as_str().unwrap(), step["error"].as_str().unwrap_or("ok"))
}

const HEALTHY: [&str; 9] = [
    "dns ok",
    "tcp ok",
    "http2 ok",
    "grpc traces ok",
    "auth traces ok",
    "span traces ok",
    "grpc metrics ok",
    "auth metrics ok",
    "metric metrics ok",
];

#[test]
fn a_collector_that_takes_everything_is_told_step_by_step() {
    let collector = Collector::start();
    let more = ", headers: {x-api-key: c4n4ry}, resource_attributes: {deployment.environment.name: test}";
    let endpoint = collector.endpoint().replace("://", "://user:c4n4ry@");
    let told = Patient::exporting_to(&endpoint, more).examine(&[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "\
{endpoint} (traces, metrics):
  dns               ok N ms  127.0.0.1
  tcp               ok N ms  connected to {address}
  http2             ok N ms  the server speaks HTTP/2
  grpc (traces)     ok N ms  the service that takes traces answers
  auth (traces)     ok N ms  not refused with the headers x-api-key
  span (traces)     ok N ms  the probe span was taken
  grpc (metrics)    ok N ms  the service that takes metrics answers
  auth (metrics)    ok N ms  not refused with the headers x-api-key
  metric (metrics)  ok N ms  the probe metric was taken

ok: everything that was sent was taken
look for the span `flowgen.doctor` of `flowgen`: its trace is ID
look for the metric `flowgen.doctor.probe` of `flowgen`
",
        endpoint = collector.endpoint(),
        address = collector.address,
    );
    assert_eq!(told.endpoints(), expected);
}

#[test]
fn the_collector_holds_what_the_doctor_says_to_look_for() {
    let collector = Collector::start();
    let patient = Patient::exporting_to(&collector.endpoint(), ", service_name: orders, compression: gzip");
    let told = patient.examine(&["--output", "json"]).json();
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].name.as_str(), spans[0].parent), ("flowgen.doctor", None));
    assert_eq!(format!("{:032x}", spans[0].trace_id), told["trace_id"].as_str().unwrap());
    assert_eq!((spans[0].trace_flags, &spans[0].resource["service.name"]), (1, &json!("orders")));
    let received = format!("{:?}", collector.received());
    assert_eq!(received.matches("\"flowgen.doctor.probe\"").count(), 1, "{received}");
}

#[test]
fn two_signals_that_go_two_ways_are_examined_apart() {
    let traces = Collector::start();
    let metrics = Collector::scripted(|_| Answer::Refuse(tonic::Code::Unavailable));
    let patient = Patient::new("telemetry: {enabled: true}")
        .with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.endpoint())
        .with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics.endpoint());
    let told = patient.examine(&["--output", "json"]);
    assert_eq!(told.code, Some(1));
    let json = told.json();
    let endpoints: Vec<_> = json["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let steps: Vec<_> = one["steps"].as_array().unwrap().iter().map(short).collect();
            (one["endpoint"].as_str().unwrap().to_owned(), one["signals"].clone(), steps)
        })
        .collect();
    let steps = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        endpoints,
        [
            (traces.endpoint(), json!(["traces"]), steps(&HEALTHY[..6])),
            (
                metrics.endpoint(),
                json!(["metrics"]),
                steps(&["dns ok", "tcp ok", "http2 ok", "grpc metrics unavailable"])
            ),
        ]
    );
    assert!(json["trace_id"].is_string());
    assert!(traces.calls().iter().all(|call| call.signal == Signal::Traces));
    let rows: Vec<_> = json["settings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["key"] == "otlp_endpoint")
        .map(|row| (row["signal"].clone(), row["value"].clone(), row["source"].clone()))
        .collect();
    let row = |signal: &str, endpoint: String| {
        let variable = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.to_uppercase());
        (json!(signal), json!(endpoint), json!(variable))
    };
    assert_eq!(rows, [row("traces", traces.endpoint()), row("metrics", metrics.endpoint())]);
}

#[test]
fn json_has_the_shape_that_is_documented() {
    let collector = Collector::scripted(|call| match call.signal {
        Signal::Traces => Answer::Accept,
        Signal::Metrics => Answer::Refuse(tonic::Code::Unimplemented),
    });
    let told = Patient::exporting_to(&collector.endpoint(), "").examine(&["--output", "json"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(1), ""));
    let mut json = told.json();
    let id = json["trace_id"].take();
    assert!(
        id.as_str().is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())),
        "{id}"
    );
    assert_eq!(
        json["settings"][0],
        json!({"key": "enabled", "signal": null, "value": "true", "source": "flow.yaml:1"})
    );
    let rows = json["settings"].take();
    assert_eq!(rows.as_array().unwrap().len(), 28, "{rows:#}");
    for step in json["endpoints"][0]["steps"].as_array_mut().unwrap() {
        assert!(step["seconds"].take().is_f64());
    }
    let ok = |step: &str, signal: Value, detail: &str| json!({"step": step, "signal": signal, "ok": true, "seconds": null, "detail": detail, "error": null, "hint": null});
    let steps = json!([
        ok("dns", Value::Null, "127.0.0.1"),
        ok("tcp", Value::Null, &format!("connected to {}", collector.address)),
        ok("http2", Value::Null, "the server speaks HTTP/2"),
        ok("grpc", json!("traces"), "the service that takes traces answers"),
        ok("auth", json!("traces"), "no headers are set, and none were asked for"),
        ok("span", json!("traces"), "the probe span was taken"),
        {
            "step": "grpc",
            "signal": "metrics",
            "ok": false,
            "seconds": null,
            "detail": "UNIMPLEMENTED: as the test wants it",
            "error": "unimplemented",
            "hint": "this is no receiver of OTLP, or it takes no metrics: add the `otlp` receiver to a pipeline of \
                     metrics in the collector's configuration",
        },
    ]);
    assert_eq!(
        json,
        json!({
            "ok": false,
            "enabled": true,
            "settings": null,
            "notes": [],
            "endpoints": [{
                "endpoint": collector.endpoint(),
                "signals": ["traces", "metrics"],
                "ok": false,
                "steps": steps,
            }],
            "trace_id": null,
            "problems": [],
            "warnings": [],
        })
    );
}
