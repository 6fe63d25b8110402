//! A span from its start to its end, and what it says when it ends.

use std::{cell::RefCell, error::Error, fmt, mem, sync::Arc, thread};

use tracing::{Span, field};

use super::{PANIC, SpanOutcome, record::SpanRecord, series::Held};
use crate::{
    event::{Step, StepKind},
    trace::{Moment, Ticks, TraceContext},
};

/// A span that has started. Dropped without an end it counts as failed in a panic, and as cancelled
/// otherwise.
#[derive(Debug)]
#[must_use = "a span that is dropped at once is cancelled"]
pub struct OpenSpan {
    pub(super) span: Span,
    pub(super) context: TraceContext,
    pub(super) start: Ticks,
    /// When its work was over, if that was before it ended.
    pub(super) stop: Ticks,
    pub(super) place: u32,
    /// How often its event had been derived.
    pub(super) depth: u16,
    pub(super) record: Option<Box<SpanRecord>>,
    /// Keeps the series of a span that may outlive what made it.
    pub(super) held: Option<Arc<Held>>,
    /// What the event's trail remembers, where another one ends the span.
    pub(super) passed: Option<Box<Step>>,
}

impl OpenSpan {
    /// Makes what stands for a span while telemetry is off: it hands on the context it got.
    pub(super) fn none(context: TraceContext) -> Self {
        let (start, stop) = Default::default();
        let span = Span::none();
        Self { span, context, start, stop, place: 0, depth: 0, record: None, held: None, passed: None }
    }

    /// Returns the span's own context, for whatever comes below it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Returns when it started; not set if telemetry is off.
    pub fn start(&self) -> Ticks {
        self.start
    }

    /// Lets it have started earlier than it was made.
    pub fn set_start(&mut self, start: Ticks) {
        self.start = start;
        if let Some(record) = &mut self.record {
            record.start = start;
        }
    }

    /// Lets it end now as far as its times go: the work is over, and how it ended is told later.
    pub fn stop(&mut self) {
        if self.start.is_set() {
            self.stop = Ticks::now();
        }
    }

    /// Returns what is exported of the span, or `None` if it is not sampled.
    pub fn record(&mut self) -> Option<&mut SpanRecord> {
        self.record.as_deref_mut()
    }

    /// Ends the span. Returns what the event's trail remembers of it; if telemetry is off, nothing.
    pub fn end(mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Step {
        self.finish(outcome, error_type)
    }

    #[inline]
    fn finish(&mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Step {
        if self.start.is_set() {
            self.tell(outcome, error_type)
        } else {
            self.passed.take().map_or_else(Step::default, |step| *step)
        }
    }

    /// Says how it ended, once.
    fn tell(&mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Step {
        let end = if self.stop.is_set() { self.stop } else { Ticks::now() };
        let span = mem::replace(&mut self.span, Span::none());
        if let Some(record) = &mut self.record {
            record.end = end;
            record.outcome = outcome;
            record.error_type = error_type.map(|error_type| record.series.error_type(error_type));
        }
        let start = mem::take(&mut self.start);
        let nanos = end.since(start);
        let ended = Ended {
            place: self.place,
            nanos,
            outcome,
            error_type,
            at: Moment { at: end, context: self.context },
            record: RefCell::new(self.record.take()),
        };
        span.record("end", &ended as &(dyn Error + 'static));
        let span_id = self.context.span_id;
        let (place, depth) = (self.place, self.depth);
        let kind = match outcome {
            SpanOutcome::Filtered => StepKind::Filtered,
            SpanOutcome::Skipped => StepKind::Skipped,
            SpanOutcome::Completed | SpanOutcome::Failed | SpanOutcome::Cancelled => StepKind::Handled,
        };
        Step { place, depth, kind, span_id, start, nanos, queued: Ticks::default() }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if thread::panicking() {
            self.finish(SpanOutcome::Failed, Some(PANIC));
        } else {
            self.finish(SpanOutcome::Cancelled, None);
        }
    }
}

/// What a span says when it ends.
///
/// An `Error` only because that is the one kind of value that `tracing` carries with its type.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) place: u32,
    pub(super) nanos: u64,
    pub(super) outcome: SpanOutcome,
    pub(super) error_type: Option<&'static str>,
    /// When it ended and where it stands.
    pub(super) at: Moment,
    /// What the recorder takes.
    pub(super) record: RefCell<Option<Box<SpanRecord>>>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.outcome.name())
    }
}

impl Error for Ended {}

/// Calls `f` with what a span said if it was its end.
pub(super) fn on_end(values: &tracing::span::Record<'_>, f: impl FnMut(&Ended)) {
    struct Visitor<F>(F);
    impl<F: FnMut(&Ended)> field::Visit for Visitor<F> {
        fn record_debug(&mut self, _: &field::Field, _: &dyn fmt::Debug) {}

        fn record_error(&mut self, _: &field::Field, value: &(dyn Error + 'static)) {
            if let Some(ended) = value.downcast_ref() {
                (self.0)(ended);
            }
        }
    }
    values.record(&mut Visitor(f));
}
