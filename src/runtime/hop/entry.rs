//! Where events enter a flow: decoded by its source, once more, or behind a queue.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use super::{
    super::{flow::FlowHandle, supervisor::panic_message},
    Hop,
};
use crate::{
    ack::{Ack, Outcome},
    event::Event,
    task::{Answering, Output, TaskError},
    trace::{Moment, Ticks, TraceContext},
};

impl Hop {
    /// Handles one event that enters the flow here. Once it is decoded, or cannot be, `enter` makes its ack. If its source
    /// is `answering`, that gets its span.
    pub(in crate::runtime) fn admit(
        &mut self,
        event: Box<Event>,
        answering: Option<Answering>,
        decode: impl FnOnce(&mut Event, &mut Output) -> Result<(), TaskError>,
        enter: impl FnOnce(&FlowHandle, &Event, Ticks, bool) -> Ack,
    ) {
        let mut output = std::mem::take(&mut self.output);
        let mut handling = self.open(event, &mut output);
        if let Some(answering) = &answering {
            handling.span.set_start(answering.since);
        }
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(&mut handling.event, &mut output)));
        let start = handling.span.start();
        handling.ack = enter(&self.flow, &handling.event, start, matches!(decoded, Ok(Ok(()))));
        match decoded {
            Ok(result) => {
                if let Some(record) = handling.span.record() {
                    record.add_attributes(self.spans.handle.describe(&handling.event));
                }
                if let Some(answering) = answering.filter(|_| result.is_ok()) {
                    let span = self.spans.handle.answer(&mut handling.span, &handling.event);
                    // Dropped if nobody waits for the answer any more.
                    let _ = answering.span.send(span);
                }
                self.finish_handling(handling, output, result);
            }
            Err(panic) => {
                self.panicked(handling, &panic_message(&*panic));
                self.output = Output::default();
                // The source goes down with it, as with any panic of its own.
                resume_unwind(panic);
            }
        }
    }

    /// Lets in again an event that entered before. Its span is linked to where it stood in its trace then, `before`.
    pub(in crate::runtime) fn readmit(
        &mut self,
        event: Box<Event>,
        before: TraceContext,
        enter: impl FnOnce(&Event) -> Ack,
    ) {
        let mut output = std::mem::take(&mut self.output);
        let mut handling = self.open(event, &mut output);
        handling.ack = enter(&handling.event);
        if let Some(record) = handling.span.record().filter(|_| before.is_valid()) {
            record.link(before);
        }
        if let Some(record) = handling.span.record() {
            record.add_attributes(self.spans.handle.describe(&handling.event));
        }
        output.forward();
        self.finish_handling(handling, output, Ok(()));
    }

    /// Lets an event go on that was handled here before, with the share that it has: in an earlier run, or before it waited.
    pub(in crate::runtime) fn resume(&mut self, mut event: Box<Event>) {
        let ack = event.ack.take();
        let at = Moment { at: event.queued, context: event.trace };
        if event.error.is_none() {
            if let Some((event, ack)) = self.outlets.stage_unhandled(event, ack)
                && let Some(ended) = ack.settle(Outcome::Completed, at)
            {
                self.keep_slow(&event, ended, None);
            }
        } else if self.outlets.diverts() {
            self.outlets.stage_failed(event, ack);
        } else {
            // When it failed it was to go on; it is not any more.
            ack.settle(Outcome::Failed, at);
        }
    }

    /// Returns what a new event of the source is about.
    pub(in crate::runtime) fn subject(&self) -> Arc<str> {
        Arc::clone(&self.identity.task)
    }
}
