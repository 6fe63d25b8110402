//! The one place through which every handled event passes, whatever the role of its task: it begins and
//! concludes here.

mod entry;
mod failure;
mod handling;

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

pub(super) use self::handling::{Due, Handling, TaskSpans};
use super::{
    flow::FlowHandle,
    letters::DeadLetters,
    meters::TaskMeters,
    outlets::{Outlets, ROOM_KEPT},
    supervisor::panic_message,
};
use crate::{
    ack::{Ended, Outcome},
    event::{Event, Step},
    plan::{Node, Policy},
    script::Condition,
    task::{Emission, ErrorClass, Output, Route, TaskError},
    telemetry::{Attributes, FailureLog, Identity, Last, SpanOutcome, error_chain, inside},
    trace::Moment,
};

/// The runtime's side of one task: what surrounds the handling of each event.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) identity: Arc<Identity>,
    pub(super) flow: FlowHandle,
    pub(super) policy: Policy,
    pub(super) spans: TaskSpans,
    pub(super) meters: Arc<TaskMeters>,
    /// Which events it handles; the others pass by.
    when: Option<Arc<Condition>>,
    /// Whether events may become too old.
    has_deadline: bool,
    /// Whether tasks describe work that nobody records: few events, each with a lot to say.
    is_described: bool,
    pub(super) outlets: Outlets,
    /// What stores the events that fail, if that is what becomes of them.
    letters: Option<DeadLetters>,
    /// Shared by all that work for the task.
    failures: Arc<Mutex<FailureLog>>,
    /// Those that may pass, which attempts tell of too.
    passing: Arc<Mutex<FailureLog>>,
    /// Kept between events for its allocation only.
    output: Output,
}

impl Hop {
    pub(super) fn new(
        identity: Arc<Identity>,
        flow: FlowHandle,
        node: &Node,
        spans: TaskSpans,
        meters: Arc<TaskMeters>,
        outlets: Outlets,
    ) -> Self {
        Self {
            has_deadline: flow.deadline().is_some(),
            flow,
            policy: node.policy,
            when: node.when.clone(),
            outlets: outlets.of_task(identity.task_id, spans.flush.clone()),
            identity,
            spans,
            meters,
            is_described: false,
            letters: None,
            failures: Arc::default(),
            passing: Arc::default(),
            output: Output::default(),
        }
    }

    /// Lets it work for the same task as `other`: what both log is counted together.
    pub(super) fn beside(mut self, other: &Self) -> Self {
        self.failures = Arc::clone(&other.failures);
        self.passing = Arc::clone(&other.passing);
        self
    }

    /// Lets `letters` store the events that fail.
    pub(super) fn storing(mut self, letters: Option<DeadLetters>) -> Self {
        self.letters = letters;
        self
    }

    /// Returns the log of failures that may pass.
    pub(super) fn passing(&self) -> &Arc<Mutex<FailureLog>> {
        &self.passing
    }

    /// Asks the task to describe its work also where nobody records it, for the case that it fails.
    pub(super) fn describe_all(&mut self) {
        self.is_described = self.spans.handle.keeps_failed();
    }

    /// Begins the handling of an event that came from upstream, unless there is nothing to handle: it is too old, or
    /// passes by. Every event passes here, or [`Self::due`], and [`Self::conclude`] or [`Self::expire`].
    #[inline]
    pub(super) fn begin(&mut self, event: Box<Event>, output: &mut Output) -> Option<Handling> {
        let due = self.due(&event);
        if let Due::Handling = due {
            return Some(self.open(event, output));
        }
        self.dispose(event, due, output);
        None
    }

    /// Returns what is to be done with an event that came from upstream.
    #[inline]
    pub(super) fn due(&self, event: &Event) -> Due {
        if self.has_deadline && event.ack.expires().is_some_and(|expires| expires <= Instant::now()) {
            return Due::Expiry;
        }
        match self.when.as_ref().map(|when| when.is_true(event)) {
            None | Some(Ok(true)) => Due::Handling,
            Some(Ok(false)) => Due::Passing,
            Some(Err(error)) => Due::Failure(error),
        }
    }

    /// Does with an event what is due, which is anything but to handle it.
    pub(super) fn dispose(&mut self, event: Box<Event>, due: Due, output: &mut Output) {
        let handling = self.open(event, output);
        match due {
            Due::Handling => unreachable!("who handles an event concludes it"),
            Due::Passing => self.skip(handling),
            Due::Expiry => self.expire(handling),
            Due::Failure(error) => {
                self.meters.attempt_failed(&error);
                self.conclude(handling, iter::empty(), Err(error));
            }
        }
    }

    /// Begins the handling of an event.
    ///
    /// From here on the event is below this task's span, and so is what is derived from it. `output` is told
    /// whether anybody records that span.
    #[inline]
    pub(super) fn open(&self, mut event: Box<Event>, output: &mut Output) -> Handling {
        let ack = event.ack.take();
        let mut span = self.spans.handle.handle(&mut event);
        if event.queued.is_set() {
            let start = span.start();
            self.meters.queue.record(start.since(event.queued), Moment { at: start, context: event.trace });
        }
        let record = span.record();
        output.trace(record.is_some() || self.is_described);
        if let Some(record) = record {
            record.set_event(event.id.clone(), event.queued);
            record.set_remote(event.trail.remote());
            // What has just entered is not decoded yet.
            if event.queued.is_set() {
                record.add_attributes(self.spans.handle.describe(&event));
            }
        }
        Handling { event, ack, span, attributes: Attributes::default(), is_kept: false, attempts: 1 }
    }

    /// Ends the handling of an event: stages what it emitted, or does what `on_error` says.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        handling: Handling,
        emissions: impl ExactSizeIterator<Item = (Route, Emission)>,
        result: Result<(), TaskError>,
    ) {
        let Handling { mut event, ack, span, attributes, is_kept, attempts } = handling;
        match result {
            Ok(()) if emissions.len() == 0 => {
                let step = span.end(SpanOutcome::Filtered, None);
                let at = pass(&mut event, step);
                if is_kept {
                    self.spans.handle.keep_with(&event);
                }
                if let Some(ended) = ack.settle(Outcome::Filtered, at) {
                    self.keep_slow(&event, ended, None);
                }
            }
            Ok(()) => {
                pass(&mut event, span.end(SpanOutcome::Completed, None));
                if is_kept {
                    self.spans.handle.keep_with(&event);
                }
                if let Some((event, ended)) = self.outlets.stage(event, ack, emissions) {
                    self.keep_slow(&event, ended, None);
                }
            }
            Err(error) if error.class() == ErrorClass::Closed => {
                drop(emissions);
                let step = span.end(SpanOutcome::Cancelled, None);
                inside(&event, || self.close(&error));
                ack.settle(Outcome::Cancelled, Moment { at: step.end(), context: event.trace });
            }
            Err(error) => {
                drop(emissions);
                let step = span.end(SpanOutcome::Failed, Some(error.error_type()));
                let last = Last { step, error_type: error.error_type(), attributes };
                self.fail(event, ack, last, &error, attempts);
            }
        }
    }

    /// Handles one event from begin to end, with the CPU only. The error is what the task panicked with.
    pub(super) fn handle(
        &mut self,
        event: Box<Event>,
        handle: impl FnOnce(&mut Event, &mut Output) -> Result<(), TaskError>,
    ) -> Result<(), String> {
        let mut output = std::mem::take(&mut self.output);
        match self.begin(event, &mut output) {
            Some(handling) => self.work(handling, output, handle),
            None => {
                self.output = output;
                Ok(())
            }
        }
    }

    #[inline]
    fn work(
        &mut self,
        mut handling: Handling,
        mut output: Output,
        handle: impl FnOnce(&mut Event, &mut Output) -> Result<(), TaskError>,
    ) -> Result<(), String> {
        let work = AssertUnwindSafe(|| handle(&mut handling.event, &mut output));
        let result = match catch_unwind(work) {
            Ok(result) => result,
            Err(panic) => {
                let message = panic_message(&*panic);
                self.panicked(handling, &message);
                self.output = Output::default();
                return Err(message);
            }
        };
        self.finish_handling(handling, output, result);
        Ok(())
    }

    /// Concludes the handling of an event that took one attempt.
    #[inline]
    fn finish_handling(&mut self, mut handling: Handling, mut output: Output, result: Result<(), TaskError>) {
        if let Err(error) = &result {
            self.meters.attempt_failed(error);
        }
        handling.take_over(&mut output, result.is_ok());
        self.conclude(handling, output.drain(), result);
        output.shrink_to(ROOM_KEPT);
        self.output = output;
    }

    /// Ends the handling of an event that has become too old.
    pub(super) fn expire(&mut self, handling: Handling) {
        let Handling { mut event, ack, span, .. } = handling;
        self.meters.deadline_skips.add(1);
        let at = pass(&mut event, span.end(SpanOutcome::Skipped, None));
        if let Some(ended) = ack.settle(Outcome::Expired, at) {
            self.keep_slow(&event, ended, None);
        }
    }

    /// Lets an event pass by.
    fn skip(&mut self, handling: Handling) {
        let Handling { mut event, ack, span, .. } = handling;
        let at = pass(&mut event, span.end(SpanOutcome::Skipped, None));
        if let Some((event, ack)) = self.outlets.stage_unhandled(event, ack)
            && let Some(ended) = ack.settle(Outcome::Filtered, at)
        {
            self.keep_slow(&event, ended, None);
        }
    }

    /// Exports the way of an event that ended, if it took too long.
    pub(super) fn keep_slow(&self, event: &Event, ended: Ended, last: Option<Last>) {
        if self.spans.handle.keep_slow(event, ended.nanos, last) {
            self.flow.ledger().exported(ended);
        }
    }

    /// Stops the flow: whoever reads the output went away.
    fn close(&self, error: &TaskError) {
        if !self.flow.stop().is_stopped() {
            tracing::info!(error.message = error_chain(error), "the output is closed, the flow stops");
            self.flow.stop().stop();
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

    /// Sends what is staged, and waits where a channel is full, or where too much is to be stored.
    pub(super) async fn flush(&mut self) {
        self.outlets.flush().await;
        if let Some(letters) = &self.letters {
            letters.room().await;
        }
    }

    /// Ends the task's work: sends the rest, and mentions the failures that no line did.
    pub(super) async fn finish(&mut self) {
        self.flush().await;
        if let Some(letters) = &self.letters {
            letters.all_stored().await;
        }
        for (error_type, suppressed) in self.failures.lock().unwrap_or_else(PoisonError::into_inner).rest() {
            tracing::warn!(error.type = error_type, suppressed, "more events failed than were logged");
        }
    }
}

/// Adds what a task did to the way of its event, before the event is sent on. Returns when that was.
#[inline]
fn pass(event: &mut Event, step: Step) -> Moment {
    let at = step.end();
    event.trail.push(Step { queued: event.queued, ..step });
    event.queued = at;
    Moment { at, context: event.trace }
}
