//! The cardinality limit: a metric with more series than are wanted tells of some, and of all others in one.
//!
//! A series that was let in stays in, and one that was not stays out, for as long as it is collected. What the series
//! outside have counted goes into one point without their attributes: no count is lost, and none goes back when one of
//! them ends, because the point keeps what that one had counted. Of what can go down it tells the sum of those that are
//! there; of gauges the last one, as the SDKs of OpenTelemetry do. Its exemplars are those of the last series that has
//! any. A series that already is one of many, by the same attribute, is always outside.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{Exemplar, Metric, metric::Data},
};

use super::points::{Head, Known, Point, Value, is_overflow, key};
use crate::telemetry::OVERFLOW;

/// Limits the points of every metric.
pub(super) struct Limit {
    /// How many series of a metric are let in: one point is for the others.
    places: usize,
    /// Never forgotten: what has overflowed is told again when there is more.
    metrics: HashMap<String, Series>,
}

/// What the value of a point is, which says how those of several series become one.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    /// What was counted from the start: it only grows.
    Counted,
    /// How much there is: a sum of those that are there.
    Amount,
    /// What it was when it was looked at: the last one.
    Gauge,
}

/// The series of one metric.
#[derive(Default)]
struct Series {
    inside: HashSet<Vec<u8>>,
    outside: HashMap<Vec<u8>, Known>,
    overflow: Overflow,
}

/// What the series outside amount to.
#[derive(Default)]
struct Overflow {
    /// The start of the first of them: it never moves.
    start: Option<u64>,
    value: Option<Value>,
    exemplars: Vec<Exemplar>,
}

impl Limit {
    /// Makes one of so many points for each metric, at least one.
    pub(super) fn new(points: usize) -> Self {
        Self { places: points.saturating_sub(1), metrics: HashMap::new() }
    }

    /// Leaves no more points of each metric than the limit. No two metrics have one name.
    pub(super) fn apply(&mut self, metrics: &mut [Metric]) {
        for Metric { name, data, .. } in metrics {
            let series = self.metrics.entry(name.clone()).or_default();
            match data {
                Some(Data::Sum(data)) => {
                    let meaning = if data.is_monotonic { Meaning::Counted } else { Meaning::Amount };
                    series.limit(&mut data.data_points, self.places, meaning);
                }
                Some(Data::Gauge(data)) => {
                    series.limit(&mut data.data_points, self.places, Meaning::Gauge);
                }
                Some(Data::Histogram(data)) => {
                    series.limit(&mut data.data_points, self.places, Meaning::Counted);
                }
                Some(Data::ExponentialHistogram(data)) => {
                    series.limit(&mut data.data_points, self.places, Meaning::Counted);
                }
                Some(Data::Summary(_)) | None => {}
            }
        }
    }
}

impl Series {
    fn limit<P: Point>(&mut self, points: &mut Vec<P>, places: usize, meaning: Meaning) {
        let Some(mut last) = points.last().cloned() else { return };
        let keys: Vec<_> = points.iter().map(|point| key(point.attributes())).collect();
        self.free_places(&keys);
        if meaning != Meaning::Counted {
            self.overflow.value = None;
        }
        let mut keys = keys.into_iter();
        points.retain_mut(|point| {
            let key = keys.next().expect("there are as many");
            if !is_overflow(point.attributes()) && self.lets_in(&key, places) {
                return true;
            }
            let head = point.take_head();
            self.merge(key, head, point.take_value(), meaning);
            false
        });
        if let Some((head, value)) = self.overflow.told(last.take_head().time) {
            last.put_head(head);
            last.put_value(value);
            points.push(last);
        }
    }

    /// Forgets the series that have ended.
    fn free_places(&mut self, collected: &[Vec<u8>]) {
        let collected: HashSet<_> = collected.iter().collect();
        self.inside.retain(|key| collected.contains(key));
        self.outside.retain(|key, _| collected.contains(key));
    }

    fn lets_in(&mut self, key: &[u8], places: usize) -> bool {
        let is_new = !self.inside.contains(key) && !self.outside.contains_key(key);
        if is_new && self.inside.len() < places {
            self.inside.insert(key.to_owned());
        }
        self.inside.contains(key)
    }

    fn merge(&mut self, key: Vec<u8>, head: Head, value: Value, meaning: Meaning) {
        let now = Known::new(&head, value);
        let overflow = &mut self.overflow;
        overflow.start.get_or_insert(now.start);
        if !head.exemplars.is_empty() {
            overflow.exemplars = head.exemplars;
        }
        // One that does not go on where it was has ended, and begun anew.
        let since = self.outside.get(&key).and_then(|earlier| now.since(earlier));
        match (&mut overflow.value, meaning) {
            (Some(sum), Meaning::Counted) => sum.add(since.as_ref().unwrap_or(&now.value)),
            (Some(sum), Meaning::Amount) => sum.add(&now.value),
            (value, _) => *value = Some(now.value.clone()),
        }
        self.outside.insert(key, now);
    }
}

impl Overflow {
    /// Returns what its point tells, if there is one.
    fn told(&mut self, time: u64) -> Option<(Head, Value)> {
        let value = Some(AnyValue { value: Some(any_value::Value::BoolValue(true)) });
        let attribute = KeyValue { key: OVERFLOW.to_owned(), value, ..KeyValue::default() };
        let exemplars = std::mem::take(&mut self.exemplars);
        Some((Head { attributes: vec![attribute], exemplars, start: self.start?, time }, self.value.clone()?))
    }
}

#[cfg(test)]
mod tests;
