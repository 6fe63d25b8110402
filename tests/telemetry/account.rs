//! What the numbers of every run amount to that loses nothing, whatever is sampled and whatever fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flowgen::telemetry::instruments::SPANS;

use super::Observed;
use crate::support::collector::{Labels, Metrics, Number, Point, Span};

/// Metrics whose measurements are those of the spans that their exemplars name.
const DURATION: &str = ".duration";

impl Observed {
    /// Checks that every collection adds up, and that what telemetry says of itself is what the collector got.
    pub(super) fn audit_account(&self) {
        for metrics in self.collections.iter().chain([&self.metrics]) {
            assert_conserved(metrics);
        }
        assert_spans_add_up(&self.spans, &self.metrics);
        assert_points_add_up(&self.collections);
        assert_traces_add_up(&self.spans, &self.metrics);
        assert_exemplars(&self.spans, &self.metrics);
    }
}

/// Checks that of every flow whatever entered came to an end or is in flight.
pub(super) fn assert_conserved(metrics: &Metrics) {
    let (entered, ended) = sides(metrics);
    assert_eq!(entered, ended, "{metrics:#?}");
}

/// Returns the two sides of the account of every flow: what entered, and what came to an end or is in flight.
fn sides(metrics: &Metrics) -> (BTreeMap<&str, u64>, BTreeMap<&str, u64>) {
    let of_flows = |name: &str| {
        let mut flows = BTreeMap::<&str, u64>::new();
        for (labels, point) in metrics.get(name).into_iter().flatten() {
            *flows.entry(&labels["flow"]).or_default() += number(point);
        }
        flows
    };
    let (mut ended, inflight) = (of_flows("flowgen.flow.events"), of_flows("flowgen.flow.inflight"));
    for (flow, count) in inflight {
        *ended.entry(flow).or_default() += count;
    }
    (of_flows("flowgen.flow.entered"), ended)
}

/// Returns how many spans of any name have ended.
pub(super) fn spans_ended(metrics: &Metrics) -> u64 {
    SPANS
        .iter()
        .flat_map(|name| metrics.get(&format!("{name}.count")))
        .flatten()
        .map(|(_, point)| number(point))
        .sum()
}

/// Checks that the spans that were started, queued and exported are those that the collector has.
fn assert_spans_add_up(spans: &[Span], metrics: &Metrics) {
    if metrics.get("otel.sdk.span.started").is_none() {
        // No traces are exported.
        return;
    }
    let started = |result| metrics.counter("otel.sdk.span.started", &[("otel.span.sampling_result", result)]);
    let sampled = spans.iter().filter(|span| !span.is_kept()).count() as u64;
    assert_eq!(started("RECORD_AND_SAMPLE"), sampled);
    assert_eq!(started("RECORD_AND_SAMPLE") + started("DROP"), spans_ended(metrics));
    let all = spans.len() as u64;
    for name in ["otel.sdk.processor.span.processed", "otel.sdk.exporter.span.exported"] {
        assert_eq!(without_error(metrics, name, "spans"), all, "{name}");
        let total = metrics.counter(name, &[]);
        assert_eq!(total, all, "{name}: some were lost");
    }
}

/// Checks that every collection tells the points of those before it that arrived. None can tell its own.
fn assert_points_add_up(collections: &[Metrics]) {
    let mut points = 0;
    for metrics in collections {
        assert_eq!(without_error(metrics, "otel.sdk.exporter.metric_data_point.exported", "points"), points);
        points += metrics.points;
    }
}

/// Checks that as many traces were kept as arrived.
fn assert_traces_add_up(spans: &[Span], metrics: &Metrics) {
    for reason in ["error", "slow"] {
        let kept = spans.iter().filter(|span| span["flowgen.kept"] == reason);
        let traces: BTreeSet<u128> = kept.map(|span| span.trace_id).collect();
        if metrics.get("flowgen.traces.kept").is_some() {
            assert_eq!(
                metrics.counter("flowgen.traces.kept", &[("reason", reason)]),
                traces.len() as u64,
                "{reason}"
            );
        }
    }
}

/// How far, in nanoseconds, the two clocks may be apart.
const CLOCK_SLACK: u64 = 50_000_000;

/// Checks that every exemplar leads to a span that was exported, and that those of durations of spans are theirs.
fn assert_exemplars(spans: &[Span], metrics: &Metrics) {
    let by_id: HashMap<u64, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
    for name in metrics.names() {
        for (labels, point) in metrics.of(name) {
            for exemplar in &point.exemplars {
                let span = by_id.get(&exemplar.span_id);
                let span = span.unwrap_or_else(|| panic!("`{name}` {labels:?} leads nowhere: {exemplar:?}"));
                assert_eq!(span.trace_id, exemplar.trace_id, "`{name}` {labels:?}: {exemplar:?} {span:?}");
                // The clock of the wall may be slowed down or set meanwhile, that of spans is not.
                let latest = point.time + CLOCK_SLACK;
                assert!(exemplar.time <= latest, "`{name}` {labels:?}: {exemplar:?} {point:?}");
                if name.strip_suffix(DURATION) == Some(&span.name) {
                    assert_is_of(labels, span);
                    let duration = (span.end - span.start) as f64 / 1e9;
                    assert!((duration - exemplar.value).abs() < 1e-6, "{exemplar:?} {span:?}");
                }
            }
        }
    }
}

fn assert_is_of(labels: &Labels, span: &Span) {
    assert!(labels.iter().all(|(key, value)| span.text(key) == value), "{labels:?} {span:?}");
}

/// Returns the sum of the series of a metric that have no `error.type`.
fn without_error(metrics: &Metrics, name: &str, of: &str) -> u64 {
    let series = metrics.get(name).unwrap_or_else(|| panic!("nothing tells what became of {of}"));
    series
        .iter()
        .filter(|(labels, _)| !labels.contains_key("error.type"))
        .map(|(_, point)| number(point))
        .sum()
}

/// Returns the whole number that a point says.
fn number(point: &Point) -> u64 {
    match point.number {
        Number::Counter(value) => value,
        Number::UpDown(value) => {
            u64::try_from(value).unwrap_or_else(|_| panic!("less than nothing: {point:?}"))
        }
        _ => panic!("not a whole number: {point:?}"),
    }
}
