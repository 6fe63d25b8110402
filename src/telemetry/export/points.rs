//! Data points as the steps after a collection see them: which series they are of, and what they count.
//!
//! A collection is cumulative: a point counts from the start of its series. What is of no count, such as a gauge, is a
//! number like any other here.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint,
        exponential_histogram_data_point, number_data_point::Value as Number,
    },
};
use prost::Message;

use crate::telemetry::{OVERFLOW, exponential::Buckets};

/// What a point tells beside its value.
pub(super) struct Head {
    pub(super) attributes: Vec<KeyValue>,
    pub(super) exemplars: Vec<Exemplar>,
    /// Nanoseconds since 1970, as the time.
    pub(super) start: u64,
    pub(super) time: u64,
}

/// What a point counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(Number),
    Histogram { count: u64, sum: f64, sorted: Sorted },
    Exponential { count: u64, sum: f64, zero_count: u64, buckets: Buckets },
}

/// The buckets of a histogram: one count more than there are bounds. Series of a metric have most of them in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sorted {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Sorted {
    /// Adds the counts of another one, in the buckets that both have.
    fn add(&mut self, other: &Self) {
        let others = self.alike(other);
        self.counts.resize(self.counts.len().max(others.len()), 0);
        self.counts.iter_mut().zip(others).for_each(|(own, other)| *own += other);
    }

    /// Returns how much more this is than `earlier`, in the buckets that both have; nothing if any count is less.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = self.clone();
        let earlier = since.alike(earlier);
        if since.counts.len() != earlier.len() {
            return None;
        }
        for (now, earlier) in since.counts.iter_mut().zip(earlier) {
            *now = now.checked_sub(earlier)?;
        }
        Some(since)
    }

    /// Keeps those bounds that another one has too. Returns its counts between them.
    fn alike(&mut self, other: &Self) -> Vec<u64> {
        if self.bounds == other.bounds {
            return other.counts.clone();
        }
        let common: Vec<_> =
            self.bounds.iter().copied().filter(|bound| other.bounds.contains(bound)).collect();
        self.counts = self.between(&common);
        self.bounds.clone_from(&common);
        other.between(&common)
    }

    /// Returns the counts between fewer bounds.
    fn between(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for (n, count) in self.counts.iter().enumerate() {
            let bucket =
                self.bounds.get(n).map_or(bounds.len(), |upper| bounds.partition_point(|it| it < upper));
            counts[bucket] += count;
        }
        counts
    }
}

/// A series at one moment.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) start: u64,
    pub(super) time: u64,
    pub(super) value: Value,
}

/// A data point of any kind. What neither head nor value takes out of it is the same in all points of a metric.
pub(super) trait Point: Clone {
    fn attributes(&self) -> &[KeyValue];
    fn take_head(&mut self) -> Head;
    fn put_head(&mut self, head: Head);
    fn take_value(&mut self) -> Value;
    /// Extremes go: those of another time or of several series are not known.
    fn put_value(&mut self, value: Value);
}

/// Returns whether a point tells of the series beyond a limit.
pub(super) fn is_overflow(attributes: &[KeyValue]) -> bool {
    matches!(attributes, [only] if only.key == OVERFLOW)
}

/// Returns what a series is known by among those of its metric.
pub(super) fn key(attributes: &[KeyValue]) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    for attribute in attributes {
        attribute.encode_length_delimited(&mut key).expect("a vector grows");
    }
    key
}

impl Known {
    pub(super) fn new(head: &Head, value: Value) -> Self {
        Self { start: head.start, time: head.time, value }
    }

    /// Returns what the series has counted since it was `earlier`; nothing if it has ended in between and another one
    /// has its attributes.
    pub(super) fn since(&self, earlier: &Self) -> Option<Value> {
        // After the clock was set back a point starts when it ends, as it cannot start later.
        let is_told = |it: &Self| it.start != it.time;
        if self.start != earlier.start && is_told(self) && is_told(earlier) {
            return None;
        }
        self.value.since(&earlier.value)
    }
}

impl Value {
    /// Adds what another series of the same metric counts.
    pub(super) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Number(own), Self::Number(other)) => *own = sum(*own, *other),
            (
                Self::Histogram { count, sum, sorted },
                Self::Histogram { count: more, sum: longer, sorted: others },
            ) => {
                *count += more;
                *sum += longer;
                sorted.add(others);
            }
            (
                Self::Exponential { count, sum, zero_count, buckets },
                Self::Exponential { count: more, sum: longer, zero_count: zeros, buckets: others },
            ) => {
                *count += more;
                *sum += longer;
                *zero_count += zeros;
                buckets.add(others);
            }
            _ => {}
        }
    }

    /// Returns how much more this is than `earlier`; nothing if any part of it is less.
    fn since(&self, earlier: &Self) -> Option<Self> {
        match (self, earlier) {
            (Self::Number(now), Self::Number(earlier)) => difference(*now, *earlier).map(Self::Number),
            (
                Self::Histogram { count, sum, sorted },
                Self::Histogram { count: less, sum: shorter, sorted: earlier },
            ) => Some(Self::Histogram {
                count: count.checked_sub(*less)?,
                sum: sum - shorter,
                sorted: sorted.since(earlier)?,
            }),
            (
                Self::Exponential { count, sum, zero_count, buckets },
                Self::Exponential { count: less, sum: shorter, zero_count: zeros, buckets: earlier },
            ) => Some(Self::Exponential {
                count: count.checked_sub(*less)?,
                sum: sum - shorter,
                zero_count: zero_count.checked_sub(*zeros)?,
                buckets: buckets.since(earlier)?,
            }),
            _ => None,
        }
    }
}

fn sum(left: Number, right: Number) -> Number {
    match (left, right) {
        (Number::AsInt(left), Number::AsInt(right)) => Number::AsInt(left.saturating_add(right)),
        _ => Number::AsDouble(double(left) + double(right)),
    }
}

fn difference(now: Number, earlier: Number) -> Option<Number> {
    match (now, earlier) {
        (Number::AsInt(now), Number::AsInt(earlier)) if now >= earlier => Some(Number::AsInt(now - earlier)),
        (Number::AsDouble(now), Number::AsDouble(earlier)) if now >= earlier => {
            Some(Number::AsDouble(now - earlier))
        }
        _ => None,
    }
}

fn double(number: Number) -> f64 {
    match number {
        #[expect(clippy::cast_precision_loss, reason = "what it is added to is a double")]
        Number::AsInt(number) => number as f64,
        Number::AsDouble(number) => number,
    }
}

/// What differs in the name of the type only.
macro_rules! heads {
    () => {
        fn attributes(&self) -> &[KeyValue] {
            &self.attributes
        }

        fn take_head(&mut self) -> Head {
            Head {
                attributes: std::mem::take(&mut self.attributes),
                exemplars: std::mem::take(&mut self.exemplars),
                start: self.start_time_unix_nano,
                time: self.time_unix_nano,
            }
        }

        fn put_head(&mut self, head: Head) {
            self.attributes = head.attributes;
            self.exemplars = head.exemplars;
            self.start_time_unix_nano = head.start;
            self.time_unix_nano = head.time;
        }
    };
}

impl Point for NumberDataPoint {
    heads!();

    fn take_value(&mut self) -> Value {
        Value::Number(self.value.take().unwrap_or(Number::AsInt(0)))
    }

    fn put_value(&mut self, value: Value) {
        if let Value::Number(value) = value {
            self.value = Some(value);
        }
    }
}

impl Point for HistogramDataPoint {
    heads!();

    fn take_value(&mut self) -> Value {
        let sorted = Sorted {
            bounds: std::mem::take(&mut self.explicit_bounds),
            counts: std::mem::take(&mut self.bucket_counts),
        };
        Value::Histogram { count: self.count, sum: self.sum.unwrap_or_default(), sorted }
    }

    fn put_value(&mut self, value: Value) {
        if let Value::Histogram { count, sum, sorted } = value {
            (self.count, self.sum) = (count, Some(sum));
            (self.explicit_bounds, self.bucket_counts) = (sorted.bounds, sorted.counts);
            (self.min, self.max) = (None, None);
        }
    }
}

/// A duration is never negative, so that buckets are on one side only.
impl Point for ExponentialHistogramDataPoint {
    heads!();

    fn take_value(&mut self) -> Value {
        let exponential_histogram_data_point::Buckets { offset, bucket_counts: counts } =
            self.positive.take().unwrap_or_default();
        Value::Exponential {
            count: self.count,
            sum: self.sum.unwrap_or_default(),
            zero_count: self.zero_count,
            buckets: Buckets { scale: self.scale, offset, counts },
        }
    }

    fn put_value(&mut self, value: Value) {
        if let Value::Exponential { count, sum, zero_count, buckets } = value {
            let Buckets { scale, offset, counts: bucket_counts } = buckets;
            (self.count, self.sum, self.zero_count, self.scale) = (count, Some(sum), zero_count, scale);
            self.positive = Some(exponential_histogram_data_point::Buckets { offset, bucket_counts });
            (self.min, self.max) = (None, None);
        }
    }
}
