//! What stands between the spans and the exporter: a registry that counts, and a queue of the sampled spans.

use std::sync::Arc;

use super::{
    FlightRecorder, Propagators, Settings, Tracer,
    keep::Keeper,
    queue::SpanQueue,
    recorder::Recorder,
    registry::Registry,
    sampling::{Sampling, Started},
    span_metrics::SpanMetrics,
    spans::Shared,
};

/// The parts of telemetry that are switched on. The default has none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    pub(super) shared: Option<Arc<Shared>>,
    propagators: Propagators,
}

impl Pipeline {
    /// Makes the parts that the settings ask for.
    pub fn new(settings: &Settings) -> Self {
        let propagators = settings.propagators;
        if !settings.enabled || (settings.traces.is_none() && settings.metrics.is_none()) {
            return Self { shared: None, propagators };
        }
        let limit = settings.cardinality_limit;
        let registry = Arc::new(Registry::new(&settings.histogram, settings.exemplars, limit));
        let queue = settings.traces.as_ref().map(|_| Arc::new(SpanQueue::new(&settings.span_queue)));
        let keeper = queue.as_ref().map(|queue| {
            let keep_traces = settings.keep_traces.clone();
            Arc::new(Keeper::new(Arc::clone(queue), Arc::clone(&registry.spans), keep_traces))
        });
        let shared = Some(Arc::new(Shared {
            registry,
            queue,
            keeper,
            flight: FlightRecorder::new(settings.keep_traces.slower_than),
            sampling: Sampling::new(settings.trace_sample_rate, settings.is_parent_based),
            started: Started::default(),
            is_metered: settings.metrics.is_some(),
        }));
        Self { shared, propagators }
    }

    /// Returns what makes the spans.
    pub fn tracer(&self) -> Tracer {
        Tracer::new(self.shared.clone(), self.propagators)
    }

    /// Returns whether spans are counted.
    pub(super) fn is_counted(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_metered)
    }

    /// Returns whether sampled spans are recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.queue().is_some()
    }

    /// Returns what all metrics are collected from, if they are exported.
    pub(super) fn registry(&self) -> Option<&Arc<Registry>> {
        self.shared.as_ref().filter(|shared| shared.is_metered).map(|shared| &shared.registry)
    }

    /// Returns where sampled spans wait, if they are exported.
    pub(super) fn queue(&self) -> Option<&Arc<SpanQueue>> {
        self.shared.as_ref()?.queue.as_ref()
    }

    pub(super) fn span_metrics(&self) -> Option<SpanMetrics> {
        self.registry().map(|registry| SpanMetrics(Arc::clone(&registry.spans)))
    }

    pub(super) fn recorder(&self) -> Option<Recorder> {
        self.queue().cloned().map(Recorder)
    }
}
