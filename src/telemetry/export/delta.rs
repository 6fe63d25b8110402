//! Temporality: from what was counted since the start to what was counted since the collector last heard of it.
//!
//! Every series has a base, which is what the collector has of it, and which advances only when the collector has taken
//! a point: what was dropped is in the next one. A call whose answer was lost may have been taken nevertheless, and is
//! counted twice then; the other choice would be to count it never.

use std::collections::HashMap;

use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, metric::Data};

use super::points::{Head, Known, Point, Value, is_overflow, key};
use crate::telemetry::Temporality;

/// Makes deltas of cumulative metrics.
pub(super) struct Deltas {
    /// Returns whether a counter is an observed one, which stays cumulative.
    stays: fn(&str) -> bool,
    /// By the names of metrics, then by the keys of series.
    bases: HashMap<String, HashMap<Vec<u8>, Base>>,
}

/// What is known of one series.
#[derive(Default)]
struct Base {
    /// What the collector has.
    accepted: Option<Known>,
    /// What it will have once it takes what is on its way.
    sent: Option<Known>,
    is_collected: bool,
    /// It comes again: what it counts is never forgotten.
    is_overflow: bool,
}

impl Deltas {
    /// Makes them for a temporality, unless it is cumulative. `is_observed` knows the names of counters that are
    /// observed instead of counted: low memory leaves those cumulative.
    pub(super) fn new(temporality: Temporality, is_observed: fn(&str) -> bool) -> Option<Self> {
        let stays = match temporality {
            Temporality::Cumulative => return None,
            Temporality::Delta => |_: &str| false,
            Temporality::LowMemory => is_observed,
        };
        Some(Self { stays, bases: HashMap::new() })
    }

    /// Leaves of a collection what was counted since the bases: of counters and histograms, while gauges and what can
    /// go down stay as they are. A series that did not change is left out, but for its first point.
    pub(super) fn apply(&mut self, metrics: &mut [Metric]) {
        for Metric { name, data, .. } in metrics {
            let delta = AggregationTemporality::Delta.into();
            match data {
                Some(Data::Sum(data)) if data.is_monotonic && !(self.stays)(name) => {
                    data.aggregation_temporality = delta;
                    self.subtract(name, &mut data.data_points);
                }
                Some(Data::Histogram(data)) => {
                    data.aggregation_temporality = delta;
                    self.subtract(name, &mut data.data_points);
                }
                Some(Data::ExponentialHistogram(data)) => {
                    data.aggregation_temporality = delta;
                    self.subtract(name, &mut data.data_points);
                }
                _ => {}
            }
        }
        self.bases.retain(|_, bases| {
            bases.retain(|_, base| std::mem::take(&mut base.is_collected) || base.is_overflow);
            !bases.is_empty()
        });
    }

    /// Advances the bases of what the collector has taken of the last collection.
    pub(super) fn accepted(&mut self, metrics: &[Metric]) {
        for metric in metrics {
            let Some(bases) = self.bases.get_mut(&metric.name) else { continue };
            match &metric.data {
                Some(Data::Sum(data)) => advance(bases, &data.data_points),
                Some(Data::Histogram(data)) => advance(bases, &data.data_points),
                Some(Data::ExponentialHistogram(data)) => advance(bases, &data.data_points),
                _ => {}
            }
        }
    }

    fn subtract<P: Point>(&mut self, name: &str, points: &mut Vec<P>) {
        let bases = self.bases.entry(name.to_owned()).or_default();
        points.retain_mut(|point| {
            let base = bases.entry(key(point.attributes())).or_default();
            base.is_overflow = is_overflow(point.attributes());
            let mut head = point.take_head();
            let growth = base.growth(&mut head, point.take_value());
            let is_told = growth.is_some();
            growth.into_iter().for_each(|value| point.put_value(value));
            point.put_head(head);
            is_told
        });
    }
}

impl Base {
    /// Returns what was counted since, and moves the start to when that was; nothing if nothing was.
    fn growth(&mut self, head: &mut Head, value: Value) -> Option<Value> {
        let now = Known::new(head, value);
        self.is_collected = true;
        let mut since = None;
        if let Some(accepted) = &self.accepted {
            since = now.since(accepted);
            if since.is_some() && now.value == accepted.value {
                return None;
            }
            // Never after its end, though the clock be set back.
            head.start = accepted.time.max(head.start).min(head.time);
        }
        // All of it, if it is the first one, or the first one again.
        let growth = since.unwrap_or_else(|| now.value.clone());
        self.sent = Some(now);
        Some(growth)
    }
}

fn advance<P: Point>(bases: &mut HashMap<Vec<u8>, Base>, points: &[P]) {
    for point in points {
        if let Some(base) = bases.get_mut(&key(point.attributes()))
            && let Some(sent) = base.sent.take()
        {
            base.accepted = Some(sent);
        }
    }
}

#[cfg(test)]
mod tests;
