//! Kept traces: the way of an event that failed or was slow is exported although its trace was not sampled.
//!
//! The spans are made afterwards, of the trail that the event carries. Each span is exported once, however many
//! branches of the event fail, and all branches share one decision.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{Attributes, KeepTraces, SpanOutcome, SpanRecord, queue::SpanQueue, series::SpanTable};
use crate::{
    event::{Batch, Event, EventId, Fate, Part, Step, StepKind, Trail},
    trace::{Moment, Remote, Ticks, TraceContext},
};

/// The span of time that the limit is for, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Why a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The event failed.
    Error,
    /// It took too long.
    Slow,
}

impl Kept {
    pub(super) const ALL: [Self; 2] = [Self::Error, Self::Slow];

    /// Returns the value of the attribute `flowgen.kept`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Slow => "slow",
        }
    }
}

/// The span of the task in which an event failed.
#[derive(Debug)]
pub struct Last {
    /// What became of the span.
    pub step: Step,
    /// The type of the error.
    pub error_type: &'static str,
    /// What the task said of its work.
    pub attributes: Attributes,
}

/// The way of an event, which may have become a part of a batch since.
#[derive(Clone, Copy)]
struct Way<'a> {
    id: &'a EventId,
    trace: TraceContext,
    trail: &'a Trail,
}

impl<'a> Way<'a> {
    fn of(event: &'a Event) -> Self {
        Self { id: &event.id, trace: event.trace, trail: &event.trail }
    }

    fn of_part(part: &'a Part) -> Self {
        Self { id: &part.id, trace: part.trace, trail: &part.trail }
    }
}

/// Exports the traces that are kept.
#[derive(Debug)]
pub(super) struct Keeper {
    queue: Arc<SpanQueue>,
    table: Arc<SpanTable>,
    config: KeepTraces,
    second: Mutex<Second>,
    kept: [AtomicU64; Kept::ALL.len()],
    /// Traces beyond the limit.
    beyond: AtomicU64,
}

/// How many traces were kept in the current second.
#[derive(Debug, Default)]
struct Second {
    since: Ticks,
    kept: u32,
}

impl Keeper {
    pub(super) fn new(queue: Arc<SpanQueue>, table: Arc<SpanTable>, config: KeepTraces) -> Self {
        Self {
            queue,
            table,
            config,
            second: Mutex::default(),
            kept: Default::default(),
            beyond: AtomicU64::new(0),
        }
    }

    /// Returns how many traces were kept for this reason.
    pub(super) fn kept(&self, reason: Kept) -> u64 {
        self.kept[reason as usize].load(Ordering::Relaxed)
    }

    /// Returns how many traces were beyond the limit.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond.load(Ordering::Relaxed)
    }

    pub(super) fn keeps_errors(&self) -> bool {
        self.config.errors
    }

    /// Returns whether an event that took so many nanoseconds was slow.
    pub(super) fn is_slow(&self, nanos: u64) -> bool {
        self.config.slower_than.is_some_and(|limit| u128::from(nanos) > limit.as_nanos())
    }

    /// Exports the way of an event, and the span of the task that did not pass it on. The last span says of the event what
    /// `describe` does. Returns whether it is exported, that way or because it was sampled.
    pub(super) fn keep(
        &self,
        event: &Event,
        reason: Kept,
        last: Option<Last>,
        describe: &dyn Fn() -> Attributes,
    ) -> bool {
        let waited = |last: Last| Last { step: Step { queued: event.queued, ..last.step }, ..last };
        event.trace.is_sampled() || self.keep_way(Way::of(event), reason, last.map(waited), describe)
    }

    fn keep_way(
        &self,
        way: Way<'_>,
        reason: Kept,
        last: Option<Last>,
        describe: &dyn Fn() -> Attributes,
    ) -> bool {
        let Some(fate) = way.trail.fate() else { return false };
        // Once it is begun, all of it is: what does not fit is counted where that shows.
        let spans = way.trail.steps().len() + way.trail.attempts().len() + 1;
        if !fate.is_kept(reason as u8, || self.admits(reason, spans)) {
            return false;
        }
        let mut records = self.steps(way, fate, reason, last.as_ref().map(|last| last.step.span_id));
        records.extend(last.and_then(|last| self.last(way, last)));
        // Those of attempts and of batches have no event.
        if let Some(last) = records.iter_mut().rev().find(|record| record.event_id.is_some()) {
            last.attributes = describe().over(std::mem::take(&mut last.attributes));
        }
        records.into_iter().for_each(|record| self.push(record, fate, reason));
        true
    }

    /// Exports the ways of what became one in a batch, and links the span of its flush to them.
    fn keep_parts(&self, batch: &Batch, reason: Kept, flush: &mut SpanRecord) {
        for part in &batch.parts {
            if self.keep_way(Way::of_part(part), reason, None, &Attributes::default) {
                flush.link(part.trace);
            }
        }
        flush.dropped_links += batch.others;
    }

    /// Exports the span of a flush below that of an event of its batch, whose trace is kept.
    pub(super) fn keep_flush(
        &self,
        above: &Event,
        flush: Step,
        error_type: &'static str,
        links: Vec<TraceContext>,
    ) {
        let Some(fate) = above.trail.fate() else { return };
        let Some(mut record) = self.record(Way::of(above), usize::MAX, &flush) else { return };
        record.event_id = None;
        record.parent = above.trace.span_id;
        record.outcome = SpanOutcome::Failed;
        record.error_type = Some(record.series.error_type(error_type));
        links.into_iter().for_each(|link| record.link(link));
        self.push(record, fate, Kept::Error);
    }

    /// Exports the first span of an event, which ended when its source had answered, if the trace is kept: now, or once
    /// that is known.
    pub(super) fn keep_answer(self: &Arc<Self>, mut record: Box<SpanRecord>, fate: Arc<Fate>) {
        let keeper = Arc::clone(self);
        let told = Arc::downgrade(&fate);
        fate.when_kept(move |reason| {
            let reason = Kept::ALL.get(usize::from(reason)).copied().unwrap_or(Kept::Error);
            if let Some(fate) = told.upgrade() {
                record.kept = Some(reason);
                keeper.push(record, &fate, reason);
            }
        });
    }

    /// Returns whether there is room for one more trace, in this second and for so many spans.
    fn admits(&self, reason: Kept, spans: usize) -> bool {
        if !self.queue.admits_trace_of(spans) {
            return false;
        }
        let is_within = {
            let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Ticks::now();
            if !second.since.is_set() || now.since(second.since) >= SECOND {
                *second = Second { since: now, kept: 0 };
            }
            let is_within = second.kept < self.config.limit;
            second.kept += u32::from(is_within);
            is_within
        };
        let counter = if is_within { &self.kept[reason as usize] } else { &self.beyond };
        counter.fetch_add(1, Ordering::Relaxed);
        is_within
    }

    /// Makes the spans of all steps, and of their attempts, and exports what became one with the event on its way.
    #[expect(clippy::vec_box, reason = "boxes are what the queue takes")]
    fn steps(&self, way: Way<'_>, fate: &Fate, reason: Kept, last: Option<u64>) -> Vec<Box<SpanRecord>> {
        let trail = way.trail;
        let mut records = Vec::with_capacity(trail.steps().len() + trail.attempts().len() + 1);
        let mut parent = None;
        for (n, step) in trail.steps().iter().enumerate() {
            let batch = trail.batch_at(n);
            // A branch that failed before has told of the whole batch.
            let is_told = batch.is_some() && fate.is_told(step.span_id);
            // One that is open tells of itself when it ends.
            let is_told = is_told || step.kind == StepKind::Open;
            if let Some(mut record) = self.record(way, n, step).filter(|_| !is_told) {
                match parent {
                    Some(parent) => record.parent = parent,
                    None => enter(&mut record, trail.remote()),
                }
                if let Some(batch) = batch {
                    self.keep_parts(batch, reason, &mut record);
                }
                records.push(record);
            }
            parent = Some(step.span_id);
        }
        for attempt in trail.attempts() {
            let parent = trail.steps().get(attempt.before).map(|step| step.span_id).or(last);
            if let (Some(parent), Some(mut record)) =
                (parent, self.record(way, attempt.before, &attempt.step))
            {
                record.parent = parent;
                record.event_id = None;
                if let Some(error_type) = attempt.error_type {
                    record.outcome = SpanOutcome::Failed;
                    record.error_type = Some(record.series.error_type(error_type));
                }
                records.push(record);
            }
        }
        records
    }

    /// Makes the span of a step that did not fail.
    fn record(&self, way: Way<'_>, n: usize, step: &Step) -> Option<Box<SpanRecord>> {
        let series = self.table.series(step.place)?;
        let context = TraceContext { span_id: step.span_id, ..way.trace };
        let mut record = SpanRecord::new(series, context, 0, step.start);
        record.place = step.place;
        record.end = step.start.after(step.nanos);
        record.outcome = match step.kind {
            StepKind::Handled | StepKind::Flushed | StepKind::Open => SpanOutcome::Completed,
            StepKind::Filtered => SpanOutcome::Filtered,
            StepKind::Skipped => SpanOutcome::Skipped,
        };
        if step.kind != StepKind::Flushed {
            record.set_event(way.trail.id_at(n, way.id), step.queued);
        }
        record.set_remote(way.trail.remote());
        Some(Box::new(record))
    }

    /// Makes the span of the task that did not pass the event on.
    fn last(&self, way: Way<'_>, last: Last) -> Option<Box<SpanRecord>> {
        let Last { step, error_type, attributes } = last;
        let trail = way.trail;
        let mut record = self.record(way, trail.steps().len(), &step)?;
        match trail.steps().last() {
            Some(step) => record.parent = step.span_id,
            None => enter(&mut record, trail.remote()),
        }
        record.outcome = SpanOutcome::Failed;
        record.error_type = Some(record.series.error_type(error_type));
        record.add_attributes(attributes);
        Some(record)
    }

    /// Queues a span, if it was not before.
    fn push(&self, mut record: Box<SpanRecord>, fate: &Fate, reason: Kept) {
        if !fate.is_new(record.context.span_id) {
            return;
        }
        record.kept = Some(reason);
        let nanos = record.end.since(record.start);
        let at = Moment { at: record.end, context: record.context };
        self.table.exemplify(record.place, record.outcome, nanos, at);
        self.queue.push(record);
    }
}

/// Connects the first span of an event with what is outside.
pub(super) fn enter(record: &mut SpanRecord, remote: Option<&Remote>) {
    let Some(remote) = remote.filter(|remote| remote.context.is_valid()) else { return };
    if remote.is_parent {
        record.parent = remote.context.span_id;
        record.is_parent_remote = true;
    } else {
        record.link_remote(remote.context);
    }
}
