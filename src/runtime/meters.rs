//! What the runtime counts and times besides spans: of each flow, and of each task.

mod loops;

use std::{
    cell::OnceCell,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::sync::mpsc;

pub(super) use self::loops::LoopMeters;
use super::{
    blocked::Blocked,
    flow::{FlowState, State},
};
use crate::{
    ack::{Ended, Ledger, Observer, Origin, Outcome, Summary},
    event::Event,
    plan::Flow,
    task::{ErrorClass, TaskError, Trigger},
    telemetry::{
        Asked, Counter, Identity, Labels, Level, Meter, OTHER_ERROR, Observed, PANIC, RUNTIME_ERRORS,
        TIMEOUT, Timer,
        instruments::{
            CHECKPOINT_DURATION, DEAD_LETTERS, DEAD_LETTERS_DEPTH, FLOW_CANCELLATIONS, FLOW_ENTERED,
            FLOW_EVENT_DURATION, FLOW_EVENTS, FLOW_INFLIGHT, FLOW_STATE, SCHEDULE_TRIGGERS,
            SOURCE_REDELIVERIES, TASK_ATTEMPT_ERRORS, TASK_BLOCKED, TASK_DEADLINE_SKIPS, TASK_INFLIGHT,
            TASK_QUEUE_CAPACITY, TASK_QUEUE_DEPTH, TASK_QUEUE_DURATION, TASK_RETRIES, TASK_RETRY_DELAY,
            TASK_TIMEOUTS,
        },
    },
    trace::{Moment, Ticks},
};

/// Returns the labels of a flow.
fn of_flow(flow: &Arc<str>) -> Labels {
    Labels::default().with("flow", Arc::clone(flow))
}

/// Returns the labels of a task.
fn of_task(identity: &Identity) -> Labels {
    of_flow(&identity.flow).with("task", Arc::clone(&identity.task))
}

/// What is counted of one flow. Lasts as long as the flow does.
#[derive(Debug)]
pub(super) struct FlowMeters {
    /// Times that the rest of the flow was given up, and that all of it was gone after that.
    pub(super) cancel_started: Counter,
    pub(super) cancel_finished: Counter,
    _observed: Observed,
}

impl FlowMeters {
    pub(super) fn new(meter: &Meter, flow: &Arc<str>, ledger: &Arc<Ledger>, state: &Arc<FlowState>) -> Self {
        let cancellations = |phase| meter.counter(&FLOW_CANCELLATIONS, of_flow(flow).with("phase", phase));
        Self {
            cancel_started: cancellations("start"),
            cancel_finished: cancellations("finish"),
            _observed: if meter.is_on() {
                meter.observe(of_account(flow, ledger, state))
            } else {
                Observed::default()
            },
        }
    }
}

/// Returns what is asked of a flow.
fn of_account(flow: &Arc<str>, ledger: &Arc<Ledger>, state: &Arc<FlowState>) -> Vec<Asked> {
    let glance = Arc::new(Glance { ledger: Arc::clone(ledger), latest: Mutex::default() });
    let of_ledger = |instrument, labels, read: fn(Summary) -> u64| {
        let glance = Arc::clone(&glance);
        Asked::new(instrument, labels, move |now| i64::try_from(read(glance.at(now))).ok())
    };
    let mut asked = vec![of_ledger(&FLOW_INFLIGHT, of_flow(flow), |summary| summary.inflight())];
    for origin in Origin::ALL {
        let glance = Arc::clone(&glance);
        let labels = of_flow(flow).with("origin", origin.name());
        let count = move |now| i64::try_from(glance.at(now).entered_from(origin)).ok();
        asked.push(Asked::new(&FLOW_ENTERED, labels, count));
    }
    for outcome in Outcome::ALL {
        let glance = Arc::clone(&glance);
        let labels = of_flow(flow).with("outcome", outcome.name());
        let count = move |now| i64::try_from(glance.at(now).count(outcome)).ok();
        asked.push(Asked::new(&FLOW_EVENTS, labels, count));
    }
    for one in State::ALL {
        let state = Arc::clone(state);
        let labels = of_flow(flow).with("state", one.name());
        asked.push(Asked::new(&FLOW_STATE, labels, move |_| Some(i64::from(state.get() == one))));
    }
    asked
}

/// Reads a ledger once for all that a collection wants to know of it, so that what it tells adds up.
struct Glance {
    ledger: Arc<Ledger>,
    /// When it was asked for, and what the counts were then: by the latest collection, and by a flow that takes the place
    /// of this one while that goes on.
    latest: Mutex<[(u64, Summary); 2]>,
}

impl Glance {
    fn at(&self, now: u64) -> Summary {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = latest.iter().find(|(at, _)| *at == now) {
            return *known;
        }
        let summary = self.ledger.summary();
        latest.rotate_left(1);
        latest[1] = (now, summary);
        summary
    }
}

/// Times the events of a flow.
pub(super) struct EventTimer {
    meter: Meter,
    flow: Arc<str>,
    /// The duration that the flow promises, in nanoseconds.
    threshold: Option<u64>,
    /// Made when the first event ends that way.
    timers: [OnceLock<Timer>; Outcome::ALL.len()],
}

impl EventTimer {
    /// Makes the ledger of a flow, which times its events if anyone wants to know.
    pub(super) fn ledger(meter: &Meter, flow: &Flow) -> Ledger {
        if !meter.is_on() {
            return Ledger::default();
        }
        let timer = Self {
            meter: meter.clone(),
            flow: Arc::clone(&flow.name),
            threshold: flow.threshold().and_then(|threshold| u64::try_from(threshold.as_nanos()).ok()),
            timers: Default::default(),
        };
        if timer.threshold.is_some() {
            // What is promised is counted from the first event on, so there is a zero before it.
            timer.of(Outcome::Completed);
        }
        Ledger::observed(Box::new(timer))
    }

    fn of(&self, outcome: Outcome) -> &Timer {
        self.timers[outcome as usize].get_or_init(|| {
            let labels = of_flow(&self.flow).with("outcome", outcome.name());
            self.meter.timer_with(&FLOW_EVENT_DURATION, labels, self.threshold)
        })
    }
}

impl Observer for EventTimer {
    fn ended(&self, outcome: Outcome, entered: Ticks, at: Moment) {
        let timer = self.of(outcome);
        let end = if at.at.is_set() { at.at } else { Ticks::now() };
        timer.record(end.since(entered), at);
    }

    fn exported(&self, ended: Ended) {
        if let Some(timer) = self.timers[ended.outcome as usize].get() {
            timer.exemplify(ended.nanos, ended.at);
        }
    }
}

/// What is counted of one task, by all that work for it. The default counts nothing.
#[derive(Debug, Default)]
pub(super) struct TaskMeters {
    pub(super) queue: Timer,
    pub(super) blocked: Blocked,
    pub(super) inflight: Level,
    timeouts: Counter,
    pub(super) deadline_skips: Counter,
    by_error: Vec<OfError>,
    /// What makes the rest, once there is something to count.
    source: Option<(Meter, Labels)>,
    _observed: Observed,
    _watched: Option<Watched>,
}

/// What is counted of the errors of one type.
#[derive(Debug)]
pub(super) struct OfError {
    error_type: &'static str,
    attempts: Counter,
    retries: Counter,
    /// Made at the first retry: most types of errors never lead to one.
    delay: OnceLock<Timer>,
}

impl TaskMeters {
    /// Makes those of a task with these error types. What has no `inbox` is a source; only what `waits` for something
    /// outside has timeouts and is tried again.
    pub(super) fn new(
        meter: &Meter,
        identity: &Identity,
        error_types: &[&'static str],
        inbox: Option<&mpsc::Sender<Box<Event>>>,
        waits: bool,
    ) -> Self {
        if !meter.is_on() {
            return Self::default();
        }
        let mut meters = Self {
            by_error: by_error(meter, identity, error_types, waits),
            source: Some((meter.clone(), of_task(identity))),
            ..Self::default()
        };
        let blocked = meters.blocked.clone();
        let blocked = move |_| i64::try_from(blocked.nanos()).ok();
        let mut asked = vec![Asked::new(&TASK_BLOCKED, of_task(identity), blocked)];
        if waits {
            meters.timeouts = meter.counter(&TASK_TIMEOUTS, of_task(identity));
        }
        if let Some(inbox) = inbox {
            meters.deadline_skips = meter.counter(&TASK_DEADLINE_SKIPS, of_task(identity));
            meters.queue = meter.timer(&TASK_QUEUE_DURATION, of_task(identity));
            meters.inflight = meter.level(&TASK_INFLIGHT, of_task(identity));
            let watched = Arc::new(inbox.downgrade());
            asked.extend(of_channel(identity, &watched, inbox.max_capacity()));
            meters._watched = Some(watched);
        }
        meters._observed = meter.observe(asked);
        meters
    }

    /// Counts an attempt that failed, whether another one follows or not.
    pub(super) fn attempt_failed(&self, error: &TaskError) {
        if error.class() == ErrorClass::Closed {
            return;
        }
        if let Some(of_error) = self.of(error.error_type()) {
            of_error.attempts.add(1);
        }
        // Of the runtime or of a kind that gives up by itself: nobody can tell the difference.
        if error.error_type() == TIMEOUT {
            self.timeouts.add(1);
        }
    }

    /// Counts an attempt that ended in a panic.
    pub(super) fn attempt_panicked(&self) {
        if let Some(of_error) = self.of(PANIC) {
            of_error.attempts.add(1);
        }
    }

    /// Counts a further attempt, so many nanoseconds after one that failed.
    pub(super) fn retry(&self, error: &TaskError, nanos: u64) {
        let Some(of_error) = self.of(error.error_type()) else { return };
        of_error.retries.add(1);
        let delay = of_error.delay.get_or_init(|| {
            let source = self.source.as_ref();
            let timer = source.map(|(meter, labels)| {
                meter.timer(&TASK_RETRY_DELAY, labels.clone().with("error.type", of_error.error_type))
            });
            timer.unwrap_or_default()
        });
        delay.record(nanos, Moment::default());
    }

    /// Returns what is counted of errors of this type, if anything is.
    fn of(&self, error_type: &str) -> Option<&OfError> {
        let of_type = |wanted: &str| self.by_error.iter().find(|known| known.error_type == wanted);
        of_type(error_type).or_else(|| of_type(OTHER_ERROR))
    }
}

fn by_error(meter: &Meter, identity: &Identity, error_types: &[&'static str], waits: bool) -> Vec<OfError> {
    let of_error = |error_type| {
        let labels = || of_task(identity).with("error.type", error_type);
        let attempts = meter.counter(&TASK_ATTEMPT_ERRORS, labels());
        let retries = if waits { meter.counter(&TASK_RETRIES, labels()) } else { Counter::default() };
        OfError { error_type, attempts, retries, delay: OnceLock::new() }
    };
    all_types(error_types).into_iter().map(of_error).collect()
}

/// Returns every `error.type` that the events of a task with these may be counted by.
fn all_types(error_types: &[&'static str]) -> Vec<&'static str> {
    let mut types: Vec<_> = error_types.iter().copied().chain(RUNTIME_ERRORS).chain([OTHER_ERROR]).collect();
    types.sort_unstable();
    types.dedup();
    types
}

/// A look at a channel that does not keep it open. Its owner goes with the task: as long as it is there the channel keeps
/// what was sent to it too late.
type Watched = Arc<mpsc::WeakSender<Box<Event>>>;

/// Returns what is asked of a channel.
fn of_channel(identity: &Identity, watched: &Watched, capacity: usize) -> [Asked; 2] {
    let watched = Arc::downgrade(watched);
    // Closed for good, it is as empty as a channel can be.
    let depth = move || {
        let inbox = watched.upgrade().and_then(|inbox| inbox.upgrade());
        inbox.map_or(0, |inbox| capacity - inbox.capacity())
    };
    [
        Asked::new(&TASK_QUEUE_DEPTH, of_task(identity), move |_| i64::try_from(depth()).ok()),
        Asked::new(&TASK_QUEUE_CAPACITY, of_task(identity), move |_| i64::try_from(capacity).ok()),
    ]
}

/// What is counted of a source besides. Each series is there once there is something to count.
#[derive(Debug)]
pub(super) struct SourceMeters {
    meter: Meter,
    identity: Arc<Identity>,
    triggers: OnceCell<[Counter; Trigger::ALL.len()]>,
}

impl SourceMeters {
    pub(super) fn new(meter: Meter, identity: Arc<Identity>) -> Self {
        Self { meter, identity, triggers: OnceCell::new() }
    }

    /// Returns what counts the events that are brought in again.
    pub(super) fn redeliveries(&self) -> Counter {
        self.meter.counter(&SOURCE_REDELIVERIES, of_task(&self.identity))
    }

    /// Returns what times the commits of its positions.
    pub(super) fn checkpoints(&self) -> Timer {
        self.meter.timer(&CHECKPOINT_DURATION, of_task(&self.identity))
    }

    /// Counts what became of times of a schedule.
    pub(super) fn trigger(&mut self, outcome: Trigger, count: u64) {
        let triggers = self.triggers.get_or_init(|| {
            Trigger::ALL.map(|outcome| {
                let labels = of_task(&self.identity).with("outcome", outcome.name());
                self.meter.counter(&SCHEDULE_TRIGGERS, labels)
            })
        });
        triggers[outcome as usize].add(count);
    }
}

/// What is counted of the dead letters of one task.
#[derive(Debug, Default)]
pub(super) struct LetterMeters {
    by_error: Vec<(&'static str, Counter)>,
    _observed: Observed,
}

impl LetterMeters {
    /// Makes those of a task with these error types. `depth` returns how many letters are stored.
    pub(super) fn new(
        meter: &Meter,
        identity: &Identity,
        error_types: &[&'static str],
        depth: impl Fn() -> Option<i64> + Send + Sync + 'static,
    ) -> Self {
        if !meter.is_on() {
            return Self::default();
        }
        let counter = |error_type| {
            let labels = of_task(identity).with("error.type", error_type);
            (error_type, meter.counter(&DEAD_LETTERS, labels))
        };
        let depth = Asked::new(&DEAD_LETTERS_DEPTH, of_task(identity), move |_| depth());
        Self {
            by_error: all_types(error_types).into_iter().map(counter).collect(),
            _observed: meter.observe(vec![depth]),
        }
    }

    /// Counts an event that was stored because of an error of this type.
    pub(super) fn buried(&self, error_type: &str) {
        let of_type = |wanted: &str| self.by_error.iter().find(|(known, _)| *known == wanted);
        if let Some((_, counter)) = of_type(error_type).or_else(|| of_type(OTHER_ERROR)) {
            counter.add(1);
        }
    }
}
