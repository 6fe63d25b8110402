//! The task manager: builds and registers the tasks of a plan, wires them, and spawns a loop for each.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    drain::Drain,
    flow::{FlowHandle, FlowReport},
    hop::Hop,
    outlets::Outlets,
    processor, source,
    supervisor::Supervisor,
    transform,
};
use crate::{
    event::Event,
    plan::{Flow, Plan, Worker},
    shutdown::Stop,
    task::{BuildContext, BuildError, Extent, Resources, Task},
    telemetry::Identity,
};

/// Why a worker could not start: a task could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build task `{task}` of flow `{flow}` ({})", file.display())]
pub struct StartError {
    flow: Arc<str>,
    task: Arc<str>,
    file: PathBuf,
    source: BuildError,
}

/// Runs the tasks of all flows of a worker.
#[derive(Debug)]
pub struct TaskManager {
    supervisor: Supervisor,
    flows: Vec<RunningFlow>,
    stop: Stop,
    shutdown_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct RunningFlow {
    pub(super) handle: FlowHandle,
    /// Tasks that have not ended.
    pub(super) tasks: usize,
}

/// How all flows of a worker ended.
#[derive(Debug)]
pub struct Report {
    /// One report a flow, in the order of the plan.
    pub flows: Vec<FlowReport>,
    /// Whether the shutdown ran out of time and cancelled what was left.
    pub is_cut_short: bool,
}

/// A worker whose tasks are built; nothing runs yet.
#[derive(Debug)]
pub struct Built {
    plan: Plan,
    tasks: Vec<Vec<Task>>,
}

impl Built {
    /// Starts all flows. Their loops run on `runtime`.
    pub fn start(self, runtime: Handle) -> TaskManager {
        let Worker { channel_capacity, shutdown_timeout, .. } = self.plan.worker;
        let mut manager = TaskManager {
            supervisor: Supervisor::new(runtime),
            flows: Vec::with_capacity(self.tasks.len()),
            stop: Stop::default(),
            shutdown_timeout,
        };
        for (flow, tasks) in self.plan.flows.iter().zip(self.tasks) {
            manager.spawn(flow, tasks, channel_capacity);
        }
        manager
    }
}

impl TaskManager {
    /// Builds all tasks of all flows, and starts none. May be given up at any time.
    ///
    /// # Errors
    /// Every task that could not be built.
    pub async fn build(plan: Plan, resources: Option<Arc<dyn Resources>>) -> Result<Built, Vec<StartError>> {
        let mut tasks = Vec::with_capacity(plan.flows.len());
        let mut errors = Vec::new();
        for flow in &plan.flows {
            tasks.push(register(flow, resources.as_ref(), &mut errors).await);
        }
        if errors.is_empty() { Ok(Built { plan, tasks }) } else { Err(errors) }
    }

    /// Builds all tasks of all flows, and starts them on the current runtime.
    ///
    /// # Errors
    /// Every task that could not be built.
    pub async fn start(plan: Plan, resources: Option<Arc<dyn Resources>>) -> Result<Self, Vec<StartError>> {
        Ok(Self::build(plan, resources).await?.start(Handle::current()))
    }

    /// Returns a token that stops the sources of all flows.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Returns all flows.
    pub fn flows(&self) -> Vec<FlowHandle> {
        self.flows.iter().map(|flow| flow.handle.clone()).collect()
    }

    /// Follows all tasks to their end. Once stopped, that takes no longer than the shutdown timeout, on a
    /// runtime that no task can keep busy.
    pub async fn run(self) -> Report {
        Drain::new(self.supervisor, self.flows, self.stop, self.shutdown_timeout).run().await
    }

    /// Wires the tasks of one flow with bounded channels and spawns their loops.
    fn spawn(&mut self, flow: &Flow, tasks: Vec<Task>, capacity: usize) {
        let (senders, inboxes): (Vec<_>, Vec<_>) = tasks
            .iter()
            .map(|task| match task {
                Task::Source(_) => (None, None),
                Task::Transform(_) | Task::Processor(_) => {
                    let (sender, inbox) = mpsc::channel::<Box<Event>>(capacity);
                    (Some(sender), Some(inbox))
                }
            })
            .unzip();
        let handle = FlowHandle::new(Arc::clone(&flow.name), self.stop.child(), extents(&tasks));
        self.flows.push(RunningFlow { handle: handle.clone(), tasks: tasks.len() });
        let index = self.flows.len() - 1;
        for (task_id, ((node, task), inbox)) in flow.tasks.iter().zip(tasks).zip(inboxes).enumerate() {
            let identity = Arc::new(Identity {
                flow: Arc::clone(&flow.name),
                task: Arc::clone(&node.name),
                task_type: node.kind.name,
                task_id,
            });
            let outlets = Outlets::new(node, &senders, capacity);
            let hop = Hop::new(Arc::clone(&identity), handle.clone(), node.policy, outlets);
            match (task, inbox) {
                (Task::Transform(task), Some(inbox)) => {
                    self.supervisor.spawn(index, identity, transform::run(task, inbox, hop));
                }
                (Task::Processor(task), Some(inbox)) => {
                    self.supervisor.spawn(index, identity, processor::run(task, inbox, hop));
                }
                (Task::Source(task), _) => self.supervisor.spawn(index, identity, source::run(task, hop)),
                (Task::Transform(_) | Task::Processor(_), None) => unreachable!("made with an inbox above"),
            }
        }
    }
}

/// Builds the tasks of one flow. What cannot be built is missing from the result and in `errors`.
async fn register(
    flow: &Flow,
    resources: Option<&Arc<dyn Resources>>,
    errors: &mut Vec<StartError>,
) -> Vec<Task> {
    let mut tasks = Vec::with_capacity(flow.tasks.len());
    for node in &flow.tasks {
        let context = BuildContext {
            flow: Arc::clone(&flow.name),
            task: Arc::clone(&node.name),
            base_dir: flow.base_dir.clone(),
            resources: resources.cloned(),
        };
        match node.prepared.build(&context).await {
            Ok(task) => tasks.push(task),
            Err(source) => errors.push(StartError {
                flow: Arc::clone(&flow.name),
                task: Arc::clone(&node.name),
                file: flow.file.clone(),
                source,
            }),
        }
    }
    tasks
}

/// Returns what the sources have to read, or `None` if any of them has no known end.
fn extents(tasks: &[Task]) -> Option<Vec<Extent>> {
    tasks
        .iter()
        .filter_map(|task| match task {
            Task::Source(source) => Some(source.extent()),
            _ => None,
        })
        .collect()
}
