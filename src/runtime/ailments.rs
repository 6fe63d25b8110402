//! What keeps tasks of a flow from their work for now, for whoever asks how the flow is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What keeps a task from its work for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// It waits to be built again.
    Restarting,
    /// It is a source without a connection to what it reads.
    Disconnected,
    /// It is a source that waits because the disk refuses what is to be queued.
    Refused,
}

impl Ailment {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restarting => "restarting",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
        }
    }
}

/// A task and what keeps it from its work.
pub type Ailing = (Arc<str>, Ailment);

/// The tasks of a flow that something keeps from their work. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Ailments(Arc<Mutex<Vec<Ailing>>>);

impl Ailments {
    /// Takes note of one, for as long as what is returned is there.
    pub(super) fn add(&self, task: &Arc<str>, ailment: Ailment) -> Spell {
        let ailing = (Arc::clone(task), ailment);
        self.lock().push(ailing.clone());
        Spell { ailments: self.clone(), ailing }
    }

    /// Returns whether there is one of this sort.
    pub(super) fn has(&self, ailment: Ailment) -> bool {
        self.lock().iter().any(|(_, known)| *known == ailment)
    }

    /// Returns all of them, each once: a task may be there several times.
    pub(super) fn all(&self) -> Vec<Ailing> {
        let mut all: Vec<Ailing> = Vec::new();
        for ailing in self.lock().iter() {
            if !all.contains(ailing) {
                all.push(ailing.clone());
            }
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ailing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time that a task does not work. It is over when this is dropped.
#[must_use = "what is dropped at once was never there"]
#[derive(Debug)]
pub(super) struct Spell {
    ailments: Ailments,
    ailing: Ailing,
}

impl Drop for Spell {
    fn drop(&mut self) {
        let mut all = self.ailments.lock();
        if let Some(index) = all.iter().position(|ailing| *ailing == self.ailing) {
            all.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_once_and_until_the_last_of_its_instances_works_again() {
        let (ailments, task) = (Ailments::default(), Arc::from("in"));
        let first = ailments.add(&task, Ailment::Restarting);
        let second = ailments.add(&task, Ailment::Restarting);
        let other = ailments.add(&task, Ailment::Disconnected);
        let named = || ailments.all().into_iter().map(|(_, ailment)| ailment.name()).collect::<Vec<_>>();
        assert_eq!(named(), ["restarting", "disconnected"]);
        drop(first);
        assert!(ailments.has(Ailment::Restarting));
        drop(second);
        assert!(!ailments.has(Ailment::Restarting));
        assert_eq!(named(), ["disconnected"]);
        drop(other);
        assert!(named().is_empty());
    }
}
