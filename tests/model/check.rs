//! What is held against the model: the account, the outcomes, the attempts, the receipts.

use std::collections::{BTreeMap, BTreeSet};

use flowgen::{ack::Outcome, plan::OnError, runtime::Report};

use super::{
    case::{Case, Role},
    collected,
    deed::{Step, root},
    expected::{Attempts, Expected, is_junk, outputs},
    joined, order,
    world::{Note, World},
};
use crate::support::graph::outcomes;

/// Events that a task takes at once, at most.
const BATCH: u64 = 256;

/// What a case is not allowed to do, in words.
pub(crate) type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}
pub(crate) use ensure;

/// Checks how a case ended.
pub(crate) fn check(world: &World, report: &Report) -> Check {
    let case = &world.case;
    let state = world.state();
    let notes = collected::check(case, &state.notes)?;
    let observed = Observed::of(case, &notes);
    let expected = Expected::of(case, observed.entered.iter().copied());
    account(case, report, &observed)?;
    order::check(case, &notes, report.flows[0].failure.is_some())?;
    receipts(case, &observed, &expected)?;
    watchers(&observed)?;
    if case.is_tapped {
        joined::check(case, &notes, &observed.deliveries)?;
    }
    let bound = bound(case);
    ensure!(state.peak <= bound, "{} events were there at once, not {bound} at most", state.peak);
    if case.is_loose() || report.is_cut_short {
        return loosely(case, report, &observed, &expected);
    }
    exactly(case, report, &observed, &expected)
}

/// What the notes of a case amount to.
pub(crate) struct Observed {
    /// The source and the number of every event that entered.
    pub(crate) entered: BTreeSet<(usize, u64)>,
    pub(crate) attempts: Attempts,
    flushes: Attempts,
    /// What became of each delivery of an event, by the id of the source event.
    deliveries: BTreeMap<String, Vec<Option<Outcome>>>,
    /// How often each delivery of an event in a task was done, and what it was said to have become.
    watched: BTreeMap<(usize, String, u64), Vec<Outcome>>,
    told: BTreeMap<String, Vec<(Outcome, bool)>>,
    wrong: Vec<String>,
}

impl Observed {
    fn of(case: &Case, notes: &[Note]) -> Self {
        let mut observed = Self {
            entered: BTreeSet::new(),
            attempts: Attempts::new(),
            flushes: Attempts::new(),
            deliveries: BTreeMap::new(),
            watched: BTreeMap::new(),
            told: BTreeMap::new(),
            wrong: Vec::new(),
        };
        for note in notes.iter().cloned() {
            match note {
                Note::Entered { source, n, .. } => drop(observed.entered.insert((source, n))),
                Note::Tapped { id, .. } => {
                    observed.entered.insert(super::deed::origin(&id));
                    observed.deliveries.entry(id).or_default().push(None);
                }
                Note::Attempt { task, id, delivery, step, .. } => {
                    if is_junk(&id) {
                        observed.wrong.push(format!("t{task} got {id}, the output of a failed attempt"));
                    }
                    *observed.attempts.entry((task, id, delivery, step)).or_default() += 1;
                }
                Note::Flushed { task, id, delivery, step } => {
                    *observed.flushes.entry((task, id, delivery, step)).or_default() += 1;
                }
                Note::Watched { task, id, delivery, outcome } if case.tasks[task].role == Role::Tap => {
                    let place = usize::try_from(delivery).unwrap() - 1;
                    let of = observed.deliveries.get_mut(&id).and_then(|ends| ends.get_mut(place));
                    match of {
                        Some(end @ None) => *end = Some(outcome),
                        _ => observed.wrong.push(format!("{id} ended twice in delivery {delivery}")),
                    }
                }
                Note::Watched { task, id, delivery, outcome } => {
                    observed.watched.entry((task, id, delivery)).or_default().push(outcome);
                }
                Note::Told { id, outcome, is_transient } => {
                    observed.told.entry(id).or_default().push((outcome, is_transient));
                }
                Note::Ended { .. } | Note::Held { .. } | Note::Released { .. } => {}
                Note::Wrong(what) => observed.wrong.push(what),
            }
        }
        observed
    }

    fn count(&self, task: usize, id: &str, delivery: u64, step: Step) -> u64 {
        count(&self.attempts, task, id, delivery, step)
    }
}

fn count(attempts: &Attempts, task: usize, id: &str, delivery: u64, step: Step) -> u64 {
    attempts.get(&(task, id.to_owned(), delivery, step)).copied().unwrap_or_default()
}

fn account(case: &Case, report: &Report, observed: &Observed) -> Check {
    let summary = &report.flows[0].summary;
    let entered = observed.entered.len() as u64;
    // What is cut short while it enters may not have been noted.
    let is_ended = report.is_cut_short || report.flows[0].failure.is_some();
    let slack = if is_ended { case.sources().count() as u64 } else { 0 };
    ensure!(
        (entered..=entered + slack).contains(&summary.entered),
        "{} entered, not {entered}",
        summary.entered
    );
    ensure!(summary.inflight() == 0, "{} are in flight", summary.inflight());
    let sum: u64 = outcomes(summary).values().sum();
    ensure!(summary.entered == sum, "{} entered and {sum} ended", summary.entered);
    ensure!(observed.wrong.is_empty(), "{:?}", observed.wrong);
    if !case.is_loose() {
        ensure!(!report.is_cut_short, "the shutdown was cut short");
        ensure!(report.flows[0].failure.is_none(), "{:?}", report.flows[0].failure);
    }
    if case.stopping.is_none() && report.flows[0].failure.is_none() {
        let events: u64 = case.sources().map(|(_, reading)| reading.events).sum();
        ensure!(entered == events, "{entered} of {events} were read");
    }
    Ok(())
}

fn receipts(case: &Case, observed: &Observed, expected: &Expected) -> Check {
    let answering: BTreeSet<usize> =
        case.sources().filter(|(_, reading)| reading.is_answering).map(|(source, _)| source).collect();
    let of_answering = observed.entered.iter().filter(|(source, _)| answering.contains(source));
    for id in of_answering.map(|(source, n)| format!("{source}:{n}")) {
        let told = observed.told.get(&id).map(Vec::as_slice).unwrap_or_default();
        ensure!(told.len() == 1, "the receipt of {id} was told {told:?}");
        let fate = &expected.fates[&id];
        ensure!(
            case.is_loose() || Some(told[0]) == fate.told,
            "the receipt of {id} was told {told:?}, not {:?}",
            fate.told
        );
    }
    let strange = observed.told.keys().find(|id| !answering.contains(&super::deed::origin(id).0));
    ensure!(strange.is_none(), "{strange:?} has no receipt");
    Ok(())
}

/// Each delivery ends once, and who wants to know of a part of it is told once.
fn watchers(observed: &Observed) -> Check {
    for (id, ends) in &observed.deliveries {
        ensure!(ends.iter().all(Option::is_some), "{id} ended as {ends:?}");
    }
    Ok(())
}

fn exactly(case: &Case, report: &Report, observed: &Observed, expected: &Expected) -> Check {
    let mut counts: BTreeMap<Outcome, u64> = BTreeMap::new();
    expected.fates.values().for_each(|fate| *counts.entry(fate.outcome()).or_default() += 1);
    let found = outcomes(&report.flows[0].summary);
    for (id, fate) in expected.fates.iter().filter(|_| case.is_tapped) {
        let Some(ends) = observed.deliveries.get(id) else { continue };
        let ends: Vec<Outcome> = ends.iter().copied().flatten().collect();
        let wanted: Vec<Outcome> = fate.deliveries.iter().map(|end| end.outcome()).collect();
        ensure!(ends == wanted, "{id} ended as {ends:?}, not {wanted:?}");
    }
    same("attempt", &observed.attempts, &expected.attempts)?;
    same("flush", &observed.flushes, &expected.flushes)?;
    ensure!(found == counts, "the outcomes are {found:?}, not {counts:?}");
    for (task, id, delivery) in done(observed) {
        let key = (task, id, delivery);
        let told = observed.watched.get(&key).map_or(0, Vec::len) as u64;
        let (task, id, delivery) = &key;
        let is_emitting = !outputs(case, *task, id).is_empty();
        let is_buffered = case.tasks[*task].role == Role::Buffered;
        let of_work = if is_buffered { &observed.flushes } else { &observed.attempts };
        let times = if is_emitting { count(of_work, *task, id, *delivery, Step::Done) } else { 0 };
        ensure!(told == times, "t{task} watches {id} and is told {told} times, not {times}");
    }
    Ok(())
}

fn same(what: &str, found: &Attempts, expected: &Attempts) -> Check {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let counts = |key: &_| {
        let of = |attempts: &Attempts| attempts.get(key).copied().unwrap_or_default();
        (of(found), of(expected))
    };
    let differing: Vec<String> = keys
        .into_iter()
        .map(|key| (key, counts(key)))
        .filter(|(_, (found, expected))| found != expected)
        .take(5)
        .map(|((task, id, delivery, step), (found, expected))| {
            format!("t{task} {id} in delivery {delivery}: {found} times {step:?}, not {expected}")
        })
        .collect();
    ensure!(differing.is_empty(), "{what}s: {}", differing.join("; "));
    Ok(())
}

fn done(observed: &Observed) -> BTreeSet<(usize, String, u64)> {
    let done = observed.attempts.keys().filter(|(.., step)| *step == Step::Done);
    done.map(|(task, id, delivery, _)| (*task, id.clone(), *delivery)).collect()
}

fn loosely(case: &Case, report: &Report, observed: &Observed, expected: &Expected) -> Check {
    let has_failed = report.flows[0].failure.is_some();
    let is_clean = !case.has_batches()
        && expected.fates.values().all(|fate| fate.is_clean)
        && !has_failed
        && !report.is_cut_short
        && !has_lost_batches(observed);
    for (outcome, _) in outcomes(&report.flows[0].summary) {
        let is_allowed = match outcome {
            Outcome::Expired => case.deadline.is_some(),
            Outcome::Cancelled => report.is_cut_short,
            Outcome::DeadLettered => false,
            Outcome::Failed => !is_clean,
            _ => true,
        };
        ensure!(is_allowed, "nothing can be {outcome}");
    }
    for (id, ends) in &observed.deliveries {
        let Some(Some(outcome)) = ends.last() else { continue };
        let fate = &expected.fates[id];
        let is_good = *outcome < Outcome::Cancelled && *outcome != Outcome::Expired;
        if fate.is_clean && !case.has_batches() && !has_failed && !has_lost_batches(observed) {
            let mut allowed = vec![fate.outcome()];
            allowed.extend(case.deadline.map(|_| Outcome::Expired));
            allowed.extend(report.is_cut_short.then_some(Outcome::Cancelled));
            // What failed for now may be too old when it is brought in again, or there may be no time left for that.
            let is_late = report.is_cut_short || case.deadline.is_some();
            allowed.extend(is_late.then_some(Outcome::Failed));
            ensure!(allowed.contains(outcome), "{id} is {outcome}, not {allowed:?}");
        }
        if is_good {
            // Nothing of what is no worse than completed was too old.
            let is_whole = case.deadline.is_none() || *outcome < Outcome::Expired;
            succeeded(case, observed, (id, ends.len() as u64), is_whole)?;
        }
    }
    Ok(())
}

/// Returns whether a flush took down events with which nothing is wrong.
fn has_lost_batches(observed: &Observed) -> bool {
    observed.flushes.keys().any(|(.., step)| *step == Step::Panic)
}

/// Checks that everything that came of the last delivery of an event has succeeded or was disposed of.
fn succeeded(case: &Case, observed: &Observed, (id, delivery): (&str, u64), is_whole: bool) -> Check {
    let of_last =
        observed.attempts.keys().filter(|(_, of, in_delivery, _)| *in_delivery == delivery && root(of) == id);
    for (task, of, _, step) in of_last {
        let is_failing = case.tasks[*task].on_error == OnError::Fail;
        let is_lost = match step {
            Step::Permanent | Step::Panic => is_failing,
            // What is not tried again because it would be too old by then has expired.
            Step::Transient | Step::Hanging => {
                is_failing && is_whole && observed.count(*task, of, delivery, Step::Done) == 0
            }
            Step::Done => false,
        };
        ensure!(!is_lost, "{of} is {step:?} in t{task}, and {id} counts as a success");
        // What these emit they emit later, if at all.
        let is_later = case.tasks[*task].role == Role::Buffered || case.tasks[*task].is_batching();
        if *step == Step::Done && is_whole && !is_later {
            for (next, tasks) in outputs(case, *task, of) {
                tasks.into_iter().try_for_each(|task| reached(case, observed, &next, task, delivery))?;
            }
        }
    }
    Ok(())
}

/// Checks that an event came to a task, unless it passed by there.
fn reached(case: &Case, observed: &Observed, id: &str, task: usize, delivery: u64) -> Check {
    let spec = &case.tasks[task];
    let (_, n) = super::deed::origin(id);
    match spec.when.map(|when| when.says(n)) {
        Some(None) => Ok(()),
        Some(Some(false)) => {
            spec.downstream.iter().try_for_each(|next| reached(case, observed, id, *next, delivery))
        }
        Some(Some(true)) | None => {
            let is_there = [Step::Done, Step::Transient, Step::Hanging, Step::Permanent, Step::Panic]
                .iter()
                .any(|step| observed.count(task, id, delivery, *step) > 0);
            ensure!(is_there, "{id} never came to t{task} in delivery {delivery}");
            Ok(())
        }
    }
}

/// Returns how many events may be there at once: the channels, and what each task has taken. Behind a task that makes one
/// event of several, each of them stands for so many.
fn bound(case: &Case) -> u64 {
    let capacity = case.capacity as u64;
    let mut weights = vec![1; case.tasks.len()];
    let mut bound = 0;
    for (task, spec) in case.tasks.iter().enumerate() {
        let held = match spec.role {
            Role::Source(_) => 64,
            Role::Buffered => capacity + BATCH,
            Role::Batching { size } => capacity + 64 + 3 * size as u64,
            Role::Tap | Role::Transform | Role::Processor => {
                capacity + (64 + spec.limit as u64) * case.instances(task) as u64
            }
        };
        bound += weights[task] * held;
        let size = if let Role::Batching { size } = spec.role { size as u64 } else { 1 };
        for next in case.next(task) {
            weights[next] = weights[next].max(weights[task] * size);
        }
    }
    bound
}
