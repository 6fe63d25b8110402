//! The bounded queue of spans between the tasks and the exporter.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{config, record::SpanRecord};

/// Spans that ended and wait for the exporter. What does not fit is counted and dropped.
#[derive(Debug)]
pub(super) struct SpanQueue {
    /// As many make an export worth while.
    batch: usize,
    /// Above this many, sources begin no new traces.
    pressure: usize,
    /// No more are kept. Traces that were begun bring spans for as long as their events are on their way, faster
    /// than they can be exported; without room for those, single spans of them would be lost.
    capacity: usize,
    state: Mutex<State>,
    /// As many as wait, for those who do not take the lock.
    waiting: AtomicUsize,
    is_batch_there: Notify,
    shed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    spans: VecDeque<Box<SpanRecord>>,
    counts: Counts,
    is_closed: bool,
}

/// What a queue has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Every span that was pushed.
    pub(super) created: u64,
    /// Those of them that found no room.
    pub(super) refused: u64,
}

impl SpanQueue {
    pub(super) fn new(config: &config::SpanQueue) -> Self {
        Self {
            // Sources stop before the queue is full: an export must not wait for one that never is.
            batch: config.batch.min(config.size.div_ceil(2)),
            pressure: config.size - config.size / 4,
            capacity: config.size.saturating_mul(2),
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            is_batch_there: Notify::new(),
            shed: AtomicU64::new(0),
        }
    }

    /// Adds a span, if there is room for it.
    pub(super) fn push(&self, span: Box<SpanRecord>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.counts.created += 1;
        if state.spans.len() >= self.capacity {
            state.counts.refused += 1;
            return;
        }
        state.spans.push_back(span);
        let waiting = state.spans.len();
        // Under the lock: a number that comes late could keep sources from ever beginning a trace again.
        self.waiting.store(waiting, Ordering::Relaxed);
        drop(state);
        if waiting == self.batch {
            self.is_batch_there.notify_one();
        }
    }

    /// Asks for room for a new trace, and counts one that is not exported for want of it. Whole traces
    /// are left out early, so that no single span need be dropped of those that were begun.
    pub(super) fn admits_trace(&self) -> bool {
        let is_admitted = self.waiting.load(Ordering::Relaxed) < self.pressure;
        if !is_admitted {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Waits until there are enough spans for one export. May be given up at any time.
    pub(super) async fn wait(&self) {
        while self.waiting.load(Ordering::Relaxed) < self.batch {
            self.is_batch_there.notified().await;
        }
    }

    /// Takes the oldest spans, `max` at most.
    #[expect(clippy::vec_box, reason = "the boxes came through the queue")]
    pub(super) fn take(&self, max: usize, into: &mut Vec<Box<SpanRecord>>) {
        let mut state = self.state();
        let count = state.spans.len().min(max);
        into.extend(state.spans.drain(..count));
        self.waiting.store(state.spans.len(), Ordering::Relaxed);
    }

    /// Returns how many spans wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns how many spans were ever pushed, and how many of them found no room.
    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Forgets the spans that wait, and every span from now on, so that the counts are final. Returns how many
    /// it forgot.
    pub(super) fn close(&self) -> usize {
        let mut state = self.state();
        state.is_closed = true;
        self.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.spans).len()
    }

    /// Returns how many traces were not begun for want of room.
    pub(super) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
