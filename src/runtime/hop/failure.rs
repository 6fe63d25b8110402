//! What becomes of an event that failed, as `on_error` says, and what the log says of it.

use std::sync::{Arc, PoisonError};

use super::{Handling, Hop, pass};
use crate::{
    ack::{Ack, Outcome},
    event::{Event, EventError},
    plan::OnError,
    task::{ErrorClass, TaskError},
    telemetry::{Last, PANIC, SpanOutcome, error_chain, inside},
    trace::{Moment, TraceContext},
};

impl Hop {
    /// Ends the handling of an event in which the task panicked with this message: it failed for good, and `on_error`
    /// holds for it too.
    pub(in crate::runtime) fn panicked(&mut self, handling: Handling, message: &str) {
        self.meters.attempt_panicked();
        let error = TaskError::permanent(PANIC, message);
        let Handling { event, ack, span, attributes, attempts, .. } = handling;
        let step = span.end(SpanOutcome::Failed, Some(PANIC));
        let last = Last { step, error_type: PANIC, attributes };
        self.fail(event, ack, last, &error, attempts);
    }

    /// Does with an event that failed what `on_error` says.
    pub(super) fn fail(
        &mut self,
        mut event: Box<Event>,
        ack: Ack,
        last: Last,
        error: &TaskError,
        attempts: u32,
    ) {
        let outcome = match self.policy.on_error {
            OnError::Fail => Some(Outcome::Failed),
            OnError::Drop => Some(Outcome::Dropped),
            OnError::DeadLetter => Some(Outcome::DeadLettered),
            OnError::Continue | OnError::Route(_) if self.outlets.diverts() => None,
            OnError::Continue | OnError::Route(_) => Some(Outcome::Dropped),
        };
        // First, so that whoever reads the line can ask for it.
        if error.error_type() == PANIC {
            self.spans.handle.remember_panicked(&event, &last, outcome, &error.to_string());
        } else {
            self.spans.handle.remember_failed(&event, &last, outcome, error.clone().without_record());
        }
        inside(&event, || self.log_failure(&event, error));
        let step = last.step;
        let mut at = Moment { at: step.end(), context: event.trace };
        let mut last = Some(last);
        if let Some(last) = last.take_if(|_| self.spans.handle.keeps_failed())
            && self.spans.handle.keep_failed(&event, last)
        {
            // What is timed from here on leads to it.
            at.context.flags |= TraceContext::SAMPLED;
        }
        let ended = match outcome {
            None => {
                pass(&mut event, step);
                event.error = Some(Arc::new(self.describe_error(error)));
                if let Some(record) = error.record() {
                    event.data = record.clone();
                }
                self.outlets.stage_failed(event, ack);
                return;
            }
            Some(Outcome::DeadLettered) => {
                if let Some(record) = error.record() {
                    event.data = record.clone();
                }
                if let Some(letters) = &self.letters {
                    letters.bury(&event, error, attempts, ack, at);
                }
                return;
            }
            Some(Outcome::Failed) if error.class() == ErrorClass::Transient => ack.give_back(at),
            Some(outcome) => ack.settle(outcome, at),
        };
        if let Some((last, ended)) = last.zip(ended) {
            self.keep_slow(&event, ended, Some(last));
        }
    }

    fn describe_error(&self, error: &TaskError) -> EventError {
        EventError {
            error_type: error.error_type(),
            message: error_chain(error),
            task: Arc::clone(&self.identity.task),
        }
    }

    fn log_failure(&self, event: &Event, error: &TaskError) {
        let may_pass = self.policy.on_error == OnError::Fail && error.class() == ErrorClass::Transient;
        let log = if may_pass { &self.passing } else { &self.failures };
        let admitted = log.lock().unwrap_or_else(PoisonError::into_inner).admit(error.error_type());
        let Some(suppressed) = admitted else { return };
        let position = event.id.position().map(|(path, line)| format!("{path}:{line}"));
        let error_message = error_chain(error);
        let error_type = error.error_type();
        let suppressed = (suppressed > 0).then_some(suppressed);
        match self.policy.on_error {
            OnError::Fail if may_pass => {
                tracing::warn!(position, error.type = error_type, error.message = error_message, suppressed, "event failed for now");
            }
            OnError::DeadLetter => {
                tracing::error!(position, error.type = error_type, error.message = error_message, suppressed, "event failed and is stored");
            }
            OnError::Fail => {
                tracing::error!(position, error.type = error_type, error.message = error_message, suppressed, "event failed");
            }
            OnError::Continue | OnError::Route(_) if self.outlets.diverts() => {
                tracing::warn!(position, error.type = error_type, error.message = error_message, suppressed, "event failed and goes on");
            }
            OnError::Drop | OnError::Continue | OnError::Route(_) => {
                tracing::warn!(position, error.type = error_type, error.message = error_message, suppressed, "event dropped");
            }
        }
    }
}
