//! Durations of one series: counted in buckets, with exemplars.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, exponential_histogram_data_point,
};

use super::{
    ExemplarFilter,
    exemplars::Exemplars,
    exponential::Exponential,
    histogram::{Bounds, Histogram},
    instruments::Instrument,
    points::{Collection, Interval, Labels},
};
use crate::trace::Moment;

/// Into which buckets durations are sorted.
#[derive(Debug)]
pub(super) enum Aggregation {
    /// Those between these bounds.
    Explicit(Bounds),
    /// Those that follow the data, for about so many threads.
    Exponential(usize),
}

/// The cells of one histogram.
#[derive(Debug)]
enum Cells {
    Explicit(Histogram),
    Exponential(Exponential),
}

/// Counts the durations of one series.
#[derive(Debug)]
pub(super) struct Durations {
    aggregation: Arc<Aggregation>,
    cells: Cells,
    exemplars: Exemplars,
    filter: ExemplarFilter,
}

impl Durations {
    pub(super) fn new(aggregation: &Arc<Aggregation>, filter: ExemplarFilter) -> Self {
        let cells = match &**aggregation {
            Aggregation::Explicit(bounds) => Cells::Explicit(Histogram::new(bounds)),
            Aggregation::Exponential(shards) => Cells::Exponential(Exponential::new(*shards)),
        };
        Self { aggregation: Arc::clone(aggregation), cells, exemplars: Exemplars::default(), filter }
    }

    /// Returns what is sorted into other buckets and goes on where this is, unless these are its buckets. Nothing must be
    /// recorded here any more.
    pub(super) fn sorted_into(&self, aggregation: &Arc<Aggregation>) -> Option<Self> {
        match (&self.cells, &*self.aggregation, &**aggregation) {
            (Cells::Explicit(cells), Aggregation::Explicit(from), Aggregation::Explicit(to))
                if from != to =>
            {
                Some(Self {
                    aggregation: Arc::clone(aggregation),
                    cells: Cells::Explicit(cells.sorted_anew(from, to)),
                    exemplars: Exemplars::default(),
                    filter: self.filter,
                })
            }
            _ => None,
        }
    }

    /// Records a duration, which as the filter says also is an exemplar.
    #[inline]
    pub(super) fn record(&self, nanos: u64, at: Moment) {
        match (&self.cells, &*self.aggregation) {
            (Cells::Explicit(cells), Aggregation::Explicit(bounds)) => cells.record(nanos, bounds),
            (Cells::Exponential(cells), _) => cells.record(nanos),
            (Cells::Explicit(_), Aggregation::Exponential(_)) => unreachable!("made for the aggregation"),
        }
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
        let Interval { start: start_time_unix_nano, now: time_unix_nano } = interval;
        let (attributes, exemplars) = (labels.encode(), self.exemplars.take());
        match (&self.cells, &*self.aggregation) {
            (Cells::Explicit(cells), Aggregation::Explicit(bounds)) => {
                let snapshot = cells.snapshot(bounds);
                let point = HistogramDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count: snapshot.count,
                    sum: Some(snapshot.sum),
                    bucket_counts: snapshot.buckets,
                    explicit_bounds: bounds.seconds().to_vec(),
                    exemplars,
                    ..HistogramDataPoint::default()
                };
                into.histogram(name, instrument, point);
                snapshot.count
            }
            (Cells::Exponential(cells), _) => {
                let snapshot = cells.snapshot();
                let positive = exponential_histogram_data_point::Buckets {
                    offset: snapshot.offset,
                    bucket_counts: snapshot.buckets,
                };
                let point = ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count: snapshot.count,
                    sum: Some(snapshot.sum),
                    scale: snapshot.scale,
                    zero_count: snapshot.zero_count,
                    positive: Some(positive),
                    exemplars,
                    ..ExponentialHistogramDataPoint::default()
                };
                into.exponential(name, instrument, point);
                snapshot.count
            }
            (Cells::Explicit(_), Aggregation::Exponential(_)) => unreachable!("made for the aggregation"),
        }
    }

    /// Returns whether nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        match (&self.cells, &*self.aggregation) {
            (Cells::Explicit(cells), Aggregation::Explicit(bounds)) => cells.snapshot(bounds).count == 0,
            (Cells::Exponential(cells), _) => cells.snapshot().count == 0,
            (Cells::Explicit(_), Aggregation::Exponential(_)) => unreachable!("made for the aggregation"),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        match &self.cells {
            Cells::Explicit(cells) => cells.clear(),
            Cells::Exponential(cells) => cells.clear(),
        }
        self.exemplars.take();
    }
}
