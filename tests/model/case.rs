//! A case: a flow, what goes wrong in it, and what is to be done about that. All of it follows from a seed.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use fastrand::Rng;
use flowgen::plan::{OnError, OnTaskPanic};

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source(Reading),
    /// Stands behind a source, and notes what comes from there.
    Tap,
    Transform,
    Processor,
    Buffered,
    /// Sends on so many events of one key as one, or fewer after a while.
    Batching {
        size: usize,
    },
}

/// How a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) events: u64,
    /// Whether its events come with a receipt.
    pub(crate) is_answering: bool,
    /// Whether some of its records cannot be decoded.
    pub(crate) has_bad_records: bool,
    /// Where it panics, once.
    pub(crate) panics_at: Option<u64>,
}

/// Which events a task handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Even,
    /// It throws at every fifth.
    Throwing,
}

/// In which order events leave a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    No,
    ByKey,
    All,
}

/// One task. Edges lead to greater indices only.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) role: Role,
    pub(crate) downstream: Vec<usize>,
    pub(crate) targets: Vec<usize>,
    pub(crate) on_error: OnError,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) when: Option<When>,
    /// The share of the events that something goes wrong with, in percent.
    pub(crate) faults: u32,
    pub(crate) is_panicking: bool,
    /// Whether it panics in flushes too, and so takes down events with which nothing is wrong.
    pub(crate) panics_in_flushes: bool,
    pub(crate) is_slow: bool,
    /// How many events it handles at a time.
    pub(crate) limit: usize,
    pub(crate) kept: Kept,
    /// On how many threads it works.
    pub(crate) parallelism: usize,
}

/// When the worker is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopping {
    /// After so many attempts.
    pub(crate) after: u64,
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) capacity: usize,
    pub(crate) on_task_panic: OnTaskPanic,
    pub(crate) deadline: Option<Duration>,
    pub(crate) stopping: Option<Stopping>,
    pub(crate) is_tapped: bool,
    /// How many there are of each task that there can be several of.
    pub(crate) parallel_instances: usize,
    pub(crate) tasks: Vec<Spec>,
}

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(6 * 3600);

impl Case {
    /// Makes the case of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_bulk = rng.u32(..100) < 2;
        let is_loose = rng.u32(..100) < 30;
        let is_tapped = is_bulk || rng.u32(..100) < 75;
        let sources = if is_bulk { 1 } else { [1_usize, 1, 1, 2, 2, 3][rng.usize(..6)] };
        let mut tasks: Vec<Spec> = Vec::new();
        for _ in 0..sources {
            let events = if is_bulk { rng.u64(300..900) } else { rng.u64(1..=40).div_ceil(sources as u64) };
            tasks.push(Spec::source(&mut rng, events));
        }
        if is_tapped {
            for source in 0..tasks.len() {
                let tap = tasks.len();
                tasks[source].downstream.push(tap);
                tasks.push(Spec { max_attempts: 1, ..Spec::plain(Role::Tap) });
            }
        }
        let first = if is_tapped { sources } else { 0 };
        let others = if is_bulk { rng.usize(1..4) } else { rng.usize(1..=8 - tasks.len().min(6)) };
        for _ in 0..others {
            let mut spec = Spec::random(&mut rng, is_loose);
            let has_batches = tasks.iter().any(|spec: &Spec| spec.is_batching());
            if is_loose && !has_batches && rng.u32(..5) == 0 {
                spec = Spec { when: spec.when, ..Spec::plain(Role::Batching { size: rng.usize(1..6) }) };
            }
            connect(&mut rng, &mut tasks, first, spec);
        }
        for task in 0..tasks.len() {
            // Nothing goes past a tap.
            let can_route = !is_tapped || task >= 2 * sources;
            if rng.u32(..100) < 15 && task + 1 < tasks.len() && can_route {
                let to = rng.usize(task + 1..tasks.len());
                if tasks[to].role != Role::Tap && !matches!(tasks[to].role, Role::Source(_)) {
                    tasks[task].on_error = OnError::Route(to);
                }
            }
        }
        let stopping = (rng.u32(..100) < 25).then(|| Stopping {
            after: rng.u64(..60),
            timeout: if is_loose && rng.bool() { Duration::from_millis(rng.u64(1..400)) } else { LONG },
        });
        Self {
            seed,
            capacity: [1, 1, 2, 3, 5, 8, 64][rng.usize(..7)],
            on_task_panic: if is_loose && rng.u32(..4) == 0 {
                OnTaskPanic::Stop
            } else {
                OnTaskPanic::Restart
            },
            deadline: match rng.u32(..100) {
                0..5 => Some(LONG * 4),
                5..8 => Some(Duration::ZERO),
                8..16 if is_loose => Some(Duration::from_millis(rng.u64(1..300))),
                _ => None,
            },
            stopping,
            is_tapped,
            parallel_instances: if rng.u32(..6) == 0 { rng.usize(2..4) } else { 1 },
            tasks,
        }
    }

    /// Returns how many there are of a task.
    pub(crate) fn instances(&self, task: usize) -> usize {
        let spec = &self.tasks[task];
        if spec.is_serial() || spec.kept == Kept::ByKey { 1 } else { self.parallel_instances }
    }

    /// Returns how many events a task attempts at a time.
    fn at_a_time(&self, task: usize) -> usize {
        self.tasks[task].limit * self.instances(task)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = (usize, Reading)> {
        self.tasks.iter().enumerate().filter_map(|(source, spec)| match spec.role {
            Role::Source(reading) => Some((source, reading)),
            _ => None,
        })
    }

    /// Returns the tasks that `task` may send to.
    pub(crate) fn next(&self, task: usize) -> Vec<usize> {
        let spec = &self.tasks[task];
        let route = if let OnError::Route(to) = spec.on_error { Some(to) } else { None };
        let mut next: Vec<usize> =
            spec.downstream.iter().chain(&spec.targets).copied().chain(route).collect();
        next.sort_unstable();
        next.dedup();
        next
    }

    /// Returns the tasks that may send to `task`.
    pub(crate) fn above(&self, task: usize) -> Vec<usize> {
        (0..task).filter(|above| self.next(*above).contains(&task)).collect()
    }

    /// Returns a number that stands for nothing but these parts of the case.
    pub(crate) fn hash(&self, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, of).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns whether what becomes of each event depends on the time, or on other events.
    pub(crate) fn is_loose(&self) -> bool {
        let is_short = |limit: Duration| !limit.is_zero() && limit < LONG;
        self.deadline.is_some_and(is_short)
            || self.stopping.is_some_and(|stopping| is_short(stopping.timeout))
            || self.on_task_panic == OnTaskPanic::Stop
            || self.has_batches()
            || self
                .tasks
                .iter()
                .any(|spec| spec.panics_in_flushes || spec.is_panicking && spec.is_concurrent())
            || (0..self.tasks.len()).any(|task| self.at_a_time(task) > 1 && !self.has_one_path_to(task))
    }

    pub(crate) fn has_batches(&self) -> bool {
        self.tasks.iter().any(Spec::is_batching)
    }

    /// Returns whether all that reaches `task` of one event comes along one path.
    pub(crate) fn has_one_path_to(&self, task: usize) -> bool {
        match self.above(task).as_slice() {
            [] => true,
            [one] => self.has_one_path_to(*one),
            _ => false,
        }
    }

    /// Returns in which order events reach `task`, as far as that is promised.
    pub(crate) fn order_at(&self, task: usize) -> Kept {
        match self.above(task).as_slice() {
            [] => Kept::All,
            [one] if self.instances(*one) > 1 => Kept::No,
            [one] if self.tasks[*one].limit > 1 => self.order_at(*one).min(self.tasks[*one].kept),
            [one] if self.tasks[*one].is_batching() => Kept::No,
            [one] => self.order_at(*one),
            _ => Kept::No,
        }
    }
}

impl Spec {
    pub(crate) fn is_batching(&self) -> bool {
        matches!(self.role, Role::Batching { .. })
    }

    /// Returns whether all events have to pass through the same one of it.
    pub(crate) fn is_serial(&self) -> bool {
        match self.role {
            Role::Source(_) | Role::Tap | Role::Buffered | Role::Batching { .. } => true,
            Role::Transform | Role::Processor => false,
        }
    }

    /// Returns whether it handles several events at a time.
    fn is_concurrent(&self) -> bool {
        self.limit > 1 || self.parallelism > 1
    }

    fn plain(role: Role) -> Self {
        Self {
            role,
            downstream: Vec::new(),
            targets: Vec::new(),
            on_error: OnError::Fail,
            max_attempts: 3,
            backoff: Duration::ZERO,
            timeout: None,
            when: None,
            faults: 0,
            is_panicking: false,
            panics_in_flushes: false,
            is_slow: false,
            limit: 1,
            kept: Kept::All,
            parallelism: 1,
        }
    }

    fn source(rng: &mut Rng, events: u64) -> Self {
        let reading = Reading {
            events,
            is_answering: rng.u32(..4) == 0,
            has_bad_records: rng.u32(..5) == 0,
            panics_at: (rng.u32(..8) == 0).then(|| rng.u64(..events)),
        };
        let on_error = [OnError::Fail, OnError::Fail, OnError::Drop, OnError::Continue][rng.usize(..4)];
        let backoff = Duration::from_millis(rng.u64(1..200));
        Self { on_error, backoff, ..Self::plain(Role::Source(reading)) }
    }

    fn random(rng: &mut Rng, is_loose: bool) -> Self {
        let role = [Role::Transform, Role::Processor, Role::Processor, Role::Buffered][rng.usize(..4)];
        let on_error =
            [OnError::Fail, OnError::Fail, OnError::Fail, OnError::Drop, OnError::Continue][rng.usize(..5)];
        let is_processor = role == Role::Processor;
        let limit = if is_processor && rng.u32(..4) == 0 { rng.usize(2..5) } else { 1 };
        let parallelism = if role == Role::Transform && rng.u32(..4) == 0 { rng.usize(2..4) } else { 1 };
        let plain = Self { limit, parallelism, ..Self::plain(role) };
        let spec = Self {
            on_error,
            max_attempts: rng.u32(1..=4),
            backoff: Duration::from_millis([0, 0, 10, 1000][rng.usize(..4)]),
            timeout: (is_processor && rng.bool()).then(|| Duration::from_millis(rng.u64(100..500))),
            when: match rng.u32(..12) {
                0 => Some(When::Even),
                1 => Some(When::Throwing),
                _ => None,
            },
            faults: [0, 5, 20, 50][rng.usize(..4)],
            is_panicking: rng.u32(..3) == 0 && (is_loose || !plain.is_concurrent()),
            is_slow: role != Role::Transform && rng.u32(..3) == 0,
            kept: [Kept::All, Kept::ByKey, Kept::No][rng.usize(..3)],
            ..plain
        };
        let panics_in_flushes = spec.is_panicking && is_loose && role == Role::Buffered;
        Self { panics_in_flushes, ..spec }
    }
}

/// Adds a task behind one or two others, the first of which may be `first`.
fn connect(rng: &mut Rng, tasks: &mut Vec<Spec>, first: usize, spec: Spec) {
    let task = tasks.len();
    let ways = if rng.u32(..4) == 0 { 2 } else { 1 };
    for _ in 0..ways {
        // Rather one of the last: that makes chains.
        let above = if rng.bool() { task - 1 } else { rng.usize(first..task) };
        let is_named = matches!(tasks[above].role, Role::Transform | Role::Processor | Role::Buffered)
            && rng.u32(..4) == 0;
        if !tasks[above].downstream.contains(&task) && !tasks[above].targets.contains(&task) {
            let edges = if is_named { &mut tasks[above].targets } else { &mut tasks[above].downstream };
            edges.push(task);
        }
    }
    tasks.push(spec);
}
