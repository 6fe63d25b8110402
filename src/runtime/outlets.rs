//! Where the events of a task go: bounded channels to the tasks downstream.
//!
//! Owns the sharing of acks: what leaves a task divides the share of the event it was made from. Events are
//! boxed where they enter or are derived, so that a hop moves a pointer and not the event.

use std::collections::VecDeque;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{batches::Batches, blocked::Blocked};
use crate::{
    ack::{Ack, Ended, Outcome},
    event::{Event, Payload},
    plan::{Node, OnError},
    task::{BatchId, Edge, Emission, Route},
    telemetry::Spans,
    trace::Moment,
};

/// Events that a loop takes at once, and stages before it sends. Small enough to stay in the cache, large enough that
/// waking a task and reserving room cost little an event.
pub(super) const BATCH: usize = 64;

/// Events that a task keeps room for between batches.
pub(super) const ROOM_KEPT: usize = 1024;

/// The channels to all tasks downstream of one task, and what is staged for them.
#[derive(Debug)]
pub(super) struct Outlets {
    /// The index of the task.
    task: usize,
    outlets: Vec<Outlet>,
    /// The outlets of the tasks that depend on this one.
    downstream: Vec<usize>,
    /// The outlets of the tasks that its configuration names.
    targets: Vec<usize>,
    /// The outlets of the tasks that what failed here goes on to.
    failed: Vec<usize>,
    capacity: usize,
    /// The time that was spent waiting for room.
    blocked: Blocked,
    /// What is held back until it has become one.
    batches: Batches,
}

/// What a task has staged, by outlet.
#[derive(Debug)]
pub(super) struct Staged(Vec<VecDeque<Box<Event>>>);

#[derive(Debug)]
struct Outlet {
    sender: mpsc::Sender<Box<Event>>,
    staged: VecDeque<Box<Event>>,
}

impl Outlets {
    /// Connects `node` to the inboxes of its flow, `senders` by task index.
    pub(super) fn new(
        node: &Node,
        senders: &[Option<mpsc::Sender<Box<Event>>>],
        capacity: usize,
        blocked: Blocked,
    ) -> Self {
        let mut tasks: Vec<usize> = Vec::new();
        let mut outlet_of = |task: usize| {
            tasks.iter().position(|known| *known == task).unwrap_or_else(|| {
                tasks.push(task);
                tasks.len() - 1
            })
        };
        let downstream = node.downstream.iter().map(|task| outlet_of(*task)).collect();
        let targets = node.targets.iter().map(|task| outlet_of(*task)).collect();
        let failed = match node.policy.on_error {
            OnError::Fail | OnError::Drop | OnError::DeadLetter => Vec::new(),
            OnError::Continue => node.downstream.iter().map(|task| outlet_of(*task)).collect(),
            OnError::Route(task) => vec![outlet_of(task)],
        };
        let outlets = tasks
            .into_iter()
            .map(|task| Outlet {
                sender: senders[task].clone().expect("the plan leads no edge to a source"),
                staged: VecDeque::with_capacity(BATCH),
            })
            .collect();
        let batches = Batches::default();
        Self { task: 0, outlets, downstream, targets, failed, capacity, blocked, batches }
    }

    /// Connects `node` to a queue alone, which passes on what it accepts.
    pub(super) fn into_queue(
        node: &Node,
        sender: mpsc::Sender<Box<Event>>,
        capacity: usize,
        blocked: Blocked,
    ) -> Self {
        let is_diverted = matches!(node.policy.on_error, OnError::Continue | OnError::Route(_));
        let outlets = vec![Outlet { sender, staged: VecDeque::with_capacity(BATCH) }];
        let failed = if is_diverted { vec![0] } else { Vec::new() };
        let batches = Batches::default();
        Self {
            task: 0,
            outlets,
            downstream: vec![0],
            targets: Vec::new(),
            failed,
            capacity,
            blocked,
            batches,
        }
    }

    /// Lets them be those of the task of this index, and `flushes` make the spans of its batches.
    pub(super) fn of_task(mut self, task: usize, flushes: Spans) -> Self {
        self.task = task;
        self.batches = Batches::new(flushes);
        self
    }

    /// Stages what one event emitted for the tasks downstream, each with a share of its `ack` and the way that it came.
    /// There is at least one emission.
    ///
    /// Returns the event and how its source event ended, if all that came of that has come to an end.
    pub(super) fn stage(
        &mut self,
        event: Box<Event>,
        mut ack: Ack,
        emissions: impl ExactSizeIterator<Item = (Route, Emission)>,
    ) -> Option<(Box<Event>, Ended)> {
        let queued = event.queued;
        let last = emissions.len().saturating_sub(1);
        let mut event = Some(event);
        let mut ended = None;
        for (n, (route, emission)) in emissions.enumerate() {
            let is_last = n == last;
            let emitted = match emission {
                Emission::Event(mut emitted) => event.as_mut().map(|event| {
                    inherit(&mut emitted, event, is_last);
                    emitted
                }),
                Emission::Forward if is_last => event.take(),
                Emission::Forward => event.clone(),
                Emission::Hold(batch) => {
                    if let Some(event) = event.take() {
                        self.batches.hold(batch, event, ack.take());
                    }
                    None
                }
                Emission::Release(batch, data) => {
                    ended = self.release(route, batch, data).or(ended);
                    // Unless it is held, nothing comes of what is left of the event itself.
                    if let Some(rest) = event.take_if(|_| is_last) {
                        let at = Moment { at: rest.queued, context: rest.trace };
                        ended = ack.take().settle(Outcome::Filtered, at).map(|end| (rest, end)).or(ended);
                    }
                    None
                }
            };
            if let Some(mut emitted) = emitted {
                emitted.queued = queued;
                let share = if is_last { ack.take() } else { ack.clone() };
                ended = self.stage_one(route, emitted, share).or(ended);
            }
        }
        ended
    }

    /// Stages one event in the place of all that a batch holds. Returns the same as [`Self::stage`].
    pub(super) fn release(
        &mut self,
        route: Route,
        batch: BatchId,
        data: Payload,
    ) -> Option<(Box<Event>, Ended)> {
        let (event, ack) = self.batches.release(batch, data)?;
        self.stage_one(route, event, ack)
    }

    /// Returns how many events are held back.
    pub(super) fn held(&self) -> usize {
        self.batches.held()
    }

    /// Gives back every event that is held back: the task that knew what to make of it is gone.
    pub(super) fn give_back_held(&mut self) {
        self.batches.give_back();
    }

    /// Returns whether what failed goes on to any task.
    pub(super) fn diverts(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Stages an event that failed for the tasks that it goes on to.
    pub(super) fn stage_failed(&mut self, mut event: Box<Event>, ack: Ack) {
        event.ack = ack;
        push(&mut self.outlets, &self.failed, event);
    }

    /// Stages an event for all tasks downstream although it was not handled. Returns it and its share if there are none.
    pub(super) fn stage_unhandled(&mut self, mut event: Box<Event>, ack: Ack) -> Option<(Box<Event>, Ack)> {
        if self.downstream.is_empty() {
            return Some((event, ack));
        }
        event.ack = ack;
        push(&mut self.outlets, &self.downstream, event);
        None
    }

    /// Stages one event on each outlet of its route. On none it has reached a leaf.
    fn stage_one(&mut self, route: Route, mut event: Box<Event>, share: Ack) -> Option<(Box<Event>, Ended)> {
        let one;
        let outlets: &[usize] = match route {
            Route::All => &self.downstream,
            Route::To(Edge(edge)) => {
                one = [self.targets[edge]];
                &one
            }
        };
        if outlets.is_empty() {
            let at = Moment { at: event.queued, context: event.trace };
            share.reached(self.task, &*event);
            return share.settle(Outcome::Completed, at).map(|ended| (event, ended));
        }
        event.ack = share;
        push(&mut self.outlets, outlets, event);
        None
    }

    /// Takes what is staged, for another one of the same task to send it.
    pub(super) fn take_staged(&mut self) -> Staged {
        let take =
            |outlet: &mut Outlet| std::mem::replace(&mut outlet.staged, VecDeque::with_capacity(BATCH));
        Staged(self.outlets.iter_mut().map(take).collect())
    }

    /// Stages what was taken from another one.
    pub(super) fn put_staged(&mut self, staged: Staged) {
        for (outlet, events) in self.outlets.iter_mut().zip(staged.0) {
            outlet.staged.extend(events);
        }
    }

    /// Returns whether enough is staged to be worth sending.
    pub(super) fn is_full(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.staged.len() >= BATCH)
    }

    /// Returns whether every task downstream has ended, which none does before this one unless it
    /// panicked.
    pub(super) fn is_closed(&self) -> bool {
        !self.outlets.is_empty() && self.outlets.iter().all(|outlet| outlet.sender.is_closed())
    }

    /// Sends what is staged, and waits where a channel is full. Events for a task that has ended are
    /// dropped with their shares, and so counted as failed; the other branches get theirs. What waits stays staged if
    /// the wait is given up.
    pub(super) async fn flush(&mut self) {
        for outlet in &mut self.outlets {
            let staged = &mut outlet.staged;
            while !staged.is_empty() {
                // Asking for more than the capacity would fail as if the channel were closed.
                let chunk = staged.len().min(BATCH).min(self.capacity);
                let permits = match outlet.sender.try_reserve_many(chunk) {
                    Ok(permits) => permits,
                    Err(TrySendError::Full(())) => {
                        let wait = self.blocked.wait();
                        let permits = outlet.sender.reserve_many(chunk).await;
                        drop(wait);
                        let Ok(permits) = permits else { break };
                        permits
                    }
                    Err(TrySendError::Closed(())) => break,
                };
                permits.zip(staged.drain(..chunk)).for_each(|(permit, event)| permit.send(event));
            }
            staged.clear();
            // One event may have emitted a million; what it took is not kept for good.
            outlet.staged.shrink_to(ROOM_KEPT);
        }
    }
}

/// Stages an event on each of these outlets, its share divided among them.
fn push(outlets: &mut [Outlet], chosen: &[usize], event: Box<Event>) {
    let Some((last, others)) = chosen.split_last() else { return };
    for outlet in others {
        outlets[*outlet].staged.push_back(event.clone());
    }
    outlets[*last].staged.push_back(event);
}

/// Lets what was derived from an event have the way that it came, and its place in the trace.
fn inherit(emitted: &mut Event, event: &mut Event, is_last: bool) {
    let is_renamed = event.trail.is_followed() && !emitted.id.is_from(&event.id);
    emitted.trail = if is_last { std::mem::take(&mut event.trail) } else { event.trail.clone() };
    if is_renamed {
        emitted.trail.rename(emitted.trail.steps().len(), event.id.clone());
    }
}
