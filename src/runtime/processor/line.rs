//! The events of a processor that handles several at a time: which is begun next, and in which order they leave.
//!
//! Outlives the processor, so that none of them is lost with it. Holds no more than the limit of events that are begun, be
//! they done or not, and before them no more than [`Line::room`] that wait.

use std::collections::VecDeque;

use super::{
    super::{
        hop::{Due, Hop},
        outlets::BATCH,
    },
    attempts::End,
    job::{Job, Jobs, Leaving},
    keys::{Key, Keys, Turn},
};
use crate::{
    event::Event,
    plan::{Concurrency, Order},
    task::TaskError,
    telemetry::Level,
};

/// What was taken from the inbox and has not left.
#[derive(Debug)]
pub(super) struct Line {
    limit: usize,
    /// What nobody has looked at yet, in order.
    arrived: VecDeque<Box<Event>>,
    places: Places,
    /// Events that are begun and not concluded.
    begun: usize,
    /// Events that may leave, in this order.
    leaving: VecDeque<Leaving>,
    /// Events whose attempts another processor goes on with.
    recalled: Vec<Placed>,
    jobs: Jobs,
    inflight: Level,
}

/// An event that is handled, and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) job: Job,
    place: Place,
}

/// Where events stand that are begun.
#[derive(Debug)]
enum Places {
    /// In the order in which they came: those from `first` on, `None` if they are not done.
    Kept { first: usize, done: VecDeque<Option<Leaving>> },
    /// Nowhere.
    Free,
    /// In the order of their keys.
    ByKey(Keys),
}

/// Where one event stands.
#[derive(Debug)]
enum Place {
    At(usize),
    Anywhere,
    Of(Key),
}

impl Line {
    pub(super) fn new(concurrency: &Concurrency, inflight: &Level) -> Self {
        let places = match &concurrency.order {
            Order::Kept => Places::Kept { first: 0, done: VecDeque::new() },
            Order::Free => Places::Free,
            Order::ByKey(key) => Places::ByKey(Keys::new(key.clone())),
        };
        Self {
            limit: concurrency.limit,
            arrived: VecDeque::with_capacity(BATCH),
            places,
            begun: 0,
            leaving: VecDeque::new(),
            recalled: Vec::new(),
            jobs: Jobs::default(),
            inflight: inflight.clone(),
        }
    }

    /// Returns how many more events may wait: in all as many as may be begun, or a batch if that is more.
    pub(super) fn room(&self) -> usize {
        self.limit.max(BATCH) - self.waiting()
    }

    fn waiting(&self) -> usize {
        let of_keys = match &self.places {
            Places::Kept { .. } | Places::Free => 0,
            Places::ByKey(keys) => keys.waiting(),
        };
        self.arrived.len() + of_keys
    }

    /// Takes in events that arrived.
    pub(super) fn take(&mut self, events: impl ExactSizeIterator<Item = Box<Event>>) {
        self.inflight.add(number(events.len()));
        self.arrived.extend(events);
    }

    /// Returns the events whose attempts are to be gone on with.
    pub(super) fn resume(&mut self) -> Vec<Placed> {
        std::mem::take(&mut self.recalled)
    }

    /// Begins the next event that is to be handled, if there is one and room for it.
    pub(super) fn begin(&mut self, hop: &Hop) -> Option<Placed> {
        while self.begun < self.limit {
            let (event, place, keyless) = self.next()?;
            self.begun += 1;
            match (hop.due(&event), keyless) {
                (Due::Handling, None) => {
                    return Some(Placed { job: self.jobs.open(hop, event), place });
                }
                (Due::Handling, Some(error)) => {
                    self.leave(place, Leaving::Undone(event, Due::Failure(error)))
                }
                (due, _) => self.leave(place, Leaving::Undone(event, due)),
            }
        }
        None
    }

    /// Returns the next event whose turn it is, and why it has no key if it should.
    fn next(&mut self) -> Option<(Box<Event>, Place, Option<TaskError>)> {
        match &mut self.places {
            Places::Kept { first, done } => {
                let event = self.arrived.pop_front()?;
                done.push_back(None);
                Some((event, Place::At(first.wrapping_add(done.len() - 1)), None))
            }
            Places::Free => Some((self.arrived.pop_front()?, Place::Anywhere, None)),
            Places::ByKey(keys) => Some(match keys.next(&mut self.arrived)? {
                (event, Turn::Of(key)) => (event, Place::Of(key), None),
                (event, Turn::Without(error)) => (event, Place::Anywhere, Some(error)),
            }),
        }
    }

    /// Takes back an event whose attempts ended.
    pub(super) fn end(&mut self, mut placed: Placed, end: End) {
        if let End::Recalled = end {
            self.recalled.push(placed);
            return;
        }
        // Others may be concluded before it.
        placed.job.handling.stop();
        let Placed { job, place } = placed;
        self.leave(place, Leaving::Done(job, end));
    }

    fn leave(&mut self, place: Place, leaving: Leaving) {
        match (&mut self.places, place) {
            (Places::Kept { first, done }, Place::At(place)) => {
                done[place.wrapping_sub(*first)] = Some(leaving);
                while let Some(next) = done.front_mut().and_then(Option::take) {
                    done.pop_front();
                    *first = first.wrapping_add(1);
                    self.leaving.push_back(next);
                }
            }
            (Places::ByKey(keys), Place::Of(key)) => {
                keys.release(key);
                self.leaving.push_back(leaving);
            }
            _ => self.leaving.push_back(leaving),
        }
    }

    /// Concludes what may leave. Returns whether there was anything.
    pub(super) fn conclude(&mut self, hop: &mut Hop) -> bool {
        let count = self.leaving.len();
        for leaving in self.leaving.drain(..) {
            self.jobs.conclude(hop, leaving);
        }
        self.begun -= count;
        self.inflight.add(-number(count));
        count > 0
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.begun + self.waiting() == 0
    }

    /// Ends the work for good: concludes what is done, and gives back what is not.
    pub(super) fn give_up(&mut self, hop: &mut Hop) {
        for Placed { job, place } in self.resume() {
            self.leave(place, Leaving::Done(job, End::Recalled));
        }
        self.conclude(hop);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.inflight.add(-number(self.begun + self.waiting()));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
