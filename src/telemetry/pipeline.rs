//! What stands between the spans and the exporter: a registry that counts, and a queue of the sampled spans.

use std::sync::Arc;

use super::{
    Histogram, Settings, Tracer,
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
pub struct Pipeline(pub(super) Option<Arc<Shared>>);

impl Pipeline {
    /// Makes the parts that the settings ask for.
    pub fn new(settings: &Settings) -> Self {
        if !settings.enabled || (settings.traces.is_none() && settings.metrics.is_none()) {
            return Self::default();
        }
        let buckets = match &settings.histogram {
            Histogram::Explicit { buckets } => buckets.as_deref(),
            Histogram::Exponential {} => None,
        };
        let registry = Arc::new(Registry::new(buckets));
        let queue = settings.traces.as_ref().map(|_| Arc::new(SpanQueue::new(&settings.span_queue)));
        let keeper = queue.as_ref().map(|queue| {
            Keeper::new(Arc::clone(queue), Arc::clone(&registry.spans), settings.keep_traces.clone())
        });
        Self(Some(Arc::new(Shared {
            registry,
            queue,
            keeper,
            sampling: Sampling::new(settings.trace_sample_rate, settings.is_parent_based),
            started: Started::default(),
            is_metered: settings.metrics.is_some(),
        })))
    }

    /// Returns what makes the spans.
    pub fn tracer(&self) -> Tracer {
        self.0.clone().map(Tracer::new).unwrap_or_default()
    }

    /// Returns whether spans are counted.
    pub(super) fn is_counted(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.is_metered)
    }

    /// Returns whether sampled spans are recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.queue().is_some()
    }

    /// Returns what all metrics are collected from, if they are exported.
    pub(super) fn registry(&self) -> Option<&Arc<Registry>> {
        self.0.as_ref().filter(|shared| shared.is_metered).map(|shared| &shared.registry)
    }

    /// Returns where sampled spans wait, if they are exported.
    pub(super) fn queue(&self) -> Option<&Arc<SpanQueue>> {
        self.0.as_ref()?.queue.as_ref()
    }

    pub(super) fn span_metrics(&self) -> Option<SpanMetrics> {
        self.registry().map(|registry| SpanMetrics(Arc::clone(&registry.spans)))
    }

    pub(super) fn recorder(&self) -> Option<Recorder> {
        self.queue().cloned().map(Recorder)
    }
}
