//! The one place that makes spans.
//!
//! A span is a `tracing` span of one of two callsites. It says everything when it ends, in one typed
//! value, so that no layer keeps anything for a span that is open: the [`SpanMetrics`] layer counts it,
//! and the [`Recorder`] layer hands it to the exporter if it is sampled. Whether it is, is decided once, where its
//! trace begins; below, the context in the event tells.
//!
//! [`SpanMetrics`]: super::span_metrics::SpanMetrics
//! [`Recorder`]: super::recorder::Recorder

use std::{cell::RefCell, error::Error, fmt, mem, sync::Arc, thread};

use tracing::{Span, field};

use super::{
    Identity, SpanKind, SpanOutcome, ids,
    queue::SpanQueue,
    record::SpanRecord,
    series::{Series, SeriesTable},
};
use crate::event::{Ticks, TraceContext};

/// The target of spans that are exported.
pub(super) const SAMPLED: &str = "flowgen::sampled";
/// The target of spans that are only counted.
pub(super) const UNSAMPLED: &str = "flowgen::unsampled";

/// The number of random bits of a trace id, the lowest ones (W3C Trace Context, level 2).
const RANDOM_BITS: u32 = 56;

/// What makes all spans of a worker. Cheap to clone; the default makes none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    table: Arc<SeriesTable>,
    queue: Option<Arc<SpanQueue>>,
    /// A trace is sampled if its random bits are not below this.
    threshold: u64,
}

impl Tracer {
    /// Makes a tracer that counts in `table`. `rate` is the share of traces that are sampled, 0.0 to 1.0; without
    /// a queue none is.
    pub(super) fn new(table: Arc<SeriesTable>, queue: Option<Arc<SpanQueue>>, rate: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "between 0 and 2^56, where a double is exact enough"
        )]
        let threshold = ((1.0 - rate) * (1u64 << RANDOM_BITS) as f64).round() as u64;
        Self(Some(Arc::new(Shared { table, queue, threshold })))
    }

    /// Returns what makes the spans of one name, of one task or of the worker. `error_types` are all that
    /// they can have. Their counters are zero from here on.
    pub fn spans(
        &self,
        name: &'static str,
        kind: SpanKind,
        identity: Option<Arc<Identity>>,
        error_types: &'static [&'static str],
    ) -> Spans {
        Spans(self.0.as_ref().map(|shared| {
            let series = Arc::new(Series::new(name, kind, identity, error_types));
            let place = shared.table.register(Arc::clone(&series));
            Maker { shared: Arc::clone(shared), series, place }
        }))
    }
}

/// Makes the spans of one name and one task. The default makes none.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Maker>);

#[derive(Clone, Debug)]
struct Maker {
    shared: Arc<Shared>,
    series: Arc<Series>,
    place: usize,
}

impl Spans {
    /// Starts a span below another of this worker, sampled if that one is. Where there is none above, it is
    /// the root of a trace, and it is decided whether that is sampled.
    ///
    /// Where no traces are exported the span has no ids: nobody could find them, and a server that gets them would
    /// take them for the decision not to trace.
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
        if maker.shared.queue.is_none() {
            return maker.open(parent, 0, false);
        }
        let trace_id = if parent.is_valid() { parent.trace_id } else { ids::trace_id() };
        let context = TraceContext { trace_id, span_id: ids::span_id(), flags: TraceContext::SAMPLED };
        let mut span = maker.open(context, parent.span_id, true);
        if let Some(record) = &mut span.record {
            record.is_lifecycle = true;
        }
        span
    }
}

impl Shared {
    /// Returns whether a trace is sampled: by the highest values, so that all who sample at a rate agree (OpenTelemetry,
    /// consistent probability sampling).
    fn samples(&self, trace_id: u128) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are the random ones")]
        let random = trace_id as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.threshold
    }
}

impl Maker {
    fn child(&self, parent: TraceContext) -> OpenSpan {
        let Some(queue) = &self.shared.queue else { return self.open(parent, 0, false) };
        let span_id = ids::span_id();
        if parent.is_valid() {
            return self.open(TraceContext { span_id, ..parent }, parent.span_id, parent.is_sampled());
        }
        let trace_id = ids::trace_id();
        let is_sampled = self.shared.samples(trace_id) && queue.admits_trace();
        let flags = if is_sampled { TraceContext::SAMPLED } else { 0 };
        self.open(TraceContext { trace_id, span_id, flags }, 0, is_sampled)
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
        let record =
            is_sampled.then(|| Box::new(SpanRecord::new(Arc::clone(&self.series), context, parent, start)));
        OpenSpan { span, context, start, place: self.place, record }
    }
}

/// A span that has started. Dropped without an end it counts as failed in a panic, and as cancelled
/// otherwise.
#[derive(Debug)]
#[must_use = "a span that is dropped at once is cancelled"]
pub struct OpenSpan {
    span: Span,
    context: TraceContext,
    start: Ticks,
    place: usize,
    record: Option<Box<SpanRecord>>,
}

impl OpenSpan {
    /// Makes what stands for a span while telemetry is off: it hands on the context it got.
    fn none(context: TraceContext) -> Self {
        Self { span: Span::none(), context, start: Ticks::default(), place: 0, record: None }
    }

    /// Returns the span's own context, for whatever comes below it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Lets it have started earlier than it was made.
    pub fn set_start(&mut self, start: Ticks) {
        self.start = start;
        if let Some(record) = &mut self.record {
            record.start = start;
        }
    }

    /// Returns what is exported of the span, or `None` if it is not sampled.
    pub fn record(&mut self) -> Option<&mut SpanRecord> {
        self.record.as_deref_mut()
    }

    /// Ends the span. Returns when that was; not set if telemetry is off.
    pub fn end(mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Ticks {
        self.finish(outcome, error_type)
    }

    #[inline]
    fn finish(&mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Ticks {
        if self.start.is_set() { self.tell(outcome, error_type) } else { self.start }
    }

    /// Says how it ended, once.
    fn tell(&mut self, outcome: SpanOutcome, error_type: Option<&'static str>) -> Ticks {
        let end = Ticks::now();
        let span = mem::replace(&mut self.span, Span::none());
        if let Some(record) = &mut self.record {
            record.end = end;
            record.outcome = outcome;
            record.error_type = error_type.map(|error_type| record.series.error_type(error_type));
        }
        let ended = Ended {
            place: self.place,
            nanos: end.since(self.start),
            outcome,
            error_type,
            record: RefCell::new(self.record.take()),
        };
        span.record("end", &ended as &(dyn Error + 'static));
        self.start = Ticks::default();
        end
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if thread::panicking() {
            self.finish(SpanOutcome::Failed, Some("panic"));
        } else {
            self.finish(SpanOutcome::Cancelled, None);
        }
    }
}

/// What a span says when it ends.
///
/// An `Error` only because that is the one kind of value that `tracing` carries with its type.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) place: usize,
    pub(super) nanos: u64,
    pub(super) outcome: SpanOutcome,
    pub(super) error_type: Option<&'static str>,
    /// What the recorder takes.
    pub(super) record: RefCell<Option<Box<SpanRecord>>>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.outcome.name())
    }
}

impl Error for Ended {}

/// Calls `f` with what a span said if it was its end.
pub(super) fn on_end(values: &tracing::span::Record<'_>, f: impl FnMut(&Ended)) {
    struct Visitor<F>(F);
    impl<F: FnMut(&Ended)> field::Visit for Visitor<F> {
        fn record_debug(&mut self, _: &field::Field, _: &dyn fmt::Debug) {}

        fn record_error(&mut self, _: &field::Field, value: &(dyn Error + 'static)) {
            if let Some(ended) = value.downcast_ref() {
                (self.0)(ended);
            }
        }
    }
    values.record(&mut Visitor(f));
}
