//! What became of every span and every data point, counted where it happens.
//!
//! At any time `created = waiting in front of the exporter + in its hands + exported + dropped`; once a
//! ledger is closed nothing waits and nothing is in hand.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The reason of a drop: the queue before the exporter was full.
pub const QUEUE_FULL: &str = "queue_full";
/// The reason of a drop: the collector took the rest of the call.
pub const REJECTED: &str = "rejected";
/// The reason of a drop: the worker ended first.
pub const FLUSH_DEADLINE: &str = "flush_deadline";

/// The accounts of both signals.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Spans.
    pub spans: Ledger,
    /// Data points of metrics.
    pub points: Ledger,
}

/// The account of one signal.
#[derive(Debug, Default)]
pub struct Ledger {
    created: AtomicU64,
    /// Apart from the other drops, because spans are counted here by the thousand while nothing moves.
    queue_full: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_hand: u64,
    exported: u64,
    dropped: BTreeMap<&'static str, u64>,
    is_closed: bool,
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many there were.
    pub created: u64,
    /// How many the collector took.
    pub exported: u64,
    /// How many were dropped, by reason: [`QUEUE_FULL`], [`REJECTED`], [`FLUSH_DEADLINE`], or the type of
    /// the failed export.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Returns how many were dropped for any reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl Ledger {
    /// Counts items that want to be exported, before they get into any queue.
    pub fn created(&self, items: u64) {
        self.created.fetch_add(items, Ordering::Relaxed);
    }

    /// Counts items that found no room in the queue.
    pub fn queue_full(&self, items: u64) {
        self.queue_full.fetch_add(items, Ordering::Relaxed);
    }

    /// Returns what there is so far.
    pub fn totals(&self) -> Totals {
        let state = self.lock();
        let mut dropped = state.dropped.clone();
        let exported = state.exported;
        drop(state);
        let queue_full = self.queue_full.load(Ordering::Relaxed);
        if queue_full > 0 {
            dropped.insert(QUEUE_FULL, queue_full);
        }
        Totals { created: self.created.load(Ordering::Relaxed), exported, dropped }
    }

    /// Lets the exporter take items into its hands, unless the ledger is closed. `take` returns how many
    /// it took; it runs under the ledger's lock, so that nothing is ever in no account.
    pub(super) fn take(&self, take: impl FnOnce() -> usize) {
        let mut state = self.lock();
        if !state.is_closed {
            state.in_hand += take() as u64;
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

    /// Ends the account: what is in hand, and what `waiting` takes out of the queue, is dropped. What the
    /// exporter does from now on, if it is still alive, does not count.
    pub(super) fn close(&self, waiting: impl FnOnce() -> usize) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let left = waiting() as u64 + std::mem::take(&mut state.in_hand);
        if left > 0 {
            *state.dropped.entry(FLUSH_DEADLINE).or_default() += left;
        }
        state.is_closed = true;
    }

    fn settle(&self, items: u64, count: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.is_closed && items > 0 {
            state.in_hand = state.in_hand.saturating_sub(items);
            count(&mut state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_created_is_exported_or_dropped_for_a_reason() {
        let ledger = Ledger::default();
        ledger.created(20);
        ledger.queue_full(1);
        ledger.take(|| 15);
        ledger.exported(5);
        ledger.dropped(REJECTED, 2);
        ledger.dropped("unavailable", 3);
        ledger.close(|| 4);
        let totals = ledger.totals();
        assert_eq!((totals.created, totals.exported), (20, 5));
        let dropped = [(FLUSH_DEADLINE, 9), (QUEUE_FULL, 1), (REJECTED, 2), ("unavailable", 3)];
        assert_eq!(totals.dropped, dropped.into());
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
