//! Metrics as tests look at them: the last cumulative value of each series, or all of one collection.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        self as proto, AggregationTemporality, exemplar, metric::Data, number_data_point::Value as AnyNumber,
    },
};

use super::spans::{Attributes, attributes, scope, span_id, trace_id};

/// The attributes of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// What a point of a series says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Counter(u64),
    CounterOfSeconds(f64),
    UpDown(i64),
    Gauge(f64),
    Histogram { count: u64, sum: f64, bounds: Vec<f64>, buckets: Vec<u64> },
}

/// A measurement of a histogram, and the span that it was made in.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
}

/// The last point of a series.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) number: Number,
    /// Those of all points of the series so far.
    pub(crate) exemplars: Vec<Exemplar>,
    pub(crate) unit: String,
    pub(crate) description: String,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) resource: Arc<Attributes>,
    pub(crate) scope: Arc<(String, String)>,
}

/// Every series that came in.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: BTreeMap<String, BTreeMap<Labels, Point>>,
    /// How many points came in, those that a later one of their series has replaced included.
    pub(crate) points: u64,
}

/// Calls `f` with every point of these requests, the first one first.
fn each_point(requests: &[ExportMetricsServiceRequest], mut f: impl FnMut(&str, Labels, Point)) {
    for resource_metrics in requests.iter().flat_map(|request| &request.resource_metrics) {
        let resource = resource_metrics.resource.as_ref().expect("every point comes with its resource");
        let resource = Arc::new(attributes(&resource.attributes));
        for scope_metrics in &resource_metrics.scope_metrics {
            let scope = Arc::new(scope(scope_metrics.scope.as_ref()));
            for metric in &scope_metrics.metrics {
                for (labels, mut point) in points(metric) {
                    assert_ne!(
                        labels.get("otel.metric.overflow").map(String::as_str),
                        Some("true"),
                        "{metric:?}"
                    );
                    (point.resource, point.scope) = (Arc::clone(&resource), Arc::clone(&scope));
                    f(&metric.name, labels, point);
                }
            }
        }
    }
}

impl Metrics {
    pub(super) fn read(requests: &[ExportMetricsServiceRequest]) -> Self {
        let mut metrics = Self::default();
        each_point(requests, |name, labels, point| metrics.add(name, labels, point));
        metrics
    }

    /// Reads each collection by itself, the first one first.
    pub(super) fn read_each(requests: &[ExportMetricsServiceRequest]) -> Vec<Self> {
        let mut collections: BTreeMap<u64, Self> = BTreeMap::new();
        each_point(requests, |name, labels, point| {
            collections.entry(point.time).or_default().add(name, labels, point);
        });
        collections.into_values().collect()
    }

    fn add(&mut self, name: &str, labels: Labels, mut point: Point) {
        self.points += 1;
        let series = self.series.entry(name.to_owned()).or_default();
        if let Some(earlier) = series.get_mut(&labels) {
            assert_follows(name, &labels, earlier, &point);
            point.exemplars.splice(0..0, std::mem::take(&mut earlier.exemplars));
        }
        series.insert(labels, point);
    }

    /// Returns the names of all metrics.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Returns the series of this name, if there are any.
    pub(crate) fn get(&self, name: &str) -> Option<&BTreeMap<Labels, Point>> {
        self.series.get(name)
    }

    /// Returns the series of this name; there is at least one.
    pub(crate) fn of(&self, name: &str) -> &BTreeMap<Labels, Point> {
        let known = || self.names().collect::<Vec<_>>().join(", ");
        self.get(name).unwrap_or_else(|| panic!("there is no metric `{name}`, but there are {}", known()))
    }

    /// Returns the series of this name that have these attributes; there is at least one.
    pub(crate) fn select(&self, name: &str, attributes: &[(&str, &str)]) -> Vec<(&Labels, &Point)> {
        let has = |labels: &Labels| {
            attributes.iter().all(|(key, value)| labels.get(*key).is_some_and(|known| known == value))
        };
        let series = self.of(name);
        let selected: Vec<_> = series.iter().filter(|(labels, _)| has(labels)).collect();
        assert!(!selected.is_empty(), "no series of `{name}` has {attributes:?}: {:#?}", series.keys());
        selected
    }

    /// Returns the value of a counter, summed over the series that have these attributes.
    pub(crate) fn counter(&self, name: &str, attributes: &[(&str, &str)]) -> u64 {
        let value = |point: &Point| match point.number {
            Number::Counter(value) => value,
            _ => panic!("`{name}` is no counter of whole numbers: {point:?}"),
        };
        self.select(name, attributes).iter().map(|(_, point)| value(point)).sum()
    }

    /// Returns how many values a histogram has, summed over the series that have these attributes.
    pub(crate) fn histogram_count(&self, name: &str, attributes: &[(&str, &str)]) -> u64 {
        let value = |point: &Point| match point.number {
            Number::Histogram { count, .. } => count,
            _ => panic!("`{name}` is no histogram: {point:?}"),
        };
        self.select(name, attributes).iter().map(|(_, point)| value(point)).sum()
    }
}

/// Checks that a point of a cumulative series may come after another one.
fn assert_follows(name: &str, labels: &Labels, earlier: &Point, later: &Point) {
    let is_growing = match (&earlier.number, &later.number) {
        (Number::Counter(earlier), Number::Counter(later)) => earlier <= later,
        (Number::CounterOfSeconds(earlier), Number::CounterOfSeconds(later)) => earlier <= later,
        (Number::Histogram { buckets: earlier, .. }, Number::Histogram { buckets: later, .. }) => {
            earlier.len() == later.len() && earlier.iter().zip(later).all(|(earlier, later)| earlier <= later)
        }
        (Number::Gauge(_), Number::Gauge(_)) | (Number::UpDown(_), Number::UpDown(_)) => true,
        _ => false,
    };
    let is_in_order = earlier.start == later.start && earlier.time < later.time;
    assert!(is_growing && is_in_order, "`{name}` {labels:?}: after {earlier:?} came {later:?}");
}

/// Returns the points of a metric, with the attributes of each.
fn points(metric: &proto::Metric) -> Vec<(Labels, Point)> {
    let point = |attributes: &[KeyValue], start, time, number| {
        let (unit, description) = (metric.unit.clone(), metric.description.clone());
        let (resource, scope, exemplars) = (Arc::default(), Arc::default(), Vec::new());
        (labels(attributes), Point { number, exemplars, unit, description, start, time, resource, scope })
    };
    let number = |of: &proto::NumberDataPoint, number| {
        point(&of.attributes, of.start_time_unix_nano, of.time_unix_nano, number)
    };
    match metric.data.as_ref().expect("a metric has data") {
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative, "{metric:?}");
            let read = |value| match (sum.is_monotonic, value) {
                (true, AnyNumber::AsInt(value)) => Number::Counter(u64::try_from(value).unwrap()),
                (true, AnyNumber::AsDouble(value)) => Number::CounterOfSeconds(value),
                (false, AnyNumber::AsInt(value)) => Number::UpDown(value),
                (false, AnyNumber::AsDouble(_)) => panic!("no such metric is ours: {metric:?}"),
            };
            sum.data_points.iter().map(|point| number(point, read(value(point)))).collect()
        }
        Data::Gauge(gauge) => {
            let read = |value| match value {
                AnyNumber::AsInt(value) => Number::Gauge(value as f64),
                AnyNumber::AsDouble(value) => Number::Gauge(value),
            };
            gauge.data_points.iter().map(|point| number(point, read(value(point)))).collect()
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative, "{metric:?}");
            let read = |of: &proto::HistogramDataPoint| {
                let number = distribution(of);
                let (labels, read) =
                    point(&of.attributes, of.start_time_unix_nano, of.time_unix_nano, number);
                (labels, Point { exemplars: of.exemplars.iter().map(Exemplar::read).collect(), ..read })
            };
            histogram.data_points.iter().map(read).collect()
        }
        other => panic!("no metric of ours is one of these: {other:?}"),
    }
}

fn value(point: &proto::NumberDataPoint) -> AnyNumber {
    point.value.expect("a point has a value")
}

fn distribution(point: &proto::HistogramDataPoint) -> Number {
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{point:?}");
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count, "{point:?}");
    Number::Histogram {
        count: point.count,
        sum: point.sum.expect("durations have a sum"),
        bounds: point.explicit_bounds.clone(),
        buckets: point.bucket_counts.clone(),
    }
}

impl Exemplar {
    fn read(exemplar: &proto::Exemplar) -> Self {
        let Some(exemplar::Value::AsDouble(value)) = exemplar.value else { panic!("{exemplar:?}") };
        Self {
            value,
            time: exemplar.time_unix_nano,
            trace_id: trace_id(&exemplar.trace_id),
            span_id: span_id(&exemplar.span_id),
        }
    }
}

/// Returns the attributes of a point.
pub(crate) fn labels(list: &[KeyValue]) -> Labels {
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    attributes(list).into_iter().map(|(key, value)| (key, text(value))).collect()
}
