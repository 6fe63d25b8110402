//! One entry of the flight recorder: an event that failed or was slow, and the way that it came.
//!
//! Made where the event fails, maybe a hundred thousand times a second: it shares what it can, and nothing is
//! written out before somebody asks.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    ack::Outcome,
    event::{Attempt, Event, EventId, Step},
    telemetry::{
        Identity,
        series::{Series, SpanTable},
    },
    trace::{Ticks, TraceContext},
};

/// Why an event is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Reason {
    /// It failed.
    Error,
    /// It took too long.
    Slow,
    /// A task panicked at it.
    Panic,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Panic => "panic",
        }
    }
}

/// How an event failed.
#[derive(Debug)]
pub(in crate::telemetry) struct Failure {
    /// Whether it was a panic.
    pub(in crate::telemetry) is_panic: bool,
    /// What became of the event.
    pub(in crate::telemetry) outcome: Option<Outcome>,
    /// The type of the error.
    pub(in crate::telemetry) error_type: &'static str,
    /// The error itself.
    pub(in crate::telemetry) error: Box<dyn Error + Send + Sync>,
}

/// A task that handled the event.
#[derive(Debug)]
pub(super) struct Passed {
    /// Unknown if the task ended long before.
    series: Option<Arc<Series>>,
    pub(super) step: Step,
}

/// An event that failed or was slow, and the way that it came.
#[derive(Debug)]
pub(in crate::telemetry) struct Entry {
    pub(super) event_id: EventId,
    pub(super) trace: TraceContext,
    /// None if it was only slow.
    pub(super) failure: Option<Failure>,
    /// All tasks that handled it. It failed in the last one, or came to its end there.
    pub(super) steps: Box<[Passed]>,
    /// Further attempts.
    pub(super) attempts: Box<[Attempt]>,
    is_told: AtomicBool,
}

/// What entries have in common that look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    reason: Reason,
    place: u32,
    error_type: Option<&'static str>,
}

impl Entry {
    /// Remembers an event that failed in its `last` step.
    pub(in crate::telemetry) fn failed(
        event: &Event,
        last: Step,
        failure: Failure,
        table: &SpanTable,
    ) -> Self {
        let last = Step { queued: event.queued, ..last };
        Self::new(event, Some(last), Some(failure), table)
    }

    /// Remembers an event that was slow on its way to its end.
    pub(in crate::telemetry) fn slow(event: &Event, table: &SpanTable) -> Self {
        Self::new(event, None, None, table)
    }

    fn new(event: &Event, last: Option<Step>, failure: Option<Failure>, table: &SpanTable) -> Self {
        // Now, because the place may be another task's when somebody asks.
        let passed = |step: Step| Passed { series: table.series(step.place), step };
        Self {
            event_id: event.id.clone(),
            trace: event.trace,
            failure,
            steps: event.trail.steps().iter().copied().chain(last).map(passed).collect(),
            attempts: event.trail.attempts().into(),
            is_told: AtomicBool::new(false),
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match &self.failure {
            None => Reason::Slow,
            Some(failure) if failure.is_panic => Reason::Panic,
            Some(_) => Reason::Error,
        }
    }

    pub(super) fn cause(&self) -> Cause {
        let place = self.steps.last().map_or(0, |last| last.step.place);
        let error_type = self.failure.as_ref().map(|failure| failure.error_type);
        Cause { reason: self.reason(), place, error_type }
    }

    /// Returns the task in which it failed or came to its end.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.steps.last()?.identity()
    }

    /// Returns when it entered.
    pub(super) fn start(&self) -> Ticks {
        self.steps.first().map(|first| first.step.start).unwrap_or_default()
    }

    /// Returns when it failed or came to its end.
    pub(super) fn end(&self) -> Ticks {
        self.steps.last().map(|last| last.step.end()).unwrap_or_default()
    }

    /// Returns the further attempts that were made in its `n`-th step.
    pub(super) fn attempts_at(&self, n: usize) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.before == n)
    }

    /// Returns whether it was told without anybody asking.
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// Takes note that it was.
    pub(super) fn set_told(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }
}

impl Passed {
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.series.as_ref()?.identity.as_deref()
    }
}
