//! What is promised of batches: what becomes of one becomes of every event in it.

use std::collections::{BTreeMap, BTreeSet};

use flowgen::{ack::Outcome, plan::OnError};

use super::{
    case::Case,
    check::{Check, ensure},
    deed::{Step, origin, root},
    world::Note,
};

/// A batch that left, and what came of it.
#[derive(Default)]
struct Joined {
    /// Which deliveries of which source events are in it.
    members: BTreeSet<(String, u64)>,
    released: Option<(usize, String)>,
    reached: BTreeSet<usize>,
    /// How attempts at it, and at what was derived from it, ended in each task.
    steps: BTreeMap<(usize, String), BTreeSet<Step>>,
}

/// Checks the batches of a case. `outcomes` are those of each delivery of a source event.
pub(crate) fn check(case: &Case, notes: &[Note], outcomes: &BTreeMap<String, Vec<Option<Outcome>>>) -> Check {
    let mut batches: BTreeMap<u64, Joined> = BTreeMap::new();
    for note in notes.iter().cloned() {
        match note {
            Note::Held { id, delivery, batch } => {
                batches.entry(batch).or_default().members.insert((root(&id).to_owned(), delivery));
            }
            Note::Released { task, id, batch } => {
                batches.entry(batch).or_default().released = Some((task, id))
            }
            Note::Attempt { task, id, batch, step, .. } if batch > 0 => {
                let joined = batches.entry(batch).or_default();
                joined.reached.insert(task);
                joined.steps.entry((task, id)).or_default().insert(step);
            }
            _ => {}
        }
    }
    for (batch, joined) in &batches {
        for (id, delivery) in &joined.members {
            let place = usize::try_from(*delivery).unwrap().wrapping_sub(1);
            let outcome = outcomes.get(id).and_then(|ends| *ends.get(place)?);
            let is_good = outcome.is_some_and(|outcome| outcome <= Outcome::Completed);
            let Some((task, last)) = joined.released.as_ref().filter(|_| is_good) else {
                ensure!(!is_good, "{id} is {outcome:?}, and batch {batch} with it never left");
                continue;
            };
            ensure!(!joined.is_lost(case), "{id} is {outcome:?}, and batch {batch} with it failed");
            let (_, n) = origin(last);
            for next in &case.tasks[*task].downstream {
                joined.reaches(case, *next, n).map_err(|next| {
                    format!("{id} is {outcome:?}, and batch {batch} with it never came to t{next}")
                })?;
            }
        }
    }
    Ok(())
}

impl Joined {
    /// Returns whether anything of it has failed and was not disposed of.
    fn is_lost(&self, case: &Case) -> bool {
        self.steps.iter().any(|((task, _), steps)| {
            let has_failed = steps.contains(&Step::Permanent) || steps.contains(&Step::Panic);
            case.tasks[*task].on_error == OnError::Fail && (has_failed || !steps.contains(&Step::Done))
        })
    }

    /// Returns the task that it did not come to and had to.
    fn reaches(&self, case: &Case, task: usize, n: u64) -> Result<(), usize> {
        let spec = &case.tasks[task];
        match spec.when.map(|when| when.says(n)) {
            Some(None) => Ok(()),
            Some(Some(false)) => spec.downstream.iter().try_for_each(|next| self.reaches(case, *next, n)),
            Some(Some(true)) | None if self.reached.contains(&task) => Ok(()),
            Some(Some(true)) | None => Err(task),
        }
    }
}
