//! Telemetry as a whole: starts with the worker and is flushed before it ends.

use std::time::{Duration, Instant};

use super::{
    Export, Pipeline, Settings, Tracer,
    export::{Exporter, MetricsExport, StartError, TracesExport, resource},
    instruments, own,
};

/// When metrics are exported first: early, so that the counters are there as zeros before the first error, and
/// late enough for the tasks to be built.
const FIRST_METRICS: Duration = Duration::from_secs(1);

/// Running telemetry. Dropped without a shutdown it is not flushed.
#[derive(Debug, Default)]
pub struct Telemetry {
    pipeline: Pipeline,
    exporter: Option<Exporter>,
}

impl Telemetry {
    /// Starts the export of what `pipeline` collects, if there is anything to export.
    ///
    /// # Errors
    /// A certificate that cannot be used, or no thread to be had.
    pub fn start(settings: &Settings, pipeline: Pipeline) -> Result<Self, StartError> {
        let traces = settings.traces.clone().zip(pipeline.queue().cloned());
        let traces = traces.map(|(export, queue)| TracesExport {
            export,
            queue,
            batch: settings.span_queue.batch,
            delay: settings.span_queue.delay,
        });
        let metrics = settings.metrics.clone().zip(pipeline.registry().cloned());
        let metrics = metrics.map(|(export, registry)| MetricsExport {
            export,
            collect: Box::new(move |has_arrived| registry.collect(has_arrived)),
            first: FIRST_METRICS.min(settings.metrics_export_interval),
            interval: settings.metrics_export_interval,
            cardinality_limit: settings.cardinality_limit,
            temporality: settings.temporality,
            is_observed: instruments::is_observed,
        });
        if traces.is_none() && metrics.is_none() {
            return Ok(Self { pipeline, exporter: None });
        }
        let endpoint = |export: &Option<Export>| export.as_ref().map(Export::endpoint_shown);
        tracing::info!(
            traces = endpoint(&settings.traces),
            metrics = endpoint(&settings.metrics),
            trace_sample_rate = settings.trace_sample_rate,
            "telemetry is on"
        );
        let resource = resource(&settings.service_name, &settings.resource_attributes);
        let exporter = Exporter::start(traces, metrics, &resource, pipeline.tracer().meter())?;
        if let Some(shared) = &pipeline.shared {
            own::observe(shared, exporter.accounts());
        }
        Ok(Self { pipeline, exporter: Some(exporter) })
    }

    /// Returns whether anything is exported.
    pub fn is_on(&self) -> bool {
        self.exporter.is_some()
    }

    /// Returns what makes the spans.
    pub fn tracer(&self) -> Tracer {
        self.pipeline.tracer()
    }

    /// Returns what tells how many spans have ended, and are neither exported nor dropped.
    pub fn spans_left(&self) -> impl Fn() -> u64 + use<> {
        let left = self.exporter.as_ref().map(Exporter::spans_left);
        move || left.as_ref().map_or(0, |left| left())
    }

    /// Exports what is left and says what became of everything. Whatever is left at the deadline is dropped.
    ///
    /// Blocks: not to be called from a future.
    pub fn shutdown(self, deadline: Instant) {
        let Some(exporter) = self.exporter else { return };
        let outcome = exporter.shutdown(deadline);
        tracing::info!(
            spans_created = outcome.spans.created,
            spans_exported = outcome.spans.exported,
            spans_dropped = outcome.spans.dropped_in_all(),
            points_exported = outcome.points.exported,
            points_dropped = outcome.points.dropped_in_all(),
            traces_shed = self.pipeline.queue().map_or(0, |queue| queue.shed()),
            "telemetry flushed"
        );
    }
}
