//! What stands between the spans and the exporter: a table that counts them, and a queue of the sampled ones.

use std::sync::Arc;

use super::{
    Histogram, Settings, queue::SpanQueue, recorder::Recorder, series::SeriesTable,
    span_metrics::SpanMetrics, spans::Tracer,
};

/// The parts of telemetry that are switched on. The default has none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    /// There if metrics are exported.
    pub(super) table: Option<Arc<SeriesTable>>,
    /// There if traces are exported.
    pub(super) queue: Option<Arc<SpanQueue>>,
    tracer: Tracer,
}

impl Pipeline {
    /// Makes the parts that the settings ask for.
    pub fn new(settings: &Settings) -> Self {
        if !settings.enabled || (settings.traces.is_none() && settings.metrics.is_none()) {
            return Self::default();
        }
        let bounds = match &settings.histogram {
            Histogram::Explicit { buckets } => buckets.as_deref(),
            Histogram::Exponential {} => None,
        };
        let table = Arc::new(SeriesTable::new(bounds));
        let queue = settings.traces.as_ref().map(|_| Arc::new(SpanQueue::new(&settings.span_queue)));
        let tracer = Tracer::new(Arc::clone(&table), queue.clone(), settings.trace_sample_rate);
        Self { table: settings.metrics.is_some().then_some(table), queue, tracer }
    }

    /// Returns what makes the spans.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Returns whether spans are counted.
    pub(super) fn is_counted(&self) -> bool {
        self.table.is_some()
    }

    /// Returns whether sampled spans are recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.queue.is_some()
    }

    pub(super) fn span_metrics(&self) -> Option<SpanMetrics> {
        self.table.clone().map(SpanMetrics)
    }

    pub(super) fn recorder(&self) -> Option<Recorder> {
        self.queue.clone().map(Recorder)
    }
}
