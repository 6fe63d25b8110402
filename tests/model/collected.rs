//! What is promised of tasks that collect: what one had collected when it panicked is collected again, in the same order
//! and before anything new, and all of a batch is flushed.

use std::collections::{BTreeMap, VecDeque};

use super::{
    case::{Case, LONG, Role},
    check::{Check, ensure},
    deed::Step,
    world::Note,
};

/// An event, by its id and its delivery.
type Of<'a> = (&'a str, u64);

/// The batch of one task.
#[derive(Default)]
struct Batch<'a> {
    collected: Vec<Of<'a>>,
    /// What a panic took along and is not collected again.
    again: VecDeque<Of<'a>>,
    /// What was flushed of the batch.
    flushed: Vec<Of<'a>>,
}

/// Checks the batches of a case. Returns its notes but for the attempts that were made once more because of a panic at
/// another event.
pub(crate) fn check(case: &Case, notes: &[Note]) -> Result<Vec<Note>, String> {
    let mut once = Vec::with_capacity(notes.len());
    let mut batches: BTreeMap<usize, Batch> = BTreeMap::new();
    // What has become too old meanwhile is not collected again.
    let expires = case.deadline.is_some_and(|deadline| deadline < LONG);
    for note in notes {
        let is_repeated = match note {
            Note::Attempt { task, id, delivery, step, .. } if case.tasks[*task].role == Role::Buffered => {
                batches.entry(*task).or_default().attempt((id, *delivery), *step, expires)
            }
            Note::Flushed { task, id, delivery, .. } => {
                batches.entry(*task).or_default().flush((id, *delivery), expires).map(|()| false)
            }
            _ => Ok(false),
        };
        if !is_repeated.map_err(|why| format!("{why}: {note:?}"))? {
            once.push(note.clone());
        }
    }
    Ok(once)
}

impl<'a> Batch<'a> {
    /// Takes note of an attempt. Returns whether it is made once more.
    fn attempt(&mut self, of: Of<'a>, step: Step, expires: bool) -> Result<bool, String> {
        if !self.flushed.is_empty() {
            let Self { collected, flushed, .. } = std::mem::take(self);
            ensure!(collected == flushed, "{flushed:?} was flushed of {collected:?}");
        }
        while expires && self.again.front().is_some_and(|next| *next != of) {
            self.again.pop_front();
        }
        let is_repeated = match self.again.pop_front() {
            Some(next) => {
                ensure!(next == of, "{next:?} was to be collected again");
                true
            }
            None => false,
        };
        match step {
            Step::Done => self.collected.push(of),
            Step::Panic => self.again = self.collected.drain(..).chain(self.again.drain(..)).collect(),
            Step::Transient | Step::Hanging | Step::Permanent => {}
        }
        Ok(is_repeated)
    }

    /// Takes note of an event that is flushed, for the first time or again.
    fn flush(&mut self, of: Of<'a>, expires: bool) -> Check {
        if expires {
            self.again.clear();
        }
        ensure!(self.again.is_empty(), "{:?} was to be collected again before", self.again);
        let is_next = self.collected.get(self.flushed.len()) == Some(&of);
        ensure!(is_next || self.flushed.contains(&of), "it is not the next one of {:?}", self.collected);
        if is_next {
            self.flushed.push(of);
        }
        Ok(())
    }
}
