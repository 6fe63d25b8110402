//! Events that are held back until a batch of them leaves as one.
//!
//! Owns their acknowledgements and their place in their traces meanwhile. Must not know what a task collects of them.

use std::collections::HashMap;

use crate::{
    ack::Ack,
    event::{Batch, Event, Part, Payload},
    task::BatchId,
    telemetry::{MAX_LINKS, OpenSpan, SpanOutcome, Spans},
    trace::{Moment, Ticks},
};

/// What the batches of one task hold. What is still there at the end is given back.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// In the order in which they came, each with its share.
    #[expect(clippy::vec_box, reason = "the boxes came that way, and one of them travels on")]
    held: HashMap<BatchId, Vec<Box<Event>>>,
    count: usize,
    spans: Spans,
}

impl Batches {
    /// Makes none, of which `spans` will make spans when they leave.
    pub(super) fn new(spans: Spans) -> Self {
        Self { spans, ..Self::default() }
    }

    /// Returns how many events are held.
    pub(super) fn held(&self) -> usize {
        self.count
    }

    /// Holds an event that was handled.
    pub(super) fn hold(&mut self, batch: BatchId, mut event: Box<Event>, ack: Ack) {
        event.ack = ack;
        self.count += 1;
        self.held.entry(batch).or_default().push(event);
    }

    /// Makes one event of all that a batch holds, with its share; `None` if it holds nothing.
    ///
    /// It is derived from the last of them, and goes on in the trace of that, or of the last one that is sampled.
    pub(super) fn release(&mut self, batch: BatchId, data: Payload) -> Option<(Box<Event>, Ack)> {
        let mut others = self.held.remove(&batch)?;
        self.count -= others.len();
        let ack = joined(&mut others);
        let (span, above) = self.flush_span(&others);
        let trace = span.context();
        let step = span.end(SpanOutcome::Completed, None);
        let mut event = others.pop()?;
        if let Some(above) = above.and_then(|above| others.get_mut(above)) {
            let is_renamed = above.trail.is_followed() && !event.id.is_from(&above.id);
            std::mem::swap(&mut event.trail, &mut above.trail);
            std::mem::swap(&mut event.trace, &mut above.trace);
            if is_renamed {
                event.trail.rename(event.trail.steps().len(), above.id.clone());
            }
        }
        // What is sampled is exported already, and linked to what is exported.
        let is_sampled = trace.is_sampled();
        event.trail.join(step, || (!is_sampled && !others.is_empty()).then(|| parts(others)));
        event.trace = trace;
        event.queued = step.end();
        event.data = data;
        Some((event, ack))
    }

    /// Gives back every event: whoever brought it in is asked to bring it in again.
    pub(super) fn give_back(&mut self) {
        self.count = 0;
        for mut event in self.held.drain().flat_map(|(_, events)| events) {
            let at = if event.queued.is_set() { Ticks::now() } else { event.queued };
            event.ack.take().give_back(Moment { at, context: event.trace });
        }
    }

    /// Starts the span of a batch: below the last event's, if that is exported or none is, and linked to the others.
    /// Returns it with the place of the event that it is below, if that is not the last.
    fn flush_span(&self, events: &[Box<Event>]) -> (OpenSpan, Option<usize>) {
        let last = events.len().saturating_sub(1);
        let above = events.iter().rposition(|event| event.trace.is_sampled()).unwrap_or(last);
        let mut span = self.spans.child(events.get(above).map(|event| event.trace).unwrap_or_default());
        if let Some(record) = span.record() {
            let others = events[..above].iter().rev().map(|event| event.trace);
            others.filter(|trace| trace.is_sampled()).for_each(|trace| record.link(trace));
        }
        (span, (above != last).then_some(above))
    }
}

/// Joins the shares of events to that of their batch.
fn joined(events: &mut [Box<Event>]) -> Ack {
    match events {
        [event] => event.ack.take(),
        events => Ack::join(events.iter_mut().map(|event| event.ack.take()).collect()),
    }
}

/// Returns what is remembered of the events that went into a batch besides the one whose way it goes on: of as many as
/// anything links to, the last ones, the latest first.
#[expect(clippy::vec_box, reason = "as they are held")]
fn parts(events: Vec<Box<Event>>) -> Batch {
    let others = u32::try_from(events.len().saturating_sub(MAX_LINKS)).unwrap_or(u32::MAX);
    let part = |event: Box<Event>| Part { id: event.id, trace: event.trace, trail: event.trail };
    Batch { parts: events.into_iter().rev().take(MAX_LINKS).map(part).collect(), others }
}
