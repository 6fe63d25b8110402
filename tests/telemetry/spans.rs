//! What one span says: whose it is, what became of the event, and how long it waited.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{Observed, observe, start_with};
use crate::support::{
    collector::{Collector, Span},
    http::{self, Server},
};

/// What every span of an event has.
const OF_A_SOURCE: [&str; 6] = ["flow", "task", "task_id", "task_type", "flowgen.event.id", "outcome"];
const OF_A_TASK: [&str; 7] =
    ["flow", "task", "task_id", "task_type", "flowgen.event.id", "outcome", "flowgen.queue.duration"];

fn only<'a>(observed: &'a Observed, task: &str) -> &'a Span {
    let spans = observed.handled(task);
    assert_eq!(spans.len(), 1, "{spans:#?}");
    spans[0]
}

fn names(span: &Span) -> BTreeSet<&str> {
    span.attributes.keys().map(String::as_str).collect()
}

fn identity(span: &Span) -> [&Value; 6] {
    ["flow", "task", "task_id", "task_type", "flowgen.event.id", "outcome"].map(|name| &span[name])
}

#[test]
fn a_span_says_whose_it_is_and_nothing_that_it_was_not_asked_for() {
    let yaml = "
flow:
  name: orders
  tasks:
    - generate: {name: numbers, count: 1, payload: {items: [{secret: m4rker}]}}
    - iterate: {name: items, iterate_key: items}
    - filter: {name: all, condition: 'event.data.secret == \"m4rker\"'}
    - script: {name: same, code: event}
    - drop: {name: nowhere}
";
    let observed = observe(yaml, &[]);
    let source = only(&observed, "numbers");
    assert_eq!(names(source), OF_A_SOURCE.into());
    assert_eq!(
        identity(source),
        [
            &json!("orders"),
            &json!("numbers"),
            &json!(0),
            &json!("generate"),
            &json!("0"),
            &json!("completed")
        ]
    );
    for (task, task_id, task_type, event_id) in [
        ("items", 1, "iterate", "0"),
        ("all", 2, "filter", "0-0"),
        ("same", 3, "script", "0-0"),
        ("nowhere", 4, "drop", "0-0"),
    ] {
        let span = only(&observed, task);
        assert_eq!(names(span), OF_A_TASK.into(), "{task}");
        let expected = [
            json!("orders"),
            json!(task),
            json!(task_id),
            json!(task_type),
            json!(event_id),
            json!("completed"),
        ];
        assert_eq!(identity(span), expected.each_ref());
        assert!(span["flowgen.queue.duration"].is_f64(), "{span:?}");
        assert!(span.links.is_empty(), "{span:?}");
    }
    observed.assert_shapes(&[("numbers(items(all(same(nowhere))))", 1)]);
    let all = format!("{:?} {:?}", observed.spans, observed.metrics);
    assert!(!all.contains("m4rker"), "a payload is in the telemetry");
}

#[test]
fn the_resource_says_which_worker_it_was() {
    let yaml = "
telemetry:
  enabled: true
  service_name: checkout
  resource_attributes: {deployment.environment.name: prod}
flow: {tasks: [{generate: {name: numbers, count: 1}}, {drop: {name: nowhere}}]}
";
    let (first, second) = (observe(yaml, &[]), observe(yaml, &[]));
    let resource = |observed: &Observed| Arc::clone(&only(observed, "numbers").resource);
    let of = |name: &str| resource(&first).get(name).cloned().unwrap_or_default();
    assert_eq!(of("service.name"), "checkout");
    assert_eq!(of("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(of("deployment.environment.name"), "prod");
    for name in ["host.name", "telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"] {
        assert!(of(name).as_str().is_some_and(|value| !value.is_empty()), "{name}: {:?}", resource(&first));
    }
    let instance = of("service.instance.id");
    assert!(instance.as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()), "{instance}");
    assert_ne!(instance, resource(&second)["service.instance.id"], "two workers are one instance");
    let scope = &only(&first, "numbers").scope;
    assert_eq!((&*scope.0, &*scope.1), ("flowgen", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_request_names_what_was_called_but_not_what_was_said() {
    let server = Server::start(|_, _| http::json("m4rker"));
    let yaml = format!(
        "flow:
  name: calls
  tasks:
    - generate: {{name: numbers, count: 1}}
    - http_request:
        name: call
        endpoint: http://user:m4rker@{}/orders/7?key=m4rker
        method: PUT
        headers: {{x-key: m4rker}}
        payload: {{object: {{key: m4rker}}}}
    - drop: {{name: nowhere}}
",
        server.address
    );
    let observed = observe(&yaml, &[]);
    let call = only(&observed, "call");
    assert_eq!(call["http.request.method"], "PUT");
    assert_eq!(call["http.response.status_code"], 200);
    assert_eq!(call["server.address"], "127.0.0.1");
    assert_eq!(call["server.port"], server.address.port());
    assert_eq!(call["url.scheme"], "http");
    let all = format!("{:?} {:?}", observed.spans, observed.metrics);
    assert!(!all.contains("m4rker"), "a secret is in the telemetry");
}

/// Scenario: an event is handled by a task that calls a server. Guarantee: the server is told which span it
/// works for, and the collector has that span.
#[test]
fn a_server_is_told_the_span_that_calls_it() {
    let server = Server::start(|_, _| http::json(1));
    let yaml = format!(
        "flow: {{tasks: [{{generate: {{name: numbers, count: 5}}}}, {{http_request: {{name: call, endpoint: 'http://{}'}}}}]}}",
        server.address
    );
    let observed = observe(&yaml, &[]);
    let told: BTreeSet<String> =
        server.requests().iter().map(|request| request.header("traceparent").unwrap().to_owned()).collect();
    let calls = observed.handled("call");
    let expected =
        calls.iter().map(|span| format!("00-{:032x}-{:016x}-01", span.trace_id, span.span_id)).collect();
    assert_eq!(told, expected);
    assert_eq!(told.len(), 5);
}

/// Scenario: metrics are exported and traces are not. Guarantee: no server is told that it must not trace, and every
/// event is counted all the same.
#[test]
fn without_traces_no_server_is_told_anything() {
    let server = Server::start(|_, _| http::json(1));
    let yaml = format!(
        "flow: {{tasks: [{{generate: {{name: numbers, count: 5}}}}, {{http_request: {{name: call, endpoint: 'http://{}'}}}}]}}",
        server.address
    );
    let collector = Collector::start();
    let worker = start_with(&collector, &yaml, &[], |command| {
        command.env("OTEL_TRACES_EXPORTER", "none");
    });
    let observed = Observed::after(worker.end(), &collector);
    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.header("traceparent").is_none()));
    assert!(observed.spans.is_empty());
    assert_eq!(observed.count("call", "completed"), 5);
}

/// Scenario: events leave in batches. Guarantee: each is accounted for by the one flush that it left with, as
/// the parent, as a link, or by number where there is no room for more links.
#[test]
fn a_flush_names_the_events_that_left_with_it() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 1000, payload: {text: hello}}
    - stdout: {name: out}
";
    let observed = observe(yaml, &[]);
    let handled: BTreeSet<(u128, u64)> =
        observed.handled("out").iter().map(|span| (span.trace_id, span.span_id)).collect();
    assert_eq!(handled.len(), 1000);
    let mut linked = BTreeSet::new();
    let mut flushed = 0;
    for flush in observed.spans_named("task.flush") {
        let parent = (flush.trace_id, flush.parent.unwrap());
        assert!(
            flush.links.len() == 128 || (flush.links.len() < 128 && flush.dropped_links == 0),
            "{flush:?}"
        );
        for event in flush.links.iter().chain([&parent]) {
            assert!(handled.contains(event), "{flush:?}");
            assert!(linked.insert(*event), "an event left twice: {flush:?}");
        }
        flushed += 1 + flush.links.len() + flush.dropped_links as usize;
    }
    assert_eq!(flushed, 1000);
}
