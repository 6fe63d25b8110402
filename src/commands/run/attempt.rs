//! What is shown of a reload: its span, its count, and the line that says what became of it.

use std::sync::Arc;

use crate::{
    config::Changes,
    telemetry::{
        Attributes, Counter, Labels, OpenSpan, PANIC, SpanKind, SpanOutcome, Spans, Tracer,
        instruments::RELOADS,
    },
    trace::TraceContext,
};

/// The types of what refuses a reload.
const ERROR_TYPES: &[&str] = &["config", "build"];

/// What all reloads of a worker have in common.
#[derive(Debug)]
pub(super) struct Reloads {
    spans: Spans,
    applied: Counter,
    unchanged: Counter,
    failed: Counter,
    cancelled: Counter,
}

/// What refuses a reload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// The configuration is wrong, or holds what a worker that runs cannot take over.
    Config,
    /// A task cannot be built.
    Build,
    /// A defect of flowgen.
    Panic,
}

impl Refusal {
    fn error_type(self) -> &'static str {
        match self {
            Self::Config => ERROR_TYPES[0],
            Self::Build => ERROR_TYPES[1],
            Self::Panic => PANIC,
        }
    }
}

impl Reloads {
    pub(super) fn new(tracer: &Tracer) -> Self {
        let counter = |outcome| tracer.meter().counter(&RELOADS, Labels::default().with("outcome", outcome));
        Self {
            spans: tracer.spans("flow.reload", SpanKind::Internal, None, ERROR_TYPES),
            applied: counter("applied"),
            unchanged: counter("unchanged"),
            failed: counter("failed"),
            cancelled: counter("cancelled"),
        }
    }

    /// Begins a reload of a worker that runs by the configuration of this generation.
    pub(super) fn begin(&self, cause: &'static str, generation: u64) -> Attempt<'_> {
        tracing::info!(cause, generation, "reload begins");
        Attempt {
            reloads: self,
            span: Some(self.spans.lifecycle(TraceContext::default())),
            cause,
            generation,
        }
    }
}

/// One reload. Dropped without an end it is cancelled.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    reloads: &'a Reloads,
    span: Option<OpenSpan>,
    cause: &'static str,
    /// Of the configuration that the worker runs by.
    generation: u64,
}

impl Attempt<'_> {
    /// Returns the context of its span.
    pub(super) fn context(&self) -> TraceContext {
        self.span.as_ref().map(OpenSpan::context).unwrap_or_default()
    }

    /// The worker runs by the new configuration, which is of this generation.
    pub(super) fn applied(mut self, generation: u64, changes: &Changes) {
        self.generation = generation;
        self.reloads.applied.add(1);
        self.end("applied", SpanOutcome::Completed, None, changes);
        let Changes { started, stopped, restarted } = changes;
        tracing::info!(
            cause = self.cause,
            generation,
            started = names(started),
            stopped = names(stopped),
            restarted = names(restarted),
            "reload applied"
        );
    }

    /// There is nothing to do.
    pub(super) fn unchanged(mut self) {
        self.reloads.unchanged.add(1);
        self.end("unchanged", SpanOutcome::Completed, None, &Changes::default());
        tracing::info!(cause = self.cause, generation = self.generation, "reload found nothing changed");
    }

    /// The worker goes on as it did.
    pub(super) fn refused(mut self, refusal: Refusal) {
        self.reloads.failed.add(1);
        let error_type = refusal.error_type();
        self.end("failed", SpanOutcome::Failed, Some(error_type), &Changes::default());
        tracing::error!(
            cause = self.cause,
            generation = self.generation,
            error.type = error_type,
            "reload refused: nothing has changed"
        );
    }

    fn end(
        &mut self,
        outcome: &'static str,
        span_outcome: SpanOutcome,
        error_type: Option<&'static str>,
        changes: &Changes,
    ) {
        let Some(mut span) = self.span.take() else { return };
        if let Some(record) = span.record() {
            let mut attributes = Attributes::default();
            attributes.set("flowgen.reload.outcome", outcome);
            attributes.set("flowgen.reload.cause", self.cause);
            attributes.set("flowgen.reload.generation", self.generation);
            attributes.set("flowgen.reload.started", changes.started.len());
            attributes.set("flowgen.reload.stopped", changes.stopped.len());
            attributes.set("flowgen.reload.restarted", changes.restarted.len());
            record.add_attributes(attributes);
        }
        span.end(span_outcome, error_type);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.span.is_some() {
            self.reloads.cancelled.add(1);
            self.end("cancelled", SpanOutcome::Cancelled, None, &Changes::default());
            tracing::warn!(
                cause = self.cause,
                generation = self.generation,
                "reload given up: the worker stops"
            );
        }
    }
}

/// Returns names as one text; nothing if there are none.
fn names(names: &[Arc<str>]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}
