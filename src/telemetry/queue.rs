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

    /// Adds a span, if there is room for it. For the few of the worker's own life there always is.
    pub(super) fn push(&self, span: Box<SpanRecord>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.counts.created += 1;
        if state.spans.len() >= self.capacity && !span.is_lifecycle {
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
        self.admits_trace_of(0)
    }

    /// The same for a trace of so many spans, which come at once.
    pub(super) fn admits_trace_of(&self, spans: usize) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let is_admitted = waiting < self.pressure && waiting.saturating_add(spans) <= self.capacity;
        if !is_admitted {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Returns how many spans it is for.
    pub(super) fn size(&self) -> usize {
        self.capacity / 2
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        telemetry::{SpanKind, series::Series},
        trace::{Ticks, TraceContext},
    };

    fn queue(size: usize, batch: usize) -> SpanQueue {
        SpanQueue::new(&config::SpanQueue { size, batch, delay: Duration::from_secs(1) })
    }

    fn span(is_lifecycle: bool) -> Box<SpanRecord> {
        let series = Arc::new(Series::new("task.handle", SpanKind::Internal, None, &[]));
        let mut span = SpanRecord::new(series, TraceContext::default(), 0, Ticks::now());
        span.is_lifecycle = is_lifecycle;
        Box::new(span)
    }

    #[test]
    fn no_trace_is_begun_above_three_quarters_and_again_below() {
        let queue = queue(8, 8);
        (0..6).for_each(|_| {
            assert!(queue.admits_trace());
            queue.push(span(false));
        });
        assert!(!queue.admits_trace() && !queue.admits_trace());
        assert_eq!(queue.shed(), 2);
        queue.take(1, &mut Vec::new());
        assert!(queue.admits_trace());
    }

    #[test]
    fn begun_traces_may_bring_twice_as_much_and_the_worker_always_finds_room() {
        let queue = queue(4, 4);
        (0..9).for_each(|_| queue.push(span(false)));
        queue.push(span(true));
        let Counts { created, refused } = queue.counts();
        assert_eq!((created, refused, queue.len()), (10, 1, 9));
    }

    #[test]
    fn what_comes_after_the_end_is_not_counted() {
        let queue = queue(4, 4);
        (0..3).for_each(|_| queue.push(span(false)));
        assert_eq!(queue.close(), 3);
        queue.push(span(true));
        assert_eq!((queue.counts().created, queue.len(), queue.close()), (3, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_export_does_not_wait_for_a_queue_that_is_never_full() {
        let queue = queue(8, 8);
        (0..4).for_each(|_| queue.push(span(false)));
        tokio::time::timeout(Duration::from_secs(1), queue.wait()).await.unwrap();
        let mut taken = Vec::new();
        queue.take(3, &mut taken);
        assert_eq!((taken.len(), queue.len()), (3, 1));
    }
}
