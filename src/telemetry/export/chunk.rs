//! Metrics in pieces that fit into one call: whole metrics where that is enough, else some of the points
//! of one metric.

use std::ops::Range;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, metric::Data},
    resource::v1::Resource,
};
use prost::Message;

use crate::telemetry::{SCOPE, VERSION};

/// What a metric takes in a body beside its own bytes: a tag and a length.
const METRIC_HEADER: usize = 6;

/// What lengths of nested messages may grow by when they are no longer empty.
const LENGTHS: usize = 16;

/// The metrics of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chunk(Vec<Metric>);

impl Chunk {
    /// Makes the chunk of metrics that fit into one call.
    pub(super) fn of(metrics: Vec<Metric>) -> Self {
        Self(metrics)
    }

    pub(super) fn metrics(&self) -> &[Metric] {
        &self.0
    }

    /// Returns the number of data points.
    pub(super) fn points(&self) -> u64 {
        self.0.iter().map(points).sum::<usize>() as u64
    }

    /// Encodes the request.
    pub(super) fn encode(&mut self, resource: &Resource) -> Bytes {
        let mut request = request(resource, std::mem::take(&mut self.0));
        let body = request.encode_to_vec().into();
        // Back again, in case it has to be halved.
        self.0 = request.resource_metrics.swap_remove(0).scope_metrics.swap_remove(0).metrics;
        body
    }

    /// Cuts it in two: between metrics, or between the points of its only one. A single point stays whole.
    pub(super) fn halve(mut self) -> Vec<Self> {
        if self.0.len() > 1 {
            let right = self.0.split_off(self.0.len() / 2);
            return vec![self, Self(right)];
        }
        self.0.into_iter().flat_map(halve).map(|metric| Self(vec![metric])).collect()
    }
}

/// Returns the number of data points of a metric.
pub(super) fn points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

/// Returns how long a request is apart from its metrics.
pub(super) fn envelope(resource: &Resource) -> usize {
    request(resource, Vec::new()).encoded_len() + LENGTHS
}

/// Puts metrics into chunks of no more than `limit` bytes, in their order. A single point that is longer
/// has a chunk of its own. A metric without points is left out.
pub(super) fn chunks(metrics: Vec<Metric>, limit: usize) -> Vec<Chunk> {
    let mut ahead: Vec<_> = metrics.into_iter().rev().filter(|metric| points(metric) > 0).collect();
    let (mut chunks, mut chunk, mut length) = (Vec::new(), Chunk::default(), 0);
    while let Some(metric) = ahead.pop() {
        let own = metric.encoded_len() + METRIC_HEADER;
        if own > limit && points(&metric) > 1 {
            ahead.extend(halve(metric).into_iter().rev());
            continue;
        }
        if length + own > limit && !chunk.0.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            length = 0;
        }
        length += own;
        chunk.0.push(metric);
    }
    if !chunk.0.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn request(resource: &Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: SCOPE.into(),
        version: VERSION.into(),
        ..InstrumentationScope::default()
    };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Some(resource.clone());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }],
    }
}

/// Cuts a metric between its points; one with a single point stays whole.
fn halve(mut metric: Metric) -> Vec<Metric> {
    let points = points(&metric);
    if points < 2 {
        return vec![metric];
    }
    let mut right = metric.clone();
    keep(&mut metric, 0..points / 2);
    keep(&mut right, points / 2..points);
    vec![metric, right]
}

/// Leaves only some of the points of a metric.
fn keep(metric: &mut Metric, range: Range<usize>) {
    fn cut<T>(points: &mut Vec<T>, range: Range<usize>) {
        points.truncate(range.end);
        points.drain(..range.start);
    }
    match &mut metric.data {
        None => {}
        Some(Data::Gauge(data)) => cut(&mut data.data_points, range),
        Some(Data::Sum(data)) => cut(&mut data.data_points, range),
        Some(Data::Histogram(data)) => cut(&mut data.data_points, range),
        Some(Data::ExponentialHistogram(data)) => cut(&mut data.data_points, range),
        Some(Data::Summary(data)) => cut(&mut data.data_points, range),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{Histogram, HistogramDataPoint, NumberDataPoint, Sum};

    use super::*;

    fn sum(name: &str, values: Range<u64>) -> Metric {
        let point = |n| NumberDataPoint { time_unix_nano: n, ..NumberDataPoint::default() };
        let data = Sum { data_points: values.map(point).collect(), is_monotonic: true, ..Sum::default() };
        Metric { name: name.into(), unit: "s".into(), data: Some(Data::Sum(data)), ..Metric::default() }
    }

    fn histogram(points: u64) -> Metric {
        let point = |n| HistogramDataPoint {
            time_unix_nano: n,
            bucket_counts: vec![n; 20],
            ..HistogramDataPoint::default()
        };
        let data = Histogram { data_points: (0..points).map(point).collect(), ..Histogram::default() };
        Metric { name: "h".into(), data: Some(Data::Histogram(data)), ..Metric::default() }
    }

    /// The times of all points, by which the tests know them.
    fn times(chunks: &[Chunk]) -> Vec<(String, u64)> {
        let times = |metric: &Metric| match &metric.data {
            Some(Data::Sum(data)) => data.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Some(Data::Histogram(data)) => {
                data.data_points.iter().map(|point| point.time_unix_nano).collect()
            }
            _ => Vec::new(),
        };
        let metrics = chunks.iter().flat_map(|chunk| &chunk.0);
        metrics.flat_map(|metric| times(metric).into_iter().map(|time| (metric.name.clone(), time))).collect()
    }

    #[test]
    fn no_body_is_longer_than_the_limit_and_no_point_is_lost() {
        let resource = super::super::resource::resource("orders", &Default::default());
        let metrics = vec![sum("a", 0..3), histogram(500), sum("empty", 0..0), sum("b", 0..200)];
        let expected = times(&[Chunk(metrics.clone())]);
        for limit in [2_000, 10_000, 1_000_000] {
            let mut chunks = chunks(metrics.clone(), limit - envelope(&resource));
            assert_eq!(times(&chunks), expected);
            assert_eq!(chunks.iter().map(Chunk::points).sum::<u64>(), 703);
            let longest = chunks.iter_mut().map(|chunk| chunk.encode(&resource).len()).max().unwrap();
            assert!(longest <= limit, "{longest} > {limit}");
            assert_eq!(chunks.len() == 1, limit == 1_000_000, "{} chunks", chunks.len());
        }
    }

    #[test]
    fn every_piece_of_a_metric_keeps_its_name_unit_and_kind() {
        for chunk in chunks(vec![sum("a", 0..100)], 300) {
            let [metric] = &chunk.0[..] else { panic!("{chunk:?}") };
            let Some(Data::Sum(data)) = &metric.data else { panic!("{metric:?}") };
            assert_eq!((&*metric.name, &*metric.unit, data.is_monotonic), ("a", "s", true));
        }
    }

    #[test]
    fn halves_go_down_to_single_points() {
        let mut ahead = vec![Chunk(vec![sum("a", 0..5), sum("b", 0..1), histogram(3)])];
        let expected = times(&ahead);
        while let Some(n) = ahead.iter().position(|chunk| chunk.points() > 1) {
            let halves = ahead.remove(n).halve();
            ahead.splice(n..n, halves);
        }
        assert_eq!((ahead.len(), times(&ahead)), (9, expected));
    }

    #[test]
    fn a_point_that_is_too_long_is_not_cut() {
        assert_eq!(chunks(vec![histogram(2)], 10).len(), 2);
    }

    #[test]
    fn an_encoded_chunk_can_still_be_halved() {
        let mut chunk = Chunk(vec![sum("a", 0..5)]);
        let before = chunk.clone();
        let body = chunk.encode(&Resource::default());
        assert_eq!(chunk, before);
        assert_eq!(
            ExportMetricsServiceRequest::decode(body).unwrap(),
            request(&Resource::default(), chunk.0)
        );
    }
}
