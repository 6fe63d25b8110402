//! Owns every task that the engine spawns, and names those that end in a panic.

use std::{any::Any, collections::HashMap, sync::Arc};

use tokio::{
    runtime::Handle,
    task::{Id, JoinSet},
};

use crate::telemetry::{Identity, Scoped};

/// Spawns the loops of all tasks and tells how each ended.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// Where the loops run, which need not be where they are watched from.
    runtime: Handle,
    loops: JoinSet<()>,
    /// Each task that runs.
    running: HashMap<Id, Running>,
}

/// Whose loop it is.
#[derive(Debug)]
pub(super) struct Spawn {
    /// The index of its flow.
    pub(super) flow: usize,
    pub(super) identity: Arc<Identity>,
    pub(super) is_source: bool,
}

#[derive(Debug)]
struct Running {
    flow: usize,
    identity: Arc<Identity>,
    is_source: bool,
}

/// A task that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The index of its flow.
    pub(super) flow: usize,
    pub(super) identity: Arc<Identity>,
    pub(super) is_source: bool,
    /// What it panicked with, if it did.
    pub(super) panic: Option<String>,
}

impl Supervisor {
    /// Makes a supervisor whose loops run on `runtime`.
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, loops: JoinSet::new(), running: HashMap::new() }
    }

    /// Spawns the loop of one task.
    pub(super) fn spawn(&mut self, spawn: Spawn, task: impl Future<Output = ()> + Send + 'static) {
        let Spawn { flow, identity, is_source } = spawn;
        let task = Scoped::new(Arc::clone(&identity), task);
        let handle = self.loops.spawn_on(task, &self.runtime);
        self.running.insert(handle.id(), Running { flow, identity, is_source });
    }

    /// Waits for the next task to end; `None` when none is left. Safe to drop and call again.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let (id, panic) = match self.loops.join_next_with_id().await? {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), error.try_into_panic().ok().map(|panic| panic_message(&*panic))),
        };
        let Running { flow, identity, is_source } =
            self.running.remove(&id).expect("every spawned loop is in the map");
        Some(Ended { flow, identity, is_source, panic })
    }

    /// Aborts all tasks. Those that never yield cannot be stopped.
    pub(super) fn abort(&mut self) {
        self.loops.abort_all();
    }

    /// Returns the tasks that have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = &Identity> {
        self.running.values().map(|running| &*running.identity)
    }
}

/// Returns what a panic says.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().map(ToString::to_string);
    message.or_else(|| payload.downcast_ref().cloned()).unwrap_or_else(|| "no message".into())
}
