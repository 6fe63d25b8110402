//! Whether a collector takes what is sent to it: one warning when that ends, one line when it is back.
//!
//! A call that failed is no line. Signals that go to the same endpoint share one of these.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{accounts::Accounts, client::Accepted, error::ExportError};
use crate::telemetry::Signal;

/// How soon after a warning the next one may follow, so that a collector which fails every other call does
/// not fill the log.
const QUIET: Duration = Duration::from_secs(10);

/// How often it is said that the collector rejects some of what it takes.
const REJECTIONS: Duration = Duration::from_secs(60);

/// What is known of a collector.
#[derive(Debug)]
pub(super) struct Collector {
    endpoint: String,
    accounts: Arc<Accounts>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    traces: OfSignal,
    metrics: OfSignal,
    outage: Option<Outage>,
    warned: Option<Instant>,
    told_rejections: Option<Instant>,
    rejected: u64,
}

/// What is known of the calls of one signal.
#[derive(Clone, Copy, Debug, Default)]
struct OfSignal {
    /// It goes to this collector.
    is_served: bool,
    /// Its last call failed.
    fails: bool,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    dropped: Drops,
    is_told: bool,
}

/// How many spans and points were dropped; of a signal that goes elsewhere, none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Drops(u64, u64);

impl Collector {
    pub(super) fn new(endpoint: &str, accounts: Arc<Accounts>) -> Self {
        Self { endpoint: endpoint.to_owned(), accounts, state: Mutex::default() }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Takes note that a signal goes to it.
    pub(super) fn serve(&self, signal: Signal) {
        self.lock().of(signal).is_served = true;
    }

    /// Takes note of a call that failed.
    pub(super) fn failed(&self, signal: Signal, error: &ExportError) {
        let dropped = self.drops();
        let is_told = self.lock().failed(signal, Instant::now(), dropped);
        if is_told {
            tracing::warn!(
                endpoint = self.endpoint,
                signal = signal.name(),
                error.message = %error,
                error.type = error.error_type(),
                "the collector does not take telemetry; flows go on, what is dropped is counted; `flowgen doctor` says more"
            );
        }
    }

    /// Takes note of a call that succeeded.
    pub(super) fn accepted(&self, signal: Signal, accepted: &Accepted) {
        let now = Instant::now();
        let (back, rejected) = {
            let mut state = self.lock();
            (state.succeeded(signal), state.rejected(accepted.rejected, now))
        };
        if let Some(outage) = back {
            let Drops(spans, points) = self.drops();
            let after = Duration::from_secs(now.duration_since(outage.since).as_secs());
            tracing::info!(
                endpoint = self.endpoint,
                after = %humantime::format_duration(after),
                spans_dropped = spans - outage.dropped.0,
                points_dropped = points - outage.dropped.1,
                "the collector takes telemetry again"
            );
        }
        if let Some(rejected) = rejected {
            let message = accepted.message.as_str();
            tracing::warn!(
                endpoint = self.endpoint,
                signal = signal.name(),
                rejected,
                error.message = message,
                "the collector rejects a part of the telemetry"
            );
        }
    }

    fn drops(&self) -> Drops {
        let (traces, metrics) = {
            let state = self.lock();
            (state.traces.is_served, state.metrics.is_served)
        };
        Drops(
            if traces { self.accounts.spans().dropped_in_all() } else { 0 },
            if metrics { self.accounts.points().dropped_in_all() } else { 0 },
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, signal: Signal) -> &mut OfSignal {
        match signal {
            Signal::Traces => &mut self.traces,
            Signal::Metrics => &mut self.metrics,
        }
    }

    /// Returns whether it is time for the warning.
    fn failed(&mut self, signal: Signal, now: Instant, dropped: Drops) -> bool {
        self.of(signal).fails = true;
        let outage = self.outage.get_or_insert(Outage { since: now, dropped, is_told: false });
        if outage.is_told || self.warned.is_some_and(|warned| now.duration_since(warned) < QUIET) {
            return false;
        }
        outage.is_told = true;
        self.warned = Some(now);
        true
    }

    /// Returns the outage that is over, if there was one that was told: every signal that failed succeeds again.
    fn succeeded(&mut self, signal: Signal) -> Option<Outage> {
        self.of(signal).fails = false;
        if self.traces.fails || self.metrics.fails {
            return None;
        }
        self.outage.take().filter(|outage| outage.is_told)
    }

    /// Returns how many were rejected since it was said last, if it is time to say it.
    fn rejected(&mut self, rejected: u64, now: Instant) -> Option<u64> {
        self.rejected += rejected;
        let is_due = self.told_rejections.is_none_or(|told| now.duration_since(told) >= REJECTIONS);
        if self.rejected == 0 || !is_due {
            return None;
        }
        self.told_rejections = Some(now);
        Some(std::mem::take(&mut self.rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Drops = Drops(0, 0);

    #[test]
    fn one_warning_when_it_goes_and_one_line_when_it_is_back() {
        let (mut state, start) = (State::default(), Instant::now());
        let told: Vec<_> = (0..5).map(|n| state.failed(Signal::Traces, start + QUIET * n, NONE)).collect();
        assert_eq!(told, [true, false, false, false, false]);
        assert!(!state.failed(Signal::Metrics, start + QUIET * 6, NONE));
        assert!(state.succeeded(Signal::Metrics).is_none());
        assert!(state.succeeded(Signal::Traces).is_some_and(|outage| outage.since == start));
        assert!(state.succeeded(Signal::Metrics).is_none());
        assert!(state.failed(Signal::Traces, start + QUIET * 7, NONE));
    }

    #[test]
    fn a_collector_that_fails_one_signal_is_not_back_because_it_takes_the_other() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(state.failed(Signal::Traces, start, NONE));
        assert!(state.succeeded(Signal::Metrics).is_none());
        assert!(!state.failed(Signal::Traces, start + QUIET, NONE));
        assert!(state.succeeded(Signal::Traces).is_some());
    }

    #[test]
    fn drops_of_a_signal_that_goes_elsewhere_are_not_this_collectors() {
        let accounts = Arc::new(Accounts::default());
        for ledger in [&accounts.spans, &accounts.points] {
            ledger.take(|| 3);
            ledger.dropped("unavailable", 3);
        }
        let collector = Collector::new("http://localhost:4317", accounts);
        assert_eq!(collector.drops(), NONE);
        collector.serve(Signal::Metrics);
        assert_eq!(collector.drops(), Drops(0, 3));
        collector.serve(Signal::Traces);
        assert_eq!(collector.drops(), Drops(3, 3));
    }

    #[test]
    fn a_collector_that_fails_every_other_call_does_not_fill_the_log() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut lines = 0;
        for call in 0..100 {
            let now = start + QUIET * call / 10;
            lines += u32::from(state.failed(Signal::Traces, now, NONE));
            lines += u32::from(state.succeeded(Signal::Traces).is_some());
        }
        assert_eq!(lines, 20);
    }

    #[test]
    fn rejections_are_summed_up_between_their_lines() {
        let (mut state, start) = (State::default(), Instant::now());
        assert_eq!(state.rejected(0, start), None);
        assert_eq!(state.rejected(2, start), Some(2));
        assert_eq!(state.rejected(3, start), None);
        assert_eq!(state.rejected(4, start + REJECTIONS), Some(7));
    }
}
