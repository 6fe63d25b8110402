//! The model: what must become of every event of a case, delivery by delivery.

use std::collections::BTreeMap;

use flowgen::{ack::Outcome, plan::OnError};

use super::{
    case::{Case, Role},
    deed::{Decoding, Step, Way},
    tasks::{ERROR, JUNK},
};

/// More deliveries than any event needs.
const MOST: u64 = 1000;

/// How a delivery of an event ends, or a part of it. The greater one is the worse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Ended(Outcome),
    /// It failed for now.
    Returned,
}

impl End {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Ended(outcome) => outcome,
            Self::Returned => Outcome::Failed,
        }
    }
}

/// What became of one event that entered.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// How each of its deliveries ended.
    pub(crate) deliveries: Vec<End>,
    /// What its receipt was told, if it has one.
    pub(crate) told: Option<(Outcome, bool)>,
    /// Whether nothing can become of it but a success in the end.
    pub(crate) is_clean: bool,
}

impl Fate {
    pub(crate) fn outcome(&self) -> Outcome {
        self.deliveries.last().map_or(Outcome::Failed, |end| end.outcome())
    }
}

/// How often an attempt at an event in a task ended in some way; the delivery is 0 where nobody counts.
pub(crate) type Attempts = BTreeMap<(usize, String, u64, Step), u64>;

/// What is counted: by instrument, task if it is one of a task, and a further attribute.
pub(crate) type Numbers = BTreeMap<(String, String, String), u64>;

/// What must become of all events of a case.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// By the id of the source event.
    pub(crate) fates: BTreeMap<String, Fate>,
    pub(crate) attempts: Attempts,
    pub(crate) flushes: Attempts,
    pub(crate) numbers: Numbers,
}

impl Expected {
    /// Returns what must become of these events, `(source, number)`.
    pub(crate) fn of(case: &Case, entered: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut expected = Self::default();
        for (source, n) in entered {
            let mut walker = Walker {
                case,
                expected: &mut expected,
                n,
                delivery: 0,
                tried: BTreeMap::new(),
                flushed: BTreeMap::new(),
                is_clean: true,
            };
            let fate = walker.fate(source);
            expected.add_of_flow("flowgen.flow.entered", "source");
            expected.add_of_flow("flowgen.flow.events", fate.outcome().name());
            expected.fates.insert(format!("{source}:{n}"), fate);
        }
        expected
    }

    fn add(&mut self, name: &str, task: usize, of: &str) {
        *self.numbers.entry((name.into(), format!("t{task}"), of.into())).or_default() += 1;
    }

    fn add_of_flow(&mut self, name: &str, of: &str) {
        *self.numbers.entry((name.into(), String::new(), of.into())).or_default() += 1;
    }
}

/// Follows one source event.
struct Walker<'a> {
    case: &'a Case,
    expected: &'a mut Expected,
    n: u64,
    delivery: u64,
    tried: BTreeMap<(usize, String), u32>,
    flushed: BTreeMap<(usize, String), u32>,
    is_clean: bool,
}

impl Walker<'_> {
    fn fate(&mut self, source: usize) -> Fate {
        let id = format!("{source}:{}", self.n);
        let Role::Source(reading) = self.case.tasks[source].role else {
            unreachable!("events enter at sources")
        };
        let is_bad = self.case.decoding(source, self.n) == Decoding::Bad;
        let mut deliveries = Vec::new();
        loop {
            self.delivery += u64::from(self.case.is_tapped);
            let end = if is_bad {
                self.expected.add("flowgen.task.attempt.errors", source, ERROR);
                self.failed(source, &id, false, ERROR)
            } else {
                self.expected.add("task.handle.count", source, "completed");
                self.all(&self.case.tasks[source].downstream, &id)
            };
            deliveries.push(end);
            let is_again = end == End::Returned && !is_bad && !reading.is_answering;
            if !is_again {
                break;
            }
            self.expected.add("flowgen.source.redeliveries", source, "");
            assert!(deliveries.len() < MOST as usize, "the model never ends");
        }
        let last = deliveries[deliveries.len() - 1];
        let told = reading.is_answering.then(|| (last.outcome(), last == End::Returned));
        let is_clean = self.is_clean && !is_bad && !reading.is_answering;
        Fate { deliveries, told, is_clean }
    }

    /// Follows an event to all of these tasks; there it has reached a leaf if there are none.
    fn all(&mut self, tasks: &[usize], id: &str) -> End {
        let ends = tasks.iter().map(|task| self.visit(*task, id));
        ends.max().unwrap_or(End::Ended(Outcome::Completed))
    }

    fn visit(&mut self, task: usize, id: &str) -> End {
        let spec = &self.case.tasks[task];
        if self.case.deadline.is_some_and(|deadline| deadline.is_zero()) {
            self.expected.add("task.handle.count", task, "skipped");
            self.expected.add("flowgen.task.deadline_skips", task, "");
            return End::Ended(Outcome::Expired);
        }
        match spec.when.map(|when| when.says(self.n)) {
            Some(None) => {
                self.is_clean = false;
                self.expected.add("flowgen.task.attempt.errors", task, "script");
                return self.failed(task, id, false, "script");
            }
            Some(Some(false)) => {
                self.expected.add("task.handle.count", task, "skipped");
                let is_leaf = spec.downstream.is_empty();
                return if is_leaf { End::Ended(Outcome::Filtered) } else { self.all(&spec.downstream, id) };
            }
            Some(Some(true)) | None => {}
        }
        if spec.role != Role::Tap
            && let Err((is_transient, error_type)) = self.attempts(task, id)
        {
            return self.failed(task, id, is_transient, error_type);
        }
        self.succeeded(task, id)
    }

    /// Makes all attempts at an event. Returns whether it failed for now, and why, if it did.
    fn attempts(&mut self, task: usize, id: &str) -> Result<(), (bool, &'static str)> {
        let mut failed = 0;
        let most = self.case.tasks[task].max_attempts;
        loop {
            let tried = self.tried.entry((task, id.to_owned())).or_default();
            *tried += 1;
            let step = self.case.step(task, id, *tried - 1);
            let key = (task, id.to_owned(), self.delivery, step);
            *self.expected.attempts.entry(key).or_default() += 1;
            let error_type = match step {
                Step::Done => break,
                Step::Hanging => "timeout",
                Step::Panic => "panic",
                Step::Transient | Step::Permanent => ERROR,
            };
            self.expected.add("flowgen.task.attempt.errors", task, error_type);
            if step == Step::Hanging {
                self.expected.add("flowgen.task.timeouts", task, "");
            }
            if matches!(step, Step::Permanent | Step::Panic) {
                self.is_clean = false;
                return Err((false, error_type));
            }
            self.is_clean &= self.case.tasks[task].on_error == OnError::Fail;
            failed += 1;
            if failed == most {
                return Err((true, error_type));
            }
            self.expected.add("flowgen.task.retries", task, error_type);
        }
        if self.case.tasks[task].role == Role::Buffered { self.flushes(task, id) } else { Ok(()) }
    }

    fn flushes(&mut self, task: usize, id: &str) -> Result<(), (bool, &'static str)> {
        for _ in 0..self.case.tasks[task].max_attempts {
            let flushed = self.flushed.entry((task, id.to_owned())).or_default();
            *flushed += 1;
            let step = self.case.deed(task, id).flush.step(*flushed - 1);
            let key = (task, id.to_owned(), self.delivery, step);
            *self.expected.flushes.entry(key).or_default() += 1;
            match step {
                Step::Done => return Ok(()),
                Step::Permanent | Step::Panic => {
                    self.is_clean = false;
                    return Err((false, ERROR));
                }
                Step::Transient | Step::Hanging => {
                    self.is_clean &= self.case.tasks[task].on_error == OnError::Fail;
                }
            }
        }
        Err((true, ERROR))
    }

    fn failed(&mut self, task: usize, id: &str, is_transient: bool, error_type: &str) -> End {
        self.expected.add("task.handle.count", task, "failed");
        self.expected.add("task.handle.errors", task, error_type);
        let spec = &self.case.tasks[task];
        match spec.on_error {
            OnError::DeadLetter => unreachable!("the model has no state"),
            OnError::Fail if is_transient => End::Returned,
            OnError::Fail => End::Ended(Outcome::Failed),
            OnError::Continue if !spec.downstream.is_empty() => self.all(&spec.downstream, id),
            OnError::Drop | OnError::Continue => End::Ended(Outcome::Dropped),
            OnError::Route(to) => self.visit(to, id),
        }
    }

    fn succeeded(&mut self, task: usize, id: &str) -> End {
        let outputs = outputs(self.case, task, id);
        let outcome = if outputs.is_empty() { "filtered" } else { "completed" };
        self.expected.add("task.handle.count", task, outcome);
        let ends = outputs.iter().map(|(id, tasks)| self.all(tasks, id));
        ends.max().unwrap_or(End::Ended(Outcome::Filtered))
    }
}

/// Returns what a task that is done with an event emits, and the tasks that each goes to.
pub(crate) fn outputs(case: &Case, task: usize, id: &str) -> Vec<(String, Vec<usize>)> {
    let spec = &case.tasks[task];
    let all = || spec.downstream.clone();
    match case.deed(task, id).way {
        Way::Forward => vec![(id.to_owned(), all())],
        Way::Filter => vec![],
        Way::Derive(count) => (0..count).map(|n| (format!("{id}-{n}"), all())).collect(),
        Way::To(edge) => vec![(id.to_owned(), vec![spec.targets[edge]])],
        Way::Both(edge) => vec![(id.to_owned(), vec![spec.targets[edge]]), (id.to_owned(), all())],
    }
}

/// Returns whether an event can only come of an attempt that failed.
pub(crate) fn is_junk(id: &str) -> bool {
    id.split('-').skip(1).any(|part| part == JUNK.to_string())
}
