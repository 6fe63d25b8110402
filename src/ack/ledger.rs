//! The account of a flow: every event that entered it, and the one outcome of each.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{Ended, Origin, Outcome};
use crate::trace::{Moment, Ticks};

/// Counts the events of one flow. What went in and what came out are counted apart, each at the place
/// where it happens, so that a loss shows: at a drain they must be equal.
#[derive(Default)]
pub struct Ledger {
    entered: Padded<[AtomicU64; Origin::ALL.len()]>,
    settled: Padded<[AtomicU64; Outcome::ALL.len()]>,
    is_cancelling: AtomicBool,
    observer: Option<Box<dyn Observer>>,
}

/// Is told of every event of a flow that came to an end, how long it took.
pub trait Observer: Send + Sync {
    /// Takes note of an event that entered at `entered`. `at` is when its last share settled, if it was not dropped.
    fn ended(&self, outcome: Outcome, entered: Ticks, at: Moment);

    /// Takes note that the way of an event that ended is exported after all.
    fn exported(&self, ended: Ended);
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&self.summary()).finish()
    }
}

/// Keeps counters that different threads write on cache lines of their own (two, for the prefetcher).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl Ledger {
    /// Makes a ledger whose events are timed.
    pub fn observed(observer: Box<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    pub(super) fn enter(&self, origin: Origin) {
        self.entered.0[origin as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// `Release` pairs with [`Self::summary`]: an event seen as settled is seen as entered.
    pub(super) fn settle(&self, outcome: Outcome, entered: Ticks, at: Moment) {
        // First, so that nobody sees an end that was not timed yet.
        if let Some(observer) = self.observer.as_ref().filter(|_| entered.is_set()) {
            observer.ended(outcome, entered, at);
        }
        self.settled.0[outcome as usize].fetch_add(1, Ordering::Release);
    }

    /// Takes note that the way of an event that ended is exported after all.
    pub fn exported(&self, ended: Ended) {
        if let Some(observer) = &self.observer {
            observer.exported(ended);
        }
    }

    /// From now on a share that is dropped unsettled is cancelled, not failed.
    pub fn cancel(&self) {
        self.is_cancelling.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelling(&self) -> bool {
        self.is_cancelling.load(Ordering::Relaxed)
    }

    /// Returns the counts. Exact at rest; in between, `entered` is never less than the outcomes.
    pub fn summary(&self) -> Summary {
        let settled = Outcome::ALL.map(|outcome| self.settled.0[outcome as usize].load(Ordering::Acquire));
        let origins = Origin::ALL.map(|origin| self.entered.0[origin as usize].load(Ordering::Relaxed));
        Summary { entered: origins.iter().sum(), origins, settled }
    }
}

/// The counts of a flow at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that entered.
    pub entered: u64,
    origins: [u64; Origin::ALL.len()],
    settled: [u64; Outcome::ALL.len()],
}

impl Summary {
    /// Returns how many events entered from `origin`.
    pub fn entered_from(&self, origin: Origin) -> u64 {
        self.origins[origin as usize]
    }

    /// Returns how many events ended in `outcome`.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.settled[outcome as usize]
    }

    /// Counts what is in flight as cancelled: nobody is left to settle it.
    #[must_use]
    pub fn cut_short(mut self) -> Self {
        self.settled[Outcome::Cancelled as usize] += self.inflight();
        self
    }

    /// Returns how many events have an outcome.
    pub fn settled(&self) -> u64 {
        self.settled.iter().sum()
    }

    /// Returns how many events entered and have no outcome yet.
    pub fn inflight(&self) -> u64 {
        self.entered.saturating_sub(self.settled())
    }
}
