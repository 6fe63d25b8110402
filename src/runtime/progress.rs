//! How far the events of a source are done with: up to which of its positions everything has come to its end.
//!
//! Owns the events between two positions, which count together: what is kept of them is one number, whatever their order.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    ack::{Outcome, Receipt, Settled, Verdict},
    task::Position,
};

/// What stands for the events of a stretch that may still grow: how many there are is not told before it is closed, so that
/// whoever reads and whoever settles do not write to the same place for each of them.
const OPEN: u64 = 1 << 63;

/// How far the events of one source are done with.
#[derive(Default)]
pub(super) struct Progress {
    /// In the order in which they were read; the last one is open.
    stretches: Mutex<VecDeque<Stretch>>,
    changed: Arc<Notify>,
}

/// The events up to a position, or what else happened in the order of reading.
struct Stretch {
    events: Arc<Events>,
    step: Step,
}

/// What holds once all before it is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A part was read up to here.
    Reached(Position),
    /// A part is no more.
    Gone(Arc<str>),
}

/// The events of a stretch.
struct Events {
    /// Woken when the last one has.
    changed: Arc<Notify>,
    /// Those that have not come to their end; [`OPEN`] less those that have, as long as it is open.
    left: AtomicU64,
    /// Whether one of them has to come again, in the next run.
    is_lost: AtomicBool,
}

/// An event that has not come to its end. Dropped, it comes again in the next run.
pub(super) struct Pending {
    events: Arc<Events>,
    is_done: bool,
}

/// The stretch that is being read.
pub(super) struct Reading {
    progress: Arc<Progress>,
    events: Arc<Events>,
    count: u64,
}

impl Reading {
    /// Begins to read.
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { events: Events::open(&progress), progress, count: 0 }
    }

    /// Counts an event in.
    pub(super) fn pending(&mut self) -> Pending {
        self.count += 1;
        Pending { events: Arc::clone(&self.events), is_done: false }
    }

    /// Ends the stretch with what holds once it is done, and begins the next one.
    pub(super) fn end(&mut self, step: Step) {
        let events = std::mem::replace(&mut self.events, Events::open(&self.progress));
        let count = std::mem::take(&mut self.count);
        self.progress.push(Stretch { events: Arc::clone(&events), step }, count == 0);
        events.close(count);
    }
}

impl Events {
    fn open(progress: &Progress) -> Arc<Self> {
        let changed = Arc::clone(&progress.changed);
        Arc::new(Self { changed, left: AtomicU64::new(OPEN), is_lost: AtomicBool::new(false) })
    }

    /// Tells how many there are: there will be no more.
    fn close(&self, count: u64) {
        let unknown = OPEN - count;
        if self.left.fetch_sub(unknown, Ordering::AcqRel) == unknown {
            self.changed.notify_waiters();
        }
    }

    fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0 && !self.is_lost.load(Ordering::Relaxed)
    }
}

impl Pending {
    /// Takes note that the event has come to its end: it does not come again.
    pub(super) fn done(mut self) {
        self.is_done = true;
    }

    /// Takes note of how the event was settled, for good.
    pub(super) fn settled(self, settled: &Settled) {
        // What was cut off, and what may succeed another time, is for the next run.
        if settled.outcome != Outcome::Cancelled && !settled.is_transient {
            self.done();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_done {
            self.events.is_lost.store(true, Ordering::Relaxed);
        }
        if self.events.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.events.changed.notify_waiters();
        }
    }
}

/// Receives what becomes of an event that nobody brings in again in this run.
impl Receipt for Pending {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        (*self).settled(settled);
        Verdict::Counted
    }
}

impl Progress {
    /// Takes the steps before which everything is done, in their order.
    pub(super) fn take_done(&self) -> Vec<Step> {
        let mut stretches = self.stretches();
        let done = stretches.iter().take_while(|stretch| stretch.events.is_done()).count();
        stretches.drain(..done).map(|stretch| stretch.step).collect()
    }

    /// Waits until every event up to the last position has come to its end.
    pub(super) async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.stretches().iter().all(|stretch| stretch.events.left.load(Ordering::Acquire) == 0) {
                return;
            }
            changed.await;
        }
    }

    fn push(&self, stretch: Stretch, is_empty: bool) {
        let mut stretches = self.stretches();
        // A source that waits for more may say again and again where it stands.
        if let (Some(last), Step::Reached(position)) = (stretches.back_mut(), &stretch.step)
            && let Step::Reached(known) = &last.step
            && known.part == position.part
            && is_empty
            && last.events.is_done()
        {
            *last = stretch;
            return;
        }
        stretches.push_back(stretch);
    }

    fn stretches(&self) -> MutexGuard<'_, VecDeque<Stretch>> {
        self.stretches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
