//! Whatever a worker exports is one of its instruments: what the documentation says of the metric is what comes.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{Metric, metric::Data},
};

use flowgen::telemetry::instruments::{self, Instrument, SPANS};

/// What `flowgen doctor` sends to see whether it arrives.
const PROBE: &str = "flowgen.doctor.probe";

/// The attribute of what is beyond a limit of series. It has no other one.
const OVERFLOW: &str = "otel.metric.overflow";

/// What the spans of the worker's own life do not have.
const OF_TASKS: [&str; 3] = ["flow", "task", "task_type"];
const OF_WORKER: [&str; 2] = ["task_manager.", "flow.reload."];

/// What is there only if there is something to say.
const OPTIONAL: [&str; 3] = ["error.type", "http.response.status_code", "server.port"];

/// What a request that came in only has if it leads to a route.
const OF_A_ROUTE: [&str; 3] = ["flow", "task", "http.route"];

/// Checks that every metric of a call is in the table of instruments, with its type, unit and attributes.
pub(super) fn assert_known(request: &ExportMetricsServiceRequest) {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name != PROBE) {
        let instrument = find(&metric.name);
        let instrument = instrument.unwrap_or_else(|| panic!("nobody knows `{}`", metric.name));
        let found = (type_name(metric), &*metric.unit, &*metric.description);
        let known = (instrument.type_name(), instrument.unit, instrument.description);
        assert_eq!(found, known, "{}", metric.name);
        points(metric)
            .into_iter()
            .for_each(|attributes| assert_attributes(&metric.name, instrument, attributes));
    }
}

fn find(name: &str) -> Option<&'static Instrument> {
    let of_span = SPANS.iter().find_map(|span| name.strip_prefix(span)).map(|what| format!("S{what}"));
    let wanted = of_span.unwrap_or_else(|| name.to_owned());
    instruments::ALL.iter().find(|one| one.name == wanted).copied()
}

fn assert_attributes(metric: &str, instrument: &Instrument, attributes: &[KeyValue]) {
    let keys: Vec<&str> = attributes.iter().map(|attribute| &*attribute.key).collect();
    if keys == [OVERFLOW] {
        return;
    }
    let unknown: Vec<_> = keys.iter().filter(|key| !instrument.attributes.contains(key)).collect();
    assert!(unknown.is_empty(), "`{metric}` has {unknown:?} as well");
    let is_optional = |key: &str| {
        let is_of_a_task = instrument.attributes.contains(&"task") && !instrument.name.starts_with("http.");
        (OPTIONAL.contains(&key) && !is_of_a_task)
            || (OF_A_ROUTE.contains(&key) && instrument.name.starts_with("http.server."))
            || (OF_TASKS.contains(&key) && OF_WORKER.iter().any(|span| metric.starts_with(span)))
    };
    let absent = instrument.attributes.iter().filter(|key| !keys.contains(key) && !is_optional(key));
    let absent: Vec<_> = absent.collect();
    assert!(absent.is_empty(), "`{metric}` {keys:?} lacks {absent:?}");
}

fn type_name(metric: &Metric) -> &'static str {
    match &metric.data {
        Some(Data::Sum(sum)) if sum.is_monotonic => "counter",
        Some(Data::Sum(_)) => "up-down counter",
        Some(Data::Gauge(_)) => "gauge",
        Some(Data::Histogram(_) | Data::ExponentialHistogram(_)) => "histogram",
        other => panic!("no metric of ours is one of these: {other:?}"),
    }
}

/// Returns the attributes of every point.
fn points(metric: &Metric) -> Vec<&[KeyValue]> {
    match metric.data.as_ref() {
        Some(Data::Sum(data)) => data.data_points.iter().map(|point| &*point.attributes).collect(),
        Some(Data::Gauge(data)) => data.data_points.iter().map(|point| &*point.attributes).collect(),
        Some(Data::Histogram(data)) => data.data_points.iter().map(|point| &*point.attributes).collect(),
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.iter().map(|point| &*point.attributes).collect()
        }
        _ => Vec::new(),
    }
}
