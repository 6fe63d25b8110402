//! Durations of one series: counted in buckets, with exemplars.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;

use super::{
    ExemplarFilter,
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
    filter: ExemplarFilter,
}

impl Durations {
    pub(super) fn new(bounds: &Arc<Bounds>, filter: ExemplarFilter) -> Self {
        let (cells, bounds) = (Histogram::new(bounds), Arc::clone(bounds));
        Self { cells, bounds, exemplars: Exemplars::default(), filter }
    }

    /// Records a duration, which as the filter says also is an exemplar.
    #[inline]
    pub(super) fn record(&self, nanos: u64, at: Moment) {
        self.cells.record(nanos, &self.bounds);
        let is_exemplar = match self.filter {
            ExemplarFilter::TraceBased => at.context.is_sampled(),
            ExemplarFilter::AlwaysOn => at.at.is_set(),
            ExemplarFilter::AlwaysOff => false,
        };
        if is_exemplar {
            self.exemplars.offer(nanos, at);
        }
    }

    /// Makes a duration that was recorded before an exemplar: its span is exported after all.
    pub(super) fn exemplify(&self, nanos: u64, at: Moment) {
        if self.filter != ExemplarFilter::AlwaysOff {
            self.exemplars.offer(nanos, at);
        }
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
