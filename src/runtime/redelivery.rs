//! Redelivery: what a source that cannot be answered brought in and failed for now is brought in again, in order and with
//! backoff, before anything new.
//!
//! Each event has its original with it, in its acknowledgement, so that one that succeeds costs no bookkeeping here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
    vec,
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{flow::FlowHandle, hop::Hop, progress::Pending};
use crate::{
    ack::{Ack, Entry, Receipt, Settled, Verdict},
    event::{Event, EventId, Meta, Payload, Trail},
    retry::RetryPolicy,
    telemetry::{Counter, FailureLog},
    trace::{Remote, TraceContext},
};

/// The longest pause between two attempts while the flow is stopping.
const WHILE_STOPPING: Duration = Duration::from_secs(1);

/// What the log counts lines by, in the place of an `error.type`.
const OUTAGE: &str = "outage";
const RECOVERY: &str = "recovery";

/// The events of one source that have not come to their end.
pub(super) struct Redelivery {
    flow: FlowHandle,
    /// Events that were sent on, each time that they were.
    admitted: AtomicU64,
    settled: Settlements,
    /// What failed for now; `None` when nobody is left to bring it in again.
    returned: Mutex<Option<Vec<Returned>>>,
    /// Whether there is anything to bring in again, before which nothing new comes.
    is_gated: AtomicBool,
    changed: Notify,
    opened: Notify,
}

/// Counted by other threads than [`Redelivery::admitted`], and so on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Settlements {
    count: AtomicU64,
    /// How many wait for the last one.
    waiting: AtomicUsize,
}

/// Someone who waits until everything is settled.
struct Waiting<'a>(&'a Settlements);

impl<'a> Waiting<'a> {
    fn on(settled: &'a Settlements) -> Self {
        settled.waiting.fetch_add(1, Ordering::SeqCst);
        Self(settled)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An event as it came in.
pub(super) struct Original {
    redelivery: Arc<Redelivery>,
    /// Its place among the events of its source.
    sequence: u64,
    id: EventId,
    data: Payload,
    meta: Meta,
    timestamp: Timestamp,
    remote: Option<Remote>,
    /// Where it stood in its trace the last time.
    trace: TraceContext,
    /// Its place in what its source has read, if anybody keeps that.
    pending: Option<Pending>,
}

/// Events that are to be brought in again. Whatever is left of them is kept: their source may come to its end at any time,
/// and nobody polls for them then for a while.
struct Due<'a> {
    redelivery: &'a Redelivery,
    events: vec::IntoIter<Returned>,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        self.redelivery.put_back(&mut self.events);
    }
}

/// An event that failed for now, with the first share of its next acknowledgement: it has failed if nothing comes of it.
struct Returned {
    original: Box<Original>,
    ack: Ack,
}

impl Redelivery {
    pub(super) fn new(flow: FlowHandle) -> Arc<Self> {
        Arc::new(Self {
            flow,
            admitted: AtomicU64::new(0),
            settled: Settlements::default(),
            returned: Mutex::new(Some(Vec::new())),
            is_gated: AtomicBool::new(false),
            changed: Notify::new(),
            opened: Notify::new(),
        })
    }

    /// Returns what goes with an event that is let in for the first time.
    pub(super) fn original(self: &Arc<Self>, event: &Event, pending: Option<Pending>) -> Box<dyn Receipt> {
        Box::new(Original {
            sequence: self.admitted.fetch_add(1, Ordering::Relaxed),
            redelivery: Arc::clone(self),
            id: event.id.clone(),
            data: event.data.original(),
            meta: event.meta.clone(),
            timestamp: event.timestamp,
            remote: event.trail.remote().cloned(),
            trace: event.trace,
            pending,
        })
    }

    /// Returns whether nothing new may come in for now.
    pub(super) fn is_gated(&self) -> bool {
        self.is_gated.load(Ordering::Relaxed)
    }

    /// Waits until something new may come in.
    pub(super) async fn opened(&self) {
        loop {
            let opened = self.opened.notified();
            if !self.is_gated.load(Ordering::SeqCst) {
                return;
            }
            opened.await;
        }
    }

    /// Brings in again whatever fails for now, through `hop`, for as long as it is polled.
    pub(super) async fn run(
        &self,
        hop: &mut Hop,
        backoff: RetryPolicy,
        redelivered: &Counter,
        log: &mut FailureLog,
    ) {
        loop {
            loop {
                let changed = self.changed.notified();
                if self.is_gated.load(Ordering::SeqCst) {
                    break;
                }
                changed.await;
            }
            self.bring_in(hop, backoff, redelivered, log).await;
            self.is_gated.store(false, Ordering::SeqCst);
            // What has failed since then closed the gate before it was opened.
            if self.has_returned() {
                self.is_gated.store(true, Ordering::SeqCst);
            }
            self.opened.notify_waiters();
        }
    }

    /// Waits until every event has come to its end. Something else has to run [`Self::run`].
    pub(super) async fn finished(&self) {
        loop {
            self.all_settled().await;
            self.opened().await;
            if self.is_settled() && !self.is_gated() {
                return;
            }
        }
    }

    /// Brings in again what has failed for now, until nothing does any more.
    async fn bring_in(
        &self,
        hop: &mut Hop,
        backoff: RetryPolicy,
        redelivered: &Counter,
        log: &mut FailureLog,
    ) {
        let _reason = self.flow.hurry().begin();
        let (mut attempts, mut total, began) = (0, 0, Instant::now());
        loop {
            self.all_settled().await;
            let mut returned = self.take();
            if self.flow.has_failed() {
                return;
            }
            if returned.is_empty() {
                return log_recovery(log, total, began.elapsed());
            }
            returned.sort_unstable_by_key(|returned| returned.original.sequence);
            let mut due = Due { redelivery: self, events: returned.into_iter() };
            attempts += 1;
            let delay = backoff.jittered(attempts);
            if total == 0 {
                log_outage(log, due.events.len());
            }
            total += 1;
            self.pause(delay).await;
            // The first one alone: it tells whether the others stand a chance.
            redelivered.add(1);
            due.events.by_ref().take(1).for_each(|first| self.readmit(first, hop));
            hop.flush().await;
            self.all_settled().await;
            if self.has_returned() {
                continue;
            }
            attempts = 0;
            for returned in due.events.by_ref() {
                redelivered.add(1);
                self.readmit(returned, hop);
                if hop.is_full() {
                    hop.flush().await;
                }
            }
            hop.flush().await;
        }
    }

    /// Lets an event in again. It has entered before and is not counted twice.
    fn readmit(&self, returned: Returned, hop: &mut Hop) {
        let Returned { original, mut ack } = returned;
        let Original { id, data, meta, timestamp, remote, trace, redelivery, sequence, pending } = *original;
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let mut event = Box::new(Event::new(id, hop.subject(), data.original()));
        event.meta = meta;
        event.timestamp = timestamp;
        if let Some(remote) = remote {
            if remote.is_parent {
                event.trace = remote.context;
            }
            event.trail = Trail::from_outside(remote);
        }
        hop.readmit(event, trace, |event| {
            let receipt = Box::new(Original {
                redelivery,
                sequence,
                id: event.id.clone(),
                data,
                meta: event.meta.clone(),
                timestamp,
                remote: event.trail.remote().cloned(),
                trace: event.trace,
                pending,
            });
            ack.attach(receipt);
            ack
        });
    }

    /// Waits for an attempt to be due. A flow that is stopping has no time to lose.
    async fn pause(&self, delay: Duration) {
        let stopping = self.flow.stop();
        if stopping.is_stopped() {
            tokio::time::sleep(delay.min(WHILE_STOPPING)).await;
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stopping.stopped() => {}
        }
    }

    /// Waits until nothing that was let in is under way.
    async fn all_settled(&self) {
        let _waiting = Waiting::on(&self.settled);
        loop {
            let changed = self.changed.notified();
            if self.is_settled() {
                return;
            }
            changed.await;
        }
    }

    /// Takes note that nobody is left who brings anything in.
    pub(super) fn abandon(&self) {
        drop(self.lock().take());
    }

    fn take(&self) -> Vec<Returned> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn put_back(&self, returned: impl Iterator<Item = Returned>) {
        if let Some(waiting) = self.lock().as_mut() {
            waiting.extend(returned);
        }
    }

    fn has_returned(&self) -> bool {
        self.lock().as_ref().is_some_and(|returned| !returned.is_empty())
    }

    /// Keeps an event that failed for now.
    fn put(&self, original: Box<Original>, settled: &Settled) -> Verdict {
        let mut returned = self.lock();
        let Some(returned) = returned.as_mut() else { return Verdict::Counted };
        let entry = Entry { at: settled.entered, expires: settled.expires, ..Entry::default() };
        returned.push(Returned { original, ack: Ack::again(self.flow.ledger(), entry) });
        self.is_gated.store(true, Ordering::SeqCst);
        Verdict::Again
    }

    /// Counts an event that is no longer under way.
    fn count_settled(&self) {
        self.settled.count.fetch_add(1, Ordering::SeqCst);
        if self.settled.waiting.load(Ordering::SeqCst) > 0 || self.is_gated() {
            self.changed.notify_waiters();
        }
    }

    fn is_settled(&self) -> bool {
        let settled = self.settled.count.load(Ordering::SeqCst);
        settled == self.admitted.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Returned>>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a source brings in nothing new for now. That it lasts shows in the lines of the task that fails.
fn log_outage(log: &mut FailureLog, events: usize) {
    if let Some(suppressed) = log.admit(OUTAGE) {
        let suppressed = (suppressed > 0).then_some(suppressed);
        tracing::warn!(
            events,
            suppressed,
            "events failed for now, the source brings them in again before anything new"
        );
    }
}

/// Says that it does again.
fn log_recovery(log: &mut FailureLog, attempts: u64, elapsed: Duration) {
    if attempts == 0 {
        return;
    }
    if let Some(suppressed) = log.admit(RECOVERY) {
        let suppressed = (suppressed > 0).then_some(suppressed);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            attempts,
            elapsed_ms,
            suppressed,
            "what had failed for now is through, the source goes on"
        );
    }
}

impl Receipt for Original {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        let redelivery = Arc::clone(&self.redelivery);
        if !settled.is_transient || redelivery.flow.has_failed() {
            if let Some(pending) = self.pending {
                pending.settled(settled);
            }
            redelivery.count_settled();
            return Verdict::Counted;
        }
        let verdict = redelivery.put(self, settled);
        redelivery.count_settled();
        verdict
    }
}
