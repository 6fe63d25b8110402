//! What became of every span and every data point, counted where it happens.
//!
//! At any time `created = waiting in front of the exporter + in its hands + exported + dropped`; once a
//! ledger is closed nothing waits and nothing is in hand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::telemetry::queue::SpanQueue;

/// The reason of a drop: the queue before the exporter was full.
pub(in crate::telemetry) const QUEUE_FULL: &str = "queue_full";
/// The reason of a drop: the collector took the rest of the call.
pub(in crate::telemetry) const REJECTED: &str = "rejected";
/// The reason of a drop: the worker ended first.
pub(in crate::telemetry) const FLUSH_DEADLINE: &str = "flush_deadline";

/// The accounts of both signals.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Accounts {
    pub(super) spans: Ledger,
    pub(super) points: Ledger,
    /// Where spans come from. It counts those that are created, and those that find it full.
    queue: Option<Arc<SpanQueue>>,
}

/// What became of what the exporter took into its hands.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    taken: u64,
    in_hand: u64,
    exported: u64,
    dropped: BTreeMap<&'static str, u64>,
    is_closed: bool,
}

/// What became of the spans, or of the data points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Totals {
    /// How many there were.
    pub(in crate::telemetry) created: u64,
    /// How many the collector took.
    pub(in crate::telemetry) exported: u64,
    /// How many were dropped, by reason: [`QUEUE_FULL`], [`REJECTED`], [`FLUSH_DEADLINE`], or the type of
    /// the failed export.
    pub(in crate::telemetry) dropped: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Returns how many were dropped for any reason.
    pub(in crate::telemetry) fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl Accounts {
    pub(super) fn new(queue: Option<Arc<SpanQueue>>) -> Self {
        Self { queue, ..Self::default() }
    }

    /// Returns what became of spans so far.
    pub(in crate::telemetry) fn spans(&self) -> Totals {
        let mut totals = self.spans.totals();
        if let Some(queue) = &self.queue {
            let counts = queue.counts();
            totals.created = counts.created;
            if counts.refused > 0 {
                totals.dropped.insert(QUEUE_FULL, counts.refused);
            }
        }
        totals
    }

    /// Returns what became of data points so far. They are created when they are collected.
    pub(in crate::telemetry) fn points(&self) -> Totals {
        self.points.totals()
    }

    /// Returns how many spans wait in front of the exporter or are in its hands.
    pub(super) fn spans_left(&self) -> u64 {
        self.spans.left(|| self.queue.as_ref().map_or(0, |queue| queue.len()))
    }

    /// Ends the accounts: what is in hand and what is in the queue is dropped. What the exporter does from
    /// now on, if it is still alive, does not count, and the queue counts no more spans.
    pub(super) fn close(&self) {
        self.spans.close(|| self.queue.as_ref().map_or(0, |queue| queue.close()));
        self.points.close(|| 0);
    }
}

impl Ledger {
    /// Lets the exporter take items into its hands, unless the ledger is closed. `take` returns how many
    /// it took; it runs under the ledger's lock, so that nothing is ever in no account.
    pub(super) fn take(&self, take: impl FnOnce() -> usize) {
        let mut state = self.lock();
        if !state.is_closed {
            let taken = take() as u64;
            state.taken += taken;
            state.in_hand += taken;
        }
    }

    /// Counts items in hand that the collector took.
    pub(super) fn exported(&self, items: u64) {
        self.settle(items, |state| state.exported += items);
    }

    /// Counts items in hand that are given up.
    pub(super) fn dropped(&self, reason: &'static str, items: u64) {
        self.settle(items, |state| *state.dropped.entry(reason).or_default() += items);
    }

    fn settle(&self, items: u64, count: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.is_closed && items > 0 {
            state.in_hand = state.in_hand.saturating_sub(items);
            count(&mut state);
        }
    }

    fn close(&self, waiting: impl FnOnce() -> usize) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let waiting = waiting() as u64;
        let left = waiting + std::mem::take(&mut state.in_hand);
        if left > 0 {
            *state.dropped.entry(FLUSH_DEADLINE).or_default() += left;
        }
        state.taken += waiting;
        state.is_closed = true;
    }

    /// Returns how many are in hand, and how many `waiting` says there are before. It is called under the lock,
    /// so that what is being taken counts once.
    fn left(&self, waiting: impl FnOnce() -> usize) -> u64 {
        let state = self.lock();
        waiting() as u64 + state.in_hand
    }

    fn totals(&self) -> Totals {
        let state = self.lock();
        Totals { created: state.taken, exported: state.exported, dropped: state.dropped.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_exported_or_dropped_for_a_reason() {
        let ledger = Ledger::default();
        ledger.take(|| 15);
        assert_eq!(ledger.left(|| 4), 19);
        ledger.exported(5);
        ledger.dropped(REJECTED, 2);
        ledger.dropped("unavailable", 3);
        assert_eq!(ledger.left(|| 4), 9);
        ledger.close(|| 4);
        assert_eq!(ledger.left(|| 0), 0);
        let totals = ledger.totals();
        assert_eq!((totals.created, totals.exported), (19, 5));
        assert_eq!(totals.dropped, [(FLUSH_DEADLINE, 9), (REJECTED, 2), ("unavailable", 3)].into());
        assert_eq!(totals.created, totals.exported + totals.dropped_in_all());
    }

    #[test]
    fn what_a_late_exporter_does_no_longer_counts() {
        let ledger = Ledger::default();
        ledger.take(|| 5);
        ledger.close(|| 0);
        let totals = ledger.totals();
        ledger.exported(5);
        ledger.dropped("unavailable", 5);
        ledger.take(|| panic!("took from a queue that is accounted for"));
        ledger.close(|| panic!("counted a queue twice"));
        assert_eq!(ledger.totals(), totals);
    }
}
