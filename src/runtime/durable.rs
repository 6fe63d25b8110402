//! Durable flows: a queue on the disk between a source and the tasks behind it.
//!
//! [`Intake`] appends what the source hands over, and tells it that an event is accepted once it is on the disk.
//! [`Outflow`] lets events into the flow in the same order, and has the queue shortened by those that are done. What was
//! accepted just now goes from one to the other in memory as long as there is room for it; the rest is read.
//!
//! An event enters the flow when it leaves the queue: what waits in it is neither in flight nor lost, and stays for the
//! next run.

mod intake;
mod meters;
mod outflow;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

pub(super) use self::{
    intake::Intake,
    meters::DurableMeters,
    outflow::{ERROR_TYPES, Outflow},
};
use super::{checkpoints::Keeper, flow::FlowHandle};
use crate::{
    event::Event,
    state::{Queue, StateError},
    task::{Position, TaskError},
    telemetry::spawn_blocking,
};

/// The `error.type` of what goes wrong with the disk.
pub(super) const STATE: &str = "state";

/// Events that wait in memory for those before them to be let in, at most, and the bytes that they take on the disk.
const MOST_IN_HAND: usize = 16_384;
const MOST_BYTES_IN_HAND: usize = 8 << 20;

/// What the source, the queue and the flow behind it know of one another.
#[derive(Debug)]
pub(super) struct Durable {
    /// Where the queue is.
    directory: PathBuf,
    queue: OnceLock<Arc<Queue>>,
    in_hand: Mutex<InHand>,
    /// Whether nothing more is appended.
    is_closed: AtomicBool,
    /// Everything before this number outlasts a crash of the machine.
    synced: AtomicU64,
    /// Whether someone waits for that.
    is_sync_asked: AtomicBool,
    /// Everything before this number is accepted: what of it is to be in memory is there.
    end: AtomicU64,
    /// The number of the next event that is let in, and when it was accepted if it waits.
    next: AtomicU64,
    oldest: AtomicI64,
    /// Something was appended, or nothing is any more.
    appended: Notify,
    /// Something was synced.
    is_synced: Notify,
    /// A sync is asked for.
    sync_asked: Notify,
    /// The queue was shortened.
    shortened: Notify,
}

/// Events that are on the disk, and still in memory.
#[derive(Debug, Default)]
struct InHand {
    batches: VecDeque<Batch>,
    events: usize,
    bytes: usize,
}

/// Events that were appended together, in a row.
#[derive(Debug)]
struct Batch {
    first: u64,
    #[expect(clippy::vec_box, reason = "what is passed on is the box")]
    events: Vec<Box<Event>>,
    /// When they were accepted.
    at: i64,
    bytes: usize,
}

impl Durable {
    pub(super) fn new(directory: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            directory,
            queue: OnceLock::new(),
            in_hand: Mutex::default(),
            is_closed: AtomicBool::new(false),
            synced: AtomicU64::new(0),
            is_sync_asked: AtomicBool::new(false),
            end: AtomicU64::new(0),
            next: AtomicU64::new(0),
            oldest: AtomicI64::new(0),
            appended: Notify::new(),
            is_synced: Notify::new(),
            sync_asked: Notify::new(),
            shortened: Notify::new(),
        })
    }

    /// Returns how many events wait to be let in.
    pub(super) fn depth(&self) -> u64 {
        let next = self.next.load(Ordering::Acquire);
        self.end.load(Ordering::Acquire).saturating_sub(next)
    }

    /// Returns how many bytes the queue takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.queue.get().map_or(0, |queue| queue.bytes())
    }

    /// Returns for how many nanoseconds the first of the events has waited.
    pub(super) fn oldest(&self) -> u64 {
        match self.oldest.load(Ordering::Relaxed) {
            0 => 0,
            at => age(at, now()),
        }
    }

    /// Takes note of events that are accepted. They stay in memory if there is room for them.
    fn hand_over(&self, batch: Batch) {
        let end = batch.first + batch.events.len() as u64;
        let mut in_hand = self.in_hand();
        let events = in_hand.events + batch.events.len();
        let bytes = in_hand.bytes + batch.bytes;
        if in_hand.batches.is_empty() || (events <= MOST_IN_HAND && bytes <= MOST_BYTES_IN_HAND) {
            (in_hand.events, in_hand.bytes) = (events, bytes);
            in_hand.batches.push_back(batch);
        }
        self.end.store(end, Ordering::Release);
        drop(in_hand);
        self.appended.notify_waiters();
    }

    /// Takes the events from this number on, if they are in memory. Otherwise returns up to which number they are not.
    fn take(&self, next: u64, end: u64) -> Result<Batch, u64> {
        let mut in_hand = self.in_hand();
        match in_hand.batches.front() {
            Some(batch) if batch.first == next => {
                let batch = in_hand.batches.pop_front().ok_or(end)?;
                in_hand.events -= batch.events.len();
                in_hand.bytes -= batch.bytes;
                Ok(batch)
            }
            Some(batch) => Err(batch.first.min(end)),
            None => Err(end),
        }
    }

    fn in_hand(&self) -> MutexGuard<'_, InHand> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that is appended outlasts a crash of the machine.
    pub(super) async fn all_synced(&self) -> Result<(), TaskError> {
        let end = self.queue.get().map_or(0, |queue| queue.end());
        loop {
            let synced = self.is_synced.notified();
            if self.synced.load(Ordering::Acquire) >= end {
                return Ok(());
            }
            if self.is_closed.load(Ordering::Acquire) {
                return Err(TaskError::permanent(STATE, "the queue ended before it was synced"));
            }
            self.is_sync_asked.store(true, Ordering::Release);
            self.sync_asked.notify_one();
            synced.await;
        }
    }

    /// Keeps that everything before the number `done` is done.
    async fn keep(&self, done: u64) -> Result<(), StateError> {
        let Some(queue) = self.queue.get().cloned() else { return Ok(()) };
        let kept = spawn_blocking(move || queue.keep(done)).await;
        self.shortened.notify_waiters();
        kept.unwrap_or_else(|error| Err(StateError::because("the queue ended in a panic", error)))
    }
}

/// Keeps how far the events of a queue are done, in the queue: there is room for that in any case.
pub(super) struct InQueue {
    pub(super) durable: Arc<Durable>,
    pub(super) flow: FlowHandle,
}

#[async_trait]
impl Keeper for InQueue {
    async fn sync(&self) -> Result<(), TaskError> {
        self.flow.sinks().sync().await
    }

    async fn keep(&self, reached: &[Position], _gone: &[&str]) -> Result<(), StateError> {
        match reached.iter().find_map(|position| position.at.as_u64()) {
            Some(done) => self.durable.keep(done).await,
            None => Ok(()),
        }
    }
}

/// Returns microseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Returns how many nanoseconds have passed since `at`; none if the clock was set back.
fn age(at: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(at)).unwrap_or(0).saturating_mul(1_000)
}
