//! What holds in every run that loses nothing and exports every span. What holds in every other one that loses nothing
//! is in `account.rs`.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use super::{Observed, flushed, number};
use crate::support::collector::{Labels, Metrics, Number, Span};

/// What identifies a task, in spans and metrics.
const TASK: [&str; 3] = ["flow", "task", "task_type"];

/// The spans of the worker and of tasks as a whole, which are in no event's trace but their own.
const ROOTS: [&str; 4] = ["task_manager.start", "task_manager.shutdown", "flow.reload", "task.run"];

impl Observed {
    /// Checks that the collector has everything, that every span stands where it belongs, and that metrics
    /// say what the spans say.
    pub(super) fn audit(&self) {
        self.audit_flush();
        self.audit_data();
    }

    /// Checks the same of a run that exports some traces only: all but that the metrics say no more than the spans.
    pub(super) fn audit_some(&self) {
        self.audit_flush();
        assert_resource(&self.spans, &self.metrics);
        assert_places(&self.spans);
        self.audit_account();
    }

    /// Checks that what was created is what was exported is what the collector has.
    pub(super) fn audit_flush(&self) {
        let line = flushed(&self.ended);
        assert_eq!(number(&line, "spans_dropped"), 0, "{line}");
        assert_eq!(number(&line, "points_dropped"), 0, "{line}");
        assert_eq!(number(&line, "spans_exported"), self.spans.len() as u64, "{line}");
        assert_eq!(number(&line, "points_exported"), self.metrics.points, "{line}");
    }

    /// The same without the log, which may be silent.
    pub(super) fn audit_data(&self) {
        assert_resource(&self.spans, &self.metrics);
        assert_places(&self.spans);
        assert_metrics_of(&self.spans, &self.metrics);
        self.audit_account();
    }
}

/// Checks that everything comes from one process and one scope.
fn assert_resource(spans: &[Span], metrics: &Metrics) {
    let first = &spans[0];
    for span in spans {
        assert_eq!((&span.resource, &span.scope), (&first.resource, &first.scope), "{span:?}");
    }
    for (_, point) in metrics.names().flat_map(|name| metrics.of(name)) {
        assert_eq!((&point.resource, &point.scope), (&first.resource, &first.scope), "{point:?}");
    }
}

/// Checks that every parent is there, that children lie where they must, and that failures are errors.
fn assert_places(spans: &[Span]) {
    let by_id: HashMap<u64, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
    for span in spans {
        match span.parent {
            None => assert_root(span),
            Some(_) if span.is_parent_remote => {}
            Some(id) => {
                let parent = by_id.get(&id).unwrap_or_else(|| panic!("its parent never came: {span:?}"));
                assert_eq!(span.trace_id, parent.trace_id, "{span:?} below {parent:?}");
                assert_below(span, parent);
            }
        }
        assert_eq!(span.status == StatusCode::Error, !span["error.type"].is_null(), "{span:?}");
        assert_eq!(span.trace_flags & 1 == 1, !span.is_kept(), "{span:?}");
        let is_client = span.name == "task.handle" && span["task_type"] == "http_request";
        let kind = if is_client { SpanKind::Client } else { SpanKind::Internal };
        assert_eq!(span.kind, kind, "{span:?}");
        if span.name == "task.handle" {
            let outcome = span.text("outcome");
            assert!(
                ["completed", "filtered", "failed", "cancelled", "skipped"].contains(&outcome),
                "{span:?}"
            );
            assert_eq!(span.status == StatusCode::Error, outcome == "failed", "{span:?}");
            assert!(!span.text("flowgen.event.id").is_empty(), "{span:?}");
        }
    }
}

fn assert_root(span: &Span) {
    if span.name == "task.handle" {
        let is_source = ["file", "generate", "stdin"].contains(&span.text("task_type"));
        assert!(is_source, "its parent is missing: {span:?}");
        assert!(span["flowgen.queue.duration"].is_null(), "{span:?}");
    } else {
        assert!(ROOTS.contains(&&*span.name), "its parent is missing: {span:?}");
    }
}

fn assert_below(span: &Span, parent: &Span) {
    let is_same_task = || TASK.iter().all(|name| span[name] == parent[name]);
    match (&*span.name, &*parent.name) {
        ("task.handle", "task.handle" | "task.flush") => {
            assert!(parent.end <= span.start, "{span:?} began before the end of {parent:?}");
            let waited = span["flowgen.queue.duration"].as_f64();
            let waited = waited.unwrap_or_else(|| panic!("no time in the queue: {span:?}"));
            let between = (span.start - parent.end) as f64 / 1e9;
            assert!((0.0..=between + 1e-6).contains(&waited), "{waited} of {between} s: {span:?}");
            assert!(!is_same_task(), "{span:?} below {parent:?}");
        }
        ("task.retry", "task.handle") => {
            assert!(parent.start <= span.start && span.end <= parent.end, "{span:?} outside of {parent:?}");
            assert!(is_same_task(), "{span:?} below {parent:?}");
        }
        ("task.flush", "task.handle") => {
            assert!(parent.start <= span.start, "{span:?} before {parent:?}");
            assert!(is_same_task(), "{span:?} below {parent:?}");
        }
        ("task_manager.register", "task_manager.start" | "flow.reload") => {
            assert!(parent.start <= span.start && span.end <= parent.end, "{span:?} outside of {parent:?}");
        }
        _ => panic!("{span:?} is the child of {parent:?}"),
    }
}

/// Checks that `S.count`, `S.duration` and `S.errors` say of every name S what the spans of this name say.
fn assert_metrics_of(spans: &[Span], metrics: &Metrics) {
    let mut names: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        names.entry(&span.name).or_default().push(span);
    }
    for (name, spans) in names {
        let mut durations = BTreeMap::<Labels, Vec<u64>>::new();
        let mut errors = BTreeMap::<Labels, u64>::new();
        for span in spans {
            let duration = span.end - span.start;
            durations.entry(labels(span, "outcome", span.text("outcome"))).or_default().push(duration);
            if span.status == StatusCode::Error {
                *errors.entry(labels(span, "error.type", span.text("error.type"))).or_default() += 1;
            }
        }
        let counts = durations.iter().map(|(labels, durations)| (labels.clone(), durations.len() as u64));
        let counts = counts.collect();
        assert_eq!(counted(metrics, &format!("{name}.count")), counts, "{name}.count");
        assert_eq!(counted(metrics, &format!("{name}.errors")), errors, "{name}.errors");
        let name = format!("{name}.duration");
        assert_eq!(counted(metrics, &name), counts, "{name}");
        for (labels, durations) in durations {
            assert_distribution(&metrics.of(&name)[&labels].number, &durations);
        }
    }
}

/// Checks that a histogram is that of these durations. A clock may round by a microsecond.
fn assert_distribution(histogram: &Number, nanos: &[u64]) {
    const ROUNDING: f64 = 1e-6;
    let Number::Histogram { sum, bounds, buckets, .. } = histogram else { panic!("{histogram:?}") };
    let seconds: Vec<f64> = nanos.iter().map(|nanos| *nanos as f64 / 1e9).collect();
    let total: f64 = seconds.iter().sum();
    assert!((sum - total).abs() <= ROUNDING * seconds.len() as f64, "{total} s: {histogram:?}");
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(buckets) {
        below += count;
        let up_to = |bound: f64| seconds.iter().filter(|duration| **duration <= bound).count() as u64;
        let expected = up_to(bound - ROUNDING)..=up_to(bound + ROUNDING);
        assert!(expected.contains(&below), "{below} up to {bound} s, not {expected:?}: {histogram:?}");
    }
}

/// Returns the attributes that the series of a span has.
fn labels(span: &Span, further: &str, value: &str) -> Labels {
    let task = TASK.iter().filter(|name| !span[name].is_null());
    let task = task.map(|name| ((*name).to_owned(), span.text(name).to_owned()));
    task.chain([(further.to_owned(), value.to_owned())]).collect()
}

/// Returns how much each series of a metric has counted, without those that counted nothing.
fn counted(metrics: &Metrics, name: &str) -> BTreeMap<Labels, u64> {
    let Some(series) = metrics.get(name) else { return BTreeMap::new() };
    let counts = series.iter().map(|(labels, point)| match point.number {
        Number::Counter(count) | Number::Histogram { count, .. } => (labels.clone(), count),
        _ => panic!("`{name}` counts nothing: {point:?}"),
    });
    counts.filter(|(_, count)| *count > 0).collect()
}
