//! Durations of one series: counted in buckets, with exemplars.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;

use super::{
    exemplars::Exemplars,
    histogram::{Bounds, Histogram},
    instruments::Instrument,
    points::{Collection, Interval, Labels},
};
use crate::trace::Moment;

/// The cells of one histogram.
#[derive(Debug)]
pub(super) struct Durations {
    cells: Histogram,
    bounds: Arc<Bounds>,
    exemplars: Exemplars,
}

impl Durations {
    pub(super) fn new(bounds: &Arc<Bounds>) -> Self {
        Self { cells: Histogram::new(bounds), bounds: Arc::clone(bounds), exemplars: Exemplars::default() }
    }

    /// Records a duration. Of an exported span it also is an exemplar.
    #[inline]
    pub(super) fn record(&self, nanos: u64, exemplar: Option<Moment>) {
        self.cells.record(nanos, &self.bounds);
        if let Some(at) = exemplar {
            self.exemplars.offer(nanos, at);
        }
    }

    /// Makes a duration that was recorded before an exemplar: its span is exported after all.
    pub(super) fn exemplify(&self, nanos: u64, at: Moment) {
        self.exemplars.offer(nanos, at);
    }

    /// Adds what was recorded so far to a collection. Returns how many durations that are.
    pub(super) fn collect(
        &self,
        name: &str,
        instrument: &Instrument,
        labels: &Labels,
        interval: Interval,
        into: &mut Collection,
    ) -> u64 {
        let snapshot = self.cells.snapshot(&self.bounds);
        let point = HistogramDataPoint {
            attributes: labels.encode(),
            start_time_unix_nano: interval.start,
            time_unix_nano: interval.now,
            count: snapshot.count,
            sum: Some(snapshot.sum),
            bucket_counts: snapshot.buckets,
            explicit_bounds: self.bounds.seconds().to_vec(),
            exemplars: self.exemplars.take(),
            ..HistogramDataPoint::default()
        };
        into.histogram(name, instrument, point);
        snapshot.count
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.cells.clear();
        self.exemplars.take();
    }
}
