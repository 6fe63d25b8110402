//! What is remembered of one flow.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::entry::{Cause, Entry};
use crate::trace::Ticks;

/// The most entries of one flow.
pub(super) const SIZE: usize = 32;

/// The latest entries of one flow. A flood of entries with the same cause pushes out only its own.
#[derive(Debug)]
pub(in crate::telemetry) struct Ring {
    slower_than: u128,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of each cause the entries, the oldest first; none is empty.
    causes: Vec<(Cause, VecDeque<Arc<Entry>>)>,
    /// How many there have been.
    recorded: u64,
}

impl Ring {
    pub(super) fn new(slower_than: Option<Duration>) -> Self {
        let slower_than = slower_than.map_or(u128::MAX, |limit| limit.as_nanos());
        Self { slower_than, state: Mutex::default() }
    }

    /// Returns whether an event that took so many nanoseconds was slow.
    pub(in crate::telemetry) fn is_slow(&self, nanos: u64) -> bool {
        u128::from(nanos) > self.slower_than
    }

    /// Adds an entry, in the place of the oldest one of the most frequent cause if there is no other.
    pub(in crate::telemetry) fn push(&self, entry: Entry) {
        let (cause, entry) = (entry.cause(), Arc::new(entry));
        let mut state = self.lock();
        state.recorded += 1;
        let is_full = state.causes.iter().map(|(_, entries)| entries.len()).sum::<usize>() == SIZE;
        let former = is_full.then(|| state.make_room());
        match state.causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, entries)) => entries.push_back(entry),
            None => state.causes.push((cause, VecDeque::from([entry]))),
        }
        drop(state);
        // Last, because freeing an error may take its time.
        drop(former);
    }

    /// Returns all entries, the earliest first.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let state = self.lock();
        let mut entries: Vec<_> = state.causes.iter().flat_map(|(_, entries)| entries).cloned().collect();
        drop(state);
        entries.sort_by_key(|entry| entry.end());
        entries
    }

    /// Returns how many entries were added.
    pub(super) fn recorded(&self) -> u64 {
        self.lock().recorded
    }

    /// Returns the time of the latest entry; never if there is none.
    pub(super) fn latest(&self) -> Ticks {
        let state = self.lock();
        let latest = state.causes.iter().filter_map(|(_, entries)| entries.back());
        latest.map(|entry| entry.end()).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self) -> Option<Arc<Entry>> {
        let rank = |(_, entries): &(Cause, VecDeque<Arc<Entry>>)| {
            (entries.len(), Reverse(entries.front().map(|entry| entry.end())))
        };
        let place = (0..self.causes.len()).max_by_key(|place| rank(&self.causes[*place]))?;
        let entry = self.causes[place].1.pop_front();
        if self.causes[place].1.is_empty() {
            self.causes.swap_remove(place);
        }
        entry
    }
}
