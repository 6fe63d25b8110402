//! The state of one running flow, shared by its tasks and by whoever watches it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ailments::{Ailing, Ailment, Ailments, Spell},
    hurry::Hurry,
    meters::{EventTimer, FlowMeters},
    sinks::Sinks,
};
use crate::{
    ack::{Ledger, Outcome, Summary},
    plan::Flow,
    shutdown::Stop,
    task::Extent,
    telemetry::Meter,
};

/// The state that a flow is in.
#[derive(Debug)]
pub(super) struct FlowState {
    state: AtomicU8,
    /// What keeps its tasks from their work.
    ailments: Ailments,
}

impl Default for FlowState {
    fn default() -> Self {
        Self { state: AtomicU8::new(State::Starting as u8), ailments: Ailments::default() }
    }
}

/// The states of a flow, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Its tasks are built.
    Starting,
    /// Its loops run.
    Running,
    /// No source brings in more.
    Draining,
    /// It runs, but for a task that waits to be built again.
    Restarting,
    /// It ended because it failed.
    Failed,
    /// It ended.
    Done,
}

impl State {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 6] =
        [Self::Starting, Self::Running, Self::Draining, Self::Restarting, Self::Failed, Self::Done];

    /// Returns the value of the attribute `state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

impl FlowState {
    /// Returns the state that it is in.
    pub(super) fn get(&self) -> State {
        match State::ALL[usize::from(self.state.load(Ordering::Relaxed))] {
            State::Running if self.ailments.has(Ailment::Restarting) => State::Restarting,
            state => state,
        }
    }
}

/// A running flow. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FlowHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    stop: Stop,
    hurry: Hurry,
    deadline: Option<Duration>,
    /// Sources that have not come to their end.
    reading: AtomicUsize,
    ledger: Arc<Ledger>,
    state: Arc<FlowState>,
    started: OnceLock<Instant>,
    bytes_read: AtomicU64,
    /// What the sources have to read in all; `None` if any of them has no end.
    extents: OnceLock<Option<Vec<Extent>>>,
    failure: OnceLock<String>,
    sinks: Sinks,
    /// Stopped when no source brings in more.
    read_out: Stop,
    meters: FlowMeters,
}

impl FlowHandle {
    /// Makes a flow that is starting.
    pub(super) fn new(flow: &Flow, stop: Stop, meter: &Meter) -> Self {
        let name = Arc::clone(&flow.name);
        let ledger = Arc::new(EventTimer::ledger(meter, flow));
        let state = Arc::default();
        let meters = FlowMeters::new(meter, &name, &ledger, &state);
        Self(Arc::new(Inner {
            name,
            stop,
            hurry: Hurry::default(),
            deadline: flow.deadline,
            reading: AtomicUsize::new(0),
            ledger,
            state,
            started: OnceLock::new(),
            bytes_read: AtomicU64::new(0),
            extents: OnceLock::new(),
            failure: OnceLock::new(),
            sinks: Sinks::default(),
            read_out: Stop::default(),
            meters,
        }))
    }

    /// Takes note that its loops run, how many of them are sources, and what those have to read.
    pub(super) fn start(&self, sources: usize, extents: Option<Vec<Extent>>) {
        self.0.reading.store(sources, Ordering::Relaxed);
        self.0.extents.get_or_init(|| extents);
        self.0.started.get_or_init(Instant::now);
        self.enter(State::Running);
    }

    /// Takes note of the state that it is in from now on.
    pub(super) fn enter(&self, state: State) {
        self.0.state.state.store(state as u8, Ordering::Relaxed);
    }

    /// Takes note that something keeps one of its tasks from its work, for as long as what is returned is there.
    pub(super) fn ails(&self, task: &Arc<str>, ailment: Ailment) -> Spell {
        self.0.state.ailments.add(task, ailment)
    }

    /// Returns how old an event may become.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.deadline
    }

    /// Takes note that a source has come to its end. With the last one, what is on its way is not kept waiting for more.
    pub(super) fn read(&self) {
        if self.0.reading.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.hurry.begin().keep();
            self.0.read_out.stop();
        }
    }

    /// Returns what is stopped when no source brings in more.
    pub(super) fn read_out(&self) -> &Stop {
        &self.0.read_out
    }

    /// Returns what tells tasks that collect events not to wait for more.
    pub(super) fn hurry(&self) -> &Hurry {
        &self.0.hurry
    }

    /// Returns whether the flow has failed, and is not to go on.
    pub(super) fn has_failed(&self) -> bool {
        self.0.failure.get().is_some()
    }

    /// Takes note that all its tasks have ended.
    pub(super) fn end(&self) {
        self.enter(if self.0.failure.get().is_some() { State::Failed } else { State::Done });
    }

    /// Returns its processors that run.
    pub(super) fn sinks(&self) -> &Sinks {
        &self.0.sinks
    }

    pub(super) fn meters(&self) -> &FlowMeters {
        &self.0.meters
    }

    /// Returns whether both are of the same flow, and not of one and another in its place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the flow's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the state that it is in. One that will end because it has failed has failed already.
    pub fn state(&self) -> State {
        if self.has_failed() { State::Failed } else { self.0.state.get() }
    }

    /// Returns the tasks that something keeps from their work, and what that is.
    pub fn ailing(&self) -> Vec<Ailing> {
        self.0.state.ailments.all()
    }

    /// Returns the counts at this moment.
    pub fn summary(&self) -> Summary {
        self.0.ledger.summary()
    }

    /// Returns what the sources have to read, or `None` if any of them has no known end.
    pub fn extents(&self) -> Option<&[Extent]> {
        self.0.extents.get()?.as_deref()
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
            elapsed: self.0.started.get().map(Instant::elapsed).unwrap_or_default(),
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
