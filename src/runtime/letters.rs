//! Stores the events that fail in a task with `on_error: dead_letter`.
//!
//! An event is a dead letter once it is on the disk, and not before: until then it is in flight, and if it cannot be stored
//! it has failed for now.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::meters::LetterMeters;
use crate::{
    ack::{Ack, Outcome},
    event::Event,
    state::{Letter, SavedEvent, State, StateError},
    task::TaskError,
    telemetry::{FailureLog, Identity, error_chain},
    trace::Moment,
};

/// Events of a task that wait for the disk at a time, at most; more of them hold up the task.
const WAITING: usize = 256;

/// What the log counts lines by, in the place of an `error.type`.
const STATE: &str = "state";

/// Stores the events that fail in one task.
#[derive(Clone)]
pub(super) struct DeadLetters(Arc<Inner>);

struct Inner {
    state: State,
    identity: Arc<Identity>,
    /// Events that wait for the disk.
    waiting: AtomicUsize,
    stored: Notify,
    meters: LetterMeters,
    log: Mutex<FailureLog>,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetters")
    }
}

impl DeadLetters {
    pub(super) fn new(state: State, identity: Arc<Identity>, meters: LetterMeters) -> Self {
        let (waiting, stored, log) = (AtomicUsize::new(0), Notify::new(), Mutex::default());
        Self(Arc::new(Inner { state, identity, waiting, stored, meters, log }))
    }

    /// Stores an event as it came to the task. Its share is settled when it is on the disk.
    pub(super) fn bury(&self, event: &Event, error: &TaskError, attempts: u32, ack: Ack, at: Moment) {
        let Identity { flow, task, .. } = &*self.0.identity;
        let letter = Letter {
            id: 0,
            time: Timestamp::now(),
            flow: flow.to_string(),
            task: task.to_string(),
            error_type: error.error_type().to_owned(),
            errors: causes(error),
            attempts,
            event: SavedEvent::of(event),
        };
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let (this, error_type) = (self.clone(), error.error_type());
        self.0.state.bury(
            &letter,
            Box::new(move |stored| {
                match stored {
                    Ok(()) => {
                        this.0.meters.buried(error_type);
                        ack.settle(Outcome::DeadLettered, at);
                    }
                    Err(error) => {
                        this.tell(&error);
                        ack.give_back(at);
                    }
                }
                this.0.waiting.fetch_sub(1, Ordering::SeqCst);
                this.0.stored.notify_waiters();
            }),
        );
    }

    /// Waits until not too many events wait for the disk.
    pub(super) async fn room(&self) {
        self.until_less(WAITING).await;
    }

    /// Waits until no event waits for the disk.
    pub(super) async fn all_stored(&self) {
        self.until_less(1).await;
    }

    async fn until_less(&self, count: usize) {
        loop {
            let stored = self.0.stored.notified();
            if self.0.waiting.load(Ordering::SeqCst) < count {
                return;
            }
            stored.await;
        }
    }

    fn tell(&self, error: &StateError) {
        let admitted = self.0.log.lock().unwrap_or_else(PoisonError::into_inner).admit(STATE);
        if let Some(suppressed) = admitted {
            let Identity { flow, task, .. } = &*self.0.identity;
            let suppressed = (suppressed > 0).then_some(suppressed);
            let message = error_chain(error);
            tracing::error!(flow = &**flow, task = &**task, error.type = STATE, error.message = message, suppressed, "a dead letter cannot be stored, the event failed for now");
        }
    }
}

/// Returns what an error says, and each of its causes.
fn causes(error: &TaskError) -> Vec<String> {
    let mut causes = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}
