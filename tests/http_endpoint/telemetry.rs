//! What is told of requests: spans, metrics, and traces across workers.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{Serving, yaml};
use crate::support::{
    client::{Client, call, request},
    collector::{Collector, Span, traces},
    worker::Worker,
};

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

fn telemetry(collector: &Collector, rate: f64) -> String {
    format!(
        "telemetry: {{enabled: true, otlp_endpoint: \"{}\", trace_sample_rate: {rate}}}",
        collector.endpoint()
    )
}

fn handled<'a>(spans: &'a [Span], task: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == "task.handle" && span.text("task") == task).collect()
}

const TASKS: &str = r#"
    - http_endpoint: {name: in, endpoint: "/orders/{id}"}
    - script: {name: work, code: 'if event.data.payload == "fail" { throw "no" } #{ok: true}'}
"#;

#[test]
fn the_span_of_a_request_lasts_until_its_answer_and_says_what_the_conventions_want() {
    let collector = Collector::start();
    let serving = Serving::start(&telemetry(&collector, 1.0), "", TASKS);
    let headers = format!("{TRACEPARENT}x-request-id: q-1\r\nauthorization: m4rker\r\n");
    assert_eq!(call(serving.address, "POST /orders/m4rker?key=m4rker", &headers, b"\"m4rker\"").status, 200);
    let failed = call(serving.address, "POST /orders/m4rker", TRACEPARENT, b"\"fail\"");
    assert_eq!((failed.status, failed.json()["trace_id"].as_str()), (500, Some(TRACE_ID)));
    assert_eq!(call(serving.address, "GET /orders/1", "", b"").status, 405);
    assert_eq!(call(serving.address, "POST /orders/1", "traceparent: nonsense\r\n", b"1").status, 200);
    let ended = serving.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let spans = collector.spans();
    assert!(!format!("{spans:?}").contains("m4rker"), "{spans:#?}");
    let sources = handled(&spans, "in");
    assert_eq!(sources.len(), 3, "{spans:#?}");
    let first = sources.iter().find(|span| span["http.request.body.size"] == 8).unwrap();
    assert_eq!(first.kind, SpanKind::Server);
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("url.scheme", json!("http")),
        ("http.route", json!("/orders/{id}")),
        ("network.protocol.version", json!("1.1")),
        ("http.response.status_code", json!(200)),
        ("http.response.body.size", json!(11)),
        ("http.request.header.x-request-id", json!(["q-1"])),
        ("outcome", json!("completed")),
    ] {
        assert_eq!(first[key], value, "{key} of {first:#?}");
    }
    let works = handled(&spans, "work");
    for work in &works {
        let above = sources.iter().find(|span| Some(span.span_id) == work.parent).unwrap();
        assert!(above.start <= work.start && above.end >= work.end, "the answer comes last: {spans:#?}");
    }
    let failed = sources.iter().find(|span| span["http.response.status_code"] == 500).unwrap();
    assert_eq!((&failed["error.type"], &failed["outcome"]), (&json!("500"), &json!("failed")));
    let continued = sources.iter().filter(|span| span.trace_id == TRACE).count();
    assert_eq!(continued, 2, "what is malformed begins a trace of its own");
    let metrics = collector.metrics();
    let of =
        |attributes: &[(&str, &str)]| metrics.histogram_count("http.server.request.duration", attributes);
    let route = ("http.route", "/orders/{id}");
    assert_eq!(of(&[route, ("http.response.status_code", "200")]), 2);
    assert_eq!(of(&[route, ("http.response.status_code", "500"), ("error.type", "500")]), 1);
    assert_eq!((of(&[("http.response.status_code", "405")]), of(&[])), (1, 4));
    assert_eq!(metrics.counter("task.handle.count", &[("task", "in"), ("outcome", "completed")]), 2);
    assert_eq!(metrics.counter("task.handle.errors", &[("task", "in"), ("error.type", "500")]), 1);
    assert_eq!(metrics.counter("flowgen.flow.entered", &[]), 3);
}

/// Scenario: no trace is sampled; one request fails in the flow, one is answered too late and fails then, one succeeds.
/// Guarantee: the traces of the failed ones are exported whole, from the request on, and nothing else is.
#[test]
fn the_trace_of_a_request_that_fails_is_kept_from_its_root_on() {
    let collector = Collector::start();
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work, ack_timeout: 100ms, headers: [x-late]}
    - switch:
        name: which
        cases: [{when: '"x-late" in event.data.headers', to: late}]
        default: now
    - script: {name: now, code: 'if event.data.payload == "fail" { throw "no" } event'}
    - buffer: {name: late, size: 100, timeout: 1h}
    - script: {name: after, code: 'throw "no"'}
"#;
    let serving = Serving::start(&telemetry(&collector, 0.0), "", tasks);
    assert_eq!(call(serving.address, "POST /work", "", b"1").status, 200);
    assert_eq!(call(serving.address, "POST /work", "", b"\"fail\"").status, 500);
    assert_eq!(call(serving.address, "POST /work", "x-late: 1\r\n", b"1").status, 504);
    let ended = serving.stop();
    assert_eq!(ended.drained()["failed"], 2, "{}", ended.stderr);
    let spans: Vec<_> = collector
        .spans()
        .into_iter()
        .filter(|span| span.name == "task.handle" || span.name == "task.flush")
        .collect();
    let mut shapes: Vec<_> = traces(spans)
        .iter()
        .map(|trace| trace.shape(|span| format!("{}:{}", span.text("task"), span.text("error.type"))))
        .collect();
    shapes.sort();
    assert_eq!(shapes, ["in:500(which:(now:script))", "in:timeout(which:(late:(late:(after:script))))"]);
    let roots: Vec<_> = collector
        .spans()
        .into_iter()
        .filter(|span| span.text("task") == "in" && span.name == "task.handle")
        .collect();
    assert!(
        roots.iter().all(|root| root["http.route"] == "/work" && root["flowgen.kept"] == "error"),
        "{roots:#?}"
    );
}

/// Scenario: a worker asks another one, which asks nobody. Guarantee: what both did is one trace, whichever began it.
#[test]
fn a_trace_goes_on_in_the_worker_that_is_asked() {
    let collector = Collector::start();
    let there = Serving::start(&telemetry(&collector, 1.0), "", TASKS);
    let asking = format!(
        r#"
    - http_endpoint: {{name: front, endpoint: /front}}
    - http_request: {{name: ask, method: POST, endpoint: "http://{}/orders/7", payload: {{input: "1"}}}}
"#,
        there.address
    );
    let here = Serving::start(&telemetry(&collector, 1.0), "", &asking);
    assert_eq!(call(here.address, "POST /front", "", b"1").json(), json!({"ok": true}));
    assert_eq!(call(here.address, "POST /front", TRACEPARENT, b"1").status, 200);
    let (here, there) = (here.stop(), there.stop());
    assert_eq!((here.code, there.code), (Some(0), Some(0)), "{} {}", here.stderr, there.stderr);
    let spans: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "task.handle").collect();
    let of_client: Vec<_> =
        spans.iter().filter(|span| span.trace_id == TRACE).map(|span| span.text("task")).collect();
    assert_eq!(of_client.len(), 4, "{of_client:?}");
    let own: Vec<_> = spans.into_iter().filter(|span| span.trace_id != TRACE).collect();
    let shapes: Vec<_> =
        traces(own).iter().map(|trace| trace.shape(|span| span.text("task").to_owned())).collect();
    assert_eq!(shapes, ["front(ask(in(work)))"]);
}

#[test]
fn the_span_of_a_request_whose_client_is_gone_is_cancelled() {
    let collector = Collector::start();
    let tasks = r#"
    - http_endpoint: {name: in, endpoint: /work}
    - log: {name: seen}
    - buffer: {name: wait, size: 100, timeout: 1h}
"#;
    let serving = Serving::started(Worker::start(&yaml(&telemetry(&collector, 1.0), "", tasks), &[]));
    let mut client = Client::connect(serving.address);
    client.send(&request("POST /work", "", b"1"));
    serving.worker.until_logged("\\\"payload\\\":1");
    drop(client);
    let ended = serving.stop();
    assert_eq!(ended.drained()["completed"], 1, "{}", ended.stderr);
    let spans = collector.spans();
    let source = handled(&spans, "in")[0];
    assert_eq!((&source["outcome"], &source["http.route"]), (&json!("cancelled"), &json!("/work")));
    let metrics = collector.metrics();
    assert_eq!(metrics.histogram_count("http.server.request.duration", &[("error.type", "cancelled")]), 1);
}
