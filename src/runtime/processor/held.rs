//! The events of a processor that collects: all of a batch leave together, in the order in which they came.
//!
//! Outlives the processor, so that none of them is lost with it: what one had collected when it panicked, the next one
//! collects again. The event at which it panicked has its end, so there are fewer each time.

use std::collections::VecDeque;

use super::{
    super::hop::{Due, Hop},
    attempts::End,
    job::{Job, Jobs, Leaving},
};
use crate::{event::Event, telemetry::Level};

/// What was taken from the inbox and has not left.
#[derive(Debug)]
pub(super) struct Held {
    /// What nobody has looked at yet, in order.
    arrived: VecDeque<Box<Event>>,
    /// What was looked at when the processor before panicked, in order, and is not yet again.
    again: VecDeque<Leaving>,
    /// What was looked at: the last one may be begun and have no end yet; the others are collected, which is what comes of
    /// a success, or wait for their turn to leave.
    batch: Vec<Leaving>,
    jobs: Jobs,
    /// How many there are.
    count: usize,
    inflight: Level,
}

impl Held {
    pub(super) fn new(inflight: &Level) -> Self {
        Self {
            arrived: VecDeque::new(),
            again: VecDeque::new(),
            batch: Vec::new(),
            jobs: Jobs::default(),
            count: 0,
            inflight: inflight.clone(),
        }
    }

    /// Takes in events that arrived.
    pub(super) fn take(&mut self, events: impl ExactSizeIterator<Item = Box<Event>>) {
        self.change(events.len().cast_signed());
        self.arrived.extend(events);
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Begins anew with all that has not left, for another processor.
    pub(super) fn resume(&mut self) {
        self.batch.extend(self.again.drain(..));
        self.again.extend(self.batch.drain(..));
    }

    /// Begins the next event that is to be handled, if there is one. What comes before it and is not keeps its place.
    pub(super) fn begin(&mut self, hop: &Hop) -> Option<&mut Job> {
        while let Some(leaving) = self.again.pop_front() {
            match leaving {
                // Its processor was away for a while.
                Leaving::Done(mut job, End::Handled(Ok(()))) if job.handling.is_expired() => {
                    job.handling.stop();
                    self.batch.push(Leaving::Done(job, End::Expired));
                }
                Leaving::Done(job, End::Handled(Ok(()))) => {
                    self.batch.push(Leaving::Done(job, End::Recalled));
                    return self.begun().map(|(job, _)| job);
                }
                decided => self.batch.push(decided),
            }
        }
        while let Some(event) = self.arrived.pop_front() {
            match hop.due(&event) {
                Due::Handling => {
                    self.batch.push(Leaving::Done(self.jobs.open(hop, event), End::Recalled));
                    return self.begun().map(|(job, _)| job);
                }
                due => self.batch.push(Leaving::Undone(event, due)),
            }
        }
        None
    }

    /// Lets the event that was begun last have its end, which is told when it is its turn.
    ///
    /// # Errors
    /// What the processor panicked with, if it did.
    pub(super) fn end(&mut self, end: End) -> Result<(), String> {
        let panic = if let End::Panicked(message) = &end { Err(message.clone()) } else { Ok(()) };
        if let Some((job, ended)) = self.begun() {
            if !matches!(end, End::Handled(Ok(()))) {
                job.handling.stop();
            }
            *ended = end;
        }
        panic
    }

    /// Returns the last one. Its attempts have not ended.
    fn begun(&mut self) -> Option<(&mut Job, &mut End)> {
        match self.batch.last_mut()? {
            Leaving::Done(job, end) => Some((job, end)),
            Leaving::Undone(..) => None,
        }
    }

    /// Returns what is collected, in order.
    pub(super) fn collected(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.batch.iter().filter_map(|leaving| match leaving {
            Leaving::Done(job, End::Handled(Ok(()))) => Some(job),
            _ => None,
        })
    }

    /// Returns the same, to be changed.
    pub(super) fn collected_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Job> {
        self.batch.iter_mut().filter_map(|leaving| match leaving {
            Leaving::Done(job, End::Handled(Ok(()))) => Some(job),
            _ => None,
        })
    }

    /// Lets the batch leave: what is collected as `end` says by its place among that.
    pub(super) fn conclude(&mut self, hop: &mut Hop, mut end: impl FnMut(usize) -> End) {
        self.change(-self.batch.len().cast_signed());
        let mut place = 0;
        for mut leaving in self.batch.drain(..) {
            if let Leaving::Done(_, collected @ End::Handled(Ok(()))) = &mut leaving {
                *collected = end(place);
                place += 1;
            }
            self.jobs.conclude(hop, leaving);
        }
    }

    /// Ends the work for good: concludes what has its end, and gives back what is collected and will never be flushed.
    pub(super) fn give_up(&mut self, hop: &mut Hop) {
        self.batch.extend(self.again.drain(..));
        self.conclude(hop, |_| End::Recalled);
    }

    fn change(&mut self, count: isize) {
        self.count = self.count.saturating_add_signed(count);
        self.inflight.add(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.change(-self.count.cast_signed());
    }
}
