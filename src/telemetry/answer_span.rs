//! The span of an event whose source answers: it is open until the answer is sent, long after the event was passed on.

use std::{mem, sync::Arc};

use super::{Attributes, OpenSpan, SpanOutcome, SpanRecord, keep, series::Held, spans::Shared};
use crate::{
    event::{Event, EventId, Fate, Step, StepKind},
    trace::{Remote, Ticks, TraceContext},
};

/// An open `task.handle` of a source that answers. Dropped without an end it is cancelled.
#[derive(Debug)]
#[must_use = "a span that is dropped at once is cancelled"]
pub struct AnswerSpan {
    span: OpenSpan,
    unsampled: Option<Unsampled>,
}

/// What the span is made of if it turns out that its trace is kept.
#[derive(Debug)]
struct Unsampled {
    shared: Arc<Shared>,
    fate: Arc<Fate>,
    id: EventId,
    remote: Option<Remote>,
}

impl AnswerSpan {
    /// Takes the span of an event out of its handling, and leaves there what the event's trail remembers of it.
    pub(super) fn take(
        handled: &mut OpenSpan,
        maker: Option<(&Arc<Shared>, &Arc<Held>)>,
        event: &Event,
    ) -> Self {
        let mut span = mem::replace(handled, OpenSpan::none(handled.context()));
        // It may outlive what made it.
        span.held = maker.map(|(_, held)| Arc::clone(held));
        let shared = maker.map(|(shared, _)| shared);
        let shared = shared.filter(|shared| shared.keeper.is_some() && span.record.is_none());
        let unsampled = shared.zip(event.trail.fate()).map(|(shared, fate)| Unsampled {
            shared: Arc::clone(shared),
            fate: Arc::clone(fate),
            id: event.id.clone(),
            remote: event.trail.remote().cloned(),
        });
        if span.start.is_set() {
            let (place, depth, start, span_id) = (span.place, span.depth, span.start, span.context.span_id);
            let (nanos, queued) = (Ticks::now().since(start), Ticks::default());
            handled.passed =
                Some(Box::new(Step { place, depth, kind: StepKind::Open, span_id, start, nanos, queued }));
        }
        Self { span, unsampled }
    }

    /// Returns the span's own context.
    pub fn context(&self) -> TraceContext {
        self.span.context()
    }

    /// Ends the span with the answer, of which `describe` says more where anybody gets to see it. `is_settled` says whether
    /// the event has come to its end, so that nothing of it can fail any more.
    pub fn end(
        mut self,
        outcome: SpanOutcome,
        error_type: Option<&'static str>,
        is_settled: bool,
        describe: impl FnOnce(&mut Attributes),
    ) {
        self.finish(outcome, error_type, is_settled, describe);
    }

    fn finish(
        &mut self,
        outcome: SpanOutcome,
        error_type: Option<&'static str>,
        is_settled: bool,
        describe: impl FnOnce(&mut Attributes),
    ) {
        let mut attributes = Attributes::default();
        let context = self.span.context();
        let mut span = mem::replace(&mut self.span, OpenSpan::none(context));
        if let Some(record) = span.record() {
            describe(&mut attributes);
            record.add_attributes(attributes);
            span.end(outcome, error_type);
            return;
        }
        let step = span.end(outcome, error_type);
        let Some(Unsampled { shared, fate, id, remote }) = self.unsampled.take() else { return };
        let Some(keeper) = &shared.keeper else { return };
        // Whether it was slow is decided just after it was settled.
        if is_settled && !keeper.is_slow(step.nanos) && !fate.is_known_to_be_kept() {
            return;
        }
        let Some(series) = shared.registry.spans.series(step.place) else { return };
        describe(&mut attributes);
        let mut record = Box::new(SpanRecord::new(Arc::clone(&series), context, 0, step.start));
        record.place = step.place;
        record.end = step.end();
        record.outcome = outcome;
        record.error_type = error_type.map(|error_type| series.error_type(error_type));
        record.set_event(id, Ticks::default());
        record.set_remote(remote.as_ref());
        record.add_attributes(attributes);
        keep::enter(&mut record, remote.as_ref());
        keeper.keep_answer(record, fate);
    }
}

impl Drop for AnswerSpan {
    fn drop(&mut self) {
        if self.unsampled.is_some() {
            self.finish(SpanOutcome::Cancelled, None, false, |_| {});
        }
    }
}
