//! The state of one running flow, shared by its tasks and by whoever watches it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    ack::{Ledger, Outcome, Summary},
    shutdown::Stop,
    task::Extent,
};

/// A running flow. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FlowHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    stop: Stop,
    ledger: Arc<Ledger>,
    started: Instant,
    bytes_read: AtomicU64,
    /// What the sources have to read in all; `None` if any of them has no end.
    extents: Option<Vec<Extent>>,
    failure: OnceLock<String>,
}

impl FlowHandle {
    pub(super) fn new(name: Arc<str>, stop: Stop, extents: Option<Vec<Extent>>) -> Self {
        Self(Arc::new(Inner {
            name,
            stop,
            ledger: Arc::default(),
            started: Instant::now(),
            bytes_read: AtomicU64::new(0),
            extents,
            failure: OnceLock::new(),
        }))
    }

    /// Returns the flow's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the counts at this moment.
    pub fn summary(&self) -> Summary {
        self.0.ledger.summary()
    }

    /// Returns what the sources have to read, or `None` if any of them has no known end.
    pub fn extents(&self) -> Option<&[Extent]> {
        self.0.extents.as_deref()
    }

    /// Returns how many bytes its finite sources have read.
    pub fn bytes_read(&self) -> u64 {
        self.0.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.0.ledger
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.0.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the token that stops the flow's sources.
    pub(super) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Notes why the flow failed, the first time, and stops its sources.
    pub(super) fn fail(&self, reason: String) {
        self.0.failure.get_or_init(|| reason);
        self.0.stop.stop();
    }

    pub(super) fn report(&self) -> FlowReport {
        FlowReport {
            name: Arc::clone(&self.0.name),
            summary: self.summary(),
            elapsed: self.0.started.elapsed(),
            failure: self.0.failure.get().cloned(),
        }
    }
}

/// How a flow ended.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// The flow's name.
    pub name: Arc<str>,
    /// Its account.
    pub summary: Summary,
    /// From its start to its end.
    pub elapsed: Duration,
    /// Why it failed, if a task panicked or a source had a fatal error.
    pub failure: Option<String>,
}

impl FlowReport {
    /// Writes the `flow drained` line.
    pub(super) fn log(&self) {
        let count = |outcome| self.summary.count(outcome);
        tracing::info!(
            flow = &*self.name,
            entered = self.summary.entered,
            completed = count(Outcome::Completed),
            filtered = count(Outcome::Filtered),
            dropped = count(Outcome::Dropped),
            dead_lettered = count(Outcome::DeadLettered),
            expired = count(Outcome::Expired),
            cancelled = count(Outcome::Cancelled),
            failed = count(Outcome::Failed),
            inflight = self.summary.inflight(),
            elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            "flow drained"
        );
    }
}
