//! What is collected, as OTLP messages: metrics with their data points.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, Sum, metric::Data, number_data_point,
    },
};

use super::{
    Text,
    instruments::{Instrument, InstrumentKind},
};

/// A value of a counter or a gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(pub(super) i64);

impl Number {
    pub(super) fn of(value: u64) -> Self {
        Self(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// When a series began and when it is collected, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// The attributes of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Vec<(&'static str, Label)>);

/// The value of an attribute of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// A string.
    Text(Text),
    /// An integer.
    Int(i64),
    /// A boolean.
    Bool(bool),
}

impl<T: Into<Text>> From<T> for Label {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Label {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Label {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Labels {
    /// Returns these and one more.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Label>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    pub(super) fn encode(&self) -> Vec<KeyValue> {
        self.0.iter().map(|(key, value)| key_value(key, value)).collect()
    }
}

/// Metrics on their way to the exporter, by name.
#[derive(Default)]
pub(super) struct Collection(BTreeMap<String, Metric>);

impl Collection {
    /// Adds the point of a counter or a gauge. What is counted in nanoseconds becomes seconds.
    pub(super) fn number(
        &mut self,
        name: &str,
        instrument: &Instrument,
        labels: &Labels,
        value: Number,
        interval: Interval,
    ) {
        let point = NumberDataPoint {
            attributes: labels.encode(),
            start_time_unix_nano: if instrument.kind == InstrumentKind::Gauge { 0 } else { interval.start },
            time_unix_nano: interval.now,
            value: Some(if instrument.is_time() {
                number_data_point::Value::AsDouble(seconds(value.0.max(0).cast_unsigned()))
            } else {
                number_data_point::Value::AsInt(value.0)
            }),
            ..NumberDataPoint::default()
        };
        match &mut self.metric(name, instrument).data {
            Some(Data::Sum(sum)) => sum.data_points.push(point),
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            _ => unreachable!("an instrument of numbers has numbers"),
        }
    }

    /// Adds the point of a histogram.
    pub(super) fn histogram(&mut self, name: &str, instrument: &Instrument, point: HistogramDataPoint) {
        let data = self.metric(name, instrument).data.get_or_insert_with(|| {
            Data::Histogram(Histogram { data_points: Vec::new(), aggregation_temporality: cumulative() })
        });
        match data {
            Data::Histogram(histogram) => histogram.data_points.push(point),
            _ => unreachable!("all histograms of a worker are of one kind"),
        }
    }

    /// Adds the point of a histogram whose buckets follow the data.
    pub(super) fn exponential(
        &mut self,
        name: &str,
        instrument: &Instrument,
        point: ExponentialHistogramDataPoint,
    ) {
        let data = self.metric(name, instrument).data.get_or_insert_with(|| {
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: Vec::new(),
                aggregation_temporality: cumulative(),
            })
        });
        match data {
            Data::ExponentialHistogram(histogram) => histogram.data_points.push(point),
            _ => unreachable!("all histograms of a worker are of one kind"),
        }
    }

    pub(super) fn into_metrics(self) -> Vec<Metric> {
        self.0.into_values().collect()
    }

    fn metric(&mut self, name: &str, instrument: &Instrument) -> &mut Metric {
        if !self.0.contains_key(name) {
            let metric = Metric {
                name: name.to_owned(),
                unit: instrument.unit.to_owned(),
                description: instrument.description.to_owned(),
                data: data(instrument.kind),
                ..Metric::default()
            };
            self.0.insert(name.to_owned(), metric);
        }
        self.0.get_mut(name).expect("inserted above")
    }
}

/// Returns what holds the points of numbers; what holds those of a histogram depends on the histogram.
fn data(kind: InstrumentKind) -> Option<Data> {
    let sum = |is_monotonic| {
        Data::Sum(Sum { data_points: Vec::new(), aggregation_temporality: cumulative(), is_monotonic })
    };
    match kind {
        InstrumentKind::Counter | InstrumentKind::ObservableCounter => Some(sum(true)),
        InstrumentKind::UpDownCounter => Some(sum(false)),
        InstrumentKind::Gauge => Some(Data::Gauge(Gauge::default())),
        InstrumentKind::Histogram(_) => None,
    }
}

fn cumulative() -> i32 {
    AggregationTemporality::Cumulative.into()
}

/// Returns nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds are doubles in OTLP")]
    let nanos = nanos as f64;
    nanos / 1e9
}

fn key_value(key: &str, value: &Label) -> KeyValue {
    let value = match value {
        Label::Text(text) => any_value::Value::StringValue(text.to_string()),
        Label::Int(int) => any_value::Value::IntValue(*int),
        Label::Bool(bool) => any_value::Value::BoolValue(*bool),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
