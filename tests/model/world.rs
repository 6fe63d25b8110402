//! What the tasks of a case share: the case, how often each event was tried, and what happened, in order.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use flowgen::{
    ack::Outcome,
    event::{Event, EventId},
    runtime::FlowHandle,
    shutdown::Stop,
};

use super::{
    case::Case,
    deed::{Step, origin},
};

/// Something that happened. A delivery is numbered from 1, and 0 where nobody counts.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A source let an event in. `is_exact` if it was noted at that moment.
    Entered { source: usize, n: u64, is_exact: bool },
    /// A source came to its end, or panicked.
    Ended { source: usize },
    /// A source's event came to its tap.
    Tapped { id: String, delivery: u64 },
    /// An attempt at an event ended, with what it made of it if it was done.
    Attempt { task: usize, id: String, delivery: u64, place: u64, batch: u64, step: Step },
    /// An event became a part of the batch of this number.
    Held { id: String, delivery: u64, batch: u64 },
    /// A batch left.
    Released { task: usize, id: String, batch: u64 },
    /// A flush with an event ended.
    Flushed { task: usize, id: String, delivery: u64, step: Step },
    /// A task learned what became of its part of an event.
    Watched { task: usize, id: String, delivery: u64, outcome: Outcome },
    /// A source learned what became of an event.
    Told { id: String, outcome: Outcome, is_transient: bool },
    /// Something that must never happen.
    Wrong(String),
}

/// What happens to one event in one task.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) id: String,
    pub(crate) delivery: u64,
    /// The place of the delivery among all that came from the same source.
    pub(crate) place: u64,
    /// The number of the batch that it is, or 0.
    pub(crate) batch: u64,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) notes: Vec<Note>,
    attempts: HashMap<(usize, String), u32>,
    flushes: HashMap<(usize, String), u32>,
    deliveries: HashMap<String, u64>,
    places: HashMap<usize, u64>,
    panicked: Vec<usize>,
    batches: u64,
    total: u64,
    /// The most events that were there at once.
    pub(crate) peak: u64,
}

/// How many notes are shown, the first ones.
const SHOWN: usize = 400;

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().take(SHOWN).try_for_each(|note| writeln!(f, "{note:?}"))
    }
}

pub(crate) struct World {
    pub(crate) case: Case,
    state: Mutex<State>,
    pub(crate) flow: OnceLock<(FlowHandle, Stop)>,
}

impl World {
    pub(crate) fn new(case: Case) -> Arc<Self> {
        Arc::new(Self { case, state: Mutex::default(), flow: OnceLock::new() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn note(&self, note: Note) {
        self.state().notes.push(note);
    }

    /// Begins an attempt: returns the visit, and how many attempts there were before.
    pub(crate) fn begin(&self, task: usize, event: &Event) -> (Visit, u32) {
        let id = event.id.to_string();
        let number = |key| event.data.json().and_then(|data| data.get(key)?.as_u64()).unwrap_or_default();
        let visit = Visit { id, delivery: number("d"), place: number("o"), batch: number("b") };
        let mut state = self.state();
        state.total += 1;
        if let Some((flow, stop)) = self.flow.get() {
            state.peak = state.peak.max(flow.summary().inflight());
            if self.case.stopping.is_some_and(|stopping| state.total > stopping.after) {
                stop.stop();
            }
        }
        let earlier = count(&mut state.attempts, (task, visit.id.clone()));
        (visit, earlier)
    }

    pub(crate) fn end(&self, task: usize, visit: &Visit, step: Step) {
        let Visit { id, delivery, place, batch } = visit.clone();
        self.note(Note::Attempt { task, id, delivery, place, batch, step });
    }

    /// Begins to flush one event: returns how often it was before.
    pub(crate) fn flush(&self, task: usize, id: &str) -> u32 {
        count(&mut self.state().flushes, (task, id.to_owned()))
    }

    /// Notes an event that came from a source: returns its delivery and the place of that.
    pub(crate) fn tap(&self, id: &EventId) -> (u64, u64) {
        let id = id.to_string();
        let (source, _) = origin(&id);
        let mut state = self.state();
        let place = state.places.entry(source).or_default();
        *place += 1;
        let place = *place;
        let delivery = state.deliveries.entry(id.clone()).or_default();
        *delivery += 1;
        let delivery = *delivery;
        state.notes.push(Note::Tapped { id, delivery });
        (delivery, place)
    }

    /// Returns the number of a new batch.
    pub(crate) fn batch(&self) -> u64 {
        let mut state = self.state();
        state.batches += 1;
        state.batches
    }

    /// Returns whether this is the first time that a source asks.
    pub(crate) fn panics_now(&self, source: usize) -> bool {
        let mut state = self.state();
        let is_first = !state.panicked.contains(&source);
        state.panicked.push(source);
        is_first
    }
}

/// Counts one more, and returns how many there were before.
fn count(counts: &mut HashMap<(usize, String), u32>, key: (usize, String)) -> u32 {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count - 1
}
