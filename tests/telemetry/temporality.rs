//! Metrics that count since the last export, and metrics with more series than are wanted.

use std::{collections::BTreeMap, io::Write as _};

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, metric::Data,
    number_data_point::Value,
};
use tonic::Code;

use super::start_with;
use crate::support::collector::{Answer, Collector, Labels, Received, Signal, labels};

/// Returns the metrics of every call that the collector took.
fn metrics(received: &Received) -> Vec<Metric> {
    let resources = received.metric_requests().iter().flat_map(|request| &request.resource_metrics);
    resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| scope.metrics.clone()).collect()
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(Value::AsInt(value)) => value as f64,
        Some(Value::AsDouble(value)) => value,
        None => panic!("{point:?}"),
    }
}

/// Returns the points of a counter or a histogram, which have to be deltas: the labels, from when to when, and how much.
/// What can go down has none.
fn points(metric: &Metric) -> Vec<(Labels, u64, u64, f64)> {
    let (temporality, points) = match metric.data.as_ref().unwrap() {
        Data::Sum(sum) if sum.is_monotonic => {
            let told = |it: &NumberDataPoint| {
                (labels(&it.attributes), it.start_time_unix_nano, it.time_unix_nano, value(it))
            };
            (sum.aggregation_temporality(), sum.data_points.iter().map(told).collect())
        }
        Data::Histogram(histogram) => {
            let told = |it: &HistogramDataPoint| {
                assert_eq!(it.bucket_counts.iter().sum::<u64>(), it.count, "{it:?}");
                (labels(&it.attributes), it.start_time_unix_nano, it.time_unix_nano, it.count as f64)
            };
            (histogram.aggregation_temporality(), histogram.data_points.iter().map(told).collect())
        }
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative, "{metric:?}");
            return Vec::new();
        }
        Data::Gauge(_) => return Vec::new(),
        other => panic!("{other:?}"),
    };
    assert_eq!(temporality, AggregationTemporality::Delta, "{metric:?}");
    points
}

/// Adds up the deltas of every counter and of the counts of every histogram, each of which has to begin where the one
/// before it ended.
fn added_up(metrics: &[Metric]) -> BTreeMap<(String, Labels), f64> {
    let mut sums: BTreeMap<(String, Labels), (u64, f64)> = BTreeMap::new();
    for metric in metrics {
        for (labels, start, time, value) in points(metric) {
            let shown = format!("{} {labels:?}", metric.name);
            let (end, sum) = sums.entry((metric.name.clone(), labels)).or_insert((start, 0.0));
            assert!(start == *end && start < time, "{shown}: {start} to {time} after {end}");
            (*end, *sum) = (time, *sum + value);
        }
    }
    sums.into_iter().map(|(series, (_, sum))| (series, sum)).collect()
}

/// Scenario: a collector refuses an export of deltas. Guarantee: what it took adds up to what happened, without a gap
/// and without an overlap.
#[test]
fn deltas_add_up_although_one_is_refused() {
    const REFUSED: usize = 1;
    let collector = Collector::scripted(|call| match (call.signal, call.number) {
        (Signal::Metrics, REFUSED) => Answer::Refuse(Code::InvalidArgument),
        _ => Answer::Accept,
    });
    let flow = "flow: {tasks: [{stdin: {name: lines}}, {drop: {name: nowhere}}]}";
    let mut worker = start_with(&collector, flow, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__TEMPORALITY", "delta")
            .env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "100ms");
    });
    let mut stdin = worker.stdin();
    let until_calls = |count| {
        collector.wait_until(|received| {
            received.calls.iter().filter(|call| call.signal == Signal::Metrics).count() >= count
        });
    };
    // The zeros; what is refused; the same again.
    for (lines, calls) in [(0, 1), (3, 2), (0, 3), (4, 4)] {
        for _ in 0..lines {
            writeln!(stdin, "{{}}").unwrap();
        }
        stdin.flush().unwrap();
        until_calls(calls);
    }
    drop(stdin);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let sums = added_up(&metrics(&collector.received()));
    let of = |name: &str, task: &str, outcome: &str| {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let wanted = [label("task", task), label("outcome", outcome)];
        let is = |labels: &Labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        sums.iter().find(|((known, labels), _)| known == name && is(labels)).map(|(_, sum)| *sum)
    };
    for task in ["lines", "nowhere"] {
        assert_eq!(of("task.handle.count", task, "completed"), Some(7.0));
        assert_eq!(of("task.handle.count", task, "failed"), Some(0.0), "the first point comes, be it 0");
        assert_eq!(of("task.handle.duration", task, "completed"), Some(7.0));
    }
}

/// Scenario: there are more series than the limit. Guarantee: no more points than it, and no count is missing.
#[test]
fn a_limit_of_cardinality_merges_what_is_beyond_it() {
    const LIMIT: usize = 3;
    let collector = Collector::start();
    let flow = "flow: {tasks: [{generate: {name: numbers, count: 50}}, {log: {name: seen}}, {drop: {name: nowhere}}]}";
    let worker = start_with(&collector, flow, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__CARDINALITY_LIMIT", LIMIT.to_string()).env("RUST_LOG", "warn");
    });
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let metrics = metrics(&collector.received());
    let last = metrics.iter().rfind(|metric| metric.name == "task.handle.count").unwrap();
    let Some(Data::Sum(sum)) = &last.data else { panic!("{last:?}") };
    assert_eq!(sum.data_points.len(), LIMIT);
    assert_eq!(sum.data_points.iter().map(value).sum::<f64>(), 150.0);
    let merged = labels(&sum.data_points[LIMIT - 1].attributes);
    assert_eq!(merged, [("otel.metric.overflow".to_owned(), "true".to_owned())].into());
}

#[test]
fn exponential_histograms_count_what_explicit_ones_do() {
    let yaml = "
telemetry: {histogram: {type: exponential}}
flow:
  tasks:
    - generate: {name: numbers, count: 500}
    - script: {name: picky, code: 'if event.data.len() == 1 { throw \"no\" } event'}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let ended = start_with(&collector, yaml, &[], |_| {}).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let all = metrics(&collector.received());
    let (mut durations, mut has_exemplars) = (0, false);
    for metric in &all {
        match metric.data.as_ref().unwrap() {
            Data::Histogram(_) => panic!("{metric:?}"),
            Data::ExponentialHistogram(histogram) => {
                for point in &histogram.data_points {
                    let buckets = point.positive.as_ref().unwrap();
                    let counted = buckets.bucket_counts.iter().sum::<u64>() + point.zero_count;
                    assert_eq!(counted, point.count, "{point:?}");
                    assert!(
                        (-10..=20).contains(&point.scale) && buckets.bucket_counts.len() <= 160,
                        "{point:?}"
                    );
                    // The sum lies between the bounds of the buckets.
                    let bound = |index: i32| 2f64.powf(f64::from(index) * 2f64.powi(-point.scale));
                    let (mut least, mut most) = (0.0, 0.0);
                    for (index, count) in (buckets.offset..).zip(&buckets.bucket_counts) {
                        least += *count as f64 * bound(index);
                        most += *count as f64 * bound(index + 1);
                    }
                    let sum = point.sum.unwrap();
                    assert!(least <= sum * 1.000_001 && sum <= most * 1.000_001, "{least} {sum} {most}");
                    if metric.name == "task.handle.duration" {
                        durations = durations.max(point.count);
                        has_exemplars |= !point.exemplars.is_empty();
                    }
                }
            }
            _ => {}
        }
    }
    assert!(durations == 500 && has_exemplars, "{durations}");
}
