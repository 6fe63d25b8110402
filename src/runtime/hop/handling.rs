//! An event between the begin and the end of its handling.

use tokio::time::Instant;

use crate::{
    ack::Ack,
    event::Event,
    task::{Output, TaskError},
    telemetry::{Attributes, OpenSpan, SpanOutcome, Spans},
    trace::{Moment, TraceContext},
};

/// An event that is being handled: begun and not yet concluded. Whoever drops it has failed it.
///
/// Its ack is kept apart, so that no task can hold a share of it or lose one.
#[derive(Debug)]
pub(in crate::runtime) struct Handling {
    pub(in crate::runtime) event: Box<Event>,
    pub(super) ack: Ack,
    pub(super) span: OpenSpan,
    /// What the task said of its work although nobody records the span: it may yet be kept.
    pub(super) attributes: Attributes,
    /// Whether its way is exported because of a failure that is not its own.
    pub(super) is_kept: bool,
    /// How often it was attempted, if it failed.
    pub(in crate::runtime) attempts: u32,
}

/// What is to be done with an event.
#[derive(Debug)]
pub(in crate::runtime) enum Due {
    /// It is handled.
    Handling,
    /// It passes by.
    Passing,
    /// It is too old.
    Expiry,
    /// It has failed before anybody handled it.
    Failure(TaskError),
}

/// What makes the spans of one task.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct TaskSpans {
    /// `task.handle`: an event is handled.
    pub(in crate::runtime) handle: Spans,
    /// `task.retry`: the second and later attempts.
    pub(in crate::runtime) retry: Spans,
    /// `task.flush`: a buffered batch takes effect.
    pub(in crate::runtime) flush: Spans,
}

impl Handling {
    /// Takes over what the task says of its work, and who wants to know what becomes of it.
    #[inline]
    pub(in crate::runtime) fn take_over(&mut self, output: &mut Output, is_done: bool) {
        match self.span.record() {
            Some(record) => record.add_attributes(output.take_attributes()),
            None => self.attributes = output.take_attributes(),
        }
        if output.has_ties() {
            self.ack = output.tie(self.ack.take(), is_done);
        }
    }

    /// Returns from when on the event is too old for another attempt.
    pub(in crate::runtime) fn expires(&self) -> Option<Instant> {
        self.ack.expires()
    }

    /// Returns whether it is.
    pub(in crate::runtime) fn is_expired(&self) -> bool {
        self.expires().is_some_and(|expires| expires <= Instant::now())
    }

    /// Ends the work on the event: what comes between this and its conclusion is no part of its span.
    pub(in crate::runtime) fn stop(&mut self) {
        self.span.stop();
    }

    /// Gives the event back undone: whoever brought it in is asked to bring it in again.
    pub(in crate::runtime) fn give_back(self) {
        let Self { event, ack, span, .. } = self;
        let step = span.end(SpanOutcome::Cancelled, None);
        ack.give_back(Moment { at: step.end(), context: event.trace });
    }

    /// Exports the way of the event, because of a failure that also concerns it. Returns its context if it is exported.
    pub(in crate::runtime) fn keep(&mut self, spans: &TaskSpans) -> Option<TraceContext> {
        self.is_kept = spans.handle.keep_with(&self.event);
        self.is_kept.then_some(self.event.trace)
    }

    /// Returns whether the way of the event is exported because of a failure that also concerns it.
    pub(in crate::runtime) fn is_kept(&self) -> bool {
        self.is_kept
    }
}
