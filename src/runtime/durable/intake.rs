//! Appends what a source hands over to its queue.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};

use super::{Batch, Durable, STATE, now};
use crate::{
    ack::{Ack, Outcome},
    event::Event,
    plan::Fsync,
    runtime::{
        ailments::{Ailment, Spell},
        flow::FlowHandle,
    },
    state::{Accepted, AppendError, Appender, Frames, StateError},
    telemetry::{FailureLog, error_chain, spawn_blocking},
    trace::Moment,
};

/// Events that are taken from the source at once.
const AT_ONCE: usize = 256;

/// Events that are appended at once, at most.
const MOST_EVENTS: usize = 8_192;

/// How long to wait before what the disk refused is tried again.
const PAUSE: Duration = Duration::from_secs(1);
const WHILE_STOPPING: Duration = Duration::from_millis(100);

/// Appends what a source hands over to its queue, and tells the source what is accepted.
pub(in crate::runtime) struct Intake {
    pub(in crate::runtime) flow: FlowHandle,
    /// The source.
    pub(in crate::runtime) task: Arc<str>,
    pub(in crate::runtime) durable: Arc<Durable>,
    pub(in crate::runtime) fsync: Fsync,
    /// What the source hands over.
    pub(in crate::runtime) inbox: mpsc::Receiver<Box<Event>>,
    /// What appends, once the queue is open.
    pub(in crate::runtime) opened: oneshot::Receiver<Appender>,
}

/// Events that are appended together.
#[derive(Default)]
struct Staged {
    frames: Frames,
    #[expect(clippy::vec_box, reason = "what is passed on is the box")]
    events: Vec<Box<Event>>,
    acks: Vec<Ack>,
    /// When the first of them came.
    at: i64,
}

impl Staged {
    fn has_room(&self, most_bytes: usize) -> bool {
        self.events.len() < MOST_EVENTS && self.frames.bytes().len() < most_bytes
    }

    /// Takes what is behind the first `count` events, if there is anything.
    fn split_off(&mut self, count: u64) -> Option<Self> {
        let index = usize::try_from(count).ok().filter(|index| *index < self.events.len())?;
        Some(Self {
            frames: self.frames.split_off(count),
            events: self.events.split_off(index),
            acks: self.acks.split_off(index),
            at: self.at,
        })
    }

    fn push(&mut self, mut event: Box<Event>) {
        let ack = event.ack.take();
        if self.events.is_empty() {
            self.at = now();
        }
        match self.frames.push(|bytes| Accepted::write(&event, self.at, bytes)) {
            Ok(()) => {
                self.events.push(event);
                self.acks.push(ack);
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error.type = STATE, error.message = error, event_id = %event.id, "an event cannot be queued, it failed");
                ack.settle(Outcome::Failed, Moment { at: event.queued, context: event.trace });
            }
        }
    }
}

/// What the disk is busy with.
type Done = (Appender, Staged, Result<u64, AppendError>);

/// What the disk has to do next.
enum Next {
    /// Appending these events.
    Append(Staged),
    /// A sync of what was appended.
    Sync,
    Nothing,
    /// There are events, and no room for them for now.
    Wait,
}

/// What the loop of the intake has at hand.
struct Intaking {
    flow: FlowHandle,
    task: Arc<str>,
    durable: Arc<Durable>,
    fsync: Fsync,
    /// There unless the disk is busy.
    appender: Option<Appender>,
    work: Option<JoinHandle<Done>>,
    /// What is appended next.
    staged: Staged,
    /// What the disk refused, and when it is tried again.
    refused: Option<(Staged, Instant)>,
    /// There from when the disk has refused something until it takes something.
    refusal: Option<Spell>,
    /// Kept for its allocations.
    spare: Staged,
    /// When what was appended is to be synced.
    sync_at: Option<Instant>,
    log: FailureLog,
}

impl Intake {
    /// Appends until the source has ended, and all that it handed over is accepted or cannot be.
    pub(in crate::runtime) async fn run(self) {
        let Self { flow, task, durable, fsync, inbox, opened } = self;
        // Without a queue nothing is accepted.
        if let Ok(appender) = opened.await {
            let mut intaking = Intaking {
                flow,
                task,
                durable: Arc::clone(&durable),
                fsync,
                staged: Staged::default(),
                refused: None,
                refusal: None,
                spare: Staged::default(),
                sync_at: None,
                work: None,
                log: FailureLog::default(),
                appender: None,
            };
            intaking.staged.frames.begin(appender.synced(), appender.synced());
            intaking.appender = Some(appender);
            intaking.run(inbox).await;
        }
        durable.is_closed.store(true, Ordering::Release);
        durable.appended.notify_waiters();
        durable.is_synced.notify_waiters();
    }
}

impl Intaking {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Box<Event>>) {
        let durable = Arc::clone(&self.durable);
        let stopping = self.flow.stop().clone();
        let most_bytes = durable.queue.get().map_or(0, |queue| queue.batch_bytes());
        let mut received = Vec::with_capacity(AT_ONCE);
        let mut is_open = true;
        while !self.flow.has_failed() {
            let shortened = durable.shortened.notified();
            let is_stuck = !self.begin_work(!is_open);
            if !is_open && self.work.is_none() && !is_stuck {
                return;
            }
            let until = match &self.refused {
                Some((_, until)) => Some(*until),
                None => self.sync_at,
            };
            tokio::select! {
                biased;
                done = async { self.work.as_mut().expect("it is only polled with one").await }, if self.work.is_some() => {
                    self.work = None;
                    self.end_work(done);
                }
                count = inbox.recv_many(&mut received, AT_ONCE), if is_open && self.staged.has_room(most_bytes) => {
                    is_open = count > 0;
                    received.drain(..).for_each(|event| self.staged.push(event));
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() && self.work.is_none() => {}
                () = durable.sync_asked.notified(), if self.work.is_none() => {}
                () = shortened, if is_stuck => self.try_again_now(),
                () = stopping.stopped(), if is_stuck && !stopping.is_stopped() => self.try_again_now(),
            }
        }
    }

    /// Begins what there is to do for the disk, if it is not busy. Returns whether nothing waits for room or a further attempt.
    fn begin_work(&mut self, is_last: bool) -> bool {
        if self.work.is_some() {
            return true;
        }
        let Some(mut appender) = self.appender.take() else { return true };
        let next = self.next(appender.synced(), is_last);
        match next {
            Next::Append(staged) => {
                let is_always = matches!(self.fsync, Fsync::Always);
                self.work = Some(spawn_blocking(move || {
                    let result = appender.append(&staged.frames, is_always);
                    (appender, staged, result)
                }));
            }
            Next::Sync => {
                self.work = Some(spawn_blocking(move || {
                    let result = appender.sync().map(|()| 0);
                    (appender, Staged::default(), result)
                }));
            }
            Next::Nothing | Next::Wait => {
                self.appender = Some(appender);
                return matches!(next, Next::Nothing);
            }
        }
        true
    }

    /// Returns what the disk has to do next, when everything before the number `synced` is synced.
    fn next(&mut self, synced: u64, is_last: bool) -> Next {
        let now = Instant::now();
        if let Some((_, until)) = &self.refused {
            let is_due = *until <= now;
            return self.refused.take_if(|_| is_due).map_or(Next::Wait, |(staged, _)| Next::Append(staged));
        }
        let queue = self.durable.queue.get();
        if self.staged.events.is_empty() {
            let is_due = self.sync_at.is_some_and(|at| at <= now)
                || self.durable.is_sync_asked.swap(false, Ordering::AcqRel)
                || is_last;
            let is_synced = queue.is_none_or(|queue| synced >= queue.end());
            return if is_due && !is_synced { Next::Sync } else { Next::Nothing };
        }
        let bytes = self.staged.frames.bytes().len() as u64;
        // What is left when the source has stopped is not much, and accepted in any case.
        if !self.flow.stop().is_stopped() && queue.is_some_and(|queue| !queue.has_room(bytes)) {
            return Next::Wait;
        }
        let end = self.staged.frames.first() + self.staged.frames.count();
        let staged = std::mem::replace(&mut self.staged, std::mem::take(&mut self.spare));
        self.staged.frames.begin(end, synced);
        Next::Append(staged)
    }

    /// Takes note that what the disk refused may have room now.
    fn try_again_now(&mut self) {
        if let Some((_, until)) = &mut self.refused {
            *until = Instant::now();
        }
    }

    /// Takes note of what the disk did.
    fn end_work(&mut self, done: Result<Done, JoinError>) {
        let Ok((appender, mut staged, result)) = done else {
            return self.flow.fail("the queue ended in a panic".to_owned());
        };
        let synced = appender.synced();
        self.appender = Some(appender);
        match result {
            Ok(count) => {
                self.refusal = None;
                self.durable.synced.store(synced, Ordering::Release);
                self.durable.is_synced.notify_waiters();
                let is_synced = self.durable.queue.get().is_none_or(|queue| synced >= queue.end());
                self.sync_at = match self.fsync {
                    Fsync::Interval(interval) if !is_synced => {
                        self.sync_at.filter(|_| !staged.events.is_empty()).or(Some(Instant::now() + interval))
                    }
                    _ => None,
                };
                // Of the rest the disk says why it has no room for it.
                if let Some(rest) = staged.split_off(count) {
                    self.refused = Some((rest, Instant::now()));
                }
                self.accepted(staged);
            }
            Err(AppendError::Refused(error)) => {
                self.tell(&error);
                self.refusal.get_or_insert_with(|| self.flow.ails(&self.task, Ailment::Refused));
                let pause = if self.flow.stop().is_stopped() { WHILE_STOPPING } else { PAUSE };
                self.refused = Some((staged, Instant::now() + pause));
            }
            Err(AppendError::Unknown(error)) => {
                // The disk may have dropped what it could not write, and say so once only.
                let message = error_chain(&error);
                tracing::error!(error.type = STATE, error.message = message, "the queue cannot be synced");
                self.flow.fail(format!("the queue cannot be synced: {message}"));
            }
        }
    }

    /// Tells the source that events are accepted, and hands them over.
    fn accepted(&mut self, staged: Staged) {
        let Staged { frames, events, mut acks, at } = staged;
        if events.is_empty() {
            return;
        }
        let (first, bytes) = (frames.first(), frames.bytes().len());
        self.durable.hand_over(Batch { first, events, at, bytes });
        for ack in acks.drain(..) {
            ack.settle(Outcome::Completed, Moment::default());
        }
        self.spare = Staged { frames, events: Vec::new(), acks, at };
    }

    fn tell(&mut self, error: &StateError) {
        if let Some(suppressed) = self.log.admit(STATE) {
            let suppressed = (suppressed > 0).then_some(suppressed);
            let message = error_chain(error);
            tracing::error!(error.type = STATE, error.message = message, suppressed, "what the source brings in cannot be kept, the source waits, trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::event::{EventId, Payload};

    #[test]
    fn events_are_as_old_as_they_are_and_not_as_the_batch_that_waited_for_them() {
        let mut staged = Staged { at: now() - 3_600_000_000, ..Staged::default() };
        let event = |n| Box::new(Event::new(EventId::Sequence(n), "in".into(), Payload::from(Value::Null)));
        let before = now();
        staged.push(event(0));
        let at = staged.at;
        assert!((before..=now()).contains(&at));
        staged.push(event(1));
        assert_eq!((staged.at, staged.frames.count()), (at, 2));
    }
}
