//! Builds and registers the tasks of a plan.

use std::{path::PathBuf, sync::Arc};

use crate::{
    plan::{Flow, Node},
    services::cache::CountedCache,
    task::{BuildContext, BuildError, Cache, Resources, Task, http::HttpServer},
    telemetry::{Identity, SpanKind, SpanOutcome, Tracer},
    trace::TraceContext,
};

/// The `error.type` of a task that could not be built.
pub(super) const BUILD: &str = "build";

/// Why a worker could not start: a task could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build task `{task}` of flow `{flow}` ({})", file.display())]
pub struct StartError {
    flow: Arc<str>,
    task: Arc<str>,
    file: PathBuf,
    source: BuildError,
}

/// A task that is built, and what to build another one with.
#[derive(Debug)]
pub(super) struct BuiltTask {
    pub(super) identity: Arc<Identity>,
    /// At least one.
    pub(super) instances: Vec<Instance>,
    pub(super) context: BuildContext,
}

impl BuiltTask {
    /// Returns one of its instances, which are all alike.
    pub(super) fn task(&self) -> &Task {
        &self.instances[0].task
    }
}

/// One of the instances of a task.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) task: Task,
    /// Further ones that work beside it, in order.
    pub(super) beside: Vec<Task>,
}

/// Builds tasks, each in a span below that of the worker's start.
pub(super) struct Registration<'a> {
    pub(super) resources: Option<Arc<dyn Resources>>,
    /// Whether the worker has state.
    pub(super) has_state: bool,
    /// Shared by all flows.
    pub(super) cache: Arc<dyn Cache>,
    pub(super) http: Option<Arc<dyn HttpServer>>,
    pub(super) tracer: &'a Tracer,
    pub(super) parent: TraceContext,
    pub(super) errors: Vec<StartError>,
}

impl Registration<'_> {
    /// Builds the tasks of one flow. What cannot be built is missing from the result and in `errors`.
    pub(super) async fn flow(&mut self, flow: &Flow) -> Vec<BuiltTask> {
        let mut tasks = Vec::with_capacity(flow.tasks.len());
        let cache = CountedCache::new(Arc::clone(&self.cache), self.tracer.meter(), Arc::clone(&flow.name));
        let cache: Arc<dyn Cache> = Arc::new(cache);
        for (task_id, node) in flow.tasks.iter().enumerate() {
            let identity = Arc::new(Identity {
                flow: Arc::clone(&flow.name),
                task: Arc::clone(&node.name),
                task_type: node.kind.name,
                task_id,
            });
            let context = self.context(flow, node, &cache);
            match self.instances(node, flow.instances(node), &identity, &context).await {
                Ok(instances) => tasks.push(BuiltTask { identity, instances, context }),
                Err(source) => self.errors.push(StartError {
                    flow: Arc::clone(&flow.name),
                    task: Arc::clone(&node.name),
                    file: flow.file.clone(),
                    source,
                }),
            }
        }
        tasks
    }

    fn context(&self, flow: &Flow, node: &Node, cache: &Arc<dyn Cache>) -> BuildContext {
        BuildContext {
            flow: Arc::clone(&flow.name),
            task: Arc::clone(&node.name),
            base_dir: flow.base_dir.clone(),
            resources: self.resources.clone(),
            has_state: self.has_state,
            cache: Arc::clone(cache),
            meter: self.tracer.meter(),
            propagators: self.tracer.propagators(),
            http: self.http.clone(),
        }
    }

    /// Builds so many instances of a task, and one of a source.
    async fn instances(
        &self,
        node: &Node,
        count: usize,
        identity: &Arc<Identity>,
        context: &BuildContext,
    ) -> Result<Vec<Instance>, BuildError> {
        let identity = Some(Arc::clone(identity));
        let spans = self.tracer.spans("task_manager.register", SpanKind::Internal, identity, &[BUILD]);
        let span = spans.lifecycle(self.parent);
        let built = async {
            let mut instances = Vec::with_capacity(count);
            loop {
                let task = node.prepared.build(context).await?;
                let is_single = matches!(task, Task::Source(_));
                let mut beside = Vec::new();
                let is_parallel = matches!(&task, Task::Transform(task) if !task.is_batching());
                for _ in 1..if is_parallel { node.parallelism } else { 1 } {
                    beside.push(node.prepared.build(context).await?);
                }
                instances.push(Instance { task, beside });
                if is_single || instances.len() == count {
                    return Ok(instances);
                }
            }
        };
        let built = built.await;
        match &built {
            Ok(_) => span.end(SpanOutcome::Completed, None),
            Err(_) => span.end(SpanOutcome::Failed, Some(BUILD)),
        };
        built
    }
}
