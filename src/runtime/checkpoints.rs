//! Keeps how far a source is done with its input, so that the next run goes on from there.
//!
//! A position is kept once everything before it has come to its end and what the sinks of its flow made of it is on the
//! disk. Between two commits some time passes, so that they take no more than a small share of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::{
    durable::Durable,
    flow::FlowHandle,
    progress::{Progress, Step},
};
use crate::{
    state::{Owner, State, StateError},
    task::{Position, TaskError},
    telemetry::{FailureLog, Timer, error_chain},
    trace::{Moment, Ticks},
};

/// The shortest pause between two commits: what was done since the last one is done again after a crash.
const PAUSE: Duration = Duration::from_millis(100);

/// How many times as long as a commit the pause after it is, at least.
const SHARE: u32 = 20;

/// What the log counts lines by, in the place of an `error.type`.
const STATE: &str = "state";

/// Where positions are kept, and what has to be on the disk before.
#[async_trait]
pub(super) trait Keeper: Send + Sync {
    /// Makes what was done up to the positions outlast a crash of the machine.
    async fn sync(&self) -> Result<(), TaskError>;

    /// Keeps positions, and forgets the parts that are gone. Returns when that is on the disk.
    async fn keep(&self, reached: &[Position], gone: &[&str]) -> Result<(), StateError>;
}

/// Keeps the positions of a source in the state of the worker.
pub(super) struct InState {
    pub(super) state: State,
    pub(super) flow: FlowHandle,
    pub(super) task: Arc<str>,
    /// What holds the events of the source; the sinks of the flow do without it.
    pub(super) queue: Option<Arc<Durable>>,
}

impl InState {
    /// Returns how far the source was done in the run before.
    pub(super) fn saved(&self) -> Result<Vec<Position>, StateError> {
        self.state.positions(self.owner())
    }

    fn owner(&self) -> Owner<'_> {
        Owner { flow: self.flow.name(), task: &self.task }
    }
}

#[async_trait]
impl Keeper for InState {
    async fn sync(&self) -> Result<(), TaskError> {
        match &self.queue {
            Some(queue) => queue.all_synced().await,
            None => self.flow.sinks().sync().await,
        }
    }

    async fn keep(&self, reached: &[Position], gone: &[&str]) -> Result<(), StateError> {
        self.state.keep_positions(self.owner(), reached, gone.iter().copied()).await
    }
}

/// Keeps the positions of one source.
pub(super) struct Checkpoints {
    flow: FlowHandle,
    keeper: Box<dyn Keeper>,
    progress: Arc<Progress>,
    /// What is done and not kept yet: where each part stands, or that it is gone.
    due: HashMap<Arc<str>, Option<Position>>,
    timer: Timer,
    log: FailureLog,
}

impl Checkpoints {
    pub(super) fn new(flow: FlowHandle, keeper: Box<dyn Keeper>, timer: Timer) -> Self {
        let (progress, due, log) = (Arc::default(), HashMap::new(), FailureLog::default());
        Self { flow, keeper, progress, due, timer, log }
    }

    /// Returns what tells how far the source is done.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Keeps positions for as long as it is polled.
    pub(super) async fn run(&mut self) {
        loop {
            sleep(PAUSE).await;
            let began = Instant::now();
            self.commit().await;
            let pause = began.elapsed() * SHARE;
            sleep(pause.saturating_sub(PAUSE)).await;
        }
    }

    /// Waits until everything that was read has come to its end, and keeps that.
    pub(super) async fn finish(&mut self) {
        self.progress.all_ended().await;
        self.commit().await;
    }

    /// Keeps what is done. What cannot be kept is tried again with the next commit.
    async fn commit(&mut self) {
        for step in self.progress.take_done() {
            match step {
                Step::Reached(position) => self.due.insert(Arc::clone(&position.part), Some(position)),
                Step::Gone(part) => self.due.insert(part, None),
            };
        }
        if self.due.is_empty() {
            return;
        }
        let began = Ticks::now();
        if let Err(error) = self.keeper.sync().await {
            // The disk may have dropped what it could not write, and say so once only.
            let message = error_chain(&error);
            tracing::error!(error.type = error.error_type(), error.message = message, "cannot sync what was written");
            self.flow.fail(format!("cannot sync what was written: {message}"));
            return;
        }
        let reached: Vec<Position> = self.due.values().flatten().cloned().collect();
        let gone = self.due.iter().filter(|(_, position)| position.is_none());
        let gone: Vec<&str> = gone.map(|(part, _)| &**part).collect();
        match self.keeper.keep(&reached, &gone).await {
            Ok(()) => {
                self.due.clear();
                self.timer.record(Ticks::now().since(began), Moment::default());
            }
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&mut self, error: &StateError) {
        if let Some(suppressed) = self.log.admit(STATE) {
            let suppressed = (suppressed > 0).then_some(suppressed);
            let message = error_chain(error);
            tracing::error!(error.type = STATE, error.message = message, suppressed, "how far the source has read cannot be kept, trying again");
        }
    }
}
