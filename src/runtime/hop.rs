//! The one place through which every handled event passes, whatever the role of its task: it begins and
//! concludes here.

use std::sync::Arc;

use super::{
    flow::FlowHandle,
    outlets::{Outlets, ROOM_KEPT},
};
use crate::{
    ack::{Ack, Outcome},
    event::Event,
    plan::{OnError, Policy},
    task::{Emission, ErrorClass, Output, Route, TaskError},
    telemetry::{FailureLog, Identity, OpenSpan, SpanOutcome, Spans, error_chain, inside},
};

/// An event that is being handled: begun and not yet concluded. Whoever drops it has failed it.
///
/// Its ack is kept apart, so that no task can hold a share of it or lose one.
#[derive(Debug)]
pub(super) struct Handling {
    pub(super) event: Box<Event>,
    ack: Ack,
    span: OpenSpan,
}

/// What makes the spans of one task.
#[derive(Debug, Default)]
pub(super) struct TaskSpans {
    /// `task.handle`: an event is handled.
    pub(super) handle: Spans,
    /// `task.retry`: the second and later attempts.
    pub(super) retry: Spans,
    /// `task.flush`: a buffered batch takes effect.
    pub(super) flush: Spans,
}

impl Handling {
    /// Takes over what the task says of its work.
    pub(super) fn describe(&mut self, output: &mut Output) {
        if let Some(record) = self.span.record() {
            record.set_attributes(output.take_attributes());
        }
    }
}

/// The runtime's side of one task: what surrounds the handling of each event.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) identity: Arc<Identity>,
    pub(super) flow: FlowHandle,
    pub(super) policy: Policy,
    pub(super) spans: TaskSpans,
    outlets: Outlets,
    failures: FailureLog,
    /// Kept between events for its allocation only.
    output: Output,
}

impl Hop {
    pub(super) fn new(
        identity: Arc<Identity>,
        flow: FlowHandle,
        policy: Policy,
        spans: TaskSpans,
        outlets: Outlets,
    ) -> Self {
        let failures = FailureLog::default();
        Self { identity, flow, policy, spans, outlets, failures, output: Output::default() }
    }

    /// Begins the handling of an event. Every event of every task passes here and [`Self::conclude`].
    ///
    /// From here on the event is below this task's span, and so is what is derived from it. `output` is told
    /// whether anybody records that span.
    #[inline]
    pub(super) fn begin(&self, mut event: Box<Event>, output: &mut Output) -> Handling {
        let ack = event.ack.take();
        let mut span = self.spans.handle.child(event.trace);
        event.trace = span.context();
        let record = span.record();
        output.trace(record.is_some());
        if let Some(record) = record {
            record.set_event(event.id.clone(), event.queued);
        }
        Handling { event, ack, span }
    }

    /// Ends the handling of an event: stages what it emitted, or does what `on_error` says.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        handling: Handling,
        emissions: impl ExactSizeIterator<Item = (Route, Emission)>,
        result: Result<(), TaskError>,
    ) {
        let Handling { mut event, ack, span } = handling;
        match result {
            Ok(()) if emissions.len() == 0 => {
                span.end(SpanOutcome::Filtered, None);
                ack.settle(Outcome::Filtered);
            }
            Ok(()) => {
                event.queued = span.end(SpanOutcome::Completed, None);
                self.outlets.stage(event, ack, emissions);
            }
            Err(error) => {
                drop(emissions);
                if error.class() == ErrorClass::Closed {
                    span.end(SpanOutcome::Cancelled, None);
                } else {
                    span.end(SpanOutcome::Failed, Some(error.error_type()));
                }
                inside(&event, || self.fail(&event, ack, &error));
            }
        }
    }

    /// Handles one event from begin to end, with the CPU only.
    pub(super) fn handle(
        &mut self,
        event: Box<Event>,
        handle: impl FnOnce(&mut Event, &mut Output) -> Result<(), TaskError>,
    ) {
        let mut output = std::mem::take(&mut self.output);
        let mut handling = self.begin(event, &mut output);
        let result = handle(&mut handling.event, &mut output);
        handling.describe(&mut output);
        self.conclude(handling, output.drain(), result);
        output.shrink_to(ROOM_KEPT);
        self.output = output;
    }

    fn fail(&mut self, event: &Event, ack: Ack, error: &TaskError) {
        if error.class() == ErrorClass::Closed {
            if !self.flow.stop().is_stopped() {
                tracing::info!(error.message = error_chain(error), "the output is closed, the flow stops");
                self.flow.stop().stop();
            }
            return ack.settle(Outcome::Cancelled);
        }
        self.log_failure(event, error);
        ack.settle(match self.policy.on_error {
            OnError::Fail => Outcome::Failed,
            OnError::Drop => Outcome::Dropped,
        });
    }

    fn log_failure(&mut self, event: &Event, error: &TaskError) {
        let Some(suppressed) = self.failures.admit(error.error_type()) else { return };
        let position = event.id.position().map(|(path, line)| format!("{path}:{line}"));
        let error_message = error_chain(error);
        let error_type = error.error_type();
        let suppressed = (suppressed > 0).then_some(suppressed);
        match self.policy.on_error {
            OnError::Fail => {
                tracing::error!(position, error.type = error_type, error.message = error_message, suppressed, "event failed");
            }
            OnError::Drop => {
                tracing::warn!(position, error.type = error_type, error.message = error_message, suppressed, "event dropped");
            }
        }
    }

    /// Returns whether enough is staged to be worth sending.
    pub(super) fn is_full(&self) -> bool {
        self.outlets.is_full()
    }

    /// Returns whether nothing downstream takes events any more.
    pub(super) fn is_closed(&self) -> bool {
        self.outlets.is_closed()
    }

    /// Sends what is staged, and waits where a channel is full.
    pub(super) async fn flush(&mut self) {
        self.outlets.flush().await;
    }

    /// Ends the task's work: sends the rest, and mentions the failures that no line did.
    pub(super) async fn finish(&mut self) {
        self.flush().await;
        for (error_type, suppressed) in self.failures.rest() {
            tracing::warn!(error.type = error_type, suppressed, "more events failed than were logged");
        }
    }
}
