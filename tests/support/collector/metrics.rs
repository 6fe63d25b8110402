//! Metrics as tests look at them: the last cumulative value of each series.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        self as proto, AggregationTemporality, metric::Data, number_data_point::Value as AnyNumber,
    },
};

use super::spans::{Attributes, attributes, scope};

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

/// The last point of a series.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) number: Number,
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

impl Metrics {
    pub(super) fn read(requests: &[ExportMetricsServiceRequest]) -> Self {
        let mut metrics = Self::default();
        for resource_metrics in requests.iter().flat_map(|request| &request.resource_metrics) {
            let resource = resource_metrics.resource.as_ref().expect("every point comes with its resource");
            let resource = Arc::new(attributes(&resource.attributes));
            for scope_metrics in &resource_metrics.scope_metrics {
                let scope = Arc::new(scope(scope_metrics.scope.as_ref()));
                for metric in &scope_metrics.metrics {
                    metrics.read_metric(metric, &resource, &scope);
                }
            }
        }
        metrics
    }

    fn read_metric(
        &mut self,
        metric: &proto::Metric,
        resource: &Arc<Attributes>,
        scope: &Arc<(String, String)>,
    ) {
        for (labels, start, time, number) in points(metric) {
            let point = Point {
                number,
                unit: metric.unit.clone(),
                description: metric.description.clone(),
                start,
                time,
                resource: Arc::clone(resource),
                scope: Arc::clone(scope),
            };
            self.points += 1;
            let series = self.series.entry(metric.name.clone()).or_default();
            assert_ne!(labels.get("otel.metric.overflow").map(String::as_str), Some("true"), "{metric:?}");
            if let Some(earlier) = series.insert(labels.clone(), point) {
                assert_follows(&metric.name, &labels, &earlier, &series[&labels]);
            }
        }
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

/// Returns the points of a metric: the attributes, the start and the time of each, and what it says.
fn points(metric: &proto::Metric) -> Vec<(Labels, u64, u64, Number)> {
    match metric.data.as_ref().expect("a metric has data") {
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative, "{metric:?}");
            let read = |value| match (sum.is_monotonic, value) {
                (true, AnyNumber::AsInt(value)) => Number::Counter(u64::try_from(value).unwrap()),
                (true, AnyNumber::AsDouble(value)) => Number::CounterOfSeconds(value),
                (false, AnyNumber::AsInt(value)) => Number::UpDown(value),
                (false, AnyNumber::AsDouble(_)) => panic!("no such metric is ours: {metric:?}"),
            };
            sum.data_points.iter().map(|point| number(point, read)).collect()
        }
        Data::Gauge(gauge) => {
            let read = |value| match value {
                AnyNumber::AsInt(value) => Number::Gauge(value as f64),
                AnyNumber::AsDouble(value) => Number::Gauge(value),
            };
            gauge.data_points.iter().map(|point| number(point, read)).collect()
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative, "{metric:?}");
            histogram.data_points.iter().map(self::histogram).collect()
        }
        other => panic!("no metric of ours is one of these: {other:?}"),
    }
}

fn number(point: &proto::NumberDataPoint, read: impl Fn(AnyNumber) -> Number) -> (Labels, u64, u64, Number) {
    let number = read(point.value.expect("a point has a value"));
    (labels(&point.attributes), point.start_time_unix_nano, point.time_unix_nano, number)
}

fn histogram(point: &proto::HistogramDataPoint) -> (Labels, u64, u64, Number) {
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{point:?}");
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count, "{point:?}");
    let number = Number::Histogram {
        count: point.count,
        sum: point.sum.expect("durations have a sum"),
        bounds: point.explicit_bounds.clone(),
        buckets: point.bucket_counts.clone(),
    };
    (labels(&point.attributes), point.start_time_unix_nano, point.time_unix_nano, number)
}

/// Returns the attributes of a point.
pub(crate) fn labels(list: &[KeyValue]) -> Labels {
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    attributes(list).into_iter().map(|(key, value)| (key, text(value))).collect()
}
