//! Makes a case that fails smaller, as long as it fails.

use flowgen::plan::{OnError, OnTaskPanic};

use super::case::{Case, Role};

/// How many smaller cases are tried at most.
const TRIES: usize = 400;

/// Returns the smallest case found that still fails, and how.
pub(crate) fn shrink(case: Case, why: String, fails: impl Fn(&Case) -> Result<(), String>) -> (Case, String) {
    let (mut smallest, mut why, mut tries) = (case, why, 0);
    'smaller: loop {
        for candidate in smaller(&smallest) {
            tries += 1;
            if tries > TRIES {
                return (smallest, why);
            }
            if let Err(reason) = fails(&candidate) {
                (smallest, why) = (candidate, reason);
                continue 'smaller;
            }
        }
        return (smallest, why);
    }
}

fn smaller(case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut changed = case.clone();
        change(&mut changed);
        if format!("{changed:?}") != format!("{case:?}") {
            cases.push(changed);
        }
    };
    for task in (0..case.tasks.len()).rev() {
        match case.tasks[task].role {
            Role::Source(reading) => {
                for events in [0, reading.events / 2, reading.events.saturating_sub(1)] {
                    with(&|case| set_reading(case, task, |reading| reading.events = events));
                }
                with(&|case| set_reading(case, task, |reading| reading.panics_at = None));
                with(&|case| set_reading(case, task, |reading| reading.is_answering = false));
                with(&|case| set_reading(case, task, |reading| reading.has_bad_records = false));
            }
            Role::Tap => {}
            Role::Transform | Role::Processor | Role::Buffered | Role::Batching { .. } => {
                with(&|case| remove(case, task))
            }
        }
        with(&|case| case.tasks[task].faults = 0);
        with(&|case| case.tasks[task].is_panicking = false);
        with(&|case| case.tasks[task].panics_in_flushes = false);
        with(&|case| case.tasks[task].on_error = OnError::Fail);
        with(&|case| case.tasks[task].when = None);
        with(&|case| case.tasks[task].timeout = None);
        with(&|case| case.tasks[task].is_slow = false);
        with(&|case| case.tasks[task].limit = 1);
        with(&|case| case.tasks[task].parallelism = 1);
        with(&|case| case.tasks[task].backoff = std::time::Duration::ZERO);
        with(&|case| case.tasks[task].max_attempts = 1);
    }
    with(&|case| case.stopping = None);
    with(&|case| case.deadline = None);
    with(&|case| case.on_task_panic = OnTaskPanic::Restart);
    with(&|case| case.parallel_instances = 1);
    with(&|case| case.capacity = 64);
    cases
}

fn set_reading(case: &mut Case, task: usize, set: impl Fn(&mut super::case::Reading)) {
    if let Role::Source(reading) = &mut case.tasks[task].role {
        set(reading);
    }
}

/// Takes a task out, if nothing but edges leads to it; only the last one, so that the others keep their indices.
fn remove(case: &mut Case, task: usize) {
    if task + 1 != case.tasks.len() {
        return;
    }
    case.tasks.pop();
    for spec in &mut case.tasks {
        spec.downstream.retain(|next| *next != task);
        spec.targets.retain(|next| *next != task);
        if spec.on_error == OnError::Route(task) {
            spec.on_error = OnError::Fail;
        }
    }
}
