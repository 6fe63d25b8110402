//! What a flow promises of its durations is counted to the event: the threshold is a bound of its histogram.

use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, metric::Data, number_data_point::Value,
};
use rustix::process::Signal;

use super::{
    export_to, observe,
    reload::{reload, start},
};
use crate::support::{
    collector::{Collector, Labels, Number, Received, labels},
    worker::Worker,
};

const DURATION: &str = "flowgen.flow.event.duration";

/// Returns the bounds of the durations of a flow's completed events.
fn bounds(yaml: &str, flow: &str) -> Vec<f64> {
    let observed = observe(yaml, &[]);
    let series = observed.metrics.select(DURATION, &[("flow", flow), ("outcome", "completed")]);
    match &series[0].1.number {
        Number::Histogram { bounds, .. } => bounds.clone(),
        other => panic!("{other:?}"),
    }
}

/// Scenario: of two flows one promises something. Guarantee: its threshold is a bound of its own histogram, in its place,
/// whatever the others are.
#[test]
fn a_threshold_is_a_bound_of_its_flow() {
    let flows = |telemetry: &str| {
        let tasks = "tasks: [{generate: {count: 3}}, {drop: }]";
        format!(
            "telemetry: {{{telemetry}}}\nflows:\n  - {{name: fast, slo: {{latency: {{p: 0.9, under: 300ms}}}}, {tasks}}}\n  \
             - {{name: any, slo: {{success: 0.9}}, {tasks}}}\n"
        )
    };
    let of = |telemetry: &str| {
        let yaml = flows(telemetry);
        (bounds(&yaml, "fast"), bounds(&yaml, "any"))
    };
    let (fast, any) = of("");
    assert!(any.contains(&0.25) && any.contains(&0.4) && !any.contains(&0.3), "{any:?}");
    let place = any.iter().position(|bound| *bound == 0.4).unwrap();
    assert_eq!(fast, [&any[..place], &[0.3], &any[place..]].concat());
    let chosen = "histogram: {type: explicit, buckets: [0.1, 0.2]}";
    assert_eq!(of(chosen), (vec![0.1, 0.2, 0.3], vec![0.1, 0.2]));
    let among_them = "histogram: {type: explicit, buckets: [0.3]}";
    assert_eq!(of(among_them), (vec![0.3], vec![0.3]));
}

/// Scenario: nothing has happened yet. Guarantee: the first event is an increase.
#[test]
fn what_is_promised_begins_with_zero() {
    let yaml = "
flows:
  - {name: promised, slo: {latency: {p: 0.9, under: 1s}}, tasks: [{generate: {interval: 1h}}, {filter: {condition: 'false'}}]}
  - {name: other, tasks: [{generate: {count: 1}}, {filter: {condition: 'false'}}]}
";
    let collector = Collector::start();
    let worker = Worker::start_with(yaml, &[], |command| export_to(&collector.endpoint(), command));
    collector.wait_until(|received| received.metric_calls() > 0);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
    let metrics = collector.metrics();
    let completed = |flow| {
        let is_one = |labels: &Labels| labels["flow"] == flow && labels["outcome"] == "completed";
        metrics
            .get(DURATION)
            .unwrap()
            .iter()
            .find(|(labels, _)| is_one(labels))
            .map(|(_, point)| &point.number)
    };
    assert!(completed("other").is_none());
    assert!(matches!(completed("promised"), Some(Number::Histogram { count: 0, .. })), "{metrics:?}");
}

#[test]
fn an_exponential_histogram_has_no_bounds_to_add_to() {
    let yaml = "
telemetry: {histogram: {type: exponential}}
flow: {slo: {latency: {p: 0.9, under: 300ms}}, tasks: [{generate: {count: 3}}, {drop: }]}
";
    let collector = Collector::start();
    let worker = Worker::start_with(yaml, &[], |command| export_to(&collector.endpoint(), command));
    assert_eq!(worker.end().code, Some(0));
    let received = collector.received();
    let of_name = metrics(&received).into_iter().filter(|metric| metric.name == DURATION);
    for metric in of_name {
        assert!(matches!(metric.data, Some(Data::ExponentialHistogram(_))), "{metric:?}");
    }
}

fn metrics(received: &Received) -> Vec<Metric> {
    let resources = received.metric_requests().iter().flat_map(|request| &request.resource_metrics);
    resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| scope.metrics.clone()).collect()
}

/// Returns the points of the durations of completed events, the first one first.
fn durations(received: &Received) -> Vec<HistogramDataPoint> {
    let points = metrics(received).into_iter().filter(|metric| metric.name == DURATION).flat_map(|metric| {
        let Some(Data::Histogram(histogram)) = metric.data else { panic!("{metric:?}") };
        histogram.data_points
    });
    points.filter(|point| labels(&point.attributes)["outcome"] == "completed").collect()
}

/// Returns all points of the completed events of flows, the first one first.
fn completed(received: &Received) -> Vec<u64> {
    let points = metrics(received).into_iter().filter(|metric| metric.name == "flowgen.flow.events");
    let points = points.flat_map(|metric| {
        let Some(Data::Sum(sum)) = metric.data else { panic!("{metric:?}") };
        sum.data_points
    });
    let points = points.filter(|point| labels(&point.attributes)["outcome"] == "completed");
    let count = |value| match value {
        Some(Value::AsInt(count)) => u64::try_from(count).unwrap(),
        other => panic!("{other:?}"),
    };
    points.map(|point| count(point.value)).collect()
}

fn promising(temporality: &str, slo: &str) -> String {
    format!(
        "telemetry: {{temporality: {temporality}}}\n\
         flow: {{name: orders, slo: {slo}, tasks: [{{generate: {{name: numbers, rate: 2000}}}}, {{drop: }}]}}"
    )
}

/// Runs a flow whose threshold changes twice while it is at work.
fn change_thresholds(temporality: &str) -> Collector {
    let collector = Collector::start();
    let of = |under: &str| promising(temporality, &format!("{{latency: {{p: 0.9, under: {under}}}}}"));
    let worker = start(&collector, &[("a.yaml", &of("300ms"))], "100ms", 0.0);
    let until = |bound: f64| {
        collector.wait_until(|received| {
            let points = durations(received);
            points.last().is_some_and(|last| last.explicit_bounds.contains(&bound) && last.count > 0)
        });
    };
    until(0.3);
    for (under, bound) in [("2s", 2.0), ("500us", 0.0005)] {
        assert_eq!(reload(&worker, "a.yaml", &of(under)), "reload applied");
        until(bound);
    }
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
    collector
}

/// Scenario: a reload brings another threshold. Guarantee: it is a bound from then on, the one before is none any more,
/// and every event is counted once.
#[test]
fn another_threshold_takes_over_what_was_counted() {
    let collector = change_thresholds("cumulative");
    let received = collector.received();
    let points = durations(&received);
    let (first, last) = (&points[0], points.last().unwrap());
    assert_eq!(last.start_time_unix_nano, first.start_time_unix_nano);
    assert!(points.iter().map(|point| point.count).is_sorted(), "{points:?}");
    assert_eq!(Some(last.count), completed(&received).pop());
    assert_eq!(last.bucket_counts.iter().sum::<u64>(), last.count);
    let bounds = |of: f64| points.iter().filter(|point| point.explicit_bounds.contains(&of)).count();
    assert!(bounds(0.3) > 0 && bounds(2.0) > 0);
    // The third is among those that there are anyway.
    assert!(!last.explicit_bounds.contains(&0.3) && !last.explicit_bounds.contains(&2.0), "{last:?}");
}

#[test]
fn deltas_add_up_whatever_the_threshold_is() {
    let collector = change_thresholds("delta");
    let received = collector.received();
    let points = durations(&received);
    for pair in points.windows(2) {
        assert_eq!(pair[0].time_unix_nano, pair[1].start_time_unix_nano, "{pair:?}");
    }
    for point in &points {
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count, "{point:?}");
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{point:?}");
    }
    let counted: u64 = points.iter().map(|point| point.count).sum();
    assert_eq!(counted, completed(&received).iter().sum::<u64>());
}

/// Scenario: a reload changes what is promised, and nothing that the worker runs by. Guarantee: no flow is drained.
#[test]
fn only_another_threshold_is_a_reason_to_drain() {
    let collector = Collector::start();
    let of = |slo: &str| promising("cumulative", slo);
    let worker = start(&collector, &[("a.yaml", &of("{success: 0.9}"))], "1h", 0.0);
    let told = [
        "{success: 0.99, window: 7d}",
        "{success: 0.99, latency: {p: 0.9, under: 300ms}}",
        "{latency: {p: 0.95, under: 300ms}}",
        "{latency: {p: 0.95, under: 0.3}}",
        "{latency: {p: 0.95, under: 301ms}}",
        "null",
    ]
    .map(|slo| reload(&worker, "a.yaml", &of(slo)));
    let (applied, unchanged) = ("reload applied", "reload found nothing changed");
    let refused = "reload refused: nothing has changed";
    assert_eq!(told, [unchanged, applied, unchanged, refused, applied, applied]);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}
