//! The one place through which every handled event passes, whatever the role of its task.

use std::sync::Arc;

use super::{
    flow::FlowHandle,
    outlets::{BATCH, Outlets},
};
use crate::{
    ack::Outcome,
    event::Event,
    plan::{OnError, Policy},
    task::{Emission, ErrorClass, Output, Route, TaskError},
    telemetry::{FailureLog, Identity, error_chain},
};

/// The runtime's side of one task: what surrounds the handling of each event.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) identity: Arc<Identity>,
    pub(super) flow: FlowHandle,
    pub(super) policy: Policy,
    outlets: Outlets,
    failures: FailureLog,
    /// Kept between events for its allocation only.
    output: Output,
}

impl Hop {
    pub(super) fn new(identity: Arc<Identity>, flow: FlowHandle, policy: Policy, outlets: Outlets) -> Self {
        let failures = FailureLog::default();
        Self { identity, flow, policy, outlets, failures, output: Output::default() }
    }

    /// Handles one event with CPU only.
    pub(super) fn handle(
        &mut self,
        mut event: Event,
        handle: impl FnOnce(&mut Event, &mut Output) -> Result<(), TaskError>,
    ) {
        let mut output = std::mem::take(&mut self.output);
        let result = handle(&mut event, &mut output);
        self.conclude(event, output.drain(), result);
        self.output = output;
    }

    /// Ends the handling of an event: stages what it emitted, or does what `on_error` says.
    pub(super) fn conclude(
        &mut self,
        event: Event,
        emissions: impl ExactSizeIterator<Item = (Route, Emission)>,
        result: Result<(), TaskError>,
    ) {
        match result {
            Ok(()) => self.outlets.stage(event, emissions),
            Err(error) => {
                drop(emissions);
                self.fail(event, &error);
            }
        }
    }

    fn fail(&mut self, mut event: Event, error: &TaskError) {
        let ack = event.ack.take();
        if error.class() == ErrorClass::Closed {
            tracing::debug!(error.message = error_chain(error), "the output is closed, the flow stops");
            self.flow.stop().stop();
            return ack.settle(Outcome::Cancelled);
        }
        self.log_failure(&event, error);
        ack.settle(match self.policy.on_error {
            OnError::Fail => Outcome::Failed,
            OnError::Drop => Outcome::Dropped,
        });
    }

    fn log_failure(&mut self, event: &Event, error: &TaskError) {
        let Some(suppressed) = self.failures.admit(error.error_type()) else { return };
        let position = event.id.position().map(|(path, line)| format!("{path}:{line}"));
        let event_id = event.id.to_string();
        let error_message = error_chain(error);
        let error_type = error.error_type();
        let suppressed = (suppressed > 0).then_some(suppressed);
        match self.policy.on_error {
            OnError::Fail => {
                tracing::error!(event_id, position, error.type = error_type, error.message = error_message, suppressed, "event failed");
            }
            OnError::Drop => {
                tracing::warn!(event_id, position, error.type = error_type, error.message = error_message, suppressed, "event dropped");
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

    /// Makes room for a batch of events.
    pub(super) fn batch() -> Vec<Event> {
        Vec::with_capacity(BATCH)
    }
}
