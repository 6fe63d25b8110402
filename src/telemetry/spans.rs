//! The one place that makes spans.
//!
//! A span is a `tracing` span of one of two callsites. It says everything when it ends, in one typed
//! value, so that no layer keeps anything for a span that is open: the [`SpanMetrics`] layer counts it,
//! and the [`Recorder`] layer hands it to the exporter if it is sampled. Whether it is, is decided once, where its
//! trace begins; below, the context in the event tells.
//!
//! [`SpanMetrics`]: super::span_metrics::SpanMetrics
//! [`Recorder`]: super::recorder::Recorder

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use tracing::field;

use super::{
    AnswerSpan, Attributes, FlightRecorder, Identity, Meter, OpenSpan, Propagators, SpanKind,
    flight::{Entry, Failure, Ring},
    ids,
    keep::{self, Keeper, Kept, Last},
    queue::SpanQueue,
    record::SpanRecord,
    registry::Registry,
    sampling::{Sampling, Started},
    series::{Held, Series},
};
use crate::{
    ack::Outcome,
    event::{Event, Step},
    trace::{Ticks, TraceContext},
};

/// The target of spans that are exported.
pub(super) const SAMPLED: &str = "flowgen::sampled";
/// The target of spans that are only counted.
pub(super) const UNSAMPLED: &str = "flowgen::unsampled";

/// What makes all spans of a worker. Cheap to clone; the default makes none.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    shared: Option<Arc<Shared>>,
    propagators: Propagators,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) queue: Option<Arc<SpanQueue>>,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) flight: FlightRecorder,
    pub(super) sampling: Sampling,
    pub(super) started: Started,
    /// Whether metrics are exported.
    pub(super) is_metered: bool,
}

impl Tracer {
    pub(super) fn new(shared: Option<Arc<Shared>>, propagators: Propagators) -> Self {
        Self { shared, propagators }
    }

    /// Returns what goes from one process to another, also while telemetry is off.
    pub fn propagators(&self) -> Propagators {
        self.propagators
    }

    /// Returns what makes the spans of one name, of one task or of the worker. `error_types` are all that
    /// they can have. Their counters are zero from here on.
    pub fn spans(
        &self,
        name: &'static str,
        kind: SpanKind,
        identity: Option<Arc<Identity>>,
        error_types: impl Into<Cow<'static, [&'static str]>>,
    ) -> Spans {
        Spans(self.shared.as_ref().map(|shared| {
            let ring = identity.as_ref().and_then(|identity| shared.flight.ring(&identity.flow));
            let series = Arc::new(Series::new(name, kind, identity, error_types));
            let held = Arc::new(shared.registry.spans.hold(Arc::clone(&series)));
            Maker {
                shared: Arc::clone(shared),
                series,
                held,
                ring,
                sampling: shared.sampling,
                describe: Describe::default(),
            }
        }))
    }

    /// Returns what counts everything else.
    pub fn meter(&self) -> Meter {
        let shared = self.shared.as_ref().filter(|shared| shared.is_metered);
        shared.map(|shared| Meter::new(Arc::clone(&shared.registry))).unwrap_or_default()
    }

    /// Returns what remembers the latest events that failed or were slow.
    pub fn flight_recorder(&self) -> FlightRecorder {
        self.shared.as_ref().map(|shared| shared.flight.clone()).unwrap_or_default()
    }
}

/// Makes the spans of one name and one task. The default makes none.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Maker>);

#[derive(Clone, Debug)]
struct Maker {
    shared: Arc<Shared>,
    series: Arc<Series>,
    /// Ends the series when the last span and whatever makes them is gone.
    held: Arc<Held>,
    /// Where events of its flow are remembered; none for the spans of the worker.
    ring: Option<Arc<Ring>>,
    sampling: Sampling,
    describe: Describe,
}

impl Spans {
    /// Samples the traces that begin here at a rate of their own, 0.0 to 1.0.
    #[must_use]
    pub fn sampled_at(mut self, rate: f64) -> Self {
        if let Some(maker) = &mut self.0 {
            maker.sampling = maker.sampling.at(rate);
        }
        self
    }

    /// Lets spans say of their events what `describe` does, where anybody gets to see it.
    #[must_use]
    pub fn describing(mut self, describe: impl Fn(&Event) -> Attributes + Send + Sync + 'static) -> Self {
        if let Some(maker) = &mut self.0 {
            maker.describe = Describe(Some(Arc::new(describe)));
        }
        self
    }

    /// Returns what spans say of an event besides.
    pub fn describe(&self, event: &Event) -> Attributes {
        self.0.as_ref().map(|maker| maker.describe.of(event)).unwrap_or_default()
    }

    /// Starts the span of a task that handles an event, whose place in its trace it becomes. Where the event has just
    /// entered, the span is the root of its trace or the child of the span outside that the event came with, and
    /// it is decided whether the trace is sampled. Below it the context in the event tells.
    ///
    /// Where no traces are exported the span has no ids: nobody could find them, and a server that gets them would
    /// take them for the decision not to trace.
    #[inline]
    pub fn handle(&self, event: &mut Event) -> OpenSpan {
        let Some(maker) = &self.0 else { return OpenSpan::none(event.trace) };
        let mut span = if event.trail.is_followed() {
            maker.child(event.trace)
        } else {
            event.trail.follow();
            maker.enter(event)
        };
        span.depth = event.id.depth();
        event.trace = span.context;
        span
    }

    /// Takes the span of an event out of its handling, to be open until its source has answered. The event goes on without.
    pub fn answer(&self, span: &mut OpenSpan, event: &Event) -> AnswerSpan {
        let maker = self.0.as_ref().map(|maker| (&maker.shared, &maker.held));
        AnswerSpan::take(span, maker, event)
    }

    /// Starts a span below another of this worker, sampled if that one is.
    #[inline]
    pub fn child(&self, parent: TraceContext) -> OpenSpan {
        match &self.0 {
            Some(maker) => maker.child(parent),
            None => OpenSpan::none(parent),
        }
    }

    /// Starts a span of the worker's own life, which is always sampled: the root of a trace, or below
    /// `parent` if that is valid.
    pub fn lifecycle(&self, parent: TraceContext) -> OpenSpan {
        let Some(maker) = &self.0 else { return OpenSpan::none(parent) };
        let mut span = if maker.shared.queue.is_none() {
            maker.open(parent, 0, false)
        } else {
            let trace_id = if parent.is_valid() { parent.trace_id } else { ids::trace_id() };
            let context = TraceContext { trace_id, span_id: ids::span_id(), flags: TraceContext::SAMPLED };
            maker.open(context, parent.span_id, true)
        };
        if let Some(record) = &mut span.record {
            record.is_lifecycle = true;
        }
        // It may outlive what made it.
        span.held = Some(Arc::clone(&maker.held));
        span
    }

    /// Remembers an event that failed in the task whose span `last` was, and what became of it, unless it was passed on.
    pub fn remember_failed(
        &self,
        event: &Event,
        last: &Last,
        outcome: Option<Outcome>,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) {
        self.remember(event, last, || Failure {
            is_panic: false,
            outcome,
            error_type: last.error_type,
            error: error.into(),
        });
    }

    /// Remembers an event at which the task whose span `last` was has panicked, with this message.
    pub fn remember_panicked(&self, event: &Event, last: &Last, outcome: Option<Outcome>, message: &str) {
        self.remember(event, last, || Failure {
            is_panic: true,
            outcome,
            error_type: last.error_type,
            error: message.into(),
        });
    }

    /// Exports the way of an event that failed in the task whose span `last` was, if such traces are kept and this one
    /// was not sampled anyway. Returns whether it is exported, one way or the other.
    pub fn keep_failed(&self, event: &Event, last: Last) -> bool {
        self.keep_error(event, Some(last))
    }

    /// Returns whether traces of events that fail are exported although they were not sampled.
    pub fn keeps_failed(&self) -> bool {
        self.keeper().is_some_and(Keeper::keeps_errors)
    }

    /// Exports the way so far of an event that a failure also concerns, as [`Self::keep_failed`] does. Returns whether
    /// it is exported, that way or because it was sampled.
    pub fn keep_with(&self, event: &Event) -> bool {
        self.keep_error(event, None)
    }

    fn keep_error(&self, event: &Event, last: Option<Last>) -> bool {
        let keeper = self.keeper().filter(|keeper| keeper.keeps_errors());
        keeper.is_some_and(|keeper| keeper.keep(event, Kept::Error, last, &|| self.describe(event)))
    }

    /// Exports the way of an event that took so many nanoseconds from its entry to its end, if that is slow, with the
    /// span of the task that it failed in, if it did. If not it is remembered; failures are anyway. Returns whether it
    /// is slow and exported.
    pub fn keep_slow(&self, event: &Event, nanos: u64, last: Option<Last>) -> bool {
        if let Some((maker, ring)) = self.ring().filter(|(_, ring)| last.is_none() && ring.is_slow(nanos)) {
            ring.push(Entry::slow(event, &maker.shared.registry.spans));
        }
        let keeper = self.keeper().filter(|keeper| keeper.is_slow(nanos));
        keeper.is_some_and(|keeper| keeper.keep(event, Kept::Slow, last, &|| self.describe(event)))
    }

    /// Exports the span of a flush that failed, below that of an event of its batch that is kept, and linked to others.
    pub fn keep_flush(&self, above: &Event, flush: Step, error_type: &'static str, links: Vec<TraceContext>) {
        if let Some(keeper) = self.keeper() {
            keeper.keep_flush(above, flush, error_type, links);
        }
    }

    fn remember(&self, event: &Event, last: &Last, failure: impl FnOnce() -> Failure) {
        if let Some((maker, ring)) = self.ring() {
            ring.push(Entry::failed(event, last.step, failure(), &maker.shared.registry.spans));
        }
    }

    fn ring(&self) -> Option<(&Maker, &Ring)> {
        let maker = self.0.as_ref()?;
        Some((maker, maker.ring.as_deref()?))
    }

    fn keeper(&self) -> Option<&Keeper> {
        self.0.as_ref()?.shared.keeper.as_deref()
    }
}

/// Says of an event what spans say besides. The default says nothing.
#[derive(Clone, Default)]
struct Describe(Option<Arc<DescribeFn>>);

type DescribeFn = dyn Fn(&Event) -> Attributes + Send + Sync;

impl Describe {
    fn of(&self, event: &Event) -> Attributes {
        self.0.as_ref().map(|describe| describe(event)).unwrap_or_default()
    }
}

impl fmt::Debug for Describe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Describe")
    }
}

impl Maker {
    fn child(&self, parent: TraceContext) -> OpenSpan {
        if self.shared.queue.is_none() {
            return self.open(parent, 0, false);
        }
        let context = TraceContext { span_id: ids::span_id(), ..parent };
        self.open(context, parent.span_id, parent.is_sampled())
    }

    /// Starts the first span of an event.
    fn enter(&self, event: &Event) -> OpenSpan {
        let parent = event.trace;
        let Some(queue) = &self.shared.queue else { return self.open(parent, 0, false) };
        let trace_id = if parent.is_valid() { parent.trace_id } else { ids::trace_id() };
        let is_sampled = self.sampling.samples(trace_id, parent) && queue.admits_trace();
        let flags = if is_sampled { TraceContext::SAMPLED } else { 0 };
        let flags = parent.flags & !TraceContext::SAMPLED | flags;
        let context = TraceContext { trace_id, span_id: ids::span_id(), flags };
        let mut span = self.open(context, parent.span_id, is_sampled);
        if let Some(record) = &mut span.record {
            keep::enter(record, event.trail.remote());
        }
        span
    }

    /// Makes every span there is.
    fn open(&self, context: TraceContext, parent: u64, is_sampled: bool) -> OpenSpan {
        // Without a parent among the spans of `tracing`: one there would stay open until this one ends.
        let span = if is_sampled {
            tracing::info_span!(target: SAMPLED, parent: None, "span", end = field::Empty)
        } else {
            tracing::info_span!(target: UNSAMPLED, parent: None, "span", end = field::Empty)
        };
        let start = Ticks::now();
        let place = self.held.place;
        self.shared.started.count(is_sampled);
        let record = is_sampled.then(|| {
            let mut record = Box::new(SpanRecord::new(Arc::clone(&self.series), context, parent, start));
            record.place = place;
            record
        });
        OpenSpan {
            span,
            context,
            start,
            stop: Ticks::default(),
            place,
            depth: 0,
            record,
            held: None,
            passed: None,
        }
    }
}
