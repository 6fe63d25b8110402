//! The instruments that users rely on, held against those that there are and against what `docs/telemetry.md` says.
//!
//! A change of this table breaks dashboards and alerts.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use flowgen::telemetry::instruments::{self, Instrument};

/// Set, the documentation is written instead of compared.
const WRITE: &str = "FLOWGEN_WRITE_DOCS";

const BEGIN: &str = "<!-- instruments: generated -->\n";
const END: &str = "<!-- instruments: end -->\n";

const TASK: &[&str] = &["flow", "task"];
const TASK_AND_ERROR: &[&str] = &["flow", "task", "error.type"];
const COMPONENT: &[&str] = &["otel.component.type", "otel.component.name"];
const COMPONENT_AND_ERROR: &[&str] = &["otel.component.type", "otel.component.name", "error.type"];

/// Name, type, unit and attributes. No unit: any.
type Promise = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);

const CONTRACT: &[Promise] = &[
    ("S.duration", "histogram", Some("s"), &["flow", "task", "task_type", "outcome"]),
    ("S.count", "counter", Some("{span}"), &["flow", "task", "task_type", "outcome"]),
    ("S.errors", "counter", Some("{error}"), &["flow", "task", "task_type", "error.type"]),
    ("flowgen.flow.entered", "counter", Some("{event}"), &["flow", "origin"]),
    ("flowgen.flow.events", "counter", Some("{event}"), &["flow", "outcome"]),
    ("flowgen.flow.event.duration", "histogram", Some("s"), &["flow", "outcome"]),
    ("flowgen.flow.inflight", "up-down counter", None, &["flow"]),
    ("flowgen.flow.state", "gauge", None, &["flow", "state"]),
    ("flowgen.source.lag", "histogram", Some("s"), TASK),
    ("flowgen.source.redeliveries", "counter", Some("{event}"), TASK),
    ("flowgen.task.queue.duration", "histogram", Some("s"), TASK),
    ("flowgen.task.queue.depth", "gauge", None, TASK),
    ("flowgen.task.queue.capacity", "gauge", None, TASK),
    ("flowgen.task.blocked", "counter", Some("s"), TASK),
    ("flowgen.task.inflight", "up-down counter", None, TASK),
    ("flowgen.task.attempt.errors", "counter", None, TASK_AND_ERROR),
    ("flowgen.task.retries", "counter", None, TASK_AND_ERROR),
    ("flowgen.task.retry.delay", "histogram", Some("s"), TASK_AND_ERROR),
    ("flowgen.task.timeouts", "counter", None, TASK),
    ("flowgen.task.deadline_skips", "counter", None, TASK),
    ("flowgen.task.active", "up-down counter", None, TASK),
    ("flowgen.task.starts", "counter", None, TASK),
    ("flowgen.task.stops", "counter", None, &["flow", "task", "reason"]),
    ("flowgen.flow.cancellations", "counter", None, &["flow", "phase"]),
    ("flowgen.schedule.triggers", "counter", None, &["flow", "task", "outcome"]),
    ("flowgen.cache.lookups", "counter", None, &["flow", "result"]),
    ("flowgen.checkpoint.duration", "histogram", Some("s"), TASK),
    ("flowgen.dead_letters", "counter", None, TASK_AND_ERROR),
    ("flowgen.dead_letters.depth", "gauge", None, TASK),
    ("flowgen.durable.depth", "gauge", None, &["flow"]),
    ("flowgen.durable.bytes", "gauge", None, &["flow"]),
    ("flowgen.durable.oldest", "gauge", None, &["flow"]),
    ("flowgen.reloads", "counter", None, &["outcome"]),
    (
        "http.server.request.duration",
        "histogram",
        Some("s"),
        &[
            "flow",
            "task",
            "http.request.method",
            "url.scheme",
            "http.route",
            "http.response.status_code",
            "network.protocol.version",
            "error.type",
        ],
    ),
    (
        "http.server.active_requests",
        "up-down counter",
        Some("{request}"),
        &["flow", "task", "http.request.method", "url.scheme"],
    ),
    (
        "http.client.request.duration",
        "histogram",
        Some("s"),
        &[
            "flow",
            "task",
            "http.request.method",
            "server.address",
            "server.port",
            "http.response.status_code",
            "error.type",
        ],
    ),
    ("flowgen.http.circuit.state", "gauge", None, &["flow", "task", "state"]),
    ("flowgen.http.circuit.transitions", "counter", None, &["flow", "task", "state"]),
    ("messaging.client.sent.messages", "counter", Some("{message}"), &[]),
    ("messaging.client.consumed.messages", "counter", Some("{message}"), &[]),
    ("messaging.client.operation.duration", "histogram", Some("s"), &[]),
    ("messaging.process.duration", "histogram", Some("s"), &[]),
    ("otel.sdk.span.started", "counter", Some("{span}"), &["otel.span.sampling_result"]),
    ("otel.sdk.processor.span.processed", "counter", Some("{span}"), COMPONENT_AND_ERROR),
    ("otel.sdk.processor.span.queue.size", "up-down counter", Some("{span}"), COMPONENT),
    ("otel.sdk.processor.span.queue.capacity", "up-down counter", Some("{span}"), COMPONENT),
    ("otel.sdk.exporter.span.exported", "counter", Some("{span}"), COMPONENT_AND_ERROR),
    ("otel.sdk.exporter.metric_data_point.exported", "counter", Some("{data_point}"), COMPONENT_AND_ERROR),
    ("otel.sdk.exporter.operation.duration", "histogram", Some("s"), COMPONENT_AND_ERROR),
    ("flowgen.traces.shed", "counter", None, &["reason"]),
    ("flowgen.traces.kept", "counter", None, &["reason"]),
];

/// What is promised and not there yet, because nothing is there that it could be about.
const NOT_BUILT: [&str; 5] = [
    "flowgen.source.lag",
    "messaging.client.sent.messages",
    "messaging.client.consumed.messages",
    "messaging.client.operation.duration",
    "messaging.process.duration",
];

#[test]
fn the_instruments_are_those_of_the_contract() {
    let built: BTreeMap<&str, &Instrument> = instruments::ALL.iter().map(|one| (one.name, *one)).collect();
    assert_eq!(built.len(), instruments::ALL.len(), "one has the name of another");
    let promised: BTreeSet<&str> = CONTRACT.iter().map(|(name, ..)| *name).collect();
    let absent: BTreeSet<&str> = promised.iter().copied().filter(|name| !built.contains_key(name)).collect();
    assert_eq!(absent, NOT_BUILT.into());
    let unknown: Vec<_> = built.keys().filter(|name| !promised.contains(*name)).collect();
    assert!(unknown.is_empty(), "nobody promised {unknown:?}");
    for (name, type_name, unit, attributes) in CONTRACT {
        let Some(one) = built.get(name) else { continue };
        assert_eq!(one.type_name(), *type_name, "{name}");
        assert!(unit.is_none_or(|unit| unit == one.unit), "{name}: {}", one.unit);
        let [known, promised]: [BTreeSet<&str>; 2] =
            [one.attributes, attributes].map(|keys| keys.iter().copied().collect());
        assert_eq!(known, promised, "{name}");
        assert!(one.description.ends_with('.'), "{name}");
    }
}

/// What everyone calls them who looks at a dashboard.
#[test]
fn the_names_in_prometheus_are_those_of_the_collector() {
    for (instrument, name) in [
        (&instruments::SPAN_DURATION, "S_duration_seconds"),
        (&instruments::SPAN_COUNT, "S_count_total"),
        (&instruments::FLOW_INFLIGHT, "flowgen_flow_inflight"),
        (&instruments::TASK_BLOCKED, "flowgen_task_blocked_seconds_total"),
        (&instruments::TASK_QUEUE_DEPTH, "flowgen_task_queue_depth"),
        (&instruments::SPAN_QUEUE_SIZE, "otel_sdk_processor_span_queue_size"),
    ] {
        assert_eq!(instrument.prometheus(), name);
    }
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn is_to_write() -> bool {
    env::var_os(WRITE).is_some()
}

#[test]
fn the_documentation_has_every_instrument() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/telemetry.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("no line is {BEGIN}"));
    let (tables, after) = rest.split_once(END).unwrap_or_else(|| panic!("no line is {END}"));
    let expected = instruments::documentation();
    assert!(instruments::ALL.iter().all(|one| expected.contains(&format!("| `{}`", one.name))), "{expected}");
    if is_to_write() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    let differing = tables.lines().zip(expected.lines()).find(|(written, expected)| written != expected);
    assert!(
        tables == expected,
        "`{WRITE}=1 cargo test --test flowgen contract` brings docs/telemetry.md up to date: {differing:#?}"
    );
}
