//! Owns every task that the engine spawns, and names those that end in a panic.

use std::{any::Any, collections::HashMap, sync::Arc};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, Id, JoinSet},
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

/// The number of a flow among all that a worker ever runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowId(u64);

impl FlowId {
    /// Returns the next one.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whose loop it is.
#[derive(Debug)]
pub(super) struct Spawn {
    pub(super) flow: FlowId,
    pub(super) identity: Arc<Identity>,
    pub(super) is_source: bool,
}

#[derive(Debug)]
struct Running {
    of: Spawn,
    handle: AbortHandle,
}

/// A task that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) flow: FlowId,
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
        let task = Scoped::new(Arc::clone(&spawn.identity), task);
        let handle = self.loops.spawn_on(task, &self.runtime);
        self.running.insert(handle.id(), Running { of: spawn, handle });
    }

    /// Waits for the next task to end; `None` when none is left. Safe to drop and call again.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let (id, panic) = match self.loops.join_next_with_id().await? {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), error.try_into_panic().ok().map(|panic| panic_message(&*panic))),
        };
        let Running { of, .. } = self.running.remove(&id).expect("every spawned loop is in the map");
        let Spawn { flow, identity, is_source } = of;
        Some(Ended { flow, identity, is_source, panic })
    }

    /// Aborts all tasks of a flow. Those that never yield cannot be stopped.
    pub(super) fn abort(&self, flow: FlowId) {
        self.of(flow).for_each(|running| running.handle.abort());
    }

    /// Returns the tasks of a flow that have not ended.
    pub(super) fn running(&self, flow: FlowId) -> impl Iterator<Item = &Identity> {
        self.of(flow).map(|running| &*running.of.identity)
    }

    fn of(&self, flow: FlowId) -> impl Iterator<Item = &Running> {
        self.running.values().filter(move |running| running.of.flow == flow)
    }
}

/// Returns what a panic says.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().map(ToString::to_string);
    message.or_else(|| payload.downcast_ref().cloned()).unwrap_or_else(|| "no message".into())
}
