//! What a collector gets of a run of the real binary: every event a span, every span a metric.
//!
//! Every run is audited (`audit.rs`); the tests add what they know about their flow.

mod account;
mod attempts;
mod audit;
mod canary;
mod concurrency;
mod context;
mod contract;
mod delivery;
mod failures;
mod faults;
mod flight;
mod graphs;
mod kept;
mod lifecycle;
mod logs;
mod metrics;
mod model;
mod off;
mod panics;
mod reload;
mod restarts;
mod runtime_metrics;
mod sampling;
mod shapes;
mod shutdown;
mod signals;
mod slo;
mod spans;
mod temporality;

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use crate::support::{
    collector::{Call, Collector, Metrics, Span, Trace, traces},
    worker::{Ended, Worker},
};

/// A run that has ended, and what the collector got of it.
struct Observed {
    ended: Ended,
    spans: Vec<Span>,
    /// The last value of each series.
    metrics: Metrics,
    /// What each collection said.
    collections: Vec<Metrics>,
    calls: Vec<Call>,
}

/// Runs a flow to its end with telemetry on, and audits what the collector got.
fn observe(yaml: &str, files: &[(&str, &[u8])]) -> Observed {
    observe_with(yaml, files, |_| {})
}

/// As [`observe`], with what `prepare` does to the command.
fn observe_with(yaml: &str, files: &[(&str, &[u8])], prepare: impl FnOnce(&mut Command)) -> Observed {
    let collector = Collector::start();
    Observed::of(start_with(&collector, yaml, files, prepare), &collector)
}

/// Starts a flow with its telemetry sent to a collector.
fn start(collector: &Collector, yaml: &str, files: &[(&str, &[u8])]) -> Worker {
    start_with(collector, yaml, files, |_| {})
}

/// As [`start`], with what `prepare` does to the command.
fn start_with(
    collector: &Collector,
    yaml: &str,
    files: &[(&str, &[u8])],
    prepare: impl FnOnce(&mut Command),
) -> Worker {
    Worker::start_with(yaml, files, |command| {
        export_to(&collector.endpoint(), command);
        prepare(command);
    })
}

/// Makes telemetry go to this endpoint, through a queue that no test fills.
fn export_to(endpoint: &str, command: &mut Command) {
    command
        .env("FLOWGEN_TELEMETRY__ENABLED", "true")
        .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", endpoint)
        .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "1000000");
}

/// Lets this share of traces be exported, and no other, failed or not.
fn sample(rate: f64, command: &mut Command) {
    command
        .env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", rate.to_string())
        .env("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", "false");
}

/// Lets no trace be exported but those that are kept.
fn keep_only(command: &mut Command) {
    command.env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0");
}

impl Observed {
    /// Waits for the end of a worker of which nothing may get lost, and audits what the collector got.
    fn of(worker: Worker, collector: &Collector) -> Self {
        let observed = Self::after(worker.end(), collector);
        observed.audit();
        observed
    }

    /// As [`Self::of`], of a run that exports some traces only.
    fn of_some(worker: Worker, collector: &Collector) -> Self {
        let observed = Self::after(worker.end(), collector);
        observed.audit_some();
        observed
    }

    /// Takes what the collector has at the end of a run.
    fn after(ended: Ended, collector: &Collector) -> Self {
        let received = collector.received();
        let (spans, metrics) = (received.spans(), received.metrics());
        Self { ended, spans, metrics, collections: received.collections(), calls: received.calls.clone() }
    }

    /// Returns the spans of one name.
    fn spans_named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the spans of the events that a task has handled.
    fn handled(&self, task: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == "task.handle" && span["task"] == task).collect()
    }

    /// Returns the traces that events have left.
    fn traces(&self) -> Vec<Trace> {
        let traces = traces(self.spans.clone());
        traces.into_iter().filter(|trace| trace.root().name == "task.handle").collect()
    }

    /// Returns how many traces there are of each shape. An event that completes a task is shown as the task.
    fn shapes(&self) -> BTreeMap<String, usize> {
        let mut shapes = BTreeMap::new();
        for trace in self.traces() {
            *shapes.entry(trace.shape(task_and_outcome)).or_default() += 1;
        }
        shapes
    }

    fn assert_shapes(&self, expected: &[(&str, usize)]) {
        let expected = expected.iter().map(|(shape, count)| ((*shape).to_owned(), *count)).collect();
        assert_eq!(self.shapes(), expected, "{}", self.ended.stderr);
    }

    /// Returns how many events a task has handled with this outcome, by the metrics.
    fn count(&self, task: &str, outcome: &str) -> u64 {
        self.metrics.counter("task.handle.count", &[("task", task), ("outcome", outcome)])
    }
}

fn task_and_outcome(span: &Span) -> String {
    match (&*span.name, span.text("outcome")) {
        ("task.handle", "completed") => span.text("task").to_owned(),
        ("task.handle", outcome) => format!("{}:{outcome}", span.text("task")),
        (name, _) => name.to_owned(),
    }
}

/// The only `telemetry flushed` line, after checking that it adds up.
fn flushed(ended: &Ended) -> Value {
    let mut lines = ended.logged("telemetry flushed");
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    let line = lines.remove(0);
    assert_eq!(
        number(&line, "spans_created"),
        number(&line, "spans_exported") + number(&line, "spans_dropped")
    );
    line
}

/// Returns a number of a log line.
fn number(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {line}"))
}
