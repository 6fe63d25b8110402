//! The example flow, with telemetry on: what the Collector holds is what the data says it must.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};

use crate::{
    collector::Collector,
    flowgen,
    otlp::{Attributes, Received, Span},
    process::{Ended, Process},
    repository,
};

const TASKS: [(&str, &str); 4] =
    [("features", "file"), ("strong", "filter"), ("reshape", "script"), ("lines", "stdout")];

/// One row of the data, by the offset of its line, and whether the flow keeps it.
struct Row {
    offset: usize,
    is_kept: bool,
}

/// Reads the data anew, without flowgen.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(repository().join("examples/data/earthquakes.jsonl")).unwrap();
    let mut next = 0;
    let row = |line: &str| {
        let feature: Value = serde_json::from_str(line).unwrap();
        let quake = &feature["properties"];
        let is_strong = quake["mag"].as_f64().is_some_and(|magnitude| magnitude >= 2.5);
        let offset = next;
        next += line.len();
        Row { offset, is_kept: quake["type"] == "earthquake" && is_strong }
    };
    text.split_inclusive('\n').map(row).collect()
}

fn run() -> (Ended, Received) {
    let collector = Collector::start();
    let mut command = flowgen(&["run", "examples/earthquakes.yaml"]);
    command
        .env("FLOWGEN_TELEMETRY__ENABLED", "true")
        .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint());
    let ended = Process::start(&mut command).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (ended, collector.stop())
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "the data has less than 2^53 rows")]
fn the_collector_holds_one_trace_a_row_and_the_true_numbers() {
    let (ended, received) = run();
    let rows = rows();
    let kept = rows.iter().filter(|row| row.is_kept).count();
    assert_eq!((rows.len(), kept), (1707, 297), "the data is not what the README shows");
    assert_eq!(ended.stdout.lines().count(), kept);

    received.assert_whole_traces();
    traces_are_the_rows(&received, &rows);
    spans_say_what_they_are_about(&received);
    batches_hold_every_line(&received);
    lifecycle_is_complete(&received);
    resource_is_complete(&received);
    counts_are_true(&received, rows.len() as f64, kept as f64);
    metrics_agree_with_spans(&received);
    nothing_was_lost(&ended, &received);
    debug_exporter_shows_it(&received);
}

/// Every row has a trace of its own, in the shape of the way it went.
fn traces_are_the_rows(received: &Received, rows: &[Row]) {
    let mut traces = BTreeMap::<&str, Vec<&Span>>::new();
    for span in received.spans_named("task.handle") {
        traces.entry(&span.trace).or_default().push(span);
    }
    assert_eq!(traces.len(), rows.len());
    let walked: BTreeMap<usize, Vec<String>> =
        traces.values().map(|spans| (offset_of(spans), walk(spans))).collect();
    let expected: BTreeMap<usize, Vec<String>> =
        rows.iter().map(|row| (row.offset, expected_walk(row))).collect();
    assert_eq!(walked, expected);
}

/// Returns the offset that the ids of a trace's event name; it is one event all along.
fn offset_of(spans: &[&Span]) -> usize {
    let ids: BTreeSet<_> = spans.iter().map(|span| text(&span.attributes, "flowgen.event.id")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let (path, offset) = ids.first().unwrap().rsplit_once(':').unwrap();
    assert!(path.ends_with("data/earthquakes.jsonl"), "{path}");
    offset.parse().unwrap()
}

/// Returns the tasks of a trace with their outcomes, from the root down.
fn walk(spans: &[&Span]) -> Vec<String> {
    let mut found = Vec::new();
    let mut parent = "";
    let mut sent = None;
    while let Some(span) = spans.iter().find(|span| span.parent == parent) {
        found.push(format!("{} {}", text(&span.attributes, "task"), text(&span.attributes, "outcome")));
        if let Some(sent) = sent {
            has_waited_since(sent, span);
        }
        (parent, sent) = (&span.id, Some(span.end));
    }
    assert_eq!(found.len(), spans.len(), "a trace is not a chain");
    found
}

/// A span ends before its event is sent on, and the next one says how long the event waited after that.
#[expect(clippy::cast_precision_loss, reason = "a run takes less than 2^53 ns")]
fn has_waited_since(sent: u64, span: &Span) {
    let waited = span.start.checked_sub(sent).expect("an event is sent when its span has ended");
    let told = span.attributes["flowgen.queue.duration"].as_f64().unwrap();
    assert!((told - waited as f64 / 1e9).abs() < 1e-6, "waited {waited} ns, not {told} s");
}

fn expected_walk(row: &Row) -> Vec<String> {
    let kept = ["features completed", "strong completed", "reshape completed", "lines completed"];
    let filtered = ["features completed", "strong filtered"];
    let walk = if row.is_kept { &kept[..] } else { &filtered };
    walk.iter().map(|step| (*step).to_owned()).collect()
}

fn spans_say_what_they_are_about(received: &Received) {
    for span in received.spans_named("task.handle").into_iter().chain(received.spans_named("task.run")) {
        let attributes = &span.attributes;
        assert_eq!(attributes["flow"], "earthquakes");
        let index = usize::try_from(attributes["task_id"].as_u64().unwrap()).unwrap();
        let named = (text(attributes, "task"), text(attributes, "task_type"));
        assert_eq!(named, TASKS[index]);
        assert_eq!(span.kind, 1, "nothing here talks to others");
        assert_ne!(span.status, 2, "nothing failed");
        assert!(!attributes.contains_key("error.type"));
    }
}

/// What `stdout` writes leaves in batches: each below its last event, and linked to the others.
fn batches_hold_every_line(received: &Received) {
    let flushes = received.spans_named("task.flush");
    let lines = received.handled_by("lines");
    assert!(flushes.iter().all(|flush| lines.iter().any(|line| line.id == flush.parent)));
    assert_eq!(flushes.iter().map(|flush| 1 + flush.links).sum::<u64>(), lines.len() as u64);
}

/// The worker's own spans: its start with every task, a `task.run` each, and its end.
fn lifecycle_is_complete(received: &Received) {
    let start = received.spans_named("task_manager.start");
    assert_eq!((start.len(), start[0].parent.as_str()), (1, ""));
    let registered = received.spans_named("task_manager.register");
    assert_eq!(registered.len(), TASKS.len());
    assert!(registered.iter().all(|span| span.parent == start[0].id));
    let runs = received.spans_named("task.run");
    let names: BTreeSet<_> = runs.iter().map(|span| text(&span.attributes, "task")).collect();
    assert_eq!((runs.len(), names), (TASKS.len(), TASKS.map(|(name, _)| name).into()));
    assert!(runs.iter().all(|span| span.parent.is_empty()));
    let events: BTreeSet<_> = received.spans_named("task.handle").iter().map(|span| &span.trace).collect();
    assert!(runs.iter().all(|span| !events.contains(&span.trace)), "an event is not part of `task.run`");
}

fn resource_is_complete(received: &Received) {
    let spans = received.spans.iter().map(|span| &span.resource);
    let resources: BTreeSet<_> = spans
        .chain(received.points.iter().map(|point| &point.resource))
        .map(|resource| json!(resource).to_string())
        .collect();
    assert_eq!(resources.len(), 1, "one process has one resource: {resources:?}");
    let resource = &received.spans[0].resource;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(resource["service.name"], "earthquakes");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["host.name"], host.trim_end());
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    assert!(!text(resource, "telemetry.sdk.name").is_empty());
    assert!(!text(resource, "telemetry.sdk.version").is_empty());
    let instance = text(resource, "service.instance.id");
    assert!(instance.len() == 36 && instance.split('-').count() == 5, "{instance} is no UUID");
}

fn counts_are_true(received: &Received, entered: f64, kept: f64) {
    let truth = [
        ("features", "completed", entered),
        ("features", "failed", 0.0),
        ("strong", "completed", kept),
        ("strong", "filtered", entered - kept),
        ("strong", "failed", 0.0),
        ("reshape", "completed", kept),
        ("reshape", "failed", 0.0),
        ("lines", "completed", kept),
        ("lines", "failed", 0.0),
    ];
    for (task, outcome, count) in truth {
        let attributes = [("flow", "earthquakes"), ("task", task), ("outcome", outcome)];
        same(received.total("task.handle.count", &attributes), count, &format!("{task} {outcome}"));
    }
    let handled = [("features", entered), ("strong", entered), ("reshape", kept), ("lines", kept)];
    for (task, count) in handled {
        same(received.total("task.handle.count", &[("task", task)]), count, task);
        same(received.total("task.handle.errors", &[("task", task)]), 0.0, task);
    }
}

/// What is derived from spans counts spans: each name has its three instruments, and they agree.
fn metrics_agree_with_spans(received: &Received) {
    let mut spans = BTreeMap::<&str, f64>::new();
    for span in &received.spans {
        *spans.entry(&span.name).or_default() += 1.0;
    }
    let derived: BTreeSet<_> =
        received.metric_names().into_iter().filter_map(|name| name.strip_suffix(".count")).collect();
    assert!(spans.keys().all(|name| derived.contains(name)), "{:?} in {derived:?}", spans.keys());
    for name in derived {
        let seen = spans.get(name).copied().unwrap_or_default();
        let instrument = |suffix: &str| received.series(&format!("{name}.{suffix}"));
        let (counts, durations) = (instrument("count"), instrument("duration"));
        same(counts.iter().map(|point| point.value).sum(), seen, name);
        for count in &counts {
            assert_eq!((count.shape, count.unit.as_str()), ("sum", "{span}"));
            assert!(count.is_cumulative && count.is_monotonic, "{name}");
        }
        for duration in &durations {
            assert_eq!((duration.shape, duration.unit.as_str()), ("histogram", "s"));
            assert!(duration.is_cumulative, "{name}");
            let twin = counts.iter().find(|count| count.attributes == duration.attributes);
            same(duration.value, twin.unwrap().value, name);
            same(duration.buckets.iter().map(|count| *count as f64).sum(), duration.value, name);
        }
        same(durations.iter().map(|point| point.value).sum(), seen, name);
        for errors in instrument("errors") {
            assert_eq!((errors.shape, errors.unit.as_str()), ("sum", "{error}"));
            same(errors.value, 0.0, name);
        }
    }
}

/// flowgen's own account is what the Collector got.
fn nothing_was_lost(ended: &Ended, received: &Received) {
    let flushed = ended.only("telemetry flushed");
    assert_eq!(flushed["spans_created"], received.spans.len());
    assert_eq!(flushed["spans_exported"], received.spans.len());
    assert_eq!(flushed["points_exported"], received.points.len());
    assert_eq!((&flushed["spans_dropped"], &flushed["points_dropped"]), (&json!(0), &json!(0)));
}

/// What the README promises to show.
fn debug_exporter_shows_it(received: &Received) {
    let lines = |text: &str| received.printed.lines().filter(|line| line.trim() == text).count();
    let spans = received.spans_named("task.handle").len();
    assert_eq!(lines("Name           : task.handle"), spans);
    assert!(lines("-> Name: task.handle.count") > 0);
    assert!(lines("-> Name: task.handle.duration") > 0);
    assert!(lines("-> service.name: Str(earthquakes)") > 1);
}

fn text<'a>(attributes: &'a Attributes, key: &str) -> &'a str {
    attributes.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no `{key}` in {attributes:?}"))
}

/// Both are whole numbers, so that equal means equal.
#[expect(clippy::float_cmp, reason = "whole numbers below 2^53 are exact")]
fn same(left: f64, right: f64, what: &str) {
    assert_eq!(left, right, "{what}");
}
