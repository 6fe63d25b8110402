//! Brings dead letters in again that somebody asked for, at the task that they failed in.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::flow::FlowHandle;
use crate::{
    ack::{Ack, Entry, Origin, Outcome, Receipt, Settled, Verdict},
    event::{Event, Trail},
    state::{Letter, State, StateError},
    telemetry::{error_chain, spawn_blocking},
    trace::{Remote, Ticks},
};

/// How often to look for what is asked.
const LOOK: Duration = Duration::from_secs(1);

/// Where events enter a task.
pub(super) struct Entrance {
    /// The task's name.
    pub(super) task: Arc<str>,
    /// Its channel; a source has none.
    pub(super) sender: Option<mpsc::Sender<Box<Event>>>,
}

/// The channel of a task that may end; a source has none.
type Weak = Option<mpsc::WeakSender<Box<Event>>>;

/// Brings in the dead letters of one flow.
pub(super) struct Replays {
    state: State,
    flow: FlowHandle,
    entrances: Vec<(Arc<str>, Weak)>,
    /// What keeps the flow from ending before the first look.
    first: Vec<Entrance>,
    /// Letters that are under way.
    underway: Arc<Mutex<HashSet<u64>>>,
    /// Letters of other flows.
    others: HashSet<u64>,
}

impl Replays {
    pub(super) fn new(state: State, flow: FlowHandle, first: Vec<Entrance>) -> Self {
        let weak = |entrance: &Entrance| {
            (Arc::clone(&entrance.task), entrance.sender.as_ref().map(mpsc::Sender::downgrade))
        };
        let entrances = first.iter().map(weak).collect();
        Self { state, flow, entrances, first, underway: Arc::default(), others: HashSet::new() }
    }

    /// Brings in what is asked for, until the flow stops or nothing more comes in anyway.
    pub(super) async fn run(mut self) {
        let (stopping, read_out) = (self.flow.stop().clone(), self.flow.read_out().clone());
        let first = async {
            self.look().await;
            self.first.clear();
        };
        tokio::select! {
            biased;
            () = stopping.stopped() => {}
            () = first => {}
        }
        self.first.clear();
        self.flow.read();
        loop {
            tokio::select! {
                biased;
                () = stopping.stopped() => return,
                () = read_out.stopped() => return,
                () = sleep(LOOK) => {}
            }
            tokio::select! {
                biased;
                () = stopping.stopped() => return,
                () = self.look() => {}
            }
        }
    }

    /// Brings in what is asked for and not under way.
    async fn look(&mut self) {
        let state = self.state.clone();
        let requested = spawn_blocking(move || state.requested_replays()).await;
        let requested = match requested {
            Ok(Ok(requested)) => requested,
            Ok(Err(error)) => return tell("it is not known which dead letters are to be replayed", &error),
            Err(_) => return,
        };
        self.others.retain(|known| requested.contains(known));
        for id in requested {
            if self.others.contains(&id) || lock(&self.underway).contains(&id) {
                continue;
            }
            match self.state.letter(id) {
                Ok(Some(letter)) if *letter.flow == *self.flow.name() => self.bring_in(letter).await,
                Ok(Some(_)) => drop(self.others.insert(id)),
                Ok(None) => self.state.end_replay(id, Box::new(told)),
                Err(error) => {
                    tell("a dead letter cannot be replayed", &error);
                    self.state.end_replay(id, Box::new(told));
                }
            }
        }
    }

    async fn bring_in(&self, letter: Letter) {
        let refuse = |why: &str| {
            tracing::error!(
                dead_letter = letter.id,
                task = letter.task,
                "the dead letter is not replayed and stays: {why}"
            );
            self.state.end_replay(letter.id, Box::new(told));
        };
        let entrance = self.entrances.iter().find(|(task, _)| **task == *letter.task);
        let sender = match entrance {
            None => return refuse("the flow has no such task any more"),
            Some((_, None)) => return refuse("its source could not decode it, and cannot be asked again"),
            // The task has ended: the next run will do it.
            Some((_, Some(sender))) => match sender.upgrade() {
                Some(sender) => sender,
                None => return,
            },
        };
        let event = match letter.event.to_event() {
            Ok(event) => event,
            Err(error) => return refuse(&error_chain(&error)),
        };
        // It enters once it has room.
        let Ok(permit) = sender.reserve().await else { return };
        permit.send(self.enter(event, letter));
    }

    /// Lets an event in: below no other, and linked to where it failed.
    fn enter(&self, event: Event, letter: Letter) -> Box<Event> {
        let mut event = Box::new(event);
        let traceparent = letter.event.trace().map(|trace| trace.traceparent().to_string());
        if let Some(remote) = Remote::parse(traceparent.as_deref(), None, None, false) {
            event.trail = Trail::from_outside(remote);
        }
        let at = Ticks::now();
        event.queued = at;
        lock(&self.underway).insert(letter.id);
        let receipt = Replayed { state: self.state.clone(), underway: Arc::clone(&self.underway), letter };
        let expires = self.flow.deadline().map(|deadline| Instant::now() + deadline);
        let entry = Entry { at, expires, receipt: Some(Box::new(receipt)), origin: Origin::Replay };
        event.ack = Ack::enter(self.flow.ledger(), entry);
        event
    }
}

/// Receives what became of a dead letter that was replayed.
struct Replayed {
    state: State,
    underway: Arc<Mutex<HashSet<u64>>>,
    letter: Letter,
}

impl Receipt for Replayed {
    fn settled(self: Box<Self>, settled: &Settled) -> Verdict {
        let Self { state, underway, letter } = *self;
        let id = letter.id;
        let done = move |result: Result<(), StateError>| {
            lock(&underway).remove(&id);
            told(result);
        };
        match settled.outcome {
            // The next run does it again.
            Outcome::Cancelled => {}
            Outcome::Failed => {
                tracing::warn!(dead_letter = id, "the dead letter failed again and stays");
                state.end_replay(id, Box::new(done));
            }
            // If it is dead again, it is so under another number.
            Outcome::Filtered
            | Outcome::Completed
            | Outcome::Expired
            | Outcome::Dropped
            | Outcome::DeadLettered => state.remove_replayed(&letter, Box::new(done)),
        }
        Verdict::Counted
    }
}

fn lock(underway: &Mutex<HashSet<u64>>) -> MutexGuard<'_, HashSet<u64>> {
    underway.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(result: Result<(), StateError>) {
    if let Err(error) = result {
        tell("what became of a replayed dead letter cannot be kept", &error);
    }
}

fn tell(what: &str, error: &StateError) {
    tracing::error!(error.message = error_chain(error), "{what}");
}
