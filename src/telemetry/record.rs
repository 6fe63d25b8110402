//! A span that is to be exported, as compact as the exporter can do with.

use std::sync::Arc;

use super::{Attributes, SpanOutcome, keep::Kept, series::Series};
use crate::{
    event::EventId,
    trace::{Remote, Ticks, TraceContext},
};

/// The most links that a span has; the others are counted.
pub const MAX_LINKS: usize = 128;

/// A sampled span: made when it starts, exported after it ended.
#[derive(Debug)]
pub struct SpanRecord {
    pub(super) series: Arc<Series>,
    /// The place of the series.
    pub(super) place: u32,
    pub(super) context: TraceContext,
    /// The span above it; zero for the root of a trace.
    pub(super) parent: u64,
    /// Whether that is a span of another program.
    pub(super) is_parent_remote: bool,
    pub(super) start: Ticks,
    pub(super) end: Ticks,
    pub(super) outcome: SpanOutcome,
    pub(super) error_type: Option<&'static str>,
    pub(super) event_id: Option<EventId>,
    /// Nanoseconds between the end of the span upstream and the start of this one.
    pub(super) queued: Option<u64>,
    pub(super) attributes: Attributes,
    /// Each with whether it is a span of another program.
    pub(super) links: Vec<(TraceContext, bool)>,
    pub(super) dropped_links: u32,
    /// Whether it is of the worker's own life: there are few of those, and they find room in a full queue.
    pub(super) is_lifecycle: bool,
    /// What the trace carries of those that it came through (`tracestate`).
    pub(super) trace_state: Option<Arc<str>>,
    /// Why it is exported, if not because it was sampled.
    pub(super) kept: Option<Kept>,
}

impl SpanRecord {
    pub(super) fn new(series: Arc<Series>, context: TraceContext, parent: u64, start: Ticks) -> Self {
        Self {
            series,
            place: 0,
            context,
            parent,
            is_parent_remote: false,
            start,
            end: start,
            outcome: SpanOutcome::default(),
            error_type: None,
            event_id: None,
            queued: None,
            attributes: Attributes::default(),
            links: Vec::new(),
            dropped_links: 0,
            is_lifecycle: false,
            trace_state: None,
            kept: None,
        }
    }

    /// Names the event that the span is about, and since when it waited for the task.
    pub fn set_event(&mut self, id: EventId, queued: Ticks) {
        self.event_id = Some(id);
        self.queued = queued.is_set().then(|| self.start.since(queued));
    }

    /// Takes over what the trace carries of those that it came through.
    pub fn set_remote(&mut self, remote: Option<&Remote>) {
        self.trace_state = remote.and_then(Remote::shared_tracestate);
    }

    /// Adds what is known of the work. What was said before of the same name stays.
    pub fn add_attributes(&mut self, attributes: Attributes) {
        self.attributes = std::mem::take(&mut self.attributes).over(attributes);
    }

    /// Links the span to another one, which should be exported as well.
    pub fn link(&mut self, context: TraceContext) {
        self.link_to(context, false);
    }

    /// Links the span to one of another program.
    pub(super) fn link_remote(&mut self, context: TraceContext) {
        self.link_to(context, true);
    }

    fn link_to(&mut self, context: TraceContext, is_remote: bool) {
        if self.links.len() < MAX_LINKS {
            self.links.push((context, is_remote));
        } else {
            self.dropped_links += 1;
        }
    }
}
