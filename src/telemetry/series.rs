//! The metrics of spans: for every span name `S` and every task the instruments `S.duration`, `S.count`
//! and `S.errors`, counted in cells and collected as OTLP messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric::Data,
        number_data_point,
    },
};

use super::{
    Identity, SpanKind, SpanOutcome, encode,
    histogram::{Bounds, Histogram},
};
use crate::event::{Ticks, follow_wall_clock};

/// The `error.type` of an error that its kind does not declare.
const OTHER: &str = "_OTHER";

/// The types of the errors that the runtime itself makes, of any task.
const RUNTIME_ERRORS: [&str; 2] = ["panic", "timeout"];

/// What the spans of one name and one task have in common.
#[derive(Debug)]
pub(super) struct Series {
    name: &'static str,
    /// The task; none for the spans of the worker.
    identity: Option<Arc<Identity>>,
    /// Every `error.type` that they can have.
    error_types: &'static [&'static str],
    /// What is exported of every one of them, encoded.
    pub(super) encoded: Vec<u8>,
}

impl Series {
    pub(super) fn new(
        name: &'static str,
        kind: SpanKind,
        identity: Option<Arc<Identity>>,
        error_types: &'static [&'static str],
    ) -> Self {
        let encoded = encode::common(name, kind, identity.as_deref());
        Self { name, identity, error_types, encoded }
    }

    /// Returns the value of `error.type` for an error of this type: never one that is not declared.
    pub(super) fn error_type(&self, error_type: &'static str) -> &'static str {
        let is_known = self.error_types.contains(&error_type) || RUNTIME_ERRORS.contains(&error_type);
        if is_known { error_type } else { OTHER }
    }
}

/// The cells of one series.
#[derive(Debug)]
struct Slot {
    series: Arc<Series>,
    /// Nanoseconds since 1970. Not told anew: a start that moves looks like a restart.
    registered: u64,
    /// By outcome; made when the first span ends with it.
    durations: [OnceLock<Histogram>; SpanOutcome::ALL.len()],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Slot {
    fn errors(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All series of a worker.
#[derive(Debug)]
pub(super) struct SeriesTable {
    bounds: Bounds,
    slots: boxcar::Vec<Slot>,
}

impl SeriesTable {
    /// Makes a table whose histograms have these upper bounds, in seconds.
    pub(super) fn new(bounds: Option<&[f64]>) -> Self {
        Self { bounds: Bounds::new(bounds), slots: boxcar::Vec::new() }
    }

    /// Adds a series, whose counters are zero from here on. Returns its place.
    pub(super) fn register(&self, series: Arc<Series>) -> usize {
        let errors = series.error_types.iter().map(|error_type| (*error_type, 0)).collect();
        self.slots.push(Slot {
            series,
            registered: Ticks::now().unix_nanos(),
            durations: Default::default(),
            errors: Mutex::new(errors),
        })
    }

    /// Counts a span that ended.
    pub(super) fn observe(
        &self,
        place: usize,
        outcome: SpanOutcome,
        nanos: u64,
        error_type: Option<&'static str>,
    ) {
        let Some(slot) = self.slots.get(place) else { return };
        let duration = slot.durations[outcome as usize].get_or_init(|| Histogram::new(&self.bounds));
        duration.record(nanos, &self.bounds);
        if let Some(error_type) = error_type {
            *slot.errors().entry(slot.series.error_type(error_type)).or_default() += 1;
        }
    }

    /// Returns everything counted so far.
    pub(super) fn collect(&self) -> Vec<Metric> {
        follow_wall_clock();
        let now = Ticks::now().unix_nanos();
        let mut names: BTreeMap<&str, Vec<&Slot>> = BTreeMap::new();
        for (_, slot) in &self.slots {
            names.entry(slot.series.name).or_default().push(slot);
        }
        names.into_iter().flat_map(|(name, slots)| self.of_one_name(name, &slots, now)).collect()
    }

    fn of_one_name(&self, name: &str, slots: &[&Slot], now: u64) -> [Metric; 3] {
        let mut durations = Vec::new();
        let mut counts = Vec::new();
        let mut errors = Vec::new();
        for slot in slots {
            // Never after its end, though the clock be set back.
            let start = slot.registered.min(now);
            for outcome in SpanOutcome::ALL {
                let duration = slot.durations[outcome as usize].get();
                let is_promised = matches!(outcome, SpanOutcome::Completed | SpanOutcome::Failed);
                if duration.is_none() && !is_promised {
                    continue;
                }
                let attributes = attributes(&slot.series, "outcome", outcome.name());
                let point = duration.map(|duration| self.point(duration, attributes.clone(), start, now));
                counts.push(number(point.as_ref().map_or(0, |point| point.count), attributes, start, now));
                durations.extend(point);
            }
            for (error_type, count) in &*slot.errors() {
                let attributes = attributes(&slot.series, "error.type", error_type);
                errors.push(number(*count, attributes, start, now));
            }
        }
        let temporality = AggregationTemporality::Cumulative.into();
        let sum = |points| {
            Data::Sum(Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: true })
        };
        let histogram = Data::Histogram(opentelemetry_proto::tonic::metrics::v1::Histogram {
            data_points: durations,
            aggregation_temporality: temporality,
        });
        [
            metric(name, "duration", "s", "The duration of the spans, from start to end.", histogram),
            metric(name, "count", "{span}", "The number of spans that ended.", sum(counts)),
            metric(name, "errors", "{error}", "The number of spans that failed.", sum(errors)),
        ]
    }

    fn point(
        &self,
        duration: &Histogram,
        attributes: Vec<KeyValue>,
        start: u64,
        now: u64,
    ) -> HistogramDataPoint {
        let snapshot = duration.snapshot(&self.bounds);
        HistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: snapshot.count,
            sum: Some(snapshot.sum),
            bucket_counts: snapshot.buckets,
            explicit_bounds: self.bounds.seconds().to_vec(),
            ..HistogramDataPoint::default()
        }
    }
}

fn metric(span: &str, what: &str, unit: &str, description: &str, data: Data) -> Metric {
    Metric {
        name: format!("{span}.{what}"),
        unit: unit.to_owned(),
        description: description.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(value: u64, attributes: Vec<KeyValue>, start: u64, now: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    }
}

/// Returns the attributes of a data point: the task's, if there is one, and one more.
fn attributes(series: &Series, key: &'static str, value: &str) -> Vec<KeyValue> {
    let task = series.identity.iter().flat_map(|identity| {
        [("flow", &*identity.flow), ("task", &*identity.task), ("task_type", identity.task_type)]
    });
    task.chain([(key, value)])
        .map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
            ..KeyValue::default()
        })
        .collect()
}
